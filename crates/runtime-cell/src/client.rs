//! The unprivileged side: the port's implementation, by requests to the cell host.

mod builds;
mod link;
mod streams;

use crate::{
    names,
    protocol::{Answer, CONTROL_SOCKET, DIAL_SOCKET, Request, SecretValues},
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use link::Link;
use model::{
    Capabilities, EnvironmentId, EnvironmentSpec, Generation, ImageDigest, InstanceId, JobName, Observation, Power,
    Resource, ServiceName, SnapshotId, Stage, VolumeName, Workload,
};
use runtime::{
    BaseImage, BuildOutcome, Checkout, Connection, Exec, ImageLayer, JobOutcome, LogLine, LogQuery, Result, Room,
    Runtime, RuntimeError, Sake, Secrets, SourceKey, Target,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};
use tokio::{sync::broadcast, task::AbortHandle};

/// The runtime that a cell host offers.
#[derive(Debug)]
pub struct CellRuntime {
    link: Link,
    instance: InstanceId,
    capabilities: Capabilities,
    changes: broadcast::Sender<EnvironmentId>,
    listener: AbortHandle,
    /// Two writers would fill the same tree.
    filling: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for CellRuntime {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl CellRuntime {
    /// Connects to the cell host whose run directory this is.
    ///
    /// # Errors
    /// [`RuntimeError::Unreachable`] when no cell host answers there, [`RuntimeError::Invalid`] when it is another instance's.
    pub async fn connect(run_dir: &Path, instance: InstanceId) -> Result<Self> {
        let link = Link::new(run_dir.join(CONTROL_SOCKET));
        of_instance(&link, &instance).await?;
        let Answer::Capabilities(capabilities) = link.ask(&Request::Capabilities).await? else {
            return Err(link.unexpected());
        };
        let changes = broadcast::channel(256).0;
        let listener = tokio::spawn(streams::follow_changes(link.clone(), changes.clone())).abort_handle();
        Ok(Self {
            link,
            instance,
            capabilities,
            changes,
            listener,
            filling: Arc::default(),
        })
    }

    async fn done(&self, request: Request) -> Result<()> {
        match self.link.ask(&request).await? {
            Answer::Done => Ok(()),
            _ => Err(self.link.unexpected()),
        }
    }
}

/// Names of all that is made contain the id of the instance: with another one nothing of it would be found again.
async fn of_instance(link: &Link, instance: &InstanceId) -> Result<()> {
    let found = match link.ask(&Request::Instance).await {
        Ok(Answer::Instance(found)) => found,
        Ok(_) => return Err(link.unexpected()),
        // One of an earlier version that goes on does not know the question.
        Err(RuntimeError::Invalid { what, .. }) if what == "request" => return Ok(()),
        Err(error) => return Err(error),
    };
    if found == *instance {
        return Ok(());
    }
    Err(RuntimeError::Invalid {
        what: "the cell host that runs".to_owned(),
        reason: format!("it belongs to the installation {found}, and this is {instance}"),
    })
}

/// The secret values that these workloads ask for, and no others.
fn secret_values<'a>(workloads: impl Iterator<Item = &'a Workload>, secrets: &dyn Secrets) -> SecretValues {
    let mut values = SecretValues::default();
    for name in workloads.flat_map(Workload::secrets) {
        if let Some(value) = secrets.value(name) {
            values.0.insert(name.clone(), value.to_vec().into());
        }
    }
    values
}

#[async_trait]
impl Runtime for CellRuntime {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn changes(&self) -> broadcast::Receiver<EnvironmentId> {
        self.changes.subscribe()
    }

    async fn source_exists(&self, key: &SourceKey) -> Result<bool> {
        match self.link.ask(&Request::SourceExists { key: key.clone() }).await? {
            Answer::Exists(exists) => Ok(exists),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn source_put(&self, sake: &Sake, key: &SourceKey, checkout: &dyn Checkout) -> Result<()> {
        let _turn = self.filling.lock().await;
        if self.source_exists(key).await? {
            return Ok(());
        }
        let begin = Request::SourceBegin {
            sake: sake.clone(),
            key: key.clone(),
        };
        let Answer::Path(path) = self.link.ask(&begin).await? else {
            return Err(self.link.unexpected());
        };
        if let Err(reason) = checkout.write(&path).await {
            let what = format!("the source {} at {}", key.source, key.commit);
            // Whoever writes can not tell a full pool from other trouble.
            let full = matches!(self.room().await, Ok(Some(room)) if room.free <= room.reserve);
            return Err(match full {
                true => RuntimeError::Full { what, reason },
                false => RuntimeError::Failed {
                    action: format!("writing {what}"),
                    reason,
                },
            });
        }
        self.done(Request::SourceSeal {
            sake: sake.clone(),
            key: key.clone(),
        })
        .await
    }

    async fn source_list(&self) -> Result<Vec<SourceKey>> {
        match self.link.ask(&Request::SourceList).await? {
            Answer::Sources(keys) => Ok(keys),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn source_remove(&self, key: &SourceKey) -> Result<()> {
        self.done(Request::SourceRemove { key: key.clone() }).await
    }

    async fn image_put(&self, sake: &Sake, image: &ImageDigest, layers: &[ImageLayer]) -> Result<()> {
        let invalid = |reason: String| RuntimeError::Invalid {
            what: format!("the image {}", image.short()),
            reason,
        };
        let mut files = Vec::new();
        let mut diffs = Vec::new();
        for layer in layers {
            let opened = std::fs::File::open(&layer.blob);
            files.push(opened.map_err(|e| invalid(format!("{}: {e}", layer.blob.display())))?);
            diffs.push(
                layer
                    .diff
                    .parse()
                    .map_err(|_| invalid("a layer has no digest".to_owned()))?,
            );
        }
        let request = Request::ImagePut {
            sake: sake.clone(),
            image: image.clone(),
            diffs,
        };
        match self.link.ask_with_files(&request, &files).await? {
            Answer::Done => Ok(()),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn image_list(&self) -> Result<BTreeSet<ImageDigest>> {
        match self.link.ask(&Request::ImageList).await? {
            Answer::Images(images) => Ok(images),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn image_remove(&self, image: &ImageDigest) -> Result<()> {
        self.done(Request::ImageRemove { image: image.clone() }).await
    }

    fn footprint(&self, spec: &EnvironmentSpec, stage: &Stage) -> Vec<Resource> {
        names::footprint(&self.instance, spec, stage)
    }

    async fn apply(&self, spec: &EnvironmentSpec, stage: &Stage, secrets: &dyn Secrets) -> Result<()> {
        let services = spec.services().map(|s| &s.services);
        let workloads = services
            .into_iter()
            .flatten()
            .filter(|(name, _)| matches!(stage, Stage::Services(names) if names.contains(*name)));
        let secrets = secret_values(workloads.map(|(_, s)| &s.workload), secrets);
        let request = Request::Apply {
            spec: Box::new(spec.clone()),
            stage: stage.clone(),
            secrets: secrets.names(),
        };
        match self.link.ask_with(&request, &secrets).await? {
            Answer::Done => Ok(()),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn prepare(&self, spec: &EnvironmentSpec, services: &[ServiceName], secrets: &dyn Secrets) -> Result<()> {
        let all = spec.services().map(|s| &s.services);
        let workloads = all.into_iter().flatten().filter(|(name, _)| services.contains(name));
        let secrets = secret_values(workloads.map(|(_, s)| &s.workload), secrets);
        let request = Request::Prepare {
            spec: Box::new(spec.clone()),
            services: services.to_vec(),
            secrets: secrets.names(),
        };
        match self.link.ask_with(&request, &secrets).await? {
            Answer::Done => Ok(()),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn observe(&self, environment: &EnvironmentId) -> Result<Option<Observation>> {
        match self
            .link
            .ask(&Request::Observe {
                environment: environment.clone(),
            })
            .await?
        {
            Answer::Observation(observation) => Ok(observation.map(|o| *o)),
            _ => Err(self.link.unexpected()),
        }
    }

    fn job_footprint(&self, spec: &EnvironmentSpec, job: &JobName) -> Vec<Resource> {
        let found = spec.services().and_then(|s| s.jobs.get(job));
        found
            .map(|j| names::job_footprint(&self.instance, spec, j))
            .unwrap_or_default()
    }

    async fn job_run(&self, spec: &EnvironmentSpec, job: &JobName, secrets: &dyn Secrets) -> Result<JobOutcome> {
        let workload = spec.services().and_then(|s| s.jobs.get(job)).map(|j| &j.workload);
        let secrets = secret_values(workload.into_iter(), secrets);
        let request = Request::JobRun {
            spec: Box::new(spec.clone()),
            job: job.clone(),
            secrets: secrets.names(),
        };
        match self.link.ask_with(&request, &secrets).await? {
            Answer::Job(outcome) => Ok(outcome),
            _ => Err(self.link.unexpected()),
        }
    }

    fn build_footprint(&self, spec: &EnvironmentSpec, service: &ServiceName) -> Vec<Resource> {
        names::build_footprint(&self.instance, spec, service)
    }

    async fn build_run(
        &self,
        spec: &EnvironmentSpec,
        service: &ServiceName,
        bases: &[BaseImage],
        secrets: &dyn Secrets,
    ) -> Result<BuildOutcome> {
        let (bases, files) = builds::opened(service, bases)?;
        let secrets = builds::secret_values(spec, service, secrets);
        let request = Request::BuildRun {
            spec: Box::new(spec.clone()),
            service: service.clone(),
            bases,
            secrets: secrets.names(),
        };
        match self.link.ask_with_both(&request, &secrets, &files).await? {
            Answer::Build(outcome) => Ok(outcome),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn power(&self, environment: &EnvironmentId, generation: Generation, power: Power) -> Result<()> {
        self.done(Request::Power {
            environment: environment.clone(),
            generation,
            power,
        })
        .await
    }

    async fn services_stop(
        &self,
        environment: &EnvironmentId,
        generation: Generation,
        services: &[ServiceName],
    ) -> Result<()> {
        let request = Request::ServicesStop {
            environment: environment.clone(),
            generation,
            services: services.to_vec(),
        };
        self.done(request).await
    }

    async fn snapshot_create(
        &self,
        environment: &EnvironmentId,
        generation: Generation,
        volume: &VolumeName,
        snapshot: &SnapshotId,
    ) -> Result<()> {
        let request = Request::SnapshotCreate {
            environment: environment.clone(),
            generation,
            volume: volume.clone(),
            snapshot: snapshot.clone(),
        };
        self.done(request).await
    }

    async fn snapshot_list(&self) -> Result<Vec<SnapshotId>> {
        match self.link.ask(&Request::SnapshotList).await? {
            Answer::Snapshots(ids) => Ok(ids),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn snapshot_remove(&self, sake: Option<&Sake>, snapshot: &SnapshotId) -> Result<()> {
        self.done(Request::SnapshotRemove {
            sake: sake.cloned(),
            snapshot: snapshot.clone(),
        })
        .await
    }

    async fn room(&self) -> Result<Option<Room>> {
        match self.link.ask(&Request::Room).await? {
            Answer::Room(room) => Ok(Some(room)),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn memory(&self, environment: &EnvironmentId) -> Result<Option<u64>> {
        let request = Request::Memory {
            environment: environment.clone(),
        };
        match self.link.ask(&request).await? {
            Answer::Memory(bytes) => Ok(bytes),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn room_of(&self, environment: &EnvironmentId) -> Result<Option<Room>> {
        let request = Request::RoomOf {
            environment: environment.clone(),
        };
        match self.link.ask(&request).await? {
            Answer::RoomOf(room) => Ok(room),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn dial(&self, environment: &EnvironmentId, service: &ServiceName, target: Target) -> Result<Connection> {
        self.link.dial(environment, service, target).await
    }

    async fn logs(
        &self,
        environment: &EnvironmentId,
        name: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogLine>> {
        let request = Request::Logs {
            environment: environment.clone(),
            name: name.to_owned(),
            query,
        };
        Ok(streams::log_lines(self.link.open(&request).await?))
    }

    async fn exec(
        &self,
        environment: &EnvironmentId,
        service: &ServiceName,
        argv: &[String],
        variables: &BTreeMap<String, String>,
    ) -> Result<Exec> {
        let request = Request::Exec {
            environment: environment.clone(),
            service: service.clone(),
            argv: argv.to_vec(),
            variables: variables.clone(),
        };
        Ok(streams::command(self.link.open(&request).await?))
    }

    async fn remove(&self, environment: &EnvironmentId, generation: Generation) -> Result<()> {
        self.done(Request::Remove {
            environment: environment.clone(),
            generation,
        })
        .await
    }

    async fn recall(&self, environment: &EnvironmentId) -> Result<Option<EnvironmentSpec>> {
        let request = Request::Recall {
            environment: environment.clone(),
        };
        match self.link.ask(&request).await? {
            Answer::Spec(spec) => Ok(spec.map(|spec| *spec)),
            _ => Err(self.link.unexpected()),
        }
    }

    async fn inventory(&self, environment: Option<&EnvironmentId>) -> Result<Vec<Resource>> {
        match self
            .link
            .ask(&Request::Inventory {
                environment: environment.cloned(),
            })
            .await?
        {
            Answer::Resources(resources) => Ok(resources),
            _ => Err(self.link.unexpected()),
        }
    }
}

/// Connections to services and nothing else: all that a gateway needs and may.
#[derive(Clone, Debug)]
pub struct CellDialer {
    link: Link,
}

impl CellDialer {
    /// A dialer for the cell host whose run directory this is. Connects only when it is used.
    #[must_use]
    pub fn new(run_dir: &Path) -> Self {
        Self {
            link: Link::new(run_dir.join(DIAL_SOCKET)),
        }
    }

    /// Connects to a port of a service.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] when nothing listens or the environment sleeps; [`RuntimeError::Unreachable`] without a host.
    pub async fn dial(&self, environment: &EnvironmentId, service: &ServiceName, port: u16) -> Result<Connection> {
        self.link.dial(environment, service, Target::Port(port)).await
    }
}
