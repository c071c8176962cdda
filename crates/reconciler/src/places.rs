//! Where environments run: in cells of this machine, or on clusters. One runtime that gives each environment to the one it is on.
//!
//! What must stay true:
//!
//! - Where an environment is stands in its row in the store and never changes, whatever the project's target is today.
//! - Of a cluster that is not configured any more nothing is concluded: whoever asks for one of its environments is told so.
//! - What lasts longer than environments (files of commits, images, goldens) is the cells'; clusters have nothing like it.

use async_trait::async_trait;
use futures::stream::BoxStream;
use model::{
    Capabilities, ClusterName, EnvironmentId, EnvironmentSpec, Generation, ImageDigest, JobName, Observation, Power,
    Resource, ServiceName, SnapshotId, Stage, Timestamp, VolumeName,
};
use runtime::{
    BaseImage, BuildOutcome, Checkout, Connection, Exec, ImageLayer, JobOutcome, LogLine, LogQuery, Result, Room,
    Runtime, RuntimeError, Sake, Secrets, SourceKey, Target,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::Store;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::JoinSet,
};

/// How many changes wait for whoever follows them.
const CHANGES: usize = 1024;
/// Of how many environments it is remembered where they are.
const KNOWN: usize = 100_000;
/// How long an environment that the store does not have is left on a cluster.
const STRAY: Duration = Duration::from_secs(3600);

/// The clusters that the operator has named, each with its runtime.
#[derive(Clone, Default)]
pub struct Clusters(pub BTreeMap<ClusterName, Arc<dyn Runtime>>);

impl fmt::Debug for Clusters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where an environment is: on a cluster, or in a cell.
type Place = Option<ClusterName>;

/// All runtimes of a server.
pub(crate) struct Places {
    store: Store,
    cells: Arc<dyn Runtime>,
    clusters: Clusters,
    /// Where environments are, as far as that was asked.
    known: Arc<Mutex<BTreeMap<EnvironmentId, Place>>>,
    /// Clusters that are those which they were.
    met: Mutex<BTreeSet<ClusterName>>,
    /// Since when environments are found on clusters that the store does not have.
    strays: Mutex<BTreeMap<EnvironmentId, Timestamp>>,
    changes: broadcast::Sender<EnvironmentId>,
    _followers: JoinSet<()>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn away(reason: String) -> RuntimeError {
    RuntimeError::Unreachable {
        runtime: "server".to_owned(),
        reason,
    }
}

impl Places {
    pub(crate) fn new(store: Store, cells: Arc<dyn Runtime>, clusters: Clusters) -> Self {
        let (changes, _) = broadcast::channel(CHANGES);
        let known = Arc::default();
        let mut followers = JoinSet::new();
        if !clusters.0.is_empty() {
            for (place, one) in std::iter::once((None, &cells)).chain(clusters.0.iter().map(|(n, c)| (Some(n), c))) {
                followers.spawn(follow(
                    Arc::clone(one),
                    place.cloned(),
                    Arc::clone(&known),
                    changes.clone(),
                ));
            }
        }
        Self {
            store,
            cells,
            clusters,
            known,
            met: Mutex::default(),
            strays: Mutex::default(),
            changes,
            _followers: followers,
        }
    }

    /// What the runtime of a place can do; `None` for a cluster that is not configured any more.
    pub(crate) fn capabilities_of(&self, cluster: Option<&ClusterName>) -> Option<&Capabilities> {
        match cluster {
            None => Some(self.cells.capabilities()),
            Some(name) => Some(self.clusters.0.get(name)?.capabilities()),
        }
    }

    /// The same for an environment.
    pub(crate) async fn capabilities_at(&self, environment: &EnvironmentId) -> Result<&Capabilities> {
        Ok(self.of(environment).await?.capabilities())
    }

    /// Remembers where environments are that only a cluster knows of. Of all others the store says where they are.
    async fn found(&self, name: &ClusterName, resources: &[Resource]) -> Result<()> {
        let ids: BTreeSet<&EnvironmentId> = resources.iter().map(|resource| &resource.environment).collect();
        for id in ids {
            if lock(&self.known).contains_key(id) {
                continue;
            }
            let row = self.store.environment_get(id).await;
            let row = row.map_err(|error| away(format!("where {id} is can not be read: {error}")))?;
            let place = row.map_or_else(|| Some(name.clone()), |row| row.cluster);
            lock(&self.known).entry(id.clone()).or_insert(place);
        }
        Ok(())
    }

    /// The runtime of an environment. One that the store does not have is a cell's, unless a cluster has told of it.
    async fn of(&self, environment: &EnvironmentId) -> Result<&Arc<dyn Runtime>> {
        if lock(&self.known).get(environment).is_none() {
            let row = self.store.environment_get(environment).await;
            let row = row.map_err(|error| away(format!("where {environment} is can not be read: {error}")))?;
            match row {
                Some(row) => {
                    let mut known = lock(&self.known);
                    if known.len() >= KNOWN {
                        known.clear();
                    }
                    known.insert(environment.clone(), row.cluster);
                }
                None => return Ok(&self.cells),
            }
        }
        let place = lock(&self.known).get(environment).cloned().flatten();
        if let Some(name) = place {
            self.meet(&name).await?;
        }
        self.known(environment)
    }

