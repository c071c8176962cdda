//! What every task of the reconciler has at hand.

use crate::{clock::Clock, heads::Heads, nudge::Nudges, project::Project, repository::Repositories};
use model::{InstanceId, ProjectName, Timestamp};
use runtime::Runtime;
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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(60),
            sweep_interval: Duration::from_secs(300),
            look_interval: Duration::from_secs(60),
        }
    }
}

pub(crate) struct Context {
    pub(crate) instance: InstanceId,
    pub(crate) store: Store,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) projects: BTreeMap<ProjectName, Project>,
    pub(crate) repositories: Repositories,
    pub(crate) heads: Heads,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) nudges: Nudges,
    pub(crate) settings: Settings,
}

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
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
}
