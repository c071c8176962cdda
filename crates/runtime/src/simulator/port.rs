//! The port, implemented by the simulated world.

use super::{
    Answer, Simulator,
    behaviour::JobBehaviour,
    calls::{Entered, Operation},
    exec::Inside,
    world::{World, invalid, not_found},
};
use crate::{
    BaseImage, BuildOutcome, BuiltImage, Checkout, Connection, Exec, ImageLayer, JobOutcome, LogLine, LogQuery, Result,
    Room, Runtime, RuntimeError, Sake, Secrets, SourceKey, Target,
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use model::{
    Capabilities, Digest, EnvironmentId, EnvironmentSpec, Generation, ImageDigest, JobEvent, JobName, Observation,
    Power, Resource, Root, ServiceName, SnapshotId, Stack, Stage, VolumeName, Workload,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{broadcast, watch},
};

/// What each simulated service is said to hold.
const MEMORY: u64 = 10 << 20;

fn resource(environment: &EnvironmentId, kind: &str, name: impl std::fmt::Display) -> Resource {
    let name = format!("{environment}-{name}");
    Resource {
        environment: environment.clone(),
        kind: kind.to_owned(),
        name,
    }
}

impl Simulator {
    fn enter(&self, operation: Operation, environment: Option<&EnvironmentId>, detail: String) -> Result<Entered> {
        self.faults().enter(operation, environment, detail)
    }

    /// A change of one environment, in the form that all of them have.
    fn change(
        &self,
        operation: Operation,
        environment: &EnvironmentId,
        detail: String,
        change: impl FnOnce(&mut World) -> Result<()>,
    ) -> Result<()> {
        let call = self.enter(operation, Some(environment), detail)?;
        let result = change(&mut self.world());
        self.announce([environment.clone()]);
        call.leave(result)
    }

    fn unsupported(&self, what: String, hint: &str) -> RuntimeError {
        RuntimeError::Unsupported {
            runtime: self.capabilities.runtime.clone(),
            what,
            hint: hint.to_owned(),
        }
    }

    fn check(&self, spec: &EnvironmentSpec) -> Result<()> {
        let stack = match &spec.stack {
            Stack::Services(stack) if self.capabilities.services => stack,
            Stack::Objects(_) if self.capabilities.objects => return Ok(()),
            Stack::Services(_) => return Err(self.unsupported("a stack of services".to_owned(), "use another runtime")),
            Stack::Objects(_) => {
                return Err(self.unsupported("a stack of objects".to_owned(), "use the kubernetes runtime"));
            }
        };
        let services = stack
            .services
            .iter()
            .map(|(name, service)| (format!("service {name}"), &service.workload));
        let jobs = stack
            .jobs
            .iter()
            .map(|(name, job)| (format!("job {name}"), &job.workload));
        services
            .chain(jobs)
            .try_for_each(|(what, workload)| self.check_root(&what, workload))
    }

    fn check_root(&self, what: &str, workload: &Workload) -> Result<()> {
        match &workload.root {
            Root::Host if !self.capabilities.host_roots => Err(self.unsupported(what.to_owned(), "give it an image")),
            Root::Image { reference, .. } if !self.capabilities.images => Err(self.unsupported(
                format!("{what} with the image {reference}"),
                "run it from the host's packages",
            )),
            Root::Engine(engine) => {
                let offers = &self.capabilities.engines;
                let fits =
                    |offer: &&model::EngineOffer| offer.kind == engine.kind && engine.versions.contains(offer.major);
                if offers.iter().any(|offer| fits(&offer)) || (offers.is_empty() && self.capabilities.images) {
                    return Ok(());
                }
                let there: Vec<String> = offers
                    .iter()
                    .map(|offer| format!("{} {}", offer.kind, offer.version))
                    .collect();
                let hint = format!("there is {}", there.join(", "));
                Err(self.unsupported(format!("{what} with the engine {}", engine.image), &hint))
            }
            Root::Build(build) if !self.capabilities.features.contains(&model::Feature::Builds) => Err(self
                .unsupported(
                    format!("{what} with a build of {}", build.context),
                    "run it from the host's packages",
                )),
            Root::Host | Root::Image { .. } | Root::Build(_) => Ok(()),
        }
    }

    /// Ends a job that was begun, after whatever else wants to run had its turn.
    fn finish_job(&self, environment: EnvironmentId, job: JobName, behaviour: JobBehaviour, timeout: Duration) {
        let simulator = self.clone();
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            let (exit, timed_out) = match behaviour {
                JobBehaviour::Exits(exit) => (exit, false),
                JobBehaviour::Forever => {
                    simulator.advance(timeout);
                    (137, true)
                }
                JobBehaviour::Held | JobBehaviour::Refused(_) => return,
            };
            simulator.world().job_finish(&environment, &job, exit, timed_out);
            simulator.announce([environment]);
        });
    }
}

