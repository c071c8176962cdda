//! The runtime of a cluster: it implements the port. Objects are delivered in order, by the API server or by commits; what is no longer
//! wanted is removed, and what the cluster makes of it is watched.

mod gitops;
mod inventory;
mod jobs;
mod mark;
mod port;
mod power;
mod remove;
mod stages;
mod streams;

use crate::{
    Cluster, access,
    api::{Objects, RUNTIME},
    gitops::{Engine, GitOps},
    names,
    observe::Watches,
    survey::{self, Neighbours},
};
use k8s_openapi::api::core::v1::Event;
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
pub(crate) use mark::Mark;
use mark::Marks;
use model::{Capabilities, EnvironmentId, Feature, Generation, Staging, Timestamp};
use runtime::{Result, RuntimeError};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::OwnedMutexGuard;

/// How long our own watch may take to see what we have written.
const SEEN: Duration = Duration::from_secs(10);

/// How objects get to a cluster.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// They are applied by the API server.
    Apply,
    /// They are committed to a repository, from which Argo CD brings them.
    GitOps(Box<GitOps>),
}

/// The runtime of a cluster.
pub struct KubernetesRuntime {
    cluster: Cluster,
    capabilities: Capabilities,
    /// Where commits go, unless objects are applied.
    gitops: Option<Engine>,
    client: Client,
    objects: Objects,
    marks: Marks,
    watches: Watches,
    /// What may be on the cluster beside previews; nobody looks unless given.
    neighbours: Option<Neighbours>,
    /// One mutation of an environment at a time.
    busy: Mutex<BTreeMap<EnvironmentId, Arc<tokio::sync::Mutex<()>>>>,
    /// What warned of an environment when that was last asked.
    warned: Mutex<BTreeMap<EnvironmentId, (Timestamp, Vec<Event>)>>,
}

impl std::fmt::Debug for KubernetesRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesRuntime")
            .field("cluster", &self.cluster)
            .field("gitops", &self.gitops.is_some())
            .finish_non_exhaustive()
    }
}

impl KubernetesRuntime {
    /// Connects as a kubeconfig says, given as text.
    ///
    /// # Errors
    /// If it can not be read, or is of no use; or if our copy of a repository can not be made.
    pub async fn connect(cluster: Cluster, delivery: Delivery, kubeconfig: &str) -> Result<Self> {
        let wrong = |reason: String| RuntimeError::Invalid {
            what: "the kubeconfig".to_owned(),
            reason,
        };
        let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(|error| wrong(error.to_string()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = access::from(config.map_err(|error| wrong(error.to_string()))?)?;
        Self::with_client(cluster, delivery, client).await
    }

    /// The same with a client that is there. It begins to watch at once.
    ///
    /// # Errors
    /// If our copy of a repository can not be made.
    pub async fn with_client(cluster: Cluster, delivery: Delivery, client: Client) -> Result<Self> {
        let gitops = match delivery {
            Delivery::Apply => None,
            Delivery::GitOps(config) => Some(Engine::start(*config).await?),
        };
        let argo = gitops.as_ref().map(|engine| engine.argo.namespace.as_str());
        let watches = Watches::start(&client, &cluster.instance, argo);
        Ok(Self {
            cluster,
            capabilities: capabilities(),
            gitops,
            objects: Objects::new(client.clone()),
            marks: Marks::new(client.clone()),
            client,
            watches,
            neighbours: None,
            busy: Mutex::default(),
            warned: Mutex::default(),
        })
    }

    /// Refuses new environments while the cluster carries more than these neighbours.
    #[must_use]
    pub fn with_neighbours(mut self, neighbours: Neighbours) -> Self {
        self.neighbours = Some(neighbours);
        self
    }

    /// Whether a new environment may be made here.
    async fn may_begin(&self) -> Result<()> {
        let Some(neighbours) = self.neighbours.as_ref().filter(|neighbours| !neighbours.insists) else {
            return Ok(());
        };
        let found = survey::production(&self.client, neighbours).await?;
        if found.is_empty() {
            return Ok(());
        }
        let what = format!(
            "an environment on a cluster that seems to carry production ({})",
            survey::told_together(&found)
        );
        Err(unsupported(what, survey::INSIST))
    }

    fn namespace(&self, environment: &EnvironmentId) -> String {
        names::namespace(&self.cluster.instance, environment)
    }

    /// Waits for its turn to change an environment.
    async fn turn(&self, environment: &EnvironmentId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut busy = lock(&self.busy);
            // Whoever holds one has a second reference to it.
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(busy.entry(environment.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// Accepts a mutation that changes nothing else of the marker.
    async fn accept(&self, environment: &EnvironmentId, generation: Generation) -> Result<()> {
        let namespace = self.namespace(environment);
        self.marks
            .accept(&namespace, environment, generation, |_| {})
            .await
            .map(drop)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a cluster can do with services.
fn capabilities() -> Capabilities {
    use Feature::{
        Content, DropCapabilities, Hostname, Hosts, Init, Networks, SharedMemory, Sysctls, Terminal, Users, VolumePaths,
    };
    Capabilities {
        runtime: RUNTIME.to_owned(),
        staging: Staging::Levels,
        services: true,
        objects: false,
        host_roots: false,
        images: true,
        engines: Vec::new(),
        snapshots: false,
        freeze: false,
        sources: false,
        databases: false,
        features: [
            Content,
            DropCapabilities,
            Hostname,
            Hosts,
            Init,
            Networks,
            SharedMemory,
            Sysctls,
            Terminal,
            Users,
            VolumePaths,
        ]
        .into(),
    }
}

/// What a cluster does not do.
fn unsupported(what: impl Into<String>, hint: impl Into<String>) -> RuntimeError {
    RuntimeError::Unsupported {
        runtime: RUNTIME.to_owned(),
        what: what.into(),
        hint: hint.into(),
    }
}
