//! What exists in the simulated world, and how it changes. No call waits in here.

use super::{
    Answer, Content,
    behaviour::{self, Behaviour, JobBehaviour},
    logs::Log,
};
use crate::{JobOutcome, LogStream, Result, Room, RuntimeError, Sake, Secrets, SourceKey, reveal};
use model::{
    Condition, Digest, EnvironmentId, EnvironmentSpec, Generation, ImageDigest, Job, JobEvent, JobFact, JobName,
    MountKind, Observation, Power, Restart, Service, ServiceFact, ServiceName, ServiceState, SnapshotId, Timestamp,
    VolumeFact, VolumeName, VolumeOrigin, Workload,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::watch;

/// How long a service that ended waits until it is started again.
const BACKOFF_MS: u64 = 1000;

#[derive(Default)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) identity: Option<String>,
    pub(super) environments: BTreeMap<EnvironmentId, Cell>,
    pub(super) snapshots: BTreeMap<SnapshotId, Content>,
    pub(super) sources: BTreeMap<SourceKey, Arc<TempDir>>,
    pub(super) images: BTreeSet<ImageDigest>,
    pub(super) behaviours: BTreeMap<String, Behaviour>,
    pub(super) job_scripts: BTreeMap<String, VecDeque<JobBehaviour>>,
    pub(super) answers: BTreeMap<String, Answer>,
    pub(super) room: Option<Room>,
}

#[derive(Default)]
pub(super) struct Cell {
    pub(super) generation: Generation,
    pub(super) envelope: Option<Generation>,
    pub(super) power: Power,
    pub(super) services: BTreeMap<ServiceName, Container>,
    pub(super) jobs: BTreeMap<JobName, JobRun>,
    pub(super) volumes: BTreeMap<VolumeName, Disk>,
    pub(super) door: model::DoorFact,
    pub(super) egress: model::Egress,
    /// What was asked for last.
    pub(super) spec: Option<EnvironmentSpec>,
}

pub(super) struct Disk {
    pub(super) incarnation: Generation,
    pub(super) content: Content,
}

pub(super) struct Container {
    pub(super) digest: Digest,
    pub(super) service: Service,
    pub(super) text: String,
    pub(super) behaviour: Behaviour,
    pub(super) started: Timestamp,
    pub(super) stopped: Option<Timestamp>,
    restarts: u32,
    pub(super) environment: BTreeMap<String, String>,
    /// Where each source that it mounts lies.
    pub(super) sources: BTreeMap<String, PathBuf>,
    /// What builds have made of what it mounts.
    pub(super) built: BTreeMap<String, Content>,
    /// Files that the stack gives, by their targets.
    pub(super) given: BTreeMap<String, Given>,
    /// What it wrote outside of volumes.
    pub(super) private: Content,
    pub(super) log: Log,
    /// Its connections watch this; they end when it is dropped or stopped.
    pub(super) power: watch::Sender<Power>,
}

/// A file that the stack gives.
pub(super) struct Given {
    pub(super) bytes: Vec<u8>,
    /// Mode, owner and group as `stat` shows them.
    pub(super) stat: String,
}

pub(super) struct JobRun {
    pub(super) digest: Digest,
    pub(super) started: Timestamp,
    pub(super) ended: Option<Timestamp>,
    pub(super) outcome: watch::Sender<Option<JobOutcome>>,
    pub(super) log: Log,
    /// What is kept if it succeeds.
    product: Option<(SnapshotId, Content)>,
}

impl Container {
    /// State, since when, and how often it was started again.
    fn state(&self, now: Timestamp) -> (ServiceState, Timestamp, u32) {
        if let Some(stopped) = self.stopped {
            return (ServiceState::Stopped, stopped, self.restarts);
        }
        match self.behaviour {
            Behaviour::Ready => (ServiceState::Ready, self.started, self.restarts),
            Behaviour::Unhealthy => (ServiceState::Unhealthy, self.started, self.restarts),
            Behaviour::NeverReady | Behaviour::Refused(_) => (ServiceState::Starting, self.started, self.restarts),
            Behaviour::ReadyAfter(delay) if now >= self.started.plus(delay) => {
                (ServiceState::Ready, self.started.plus(delay), self.restarts)
            }
            Behaviour::ReadyAfter(_) => (ServiceState::Starting, self.started, self.restarts),
            Behaviour::Exits(code) => self.ended(now, code),
        }
    }