#[async_trait]
impl Runtime for Simulator {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn changes(&self) -> broadcast::Receiver<EnvironmentId> {
        self.changes.subscribe()
    }

    async fn identity(&self) -> Result<Option<String>> {
        Ok(self.world().identity.clone())
    }

    async fn source_exists(&self, key: &SourceKey) -> Result<bool> {
        let call = self.enter(Operation::SourceExists, None, format!("{key:?}"))?;
        call.leave(Ok(self.world().sources.contains_key(key)))
    }

    async fn source_put(&self, sake: &Sake, key: &SourceKey, checkout: &dyn Checkout) -> Result<()> {
        let call = self.enter(Operation::SourcePut, None, format!("{key:?}"))?;
        self.world().for_sake_of(sake)?;
        if self.world().sources.contains_key(key) {
            return call.leave(Ok(()));
        }
        let failed = |reason: String| RuntimeError::Failed {
            action: format!("checking out {}", key.commit.short()),
            reason,
        };
        let directory = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
        checkout.write(directory.path()).await.map_err(failed)?;
        let put = {
            let mut world = self.world();
            let current = world.for_sake_of(sake);
            if current.is_ok() {
                world.sources.entry(key.clone()).or_insert_with(|| Arc::new(directory));
            }
            current
        };
        call.leave(put)
    }

    async fn source_list(&self) -> Result<Vec<SourceKey>> {
        let call = self.enter(Operation::SourceList, None, String::new())?;
        call.leave(Ok(self.world().sources.keys().cloned().collect()))
    }

    async fn source_remove(&self, key: &SourceKey) -> Result<()> {
        let call = self.enter(Operation::SourceRemove, None, format!("{key:?}"))?;
        self.world().sources.remove(key);
        call.leave(Ok(()))
    }

    async fn image_put(&self, sake: &Sake, image: &ImageDigest, layers: &[ImageLayer]) -> Result<()> {
        let call = self.enter(Operation::ImagePut, None, image.to_string())?;
        self.world().for_sake_of(sake)?;
        if layers.iter().any(|layer| !layer.blob.is_file()) {
            return Err(RuntimeError::Invalid {
                what: format!("the image {}", image.short()),
                reason: "one of its layers can not be read".to_owned(),
            });
        }
        self.world().images.insert(image.clone());
        call.leave(Ok(()))
    }

    async fn image_list(&self) -> Result<BTreeSet<ImageDigest>> {
        let call = self.enter(Operation::ImageList, None, String::new())?;
        call.leave(Ok(self.world().images.clone()))
    }

    async fn image_remove(&self, image: &ImageDigest) -> Result<()> {
        let call = self.enter(Operation::ImageRemove, None, image.to_string())?;
        self.world().images.remove(image);
        call.leave(Ok(()))
    }

    fn footprint(&self, spec: &EnvironmentSpec, stage: &Stage) -> Vec<Resource> {
        let id = &spec.environment;
        let stack = spec.services().cloned().unwrap_or_default();
        let envelope = || {
            let volumes = stack.volumes.keys().map(|name| resource(id, "volume", name));
            std::iter::once(resource(id, "network", "hub"))
                .chain(volumes)
                .collect::<Vec<_>>()
        };
        match stage {
            Stage::Envelope => envelope(),
            Stage::Services(names) => names.iter().map(|name| resource(id, "container", name)).collect(),
            Stage::Prune => Vec::new(),
            Stage::Whole => {
                let services = stack.services.keys().map(|name| resource(id, "container", name));
                let jobs = stack.jobs.keys().flat_map(|name| self.job_footprint(spec, name));
                envelope().into_iter().chain(services).chain(jobs).collect()
            }
        }
    }

