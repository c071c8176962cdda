//! A runtime that exists in memory only, for tests of whatever uses runtimes.
//!
//! It is deterministic: its clock moves by one millisecond with each change and by [`Simulator::advance`], never by itself.
//! It is strict where a real runtime would be left with a broken state: a volume in use is not replaced, an older generation
//! is refused, a missing source or snapshot is named. It can be told how services and jobs behave, which call fails, and
//! keeps a list of all calls.
//!
//! What a container does is decided by the table that [`Simulator::behave`] fills, else by its command:
//!
//! | command | service | job |
//! |---|---|---|
//! | `["serve", TEXT]` | is ready, prints TEXT, answers connections with TEXT and then echoes | |
//! | `["idle"]`, `["never-ready"]` | runs and is never ready | runs until its time is over |
//! | `["ready-after", MS]` | is ready after so many simulated milliseconds | |
//! | `["exit", TEXT, CODE]` | prints TEXT and ends with CODE | the same |
//! | `["fail"]`, `["crash-loop"]` | ends with 1 | ends with 1 |
//! | `["missing"]` | is refused: the command does not exist | the same |
//! | anything else | as `serve` with its own name | ends with 0 |
//!
//! Outside there is one service, which says `outside` to whoever may reach it: the command `fetch NAME PORT` tries.

mod behaviour;
mod calls;
mod door;
mod exec;
mod logs;
mod port;
mod world;

pub use behaviour::{Behaviour, JobBehaviour};
pub use calls::{Call, Operation};

use crate::{RuntimeError, Target};
use calls::Faults;
use model::{
    Capabilities, EngineOffer, EnvironmentId, Feature, JobName, ServiceName, SnapshotId, Staging, Timestamp, VolumeName,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::UnixStream, sync::broadcast};
use world::World;

/// What a volume or snapshot holds, by path relative to its root.
pub type Content = BTreeMap<String, Vec<u8>>;

/// Answers a connection in place of the simulator.
pub type Answer = Arc<dyn Fn(Target, UnixStream) + Send + Sync>;