    fn ended(&self, now: Timestamp, code: i32) -> (ServiceState, Timestamp, u32) {
        let again = match self.service.restart {
            Restart::Never => false,
            Restart::OnFailure => code != 0,
            Restart::Always => true,
        };
        if !again {
            return (ServiceState::Exited { code }, self.started, self.restarts);
        }
        let rounds = now.0.saturating_sub(self.started.0) / BACKOFF_MS;
        let last = Timestamp(self.started.0 + rounds * BACKOFF_MS);
        let restarts = self.restarts.saturating_add(u32::try_from(rounds).unwrap_or(u32::MAX));
        (
            ServiceState::BackingOff {
                code,
                until: Timestamp(last.0 + BACKOFF_MS),
            },
            last,
            restarts,
        )
    }

    pub(super) fn fact(&self, now: Timestamp) -> ServiceFact {
        let (state, since, restarts) = self.state(now);
        let message = match (&state, &self.behaviour) {
            (ServiceState::Starting, Behaviour::NeverReady) => Some("the probe was refused".to_owned()),
            (ServiceState::Unhealthy, _) => Some("the health check fails".to_owned()),
            (ServiceState::Exited { code } | ServiceState::BackingOff { code, .. }, _) => {
                Some(format!("the main process ended with status {code}"))
            }
            _ => None,
        };
        ServiceFact {
            digest: self.digest.clone(),
            state,
            since,
            restarts,
            message,
        }
    }

    pub(super) fn listens(&self, now: Timestamp) -> bool {
        matches!(self.state(now).0, ServiceState::Ready | ServiceState::Unhealthy)
    }

    pub(super) fn is_running(&self, now: Timestamp) -> bool {
        !matches!(
            self.state(now).0,
            ServiceState::Stopped | ServiceState::Exited { .. } | ServiceState::BackingOff { .. }
        )
    }

    fn start(&mut self, now: Timestamp, power: Power) {
        self.started = now;
        self.stopped = None;
        self.log.push(now, LogStream::Stdout, &self.text);
        self.power.send_replace(power);
    }

    /// What has ended stays ended.
    pub(super) fn stop(&mut self, now: Timestamp) {
        if self.stopped.is_none() && !matches!(self.state(now).0, ServiceState::Exited { .. }) {
            self.restarts = self.state(now).2;
            self.stopped = Some(now);
            self.power.send_replace(Power::Stopped);
        }
    }

    /// Its main process is gone: it ends, or is started again at once.
    pub(super) fn killed(&mut self, now: Timestamp, code: i32) {
        // Connections end with the process that held them.
        self.power.send_replace(Power::Stopped);
        self.power = watch::channel(Power::Running).0;
        if matches!(self.ended(now, code).0, ServiceState::Exited { .. }) {
            self.behaviour = Behaviour::Exits(code);
        } else {
            self.restarts = self.restarts.saturating_add(1);
        }
        self.log.push(now, LogStream::Stderr, &format!("killed, status {code}"));
        self.started = now;
    }

    fn mounts(&self, volume: &VolumeName) -> bool {
        let is = |kind: &MountKind| matches!(kind, MountKind::Volume { volume: mounted } if mounted == volume);
        self.service.workload.mounts.iter().any(|mount| is(&mount.kind))
    }
}

pub(super) fn not_found(what: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::NotFound { what: what.to_string() }
}

pub(super) fn invalid(what: impl std::fmt::Display, reason: impl Into<String>) -> RuntimeError {
    RuntimeError::Invalid {
        what: what.to_string(),
        reason: reason.into(),
    }
}

impl Cell {
    /// The services that wait for others to complete, which have not.
    fn held_back(&self, now: Timestamp) -> BTreeSet<ServiceName> {
        let completed = |name: &ServiceName| {
            let state = self.services.get(name).map(|container| container.state(now).0);
            state == Some(ServiceState::Exited { code: 0 })
        };
        let waits = |container: &Container| {
            let conditions = &mut container.service.depends_on.iter();
            conditions.any(|(name, condition)| *condition == Condition::Completed && !completed(name))
        };
        let held = self.services.iter().filter(|(_, container)| waits(container));
        held.map(|(name, _)| name.clone()).collect()
    }
}

impl World {
    /// One more change: its time.
    pub(super) fn tick(&mut self) -> Timestamp {
        self.now = Timestamp(self.now.0 + 1);
        self.now
    }

