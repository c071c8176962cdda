//! Stands where the cell host would, on a server whose projects all have their environments on clusters. It has nothing, and makes nothing.

use async_trait::async_trait;
use futures::stream::BoxStream;
use model::{
    Capabilities, EnvironmentId, EnvironmentSpec, Generation, ImageDigest, JobName, Observation, Power, Resource,
    ServiceName, SnapshotId, Stage, Staging, VolumeName,
};
use runtime::{
    BaseImage, BuildOutcome, Checkout, Connection, Exec, ImageLayer, JobOutcome, LogLine, LogQuery, Result, Room,
    Runtime, RuntimeError, Sake, Secrets, SourceKey, Target,
};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::broadcast;

/// No cells.
#[derive(Debug)]
pub struct NoCells {
    capabilities: Capabilities,
    changes: broadcast::Sender<EnvironmentId>,
}

impl Default for NoCells {
    fn default() -> Self {
        Self {
            capabilities: Capabilities {
                runtime: "cell".to_owned(),
                staging: Staging::Levels,
                services: false,
                objects: false,
                host_roots: false,
                images: false,
                engines: Vec::new(),
                snapshots: false,
                freeze: false,
                sources: false,
                databases: false,
                features: BTreeSet::new(),
            },
            changes: broadcast::channel(1).0,
        }
    }
}

/// Whoever wants something of a cell wants what this server does not have.
fn none<T>(what: impl ToString) -> Result<T> {
    Err(RuntimeError::Unsupported {
        runtime: "cell".to_owned(),
        what: what.to_string(),
        hint: "all projects of this server are on clusters, so it has no cell host".to_owned(),
    })
}

#[async_trait]
impl Runtime for NoCells {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn changes(&self) -> broadcast::Receiver<EnvironmentId> {
        self.changes.subscribe()
    }

    async fn source_exists(&self, _key: &SourceKey) -> Result<bool> {
        Ok(false)
    }

    async fn source_put(&self, _sake: &Sake, key: &SourceKey, _checkout: &dyn Checkout) -> Result<()> {
        none(&key.source)
    }

    async fn source_list(&self) -> Result<Vec<SourceKey>> {
        Ok(Vec::new())
    }

    async fn source_remove(&self, _key: &SourceKey) -> Result<()> {
        Ok(())
    }

    async fn image_put(&self, _sake: &Sake, image: &ImageDigest, _layers: &[ImageLayer]) -> Result<()> {
        none(image)
    }

    async fn image_list(&self) -> Result<BTreeSet<ImageDigest>> {
        Ok(BTreeSet::new())
    }

    async fn image_remove(&self, _image: &ImageDigest) -> Result<()> {
        Ok(())
    }

    fn footprint(&self, _spec: &EnvironmentSpec, _stage: &Stage) -> Vec<Resource> {
        Vec::new()
    }

    async fn apply(&self, spec: &EnvironmentSpec, _stage: &Stage, _secrets: &dyn Secrets) -> Result<()> {
        none(&spec.environment)
    }

    async fn observe(&self, _environment: &EnvironmentId) -> Result<Option<Observation>> {
        Ok(None)
    }

    fn job_footprint(&self, _spec: &EnvironmentSpec, _job: &JobName) -> Vec<Resource> {
        Vec::new()
    }

    async fn job_run(&self, _spec: &EnvironmentSpec, job: &JobName, _secrets: &dyn Secrets) -> Result<JobOutcome> {
        none(job)
    }

    fn build_footprint(&self, _spec: &EnvironmentSpec, _service: &ServiceName) -> Vec<Resource> {
        Vec::new()
    }

    async fn build_run(
        &self,
        _spec: &EnvironmentSpec,
        service: &ServiceName,
        _bases: &[BaseImage],
        _secrets: &dyn Secrets,
    ) -> Result<BuildOutcome> {
        none(service)
    }

    async fn power(&self, environment: &EnvironmentId, _generation: Generation, _power: Power) -> Result<()> {
        none(environment)
    }

    async fn services_stop(
        &self,
        environment: &EnvironmentId,
        _generation: Generation,
        _services: &[ServiceName],
    ) -> Result<()> {
        none(environment)
    }

    async fn snapshot_create(
        &self,
        environment: &EnvironmentId,
        _generation: Generation,
        _volume: &VolumeName,
        _snapshot: &SnapshotId,
    ) -> Result<()> {
        none(environment)
    }

    async fn snapshot_list(&self) -> Result<Vec<SnapshotId>> {
        Ok(Vec::new())
    }

    async fn snapshot_remove(&self, _sake: Option<&Sake>, _snapshot: &SnapshotId) -> Result<()> {
        Ok(())
    }

    async fn room(&self) -> Result<Option<Room>> {
        Ok(None)
    }

    async fn memory(&self, _environment: &EnvironmentId) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn room_of(&self, _environment: &EnvironmentId) -> Result<Option<Room>> {
        Ok(None)
    }

    async fn dial(&self, environment: &EnvironmentId, _service: &ServiceName, _target: Target) -> Result<Connection> {
        none(environment)
    }

    async fn logs(
        &self,
        environment: &EnvironmentId,
        _name: &str,
        _query: LogQuery,
    ) -> Result<BoxStream<'static, LogLine>> {
        none(environment)
    }

    async fn exec(
        &self,
        environment: &EnvironmentId,
        _service: &ServiceName,
        _argv: &[String],
        _variables: &BTreeMap<String, String>,
    ) -> Result<Exec> {
        none(environment)
    }

    async fn remove(&self, _environment: &EnvironmentId, _generation: Generation) -> Result<()> {
        Ok(())
    }

    async fn inventory(&self, _environment: Option<&EnvironmentId>) -> Result<Vec<Resource>> {
        Ok(Vec::new())
    }
}