/// A runtime in memory. Clones share it: keep one and give away another.
#[derive(Clone)]
pub struct Simulator {
    capabilities: Arc<Capabilities>,
    shared: Arc<Mutex<World>>,
    faults: Arc<Mutex<Faults>>,
    changes: broadcast::Sender<EnvironmentId>,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator")
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

impl Default for Simulator {
    fn default() -> Self {
        Self::new()
    }
}

fn engine(kind: &str, major: u32, version: &str) -> EngineOffer {
    EngineOffer {
        kind: kind.to_owned(),
        major,
        version: version.to_owned(),
    }
}

impl Simulator {
    /// A simulator that can do what a cell can.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Capabilities {
            runtime: "simulator".to_owned(),
            staging: Staging::Levels,
            services: true,
            objects: false,
            host_roots: true,
            images: true,
            engines: vec![
                engine("postgres", 15, "15.18"),
                engine("redis", 7, "7.0.15"),
                engine("rabbitmq", 3, "3.10.8"),
            ],
            snapshots: true,
            freeze: true,
            sources: true,
            databases: true,
            features: [
                Feature::Content,
                Feature::NativeBuilds,
                Feature::Networks,
                Feature::BroughtImages,
            ]
            .into(),
        })
    }

    /// A simulator with other capabilities. What is not among them it refuses.
    #[must_use]
    pub fn with(capabilities: Capabilities) -> Self {
        Self {
            capabilities: Arc::new(capabilities),
            shared: Arc::default(),
            faults: Arc::default(),
            changes: broadcast::channel(1024).0,
        }
    }

    /// What tells it from other places, see [`crate::Runtime::identity`]: nothing does unless it was called something.
    pub fn call(&self, identity: &str) {
        self.world().identity = Some(identity.to_owned());
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A panic while it was locked is a failed test already; the world is whole between its statements.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, environments: impl IntoIterator<Item = EnvironmentId>) {
        for environment in environments {
            // Nobody listens: nobody misses anything.
            let _ = self.changes.send(environment);
        }
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.world().now
    }

    /// Lets simulated time pass; environments in which something changes by it are announced.
    pub fn advance(&self, by: Duration) {
        let changed = self.world().advance(by);
        self.announce(changed);
    }

    /// From now on services of this name behave so, in every environment, also those that run.
    pub fn behave(&self, service: &str, behaviour: Behaviour) {
        let changed = self.world().behave(service, behaviour);
        self.announce(changed);
    }

    /// The next runs of jobs of this name behave so, one after the other; after the last one their commands decide again.
    pub fn script_job(&self, job: &str, behaviours: impl IntoIterator<Item = JobBehaviour>) {
        self.world()
            .job_scripts
            .entry(job.to_owned())
            .or_default()
            .extend(behaviours);
    }

    /// Ends a job that [`JobBehaviour::Held`] keeps running.
    pub fn release_job(&self, environment: &EnvironmentId, job: &JobName, exit: i32) {
        self.world().job_finish(environment, job, exit, false);
        self.announce([environment.clone()]);
    }

    /// Connections to services of this name are answered by `answer`, for example by a real engine.
    pub fn answer(&self, service: &str, answer: Answer) {
        self.world().answers.insert(service.to_owned(), answer);
    }

    /// A service or job prints a line.
    pub fn print(&self, environment: &EnvironmentId, name: &str, text: &str) {
        let world = self.world();
        let now = world.now;
        if let Some(log) = world.log(environment, name) {
            log.push(now, crate::LogStream::Stdout, text);
        }
    }

    /// What a volume holds; `None` if it does not exist.
    #[must_use]
    pub fn volume(&self, environment: &EnvironmentId, volume: &VolumeName) -> Option<Content> {
        Some(
            self.world()
                .environments
                .get(environment)?
                .volumes
                .get(volume)?
                .content
                .clone(),
        )
    }

    /// Writes into a volume, as a service would. Returns whether the volume exists.
    pub fn volume_write(&self, environment: &EnvironmentId, volume: &VolumeName, path: &str, bytes: &[u8]) -> bool {
        let mut world = self.world();
        let disk = world
            .environments
            .get_mut(environment)
            .and_then(|cell| cell.volumes.get_mut(volume));
        disk.map(|disk| disk.content.insert(path.to_owned(), bytes.to_vec()))
            .is_some()
    }

    /// What a snapshot holds; `None` if it does not exist.
    #[must_use]
    pub fn snapshot(&self, snapshot: &SnapshotId) -> Option<Content> {
        self.world().snapshots.get(snapshot).cloned()
    }

    /// Makes a snapshot exist, as if it had been made earlier.
    pub fn snapshot_put(&self, snapshot: SnapshotId, content: Content) {
        self.world().snapshots.insert(snapshot, content);
    }

    /// How much room there is from now on; new environments are refused while less than the reserve is free.
    pub fn set_room(&self, room: Option<crate::Room>) {
        self.world().room = room;
    }

    /// The next call of this operation fails before it does anything.
    pub fn fail_next(&self, operation: Operation, error: RuntimeError) {
        self.faults().on_operation(operation, error, false);
    }

    /// The next call of this operation does what it should and its answer is lost.
    pub fn fail_after_next(&self, operation: Operation, error: RuntimeError) {
        self.faults().on_operation(operation, error, true);
    }

    /// The n-th call from now, counted from 1 and whatever it is, fails before it does anything.
    pub fn fail_at(&self, n: usize, error: RuntimeError) {
        self.faults().on_call(n, error, false);
    }

    /// The n-th call from now, counted from 1, does what it should and its answer is lost.
    pub fn fail_after_at(&self, n: usize, error: RuntimeError) {
        self.faults().on_call(n, error, true);
    }

    /// All calls so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.faults().calls().to_vec()
    }

    /// Kills a service's main process: what follows is decided by its restart policy.
    pub fn kill(&self, environment: &EnvironmentId, service: &ServiceName, code: i32) {
        let mut world = self.world();
        let now = world.tick();
        if let Some(container) = world
            .environments
            .get_mut(environment)
            .and_then(|cell| cell.services.get_mut(service))
        {
            container.killed(now, code);
        }
        drop(world);
        self.announce([environment.clone()]);
    }
}

#[cfg(test)]
mod tests;