    fn states(&self) -> BTreeMap<(EnvironmentId, ServiceName), (ServiceState, u32)> {
        let mut states = BTreeMap::new();
        for (id, cell) in &self.environments {
            for (name, container) in &cell.services {
                let (state, _, restarts) = container.state(self.now);
                states.insert((id.clone(), name.clone()), (state, restarts));
            }
        }
        states
    }

    fn changed(&mut self, change: impl FnOnce(&mut Self)) -> Vec<EnvironmentId> {
        let before = self.states();
        change(self);
        let after = self.states();
        let mut changed: Vec<_> = after
            .iter()
            .filter(|(key, state)| before.get(*key) != Some(*state))
            .map(|((id, _), _)| id.clone())
            .collect();
        changed.dedup();
        changed
    }

    pub(super) fn advance(&mut self, by: Duration) -> Vec<EnvironmentId> {
        self.changed(|world| world.now = world.now.plus(by))
    }

    pub(super) fn behave(&mut self, service: &str, behaviour: Behaviour) -> Vec<EnvironmentId> {
        self.changed(|world| {
            let now = world.tick();
            world.behaviours.insert(service.to_owned(), behaviour.clone());
            for cell in world.environments.values_mut() {
                for (_, container) in cell.services.iter_mut().filter(|(name, _)| name.as_str() == service) {
                    container.behaviour = behaviour.clone();
                    container.started = now;
                }
            }
        })
    }

    pub(super) fn log(&self, environment: &EnvironmentId, name: &str) -> Option<&Log> {
        let cell = self.environments.get(environment)?;
        let service = cell
            .services
            .iter()
            .find(|(service, _)| service.as_str() == name)
            .map(|(_, found)| &found.log);
        service.or_else(|| {
            cell.jobs
                .iter()
                .find(|(job, _)| job.as_str() == name)
                .map(|(_, found)| &found.log)
        })
    }

    /// The environment, after its generation was found not to be newer than this one.
    pub(super) fn mutable(&mut self, environment: &EnvironmentId, given: Generation) -> Result<&mut Cell> {
        let cell = self
            .environments
            .get_mut(environment)
            .ok_or_else(|| not_found(format!("environment {environment}")))?;
        if given < cell.generation {
            return Err(RuntimeError::Superseded {
                environment: environment.clone(),
                given,
                newest: cell.generation,
            });
        }
        cell.generation = given;
        Ok(cell)
    }

    /// Refuses what is done for the sake of a generation that is too old. An environment that is not there refuses nothing.
    pub(super) fn for_sake_of(&mut self, sake: &Sake) -> Result<()> {
        if self.environments.contains_key(&sake.environment) {
            self.mutable(&sake.environment, sake.generation)?;
        }
        Ok(())
    }

    pub(super) fn observe(&self, environment: &EnvironmentId) -> Option<Observation> {
        let cell = self.environments.get(environment)?;
        let job = |run: &JobRun| JobFact {
            digest: run.digest.clone(),
            exit: run.outcome.borrow().as_ref().map(|outcome| outcome.exit),
            started: run.started,
            ended: run.ended,
        };
        Some(Observation {
            environment: environment.clone(),
            at: self.now,
            generation: cell.generation,
            envelope: cell.envelope,
            power: cell.power,
            services: cell
                .services
                .iter()
                .map(|(name, container)| (name.clone(), container.fact(self.now)))
                .collect(),
            jobs: cell.jobs.iter().map(|(name, run)| (name.clone(), job(run))).collect(),
            volumes: cell
                .volumes
                .iter()
                .map(|(name, disk)| {
                    (
                        name.clone(),
                        VolumeFact {
                            incarnation: disk.incarnation,
                            torn: false,
                        },
                    )
                })
                .collect(),
            door: cell.door.clone(),
        })
    }