    async fn apply(&self, spec: &EnvironmentSpec, stage: &Stage, secrets: &dyn Secrets) -> Result<()> {
        let detail = format!("generation {} {stage:?}", spec.generation);
        self.change(Operation::Apply, &spec.environment, detail, |world| {
            self.check(spec)?;
            match stage {
                Stage::Envelope => world.envelope(spec),
                Stage::Services(names) => world.services(spec, names, secrets),
                Stage::Prune => world.prune(spec),
                Stage::Whole => {
                    world.envelope(spec)?;
                    let stack = spec.services().cloned().unwrap_or_default();
                    let of_plan = |(_, job): &(_, &model::Job)| job.on != JobEvent::Hand;
                    for (name, _) in stack.jobs.iter().filter(of_plan) {
                        if let (_, Some(JobBehaviour::Exits(exit))) = world.job_begin(spec, name, secrets)? {
                            world.job_finish(&spec.environment, name, exit, false);
                        }
                    }
                    world.services(spec, stack.services.keys(), secrets)?;
                    world.prune(spec)
                }
            }
        })
    }

    async fn observe(&self, environment: &EnvironmentId) -> Result<Option<Observation>> {
        let call = self.enter(Operation::Observe, Some(environment), String::new())?;
        call.leave(Ok(self.world().observe(environment)))
    }

    fn job_footprint(&self, spec: &EnvironmentSpec, job: &JobName) -> Vec<Resource> {
        vec![resource(&spec.environment, "container", format_args!("job-{job}"))]
    }