    /// Makes sure, once, that a cluster is the one on which environments of its name were made: a kubeconfig may lead elsewhere today.
    async fn meet(&self, name: &ClusterName) -> Result<()> {
        let Some(runtime) = self.clusters.0.get(name) else {
            // Whoever asks for one of its environments is told so.
            return Ok(());
        };
        if lock(&self.met).contains(name) {
            return Ok(());
        }
        if let Some(identity) = runtime.identity().await? {
            let known = self.store.cluster_meet(name, &identity).await;
            let known = known.map_err(|error| away(format!("which cluster {name} is can not be read: {error}")))?;
            match known {
                None => {}
                Some(other) if other == *name => {
                    return Err(away(format!(
                        "the API server of {name} is another cluster's than the one on which its environments are: correct its \
                         kubeconfig, or give the new cluster a name of its own"
                    )));
                }
                Some(other) => {
                    return Err(away(format!(
                        "the cluster {name} is the one that has environments by the name {other}: configure it by that name"
                    )));
                }
            }
        }
        lock(&self.met).insert(name.clone());
        Ok(())
    }

    /// Whether something that the store does not have may be removed. On a cluster it may be another server's that has the same
    /// identity, or newer than a store that was restored: it is told first, and removed when it was so for long.
    pub(crate) fn may_remove(&self, environment: &EnvironmentId, now: Timestamp) -> bool {
        if !matches!(lock(&self.known).get(environment), Some(Some(_))) {
            return true;
        }
        let mut strays = lock(&self.strays);
        if strays.len() >= KNOWN {
            strays.clear();
        }
        let since = *strays.entry(environment.clone()).or_insert_with(|| {
            tracing::warn!(%environment, "a cluster has an environment that the store does not have: it is removed in {} minutes", STRAY.as_secs() / 60);
            now
        });
        now.since(since) >= STRAY
    }