    pub(super) fn envelope(&mut self, spec: &EnvironmentSpec) -> Result<()> {
        let id = &spec.environment;
        let wanted = spec.services().map(|stack| stack.volumes.clone()).unwrap_or_default();
        // Everything that can be refused is refused before anything is made.
        if let Some(room) = self.room.filter(|room| room.free < room.reserve)
            && !self.environments.contains_key(id)
        {
            return Err(RuntimeError::Full {
                what: format!("environment {id}"),
                reason: format!("{} bytes are free", room.free),
            });
        }
        if self.environments.contains_key(id) {
            self.mutable(id, spec.generation)?;
        }
        let now = self.now;
        let mut made = Vec::new();
        for (name, volume) in wanted {
            let cell = self.environments.get(id);
            if cell
                .and_then(|cell| cell.volumes.get(&name))
                .is_some_and(|disk| disk.incarnation >= volume.incarnation)
            {
                continue;
            }
            let user = cell.and_then(|cell| cell.services.iter().find(|(_, c)| c.mounts(&name) && c.is_running(now)));
            if let Some((service, _)) = user {
                return Err(invalid(
                    format!("volume {name}"),
                    format!("it is in use by the running service {service}"),
                ));
            }
            let content = match &volume.origin {
                VolumeOrigin::Empty => Content::new(),
                VolumeOrigin::Snapshot(snapshot) => self
                    .snapshots
                    .get(snapshot)
                    .cloned()
                    .ok_or_else(|| not_found(format!("snapshot {snapshot}")))?,
            };
            made.push((
                name,
                Disk {
                    incarnation: volume.incarnation,
                    content,
                },
            ));
        }
        self.tick();
        let cell = self.environments.entry(id.clone()).or_default();
        cell.generation = spec.generation;
        cell.volumes.extend(made);
        cell.envelope = Some(spec.generation);
        cell.allow(&spec.egress);
        cell.spec = Some(spec.clone());
        Ok(())
    }