    async fn job_run(&self, spec: &EnvironmentSpec, job: &JobName, secrets: &dyn Secrets) -> Result<JobOutcome> {
        let environment = &spec.environment;
        let call = self.enter(
            Operation::JobRun,
            Some(environment),
            format!("generation {} {job}", spec.generation),
        )?;
        self.check(spec)?;
        let (mut outcome, begun) = self.world().job_begin(spec, job, secrets)?;
        if let Some(behaviour) = begun {
            self.announce([environment.clone()]);
            let timeout = spec
                .services()
                .and_then(|stack| stack.jobs.get(job))
                .map_or(0, |job| job.timeout_ms);
            self.finish_job(
                environment.clone(),
                job.clone(),
                behaviour,
                Duration::from_millis(timeout),
            );
        }
        let ended = outcome
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|outcome| outcome.clone());
        call.leave(ended.ok_or_else(|| not_found(format!("job {job}"))))
    }

    fn build_footprint(&self, spec: &EnvironmentSpec, service: &ServiceName) -> Vec<Resource> {
        vec![Resource {
            environment: spec.environment.clone(),
            kind: "container".to_owned(),
            name: format!("build:{service}"),
        }]
    }

    async fn build_run(
        &self,
        spec: &EnvironmentSpec,
        service: &ServiceName,
        bases: &[BaseImage],
        _secrets: &dyn Secrets,
    ) -> Result<BuildOutcome> {
        let call = self.enter(Operation::BuildRun, Some(&spec.environment), service.to_string())?;
        if !self.capabilities.features.contains(&model::Feature::Builds) {
            return Err(self.unsupported(format!("the build of service {service}"), "give it an image"));
        }
        let digest = spec
            .service_digest(service)
            .ok_or_else(|| not_found(format!("service {service}")))?;
        let below = bases.iter().map(|base| base.manifest.as_slice());
        let digest = Digest::of_parts(std::iter::once(digest.as_str().as_bytes()).chain(below));
        let image: ImageDigest = format!("sha256:{}", digest.as_str())
            .parse()
            .map_err(|error: model::InvalidImageDigest| invalid("a build", error.to_string()))?;
        self.world().images.insert(image.clone());
        call.leave(Ok(BuildOutcome::Built(BuiltImage {
            image,
            config: r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#.to_owned(),
        })))
    }

    async fn power(&self, environment: &EnvironmentId, generation: Generation, power: Power) -> Result<()> {
        if power == Power::Frozen && !self.capabilities.freeze {
            return Err(self.unsupported("freezing".to_owned(), "stop it"));
        }
        let detail = format!("generation {generation} {power:?}");
        self.change(Operation::Power, environment, detail, |world| {
            world.power(environment, generation, power)
        })
    }

    async fn services_stop(
        &self,
        environment: &EnvironmentId,
        generation: Generation,
        services: &[ServiceName],
    ) -> Result<()> {
        let detail = format!("generation {generation} {services:?}");
        self.change(Operation::ServicesStop, environment, detail, |world| {
            let now = world.tick();
            let cell = world.mutable(environment, generation)?;
            for (_, container) in cell.services.iter_mut().filter(|(name, _)| services.contains(name)) {
                container.stop(now);
            }
            Ok(())
        })
    }

    async fn snapshot_create(
        &self,
        environment: &EnvironmentId,
        generation: Generation,
        volume: &VolumeName,
        snapshot: &SnapshotId,
    ) -> Result<()> {
        if !self.capabilities.snapshots {
            return Err(self.unsupported("snapshots".to_owned(), "give the runtime a pool that has them"));
        }
        let detail = format!("generation {generation} {volume} {snapshot}");
        self.change(Operation::SnapshotCreate, environment, detail, |world| {
            world.snapshot(environment, generation, volume, snapshot)
        })
    }

    async fn snapshot_list(&self) -> Result<Vec<SnapshotId>> {
        let call = self.enter(Operation::SnapshotList, None, String::new())?;
        call.leave(Ok(self.world().snapshots.keys().cloned().collect()))
    }

    async fn snapshot_remove(&self, sake: Option<&Sake>, snapshot: &SnapshotId) -> Result<()> {
        let call = self.enter(Operation::SnapshotRemove, None, snapshot.to_string())?;
        let removed = {
            let mut world = self.world();
            let current = sake.map_or(Ok(()), |sake| world.for_sake_of(sake));
            if current.is_ok() {
                world.snapshots.remove(snapshot);
            }
            current
        };
        call.leave(removed)
    }

    async fn room(&self) -> Result<Option<Room>> {
        let call = self.enter(Operation::Room, None, String::new())?;
        call.leave(Ok(self.world().room))
    }

    async fn memory(&self, environment: &EnvironmentId) -> Result<Option<u64>> {
        let call = self.enter(Operation::Memory, Some(environment), String::new())?;
        let bytes = self
            .world()
            .environments
            .get(environment)
            .map(|cell| MEMORY * cell.services.len() as u64);
        call.leave(Ok(bytes))
    }

    async fn room_of(&self, environment: &EnvironmentId) -> Result<Option<Room>> {
        let call = self.enter(Operation::RoomOf, Some(environment), String::new())?;
        call.leave(Ok(None))
    }

    async fn dial(&self, environment: &EnvironmentId, service: &ServiceName, target: Target) -> Result<Connection> {
        let call = self.enter(Operation::Dial, Some(environment), format!("{service} {target:?}"))?;
        let result = dial(&self.world(), environment, service, target);
        call.leave(result)
    }

    async fn logs(
        &self,
        environment: &EnvironmentId,
        name: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogLine>> {
        let call = self.enter(Operation::Logs, Some(environment), name.to_owned())?;
        let stream = self.world().log(environment, name).map(|log| log.read(query));
        call.leave(stream.ok_or_else(|| not_found(format!("{name} in {environment}"))))
    }

    async fn exec(
        &self,
        environment: &EnvironmentId,
        service: &ServiceName,
        argv: &[String],
        variables: &BTreeMap<String, String>,
    ) -> Result<Exec> {
        let call = self.enter(Operation::Exec, Some(environment), format!("{service} {argv:?}"))?;
        let inside = {
            let world = self.world();
            let container = world
                .environments
                .get(environment)
                .and_then(|cell| cell.services.get(service));
            let container = container.ok_or_else(|| not_found(format!("service {service} in {environment}")))?;
            if !container.is_running(world.now) {
                return Err(invalid(format!("service {service}"), "it does not run"));
            }
            let mut all = container.environment.clone();
            all.extend(variables.clone());
            Inside {
                world: Arc::clone(&self.shared),
                environment: environment.clone(),
                service: service.clone(),
                variables: all,
            }
        };
        call.leave(Ok(inside.run(argv.to_vec())))
    }

    async fn remove(&self, environment: &EnvironmentId, generation: Generation) -> Result<()> {
        self.change(
            Operation::Remove,
            environment,
            format!("generation {generation}"),
            |world| {
                if world.environments.contains_key(environment) {
                    world.mutable(environment, generation)?;
                    world.environments.remove(environment);
                    world.tick();
                }
                Ok(())
            },
        )
    }

    async fn recall(&self, environment: &EnvironmentId) -> Result<Option<EnvironmentSpec>> {
        let call = self.enter(Operation::Recall, Some(environment), String::new())?;
        let spec = self
            .world()
            .environments
            .get(environment)
            .and_then(|cell| cell.spec.clone());
        call.leave(Ok(spec))
    }

    async fn inventory(&self, environment: Option<&EnvironmentId>) -> Result<Vec<Resource>> {
        let call = self.enter(Operation::Inventory, environment, String::new())?;
        let world = self.world();
        let wanted = world
            .environments
            .iter()
            .filter(|(id, _)| environment.is_none_or(|wanted| wanted == *id));
        let mut found = Vec::new();
        for (id, cell) in wanted {
            found.push(resource(id, "network", "hub"));
            found.extend(cell.volumes.keys().map(|name| resource(id, "volume", name)));
            found.extend(cell.services.keys().map(|name| resource(id, "container", name)));
            found.extend(
                cell.jobs
                    .keys()
                    .map(|name| resource(id, "container", format_args!("job-{name}"))),
            );
        }
        call.leave(Ok(found))
    }
}