    /// The same without a look into the store, for what is asked right after something else of the environment was.
    fn known(&self, environment: &EnvironmentId) -> Result<&Arc<dyn Runtime>> {
        let known = lock(&self.known);
        match known.get(environment) {
            None | Some(None) => Ok(&self.cells),
            Some(Some(name)) => self.clusters.0.get(name).ok_or_else(|| {
                away(format!(
                    "environment {environment} is on the cluster {name}, which the server's configuration does not name any more"
                ))
            }),
        }
    }
}

/// Passes on what one runtime tells. Whoever lags has to look at everything that is there.
async fn follow(
    runtime: Arc<dyn Runtime>,
    place: Place,
    known: Arc<Mutex<BTreeMap<EnvironmentId, Place>>>,
    changes: broadcast::Sender<EnvironmentId>,
) {
    let mut told = runtime.changes();
    loop {
        match told.recv().await {
            // Nobody listens yet, or any more.
            Ok(environment) => drop(changes.send(environment)),
            Err(RecvError::Lagged(_)) => {
                let there: Vec<_> = {
                    let known = lock(&known);
                    let there = known.iter().filter(|(_, at)| **at == place);
                    there.map(|(environment, _)| environment.clone()).collect()
                };
                for environment in there {
                    drop(changes.send(environment));
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

#[async_trait]
impl Runtime for Places {
    /// Those of cells. Whoever knows the place asks for its own.
    fn capabilities(&self) -> &Capabilities {
        self.cells.capabilities()
    }

    fn changes(&self) -> broadcast::Receiver<EnvironmentId> {
        if self.clusters.0.is_empty() {
            return self.cells.changes();
        }
        self.changes.subscribe()
    }

    async fn source_exists(&self, key: &SourceKey) -> Result<bool> {
        self.cells.source_exists(key).await
    }

    async fn source_put(&self, sake: &Sake, key: &SourceKey, checkout: &dyn Checkout) -> Result<()> {
        self.of(&sake.environment).await?.source_put(sake, key, checkout).await
    }

    async fn source_list(&self) -> Result<Vec<SourceKey>> {
        self.cells.source_list().await
    }

    async fn source_remove(&self, key: &SourceKey) -> Result<()> {
        self.cells.source_remove(key).await
    }

    async fn image_put(&self, sake: &Sake, image: &ImageDigest, layers: &[ImageLayer]) -> Result<()> {
        self.of(&sake.environment).await?.image_put(sake, image, layers).await
    }

    async fn image_list(&self) -> Result<BTreeSet<ImageDigest>> {
        self.cells.image_list().await
    }

    async fn image_remove(&self, image: &ImageDigest) -> Result<()> {
        self.cells.image_remove(image).await
    }

    fn footprint(&self, spec: &EnvironmentSpec, stage: &Stage) -> Vec<Resource> {
        self.known(&spec.environment)
            .map_or_else(|_| Vec::new(), |runtime| runtime.footprint(spec, stage))
    }

    fn notes(&self, spec: &EnvironmentSpec) -> Vec<String> {
        self.known(&spec.environment)
            .map_or_else(|_| Vec::new(), |runtime| runtime.notes(spec))
    }

    async fn apply(&self, spec: &EnvironmentSpec, stage: &Stage, secrets: &dyn Secrets) -> Result<()> {
        self.of(&spec.environment).await?.apply(spec, stage, secrets).await
    }

    async fn prepare(&self, spec: &EnvironmentSpec, services: &[ServiceName], secrets: &dyn Secrets) -> Result<()> {
        self.of(&spec.environment).await?.prepare(spec, services, secrets).await
    }

    async fn observe(&self, environment: &EnvironmentId) -> Result<Option<Observation>> {
        self.of(environment).await?.observe(environment).await
    }

    fn job_footprint(&self, spec: &EnvironmentSpec, job: &JobName) -> Vec<Resource> {
        self.known(&spec.environment)
            .map_or_else(|_| Vec::new(), |runtime| runtime.job_footprint(spec, job))
    }

    async fn job_run(&self, spec: &EnvironmentSpec, job: &JobName, secrets: &dyn Secrets) -> Result<JobOutcome> {
        self.of(&spec.environment).await?.job_run(spec, job, secrets).await
    }

    fn build_footprint(&self, spec: &EnvironmentSpec, service: &ServiceName) -> Vec<Resource> {
        self.known(&spec.environment)
            .map_or_else(|_| Vec::new(), |runtime| runtime.build_footprint(spec, service))
    }

    async fn build_run(
        &self,
        spec: &EnvironmentSpec,
        service: &ServiceName,
        bases: &[BaseImage],
        secrets: &dyn Secrets,
    ) -> Result<BuildOutcome> {
        let runtime = self.of(&spec.environment).await?;
        runtime.build_run(spec, service, bases, secrets).await
    }

    async fn power(&self, environment: &EnvironmentId, generation: Generation, power: Power) -> Result<()> {
        self.of(environment).await?.power(environment, generation, power).await
    }

    async fn services_stop(
        &self,
        environment: &EnvironmentId,
        generation: Generation,
        services: &[ServiceName],
    ) -> Result<()> {
        let runtime = self.of(environment).await?;
        runtime.services_stop(environment, generation, services).await
    }

    async fn snapshot_create(
        &self,
        environment: &EnvironmentId,
        generation: Generation,
        volume: &VolumeName,
        snapshot: &SnapshotId,
    ) -> Result<()> {
        let runtime = self.of(environment).await?;
        runtime.snapshot_create(environment, generation, volume, snapshot).await
    }

    async fn snapshot_list(&self) -> Result<Vec<SnapshotId>> {
        self.cells.snapshot_list().await
    }

    async fn snapshot_remove(&self, sake: Option<&Sake>, snapshot: &SnapshotId) -> Result<()> {
        match sake {
            Some(of) => {
                self.of(&of.environment)
                    .await?
                    .snapshot_remove(Some(of), snapshot)
                    .await
            }
            None => self.cells.snapshot_remove(None, snapshot).await,
        }
    }

    async fn room(&self) -> Result<Option<Room>> {
        self.cells.room().await
    }

    async fn memory(&self, environment: &EnvironmentId) -> Result<Option<u64>> {
        self.of(environment).await?.memory(environment).await
    }

    async fn room_of(&self, environment: &EnvironmentId) -> Result<Option<Room>> {
        self.of(environment).await?.room_of(environment).await
    }

    async fn dial(&self, environment: &EnvironmentId, service: &ServiceName, target: Target) -> Result<Connection> {
        self.of(environment).await?.dial(environment, service, target).await
    }

    async fn logs(
        &self,
        environment: &EnvironmentId,
        name: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogLine>> {
        self.of(environment).await?.logs(environment, name, query).await
    }

    async fn exec(
        &self,
        environment: &EnvironmentId,
        service: &ServiceName,
        argv: &[String],
        variables: &BTreeMap<String, String>,
    ) -> Result<Exec> {
        let runtime = self.of(environment).await?;
        runtime.exec(environment, service, argv, variables).await
    }

    async fn remove(&self, environment: &EnvironmentId, generation: Generation) -> Result<()> {
        self.of(environment).await?.remove(environment, generation).await
    }

    async fn recall(&self, environment: &EnvironmentId) -> Result<Option<EnvironmentSpec>> {
        self.of(environment).await?.recall(environment).await
    }

    /// Of a cluster that does not answer nothing is listed: what is there is found when it answers again.
    async fn inventory(&self, environment: Option<&EnvironmentId>) -> Result<Vec<Resource>> {
        if let Some(id) = environment {
            return self.of(id).await?.inventory(environment).await;
        }
        let mut all = self.cells.inventory(None).await?;
        for (name, cluster) in &self.clusters.0 {
            let listed = async {
                self.meet(name).await?;
                let found = cluster.inventory(None).await?;
                self.found(name, &found).await?;
                Ok::<_, RuntimeError>(found)
            };
            match listed.await {
                Ok(found) => all.extend(found),
                Err(error) => tracing::warn!(cluster = %name, %error, "what is on the cluster could not be listed"),
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
