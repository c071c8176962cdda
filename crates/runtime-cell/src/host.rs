//! The cell host: the small privileged process. It makes and watches containers; nobody else on the machine needs root.
//!
//! What must stay true: nothing is done on a path that a client gave; every operation can be repeated after a crash at any
//! point; containers do not notice when this process ends.

mod ahead;
mod apply;
mod build;
mod dockerfile;
mod door;
mod environment;
mod exec;
mod image;
mod jobs;
mod knock;
mod launch;
mod log_files;
mod logs;
mod nameserver;
mod options;
mod power;
mod probe;
mod recall;
mod record;
mod remove;
mod resolve;
mod serve;
mod shutdown;
mod sources;
mod supervise;

pub use crate::sandbox::oci::OciKind;
use crate::{
    pool::{Pool, PoolConfig, PoolError},
    sandbox::{cgroup::Cgroups, conmon::Programs, etc, idmap, network, trial},
};
pub use dockerfile::BuildConfig;
pub(crate) use dockerfile::PROGRAM as BUILDER;
use environment::Environment;
pub use image::ImageConfig;
use log_files::LogKeeper;
use model::{Capabilities, EnvironmentId, Generation, InstanceId, Limits, Staging};
pub use options::FEATURES;
use runtime::RuntimeError;
use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::broadcast;

/// The name of this runtime, in messages.
pub(crate) const NAME: &str = "cell";
const BLOCKING_THREADS: usize = 8;
const TOMBSTONES: usize = 1024;

/// Everything that the cell host must know. There is nothing else: it reads no environment variable.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The instance of Maquette that it belongs to.
    pub instance: InstanceId,
    /// Sockets, network namespaces and bundles; should be on a tmpfs, its parents passable for everybody. What may hold secrets is
    /// on one in any case.
    pub run_dir: PathBuf,
    /// Records and logs.
    pub state_dir: PathBuf,
    /// Where disks are.
    pub pool: PoolConfig,
    /// The user whose processes may use the control socket, besides root.
    pub control_uid: u32,
    /// That user's group; owns the files of checkouts together with `control_uid`.
    pub control_gid: u32,
    /// The users whose processes may dial, besides the above.
    pub dial_uids: Vec<u32>,
    /// The user whose process is the door, besides root.
    pub door_uid: Option<u32>,
    /// The first of the user ids that environments get, 65,536 each.
    pub first_uid: u32,
    /// How many environments there may be at once.
    pub max_environments: u32,
    /// Bounds of an environment whose specification gives none.
    pub default_limits: Limits,
    /// Bytes that a container's log may have.
    pub log_bytes: u64,
    /// The OCI runtime that makes containers; the fastest that works here unless given.
    pub oci: Option<OciKind>,
    /// The monitor.
    pub conmon: PathBuf,
    /// How large images may be, and who unpacks them.
    pub images: ImageConfig,
    /// Bounds of builds.
    pub builds: BuildConfig,
}

impl HostConfig {
    /// The usual settings for an instance.
    #[must_use]
    pub fn new(instance: InstanceId, run_dir: PathBuf, state_dir: PathBuf, pool: PoolConfig) -> Self {
        Self {
            instance,
            run_dir,
            state_dir,
            pool,
            control_uid: 0,
            control_gid: 0,
            dial_uids: Vec::new(),
            door_uid: None,
            first_uid: 0x2000_0000,
            max_environments: 1024,
            default_limits: Limits {
                memory_bytes: Some(4 << 30),
                cpu_millis: None,
                pids: Some(4096),
                disk_bytes: Some(4 << 30),
            },
            log_bytes: 4 << 20,
            oci: None,
            conmon: PathBuf::from("/usr/bin/conmon"),
            images: ImageConfig::default(),
            builds: BuildConfig::default(),
        }
    }
}

