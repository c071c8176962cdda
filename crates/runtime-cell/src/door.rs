//! The door: the only way out of the environments of this machine, as a process without privileges.
//!
//! It never makes a socket inside an environment: the cell host does, and hands over those that listen. Whoever connects to one
//! of them has asked for an address that stands for a name; the door looks that name up on the outside, looks whether the address
//! that it got may be connected to, connects, and moves bytes without looking at them.
//!
//! It keeps its listeners and its connections when the cell host ends, and tells the next one what it has.

mod bounds;
mod control;
mod count;
mod environment;
mod outside;
mod pass;
mod relay;
pub(crate) mod wire;

pub use bounds::Bounds;
use environment::Environment;
use model::EnvironmentId;
use outside::Outside;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, Semaphore},
};

/// Threads that wait for the host's resolver.
const RESOLVER_THREADS: usize = 32;
/// The most connections of all environments together.
const CONNECTIONS_MAX: u64 = 8192;
/// Descriptors of one connection: two sockets, and two pipes while bytes move.
const DESCRIPTORS: u64 = 6;
/// Descriptors for everything else.
const DESCRIPTORS_OTHER: u64 = 512;

/// The door could not start.
#[derive(Debug, thiserror::Error)]
#[error("{action}")]
pub struct DoorError {
    action: &'static str,
    source: io::Error,
}

fn at(action: &'static str) -> impl FnOnce(io::Error) -> DoorError {
    move |source| DoorError { action, source }
}

/// What the process has.
#[derive(Debug)]
struct Door {
    socket: PathBuf,
    /// Of each environment.
    bounds: Bounds,
    environments: Mutex<BTreeMap<EnvironmentId, Arc<Environment>>>,
    outside: Arc<Outside>,
    /// Bounds the connections of all environments together.
    slots: Arc<Semaphore>,
    pipes: relay::Pipes,
    /// Tells that there is something to report.
    news: Notify,
}

impl Door {
    fn environments(&self) -> MutexGuard<'_, BTreeMap<EnvironmentId, Arc<Environment>>> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the door until it is asked to end by `SIGTERM` or `SIGINT`; `run_dir` is the cell host's, `bounds` hold for each environment.
///
/// # Errors
/// When there is no event loop, or signals can not be waited for.
pub fn run(run_dir: &Path, bounds: Bounds) -> Result<(), DoorError> {
    let slots = usize::try_from(connections()).unwrap_or(usize::MAX);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(RESOLVER_THREADS)
        .thread_stack_size(512 << 10)
        .build()
        .map_err(at("starting the event loop"))?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(at("waiting for signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(at("waiting for signals"))?;
        let door = Arc::new(Door {
            socket: run_dir.join(wire::DOOR_SOCKET),
            bounds,
            environments: Mutex::default(),
            outside: Arc::new(Outside::new(bounds.loopback)),
            slots: Arc::new(Semaphore::new(slots)),
            pipes: relay::Pipes::default(),
            news: Notify::new(),
        });
        tokio::select! {
            () = control::follow(&door) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    });
    runtime.shutdown_background();
    result
}

/// How many connections there can be with the descriptors that this process may have, of which it takes all.
fn connections() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let descriptors = current.unwrap_or(u64::MAX).saturating_sub(DESCRIPTORS_OTHER);
    (descriptors / DESCRIPTORS).clamp(16, CONNECTIONS_MAX)
}