fn dial(world: &World, environment: &EnvironmentId, service: &ServiceName, target: Target) -> Result<Connection> {
    let container = world
        .environments
        .get(environment)
        .and_then(|cell| cell.services.get(service));
    let container = container.ok_or_else(|| not_found(format!("service {service} in {environment}")))?;
    let answers = match target {
        Target::Port(port) => container.service.ports.contains(&port),
        Target::Administration => matches!(container.service.workload.root, Root::Engine(_)),
    };
    let refused = |reason: &str| RuntimeError::Failed {
        action: format!("connecting to {service}"),
        reason: reason.to_owned(),
    };
    if !answers || !container.listens(world.now) {
        return Err(refused("connection refused"));
    }
    let (near, far) = UnixStream::pair().map_err(|error| refused(&error.to_string()))?;
    let answer: Option<Answer> = world.answers.get(service.as_str()).cloned();
    match answer {
        Some(answer) => answer(target, far),
        None => drop(tokio::spawn(echo(
            far,
            container.text.clone(),
            container.power.subscribe(),
        ))),
    }
    Ok(Connection::Unix(near))
}

/// Greets, then sends back what comes; stands still while frozen and ends with its container.
async fn echo(mut stream: UnixStream, greeting: String, mut power: watch::Receiver<Power>) {
    let mut buffer = vec![0; 16 * 1024];
    let mut pending = format!("{greeting}\n").into_bytes();
    loop {
        match power
            .wait_for(|power| *power != Power::Frozen)
            .await
            .map(|power| *power)
        {
            Ok(Power::Running) => {}
            _ => return,
        }
        if stream.write_all(&pending).await.is_err() {
            return;
        }
        pending.clear();
        tokio::select! {
            changed = power.changed() => if changed.is_err() { return },
            read = stream.read(&mut buffer) => match read {
                Ok(length @ 1..) => pending.extend_from_slice(&buffer[..length]),
                _ => return,
            },
        }
    }
}