/// The cell host could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A part of it failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No OCI runtime can make containers here.
    #[error("no container can be made: {reason}")]
    Oci {
        /// What was tried, and what came of it.
        reason: String,
    },
    /// The storage pool.
    #[error("opening the storage pool")]
    Pool(#[source] PoolError),
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> HostError + use<'a> {
    move |source| HostError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The state of the running process.
#[derive(Debug)]
pub(crate) struct Host {
    config: HostConfig,
    programs: Programs,
    capabilities: Capabilities,
    groups: Cgroups,
    pool: Pool,
    etc: PathBuf,
    boot: String,
    known: Mutex<Known>,
    changes: broadcast::Sender<EnvironmentId>,
    logs: LogKeeper,
    desk: door::Desk,
    /// Whose turn it is to unpack an image.
    unpacking: tokio::sync::Mutex<()>,
    /// As many as may build at once.
    building: Arc<tokio::sync::Semaphore>,
}

#[derive(Debug, Default)]
struct Known {
    environments: BTreeMap<EnvironmentId, Arc<Environment>>,
    /// The newest removals: whatever was still under way for these environments comes too late.
    removed: VecDeque<(EnvironmentId, Generation)>,
}

/// Runs the cell host until it is asked to end by `SIGTERM` or `SIGINT`. Containers go on.
///
/// # Errors
/// When the host lacks something, or a socket can not be made.
pub fn run(config: HostConfig) -> Result<(), HostError> {
    let run_dir = config.run_dir.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(512 << 10)
        .build()
        .map_err(at("starting the event loop for", &run_dir))?;
    let result = runtime.block_on(async {
        let host = Arc::new(Host::open(config)?);
        host.adopt_all().await;
        let served = serve::serve(Arc::clone(&host)).await;
        host.save_all_told();
        host.end_with_machine().await;
        // Whoever shuts the machine down ends this process first and writes everything to disk at last; a power cut does not.
        if let Err(error) = host.pool.orderly_mark() {
            tracing::warn!(
                error = chain(&error),
                "databases will be told to be damaged after a restart of the machine"
            );
        }
        served
    });
    runtime.shutdown_background();
    result
}

impl Host {
    fn open(config: HostConfig) -> Result<Self, HostError> {
        for (path, mode) in [(&config.run_dir, 0o711), (&config.state_dir, 0o700)] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(path)
                .map_err(at("making", path))?;
        }
        idmap::private_directory(&config.run_dir).map_err(at("mounting", &config.run_dir))?;
        for name in ["net", "cells", "mounts"] {
            let path = config.run_dir.join(name);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(&path)
                .map_err(at("making", &path))?;
        }
        // What containers are given, secrets among it, is on no disk.
        let cells = config.run_dir.join("cells");
        idmap::memory_directory(&cells).map_err(at("mounting memory at", &cells))?;
        // Control groups first: what is started from here on must not be in the group of a service manager's unit.
        let group_root = Path::new("/sys/fs/cgroup");
        let groups = Cgroups::open(&format!("maquette-{}", config.instance)).map_err(at("opening", group_root))?;
        groups
            .adopt_self()
            .map_err(at("moving into a group of our own below", group_root))?;
        let pool = Pool::open(config.pool.clone()).map_err(HostError::Pool)?;
        let etc = fresh_etc(&config.run_dir)?;
        let programs = programs(&config, &groups, &etc)?;
        let boot = record::boot_id().map_err(at("reading", Path::new("/proc/sys/kernel/random/boot_id")))?;
        Ok(Self {
            programs,
            capabilities: capabilities(),
            groups,
            pool,
            etc,
            boot,
            known: Mutex::default(),
            changes: broadcast::channel(256).0,
            desk: door::Desk::default(),
            logs: LogKeeper::new(),
            unpacking: tokio::sync::Mutex::default(),
            building: Arc::new(tokio::sync::Semaphore::new(config.builds.at_once.max(1))),
            config,
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a container's bundles and runtime state of an environment are.
    fn cell_dir(&self, environment: &str) -> PathBuf {
        self.config.run_dir.join("cells").join(environment)
    }

    /// Where an environment's record and logs are.
    fn state_dir(&self, environment: &str) -> PathBuf {
        self.config.state_dir.join("environments").join(environment)
    }

    fn mounts_dir(&self) -> PathBuf {
        self.config.run_dir.join("mounts")
    }

    fn pin(&self, environment: &str) -> PathBuf {
        network::pin(&self.config.run_dir.join("net"), environment)
    }

    fn hub_label(&self, environment: &EnvironmentId) -> String {
        format!("maquette/{}/{environment}", self.config.instance)
    }

    /// Runs blocking work on the small pool of threads.
    async fn block<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let host = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&host)).await {
            Ok(result) => result,
            Err(error) => Err(failed("working off the event loop", &error)),
        }
    }

    fn changed(&self, environment: &EnvironmentId) {
        // Nobody may be listening.
        let _ = self.changes.send(environment.clone());
    }
}

