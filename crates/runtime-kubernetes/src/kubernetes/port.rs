//! The port, as a cluster keeps it.

use super::{KubernetesRuntime, unsupported};
use crate::{observe::Seen, survey};
use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};
use model::{
    Capabilities, EnvironmentId, EnvironmentSpec, Generation, ImageDigest, JobName, Observation, Power, Resource,
    ServiceName, ServiceState, SnapshotId, Stage, Timestamp, VolumeName,
};
use runtime::{
    BaseImage, BuildOutcome, Checkout, Connection, Exec, ImageLayer, JobOutcome, LogLine, LogQuery, Result, Room,
    Runtime, RuntimeError, Sake, Secrets, SourceKey, Target,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::broadcast;

/// A service that has not got ready for so long is asked about: what warns of it is not part of its pod.
const ASKED_AFTER: Duration = Duration::from_secs(3);

/// How long what was asked holds.
const HOLDS: Duration = Duration::from_secs(3);

/// How many warnings of an environment are looked at.
const WARNINGS: u32 = 200;

const SNAPSHOTS: &str = "volumes on a cluster are not cloned yet: let them begin empty";
const SOURCES: &str = "files of a commit are not brought to a cluster: copy them into an image by a Dockerfile";
const IMAGES: &str = "a cluster fetches images itself";

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl KubernetesRuntime {
    /// What warns of an environment's objects. Events bear no labels, so nobody can watch those of environments alone.
    async fn warnings(&self, id: &EnvironmentId) -> Vec<Event> {
        let asked = |at: &Timestamp| now().since(*at) < HOLDS;
        if let Some((_, events)) = super::lock(&self.warned).get(id).filter(|(at, _)| asked(at)) {
            return events.clone();
        }
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace(id));
        let how = ListParams::default().fields("type=Warning").limit(WARNINGS);
        // Without them something is still known.
        let events = crate::api::attempt("listing events", || api.list(&how)).await;
        let events = events.map_or_else(|_| Vec::new(), |list| list.items);
        let mut warned = super::lock(&self.warned);
        warned.retain(|_, (at, _)| asked(at));
        warned.insert(id.clone(), (now(), events.clone()));
        events
    }
}

#[async_trait]
impl Runtime for KubernetesRuntime {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn changes(&self) -> broadcast::Receiver<EnvironmentId> {
        self.watches.changes()
    }

    async fn identity(&self) -> Result<Option<String>> {
        survey::identity(&self.client).await.map(Some)
    }

    async fn source_exists(&self, _key: &SourceKey) -> Result<bool> {
        Ok(false)
    }

    async fn source_put(&self, _sake: &Sake, key: &SourceKey, _checkout: &dyn Checkout) -> Result<()> {
        Err(unsupported(format!("the source {}", key.source), SOURCES))
    }

    async fn source_list(&self) -> Result<Vec<SourceKey>> {
        Ok(Vec::new())
    }

    async fn source_remove(&self, _key: &SourceKey) -> Result<()> {
        Ok(())
    }

    async fn image_put(&self, _sake: &Sake, image: &ImageDigest, _layers: &[ImageLayer]) -> Result<()> {
        Err(unsupported(format!("bringing the image {}", image.short()), IMAGES))
    }

    async fn image_list(&self) -> Result<BTreeSet<ImageDigest>> {
        Ok(BTreeSet::new())
    }

    async fn image_remove(&self, _image: &ImageDigest) -> Result<()> {
        Ok(())
    }

    fn footprint(&self, spec: &EnvironmentSpec, stage: &Stage) -> Vec<Resource> {
        self.resources(spec, stage)
    }

    fn notes(&self, spec: &EnvironmentSpec) -> Vec<String> {
        // What is refused is told when it is applied.
        let built = crate::build::environment(&self.cluster, spec, &super::stages::AnyValue);
        let warned = built.map_or_else(|_| Vec::new(), |built| built.warnings);
        let told = warned.into_iter().map(|warning| {
            let detail = match warning.detail.as_str() {
                "" => String::new(),
                detail => format!(" ({detail})"),
            };
            let (key, reason) = (warning.decision.key(), warning.decision.reason());
            format!("On the cluster, `{key}`{detail} of {}: {reason}.", warning.place)
        });
        told.collect()
    }

    async fn apply(&self, spec: &EnvironmentSpec, stage: &Stage, secrets: &dyn Secrets) -> Result<()> {
        self.stage(spec, stage, secrets).await
    }

    async fn observe(&self, environment: &EnvironmentId) -> Result<Option<Observation>> {
        self.watches.current().await?;
        let Some(mut seen) = Seen::of(&self.watches, environment) else {
            return Ok(None);
        };
        let facts = seen.observation(environment, now());
        let waits = facts.services.values().any(|fact| {
            let unready = matches!(fact.state, ServiceState::Starting | ServiceState::Unhealthy);
            unready && fact.message.is_none() && facts.at.since(fact.since) > ASKED_AFTER
        });
        if !waits {
            return Ok(Some(facts));
        }
        seen.events = self.warnings(environment).await;
        Ok(Some(seen.observation(environment, now())))
    }

    fn job_footprint(&self, spec: &EnvironmentSpec, job: &JobName) -> Vec<Resource> {
        self.job_resources(spec, job)
    }

    async fn job_run(&self, spec: &EnvironmentSpec, job: &JobName, secrets: &dyn Secrets) -> Result<JobOutcome> {
        self.run_job(spec, job, secrets).await
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
        Err(unsupported(
            format!("the build of service {service}"),
            "give it an image",
        ))
    }

    async fn power(&self, environment: &EnvironmentId, generation: Generation, power: Power) -> Result<()> {
        self.change_power(environment, generation, power).await
    }

    async fn services_stop(
        &self,
        environment: &EnvironmentId,
        generation: Generation,
        services: &[ServiceName],
    ) -> Result<()> {
        self.stop(environment, generation, services).await
    }

    async fn snapshot_create(
        &self,
        _environment: &EnvironmentId,
        _generation: Generation,
        volume: &VolumeName,
        _snapshot: &SnapshotId,
    ) -> Result<()> {
        Err(unsupported(format!("a snapshot of the volume {volume}"), SNAPSHOTS))
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

    async fn dial(&self, environment: &EnvironmentId, service: &ServiceName, target: Target) -> Result<Connection> {
        self.connect_to(environment, service, target).await
    }

    async fn logs(
        &self,
        environment: &EnvironmentId,
        name: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogLine>> {
        self.lines(environment, name, query).await
    }

    async fn exec(
        &self,
        environment: &EnvironmentId,
        service: &ServiceName,
        argv: &[String],
        variables: &BTreeMap<String, String>,
    ) -> Result<Exec> {
        if argv.is_empty() {
            return Err(RuntimeError::Invalid {
                what: format!("a command in {service}"),
                reason: "it has no words".to_owned(),
            });
        }
        self.command(environment, service, argv, variables).await
    }

    async fn remove(&self, environment: &EnvironmentId, generation: Generation) -> Result<()> {
        self.end(environment, generation).await
    }

    async fn inventory(&self, environment: Option<&EnvironmentId>) -> Result<Vec<Resource>> {
        self.listed(environment).await
    }
}
