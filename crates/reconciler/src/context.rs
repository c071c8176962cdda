//! What every task of the reconciler has at hand.

use crate::{
    clock::Clock,
    egress::Presets,
    front::InFront,
    heads::Heads,
    image::{ImageSource, Images},
    keep::{Keep, LostAccess},
    nudge::Nudges,
    places::{Clusters, Places},
    project::Project,
    repository::Repositories,
    spare::SpareSettings,
    task::spares::Spares,
};
use model::{Capabilities, ClusterName, InstanceId, ProjectName, Timestamp};
use runtime::Runtime;
use secrets::Vault;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use store::Store;

/// Settings of the reconciler that are not a project's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often a forge is asked although no webhook came.
    pub poll_interval: Duration,
    /// How often the runtime's inventory is compared with the store.
    pub sweep_interval: Duration,
    /// The longest that an environment is left alone although nothing happens.
    pub look_interval: Duration,
    /// How long and how much is kept that nobody needs at present.
    pub keep: Keep,
    /// What happens to environments whose forge can not be read.
    pub lost_access: LostAccess,
    /// Engines that are started ahead of the environments that will need them.
    pub spares: SpareSettings,
    /// The presets of hosts that policies may name.
    pub presets: Presets,
    /// Where images come from; without it none can be had.
    pub images: Option<Arc<ImageSource>>,
    /// Through what public services are asked before they count as live.
    pub front: InFront,
    /// The clusters on which projects may have their environments.
    pub clusters: Clusters,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(60),
            sweep_interval: Duration::from_secs(300),
            look_interval: Duration::from_secs(60),
            keep: Keep::default(),
            lost_access: LostAccess::default(),
            spares: SpareSettings::default(),
            presets: Presets::new(),
            images: None,
            front: InFront::default(),
            clusters: Clusters::default(),
        }
    }
}

pub(crate) struct Context {
    pub(crate) instance: InstanceId,
    pub(crate) store: Store,
    /// All runtimes as one.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// The same, for whoever asks what the runtime of a place can do.
    pub(crate) places: Arc<Places>,
    pub(crate) projects: BTreeMap<ProjectName, Project>,
    pub(crate) repositories: Repositories,
    pub(crate) vault: Arc<Vault>,
    pub(crate) heads: Heads,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) nudges: Nudges,
    pub(crate) settings: Settings,
    pub(crate) spares: Spares,
    pub(crate) images: Images,
    /// Whose turn it is to fill in a generation what was built for it.
    pub(crate) completing: tokio::sync::Mutex<()>,
}

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What the runtime of environments there can do. Of a cluster that is not configured any more nobody knows.
    pub(crate) fn capabilities(&self, cluster: Option<&ClusterName>) -> Result<&Capabilities, Trouble> {
        let known = self.places.capabilities_of(cluster);
        known.ok_or_else(|| Trouble::NoCluster(cluster.map_or_else(String::new, ToString::to_string)))
    }

    pub(crate) fn project(&self, name: &ProjectName) -> Result<&Project, Trouble> {
        self.projects.get(name).ok_or_else(|| Trouble::NoProject(name.clone()))
    }
}

/// What keeps a task from going on. It is tried again later; nothing is concluded from it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the store failed")]
    Store(#[from] store::StoreError),
    #[error("the runtime failed")]
    Runtime(#[from] runtime::RuntimeError),
    #[error("the forge failed")]
    Forge(#[from] forge::ForgeError),
    #[error("the repository could not be read")]
    Repository(#[from] crate::repository::RepositoryError),
    #[error("the system has no randomness")]
    Randomness(#[source] getrandom::Error),
    #[error("project {0} is not configured any more")]
    NoProject(ProjectName),
    #[error("the cluster {0} is not configured any more")]
    NoCluster(String),
}

impl Trouble {
    /// Whether it is about one thing only, so that it is no reason to leave the others alone. A forge that is away or wants
    /// fewer requests, and a store that fails, do so for all.
    pub(crate) fn is_of_one(&self) -> bool {
        match self {
            Self::Forge(error) => !error.is_transient() && !matches!(error, forge::ForgeError::Unauthorized { .. }),
            Self::Repository(crate::repository::RepositoryError::Forge { source, .. }) => !source.is_transient(),
            Self::Store(store::StoreError::Database { .. }) | Self::Randomness(_) => false,
            _ => true,
        }
    }
}

/// The longest that a forge that wants fewer requests is left alone; then it is asked whether it still does.
const RATE_PAUSE_MAX: Duration = Duration::from_secs(600);

impl Trouble {
    /// How long the forge wants to be left alone.
    pub(crate) fn rate_pause(&self) -> Option<Duration> {
        match self {
            Self::Forge(forge::ForgeError::RateLimited { retry_after, .. })
            | Self::Repository(crate::repository::RepositoryError::Forge {
                source: forge::ForgeError::RateLimited { retry_after, .. },
                ..
            }) => Some((*retry_after).min(RATE_PAUSE_MAX)),
            _ => None,
        }
    }
}

/// Remembers the first trouble of many things that are looked at one after the other. One of them that can not be used must
/// not keep the others from being looked after; what concerns all ends the look at once.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Option<Trouble>);

impl Troubles {
    /// # Errors
    /// The trouble, if it concerns all.
    pub(crate) fn note(&mut self, result: Result<(), Trouble>) -> Result<(), Trouble> {
        match result {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.is_of_one() => {
                self.0.get_or_insert(trouble);
                Ok(())
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// # Errors
    /// The first trouble that was noted.
    pub(crate) fn end(self) -> Result<(), Trouble> {
        self.0.map_or(Ok(()), Err)
    }
}