/// Tries the OCI runtimes, with ids that no environment gets.
fn programs(config: &HostConfig, groups: &Cgroups, etc: &Path) -> Result<Programs, HostError> {
    let range = idmap::Range::numbered(config.first_uid, config.max_environments);
    let ground = trial::Ground {
        groups,
        directory: &config.run_dir,
        etc,
        range: range.ok_or_else(|| HostError::Oci {
            reason: "the user ids of the environments leave no room for those of a trial".to_owned(),
        })?,
        conmon: &config.conmon,
    };
    trial::choose(config.oci, &ground).map_err(|reason| HostError::Oci { reason })
}

/// What cells on this machine do for those who ask: [`FEATURES`], and what its programs add.
#[must_use]
pub fn features() -> std::collections::BTreeSet<model::Feature> {
    let mut features: std::collections::BTreeSet<model::Feature> = FEATURES.into();
    features.extend(dockerfile::builder().map(|_| model::Feature::Builds));
    features.extend(crate::sandbox::init::program().map(|_| model::Feature::Init));
    if crate::sandbox::filter::available() {
        features.insert(model::Feature::Networks);
    }
    features
}

/// What this host can do, as the blueprint's checks and the planner see it.
fn capabilities() -> Capabilities {
    Capabilities {
        runtime: NAME.to_owned(),
        staging: Staging::Levels,
        services: true,
        objects: false,
        host_roots: true,
        images: true,
        engines: resolve::engines(),
        snapshots: true,
        freeze: true,
        sources: true,
        databases: true,
        features: features(),
    }
}

/// Every start has an `/etc` of its own, so that running containers keep theirs. Those of earlier starts stay as long as a
/// bundle may name them: until the machine is restarted.
fn fresh_etc(run_dir: &Path) -> Result<PathBuf, HostError> {
    let stamp = fs::metadata("/etc/ld.so.cache").and_then(|m| m.modified()).ok();
    let stamp = stamp
        .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |d| d.as_nanos());
    let etc = run_dir.join(format!("etc-{stamp:x}"));
    if !etc.exists() {
        etc::write(&etc).map_err(at("writing", &etc))?;
    }
    Ok(etc)
}

/// An error that trying again may mend, with its causes.
pub(crate) fn failed(action: impl Into<String>, error: &(dyn Error + 'static)) -> RuntimeError {
    let (action, reason) = (action.into(), chain(error));
    // A full disk of the machine is not what was asked for, and is over when there is room.
    if is_storage_full(error) {
        return RuntimeError::Full { what: action, reason };
    }
    RuntimeError::Failed { action, reason }
}

fn is_storage_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let full = |found: &io::Error| found.kind() == io::ErrorKind::StorageFull;
        if error.downcast_ref::<io::Error>().is_some_and(full) {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error and what it comes from, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn now() -> model::Timestamp {
    let elapsed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    model::Timestamp(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