    pub(super) fn services<'a>(
        &mut self,
        spec: &EnvironmentSpec,
        names: impl IntoIterator<Item = &'a ServiceName>,
        secrets: &dyn Secrets,
    ) -> Result<()> {
        let stack = spec.services().ok_or_else(|| not_found("a stack of services"))?;
        self.mutable(&spec.environment, spec.generation)?;
        let mut made = Vec::new();
        for name in names {
            let service = stack
                .services
                .get(name)
                .ok_or_else(|| not_found(format!("service {name}")))?;
            if let Some(image) = service
                .workload
                .root
                .image()
                .filter(|image| !self.images.contains(image))
            {
                return Err(not_found(format!("the image {}", image.short())));
            }
            let behaviour = self
                .behaviours
                .get(name.as_str())
                .cloned()
                .unwrap_or_else(|| behaviour::service(&service.workload));
            if let Behaviour::Refused(reason) = behaviour {
                return Err(invalid(format!("service {name}"), reason));
            }
            let digest = spec
                .service_digest(name)
                .ok_or_else(|| not_found(format!("service {name}")))?;
            let given = given(name.as_str(), &service.workload, secrets)?;
            let sources = self.mounted(spec, name.as_str(), &service.workload)?;
            let built = self.built(spec, &service.workload)?;
            made.push((
                name.clone(),
                service.clone(),
                behaviour,
                digest,
                given,
                (sources, built),
            ));
        }
        let now = self.tick();
        let cell = self.mutable(&spec.environment, spec.generation)?;
        for (name, service, behaviour, digest, (environment, given), (sources, built)) in made {
            let power = cell.power;
            let failed = |old: &Container| matches!(old.state(now).0, ServiceState::Exited { code } if code != 0);
            let old = cell.services.get_mut(&name);
            let old = old.filter(|old| old.digest == digest && !failed(old));
            if let Some(old) = old {
                if old.stopped.is_some() && power != Power::Stopped {
                    old.restarts = 0;
                    old.start(now, power);
                }
                continue;
            }
            let mut container = Container {
                digest,
                text: behaviour::text(&service.workload, name.as_str()),
                service,
                behaviour,
                started: now,
                stopped: Some(now),
                restarts: 0,
                environment,
                sources,
                built,
                given,
                private: Content::new(),
                log: Log::default(),
                power: watch::channel(power).0,
            };
            if power != Power::Stopped {
                container.start(now, power);
            }
            cell.services.insert(name, container);
        }
        Ok(())
    }

    /// Where the sources lie that a workload mounts, by the target of the mount.
    fn mounted(&self, spec: &EnvironmentSpec, name: &str, workload: &Workload) -> Result<BTreeMap<String, PathBuf>> {
        let mut mounted = BTreeMap::new();
        for mount in &workload.mounts {
            match &mount.kind {
                MountKind::Source { source, subpath } => {
                    let commit = spec.sources.get(source).ok_or_else(|| {
                        invalid(
                            name,
                            format!("it mounts the source {source}, which the environment does not pin"),
                        )
                    })?;
                    let key = SourceKey {
                        project: spec.project.clone(),
                        source: source.clone(),
                        commit: commit.clone(),
                    };
                    let directory = self
                        .sources
                        .get(&key)
                        .ok_or_else(|| not_found(format!("source {source} at {}", commit.short())))?;
                    mounted.insert(mount.target.clone(), directory.path().join(subpath));
                }
                MountKind::Volume { volume } | MountKind::VolumePath { volume, .. } => {
                    let cell = self.environments.get(&spec.environment);
                    if cell.is_none_or(|cell| !cell.volumes.contains_key(volume)) {
                        return Err(not_found(format!("volume {volume}")));
                    }
                }
                MountKind::Built { .. } | MountKind::Tmpfs { .. } | MountKind::Content { .. } | MountKind::Program => {}
            }
        }
        Ok(mounted)
    }

    /// What builds have made of what a workload mounts, by the target of the mount.
    fn built(&self, spec: &EnvironmentSpec, workload: &Workload) -> Result<BTreeMap<String, Content>> {
        let mut built = BTreeMap::new();
        for mount in &workload.mounts {
            let MountKind::Built { job, .. } = &mount.kind else {
                continue;
            };
            let product = spec.product(job).and_then(|id| self.snapshots.get(&id));
            let content = product.ok_or_else(|| not_found(format!("what the job {job} makes")))?;
            built.insert(mount.target.clone(), content.clone());
        }
        Ok(built)
    }

    /// What a build would leave in its checkout: the files that it sees, and what its command writes.
    fn product(&self, spec: &EnvironmentSpec, job: &Job) -> Option<(SnapshotId, Content)> {
        let product = job.product.as_ref()?;
        let id = spec.product(&job.name)?;
        let key = SourceKey {
            project: spec.project.clone(),
            source: product.source.clone(),
            commit: spec.sources.get(&product.source)?.clone(),
        };
        let mut content = behaviour::files(self.sources.get(&key)?.path());
        if let Some(inputs) = &product.inputs {
            content.retain(|path, _| inputs.contains_key(path));
        }
        behaviour::build(&job.workload, &mut content);
        Some((id, content))
    }

    pub(super) fn prune(&mut self, spec: &EnvironmentSpec) -> Result<()> {
        let stack = spec.services().cloned().unwrap_or_default();
        let cell = self.mutable(&spec.environment, spec.generation)?;
        cell.services.retain(|name, _| stack.services.contains_key(name));
        cell.jobs.retain(|name, _| stack.jobs.contains_key(name));
        cell.volumes.retain(|name, _| stack.volumes.contains_key(name));
        self.tick();
        Ok(())
    }

    pub(super) fn power(&mut self, environment: &EnvironmentId, generation: Generation, power: Power) -> Result<()> {
        self.mutable(environment, generation)?;
        let now = self.tick();
        let cell = self.mutable(environment, generation)?;
        let before = std::mem::replace(&mut cell.power, power);
        let held = cell.held_back(now);
        for (name, container) in &mut cell.services {
            match power {
                Power::Stopped => container.stop(now),
                Power::Running if before == Power::Stopped && container.stopped.is_none() => {}
                Power::Running if before == Power::Stopped && held.contains(name) => {}
                Power::Running if before == Power::Stopped => container.start(now, power),
                Power::Running | Power::Frozen if container.stopped.is_none() => {
                    container.power.send_replace(power);
                }
                Power::Running | Power::Frozen => {}
            }
        }
        Ok(())
    }

    /// Begins a run of a job, or finds the one that need not be repeated. The behaviour is `None` if nothing was begun.
    pub(super) fn job_begin(
        &mut self,
        spec: &EnvironmentSpec,
        name: &JobName,
        secrets: &dyn Secrets,
    ) -> Result<(watch::Receiver<Option<JobOutcome>>, Option<JobBehaviour>)> {
        self.mutable(&spec.environment, spec.generation)?;
        let job = spec
            .services()
            .and_then(|stack| stack.jobs.get(name))
            .ok_or_else(|| not_found(format!("job {name}")))?;
        let digest = spec.job_digest(name).ok_or_else(|| not_found(format!("job {name}")))?;
        given(name.as_str(), &job.workload, secrets)?;
        self.mounted(spec, name.as_str(), &job.workload)?;
        let known = self
            .environments
            .get(&spec.environment)
            .and_then(|cell| cell.jobs.get(name));
        if spec.product(name).is_some_and(|id| self.snapshots.contains_key(&id)) {
            let done = JobOutcome {
                exit: 0,
                timed_out: false,
            };
            return Ok((watch::channel(Some(done)).1, None));
        }
        let product = self.product(spec, job);
        if let Some(run) = known.filter(|run| run.digest == digest) {
            let over = run.outcome.borrow().clone();
            // What is wanted of a build is what it makes, and that is not there.
            let of_use = |outcome: JobOutcome| outcome.exit == 0 && !outcome.timed_out && job.product.is_none();
            if job.on == JobEvent::Hand || over.is_none_or(of_use) {
                return Ok((run.outcome.subscribe(), None));
            }
        }
        let behaviour = self.job_behaviour(name, job);
        if let JobBehaviour::Refused(reason) = behaviour {
            return Err(invalid(format!("job {name}"), reason));
        }
        let now = self.tick();
        let run = JobRun {
            digest,
            started: now,
            ended: None,
            outcome: watch::channel(None).0,
            log: Log::default(),
            product,
        };
        run.log
            .push(now, LogStream::Stdout, &behaviour::text(&job.workload, name.as_str()));
        let outcome = run.outcome.subscribe();
        self.mutable(&spec.environment, spec.generation)?
            .jobs
            .insert(name.clone(), run);
        Ok((outcome, Some(behaviour)))
    }

    fn job_behaviour(&mut self, name: &JobName, job: &Job) -> JobBehaviour {
        let scripted = self.job_scripts.get_mut(name.as_str()).and_then(VecDeque::pop_front);
        scripted.unwrap_or_else(|| behaviour::job(&job.workload))
    }

    pub(super) fn job_finish(&mut self, environment: &EnvironmentId, name: &JobName, exit: i32, timed_out: bool) {
        let now = self.tick();
        let run = self
            .environments
            .get_mut(environment)
            .and_then(|cell| cell.jobs.get_mut(name));
        if let Some(run) = run.filter(|run| run.ended.is_none()) {
            run.ended = Some(now);
            if let Some((id, content)) = run.product.take().filter(|_| exit == 0 && !timed_out) {
                self.snapshots.insert(id, content);
            }
            run.outcome.send_replace(Some(JobOutcome { exit, timed_out }));
        }
    }

    pub(super) fn snapshot(
        &mut self,
        environment: &EnvironmentId,
        generation: Generation,
        volume: &VolumeName,
        snapshot: &SnapshotId,
    ) -> Result<()> {
        if self.environments.contains_key(environment) {
            self.mutable(environment, generation)?;
        }
        if self.snapshots.contains_key(snapshot) {
            return Ok(());
        }
        let cell = self
            .environments
            .get(environment)
            .ok_or_else(|| not_found(format!("environment {environment}")))?;
        let disk = cell
            .volumes
            .get(volume)
            .ok_or_else(|| not_found(format!("volume {volume}")))?;
        if let Some((service, _)) = cell
            .services
            .iter()
            .find(|(_, c)| c.mounts(volume) && c.is_running(self.now))
        {
            return Err(invalid(
                format!("volume {volume}"),
                format!("it is in use by the running service {service}"),
            ));
        }
        self.snapshots.insert(snapshot.clone(), disk.content.clone());
        self.tick();
        Ok(())
    }
}

/// What a container is given, secrets resolved: its variables, and files by their targets.
fn given(
    name: &str,
    workload: &Workload,
    secrets: &dyn Secrets,
) -> Result<(BTreeMap<String, String>, BTreeMap<String, Given>)> {
    let refused = |reason| invalid(name, reason);
    let variables = workload
        .environment
        .iter()
        .map(|(key, value)| Ok((key.clone(), reveal::variable(key, value, secrets).map_err(refused)?)))
        .collect::<Result<_>>()?;
    let mut files = BTreeMap::new();
    for mount in &workload.mounts {
        if let MountKind::Content {
            content,
            mode,
            uid,
            gid,
        } = &mount.kind
        {
            let bytes = reveal::content(&mount.target, content, secrets).map_err(refused)?;
            let stat = format!("{mode:o} {} {}\n", uid.unwrap_or(0), gid.unwrap_or(0));
            files.insert(mount.target.clone(), Given { bytes, stat });
        }
    }
    Ok((variables, files))
}
