//! Services and jobs: what runs in an environment, in words that every runtime understands.

use crate::{
    Build, BuildSecret, EnvironmentId, ImageDigest, JobName, NetworkName, Options, SecretRef, ServiceName, SourceName,
    Value, VolumeName,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a container's root file system is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// The packages of the host that the cell runs on, read-only.
    Host,
    /// An OCI image, by reference.
    Image {
        /// As written in the Compose file, for example `ghcr.io/acme/web:1.2`.
        reference: String,
        /// What the reference stood for when the generation was made; absent where nobody has looked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pinned: Option<ImageDigest>,
    },
    /// A data engine that the runtime knows how to run.
    Engine(Engine),
    /// An image that is built from a source.
    Build(Box<Build>),
}

impl Root {
    /// The image that it is made from, if that is known.
    #[must_use]
    pub fn image(&self) -> Option<&ImageDigest> {
        match self {
            Self::Image { pinned, .. } => pinned.as_ref(),
            Self::Build(build) => build.made.as_ref(),
            _ => None,
        }
    }
}

/// A data engine, recognised by its Compose image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// `postgres`, `redis`, `rabbitmq`.
    pub kind: String,
    /// As written in the Compose file, for runtimes that run images.
    pub image: String,
    /// The major versions that the stack accepts.
    pub versions: VersionRange,
}

/// A closed range of major versions. The runtime picks the highest that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// The lowest major version.
    pub min: u32,
    /// The highest major version.
    pub max: u32,
}

impl VersionRange {
    /// Whether `major` lies in the range.
    #[must_use]
    pub fn contains(self, major: u32) -> bool {
        (self.min..=self.max).contains(&major)
    }
}

/// What is mounted, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: String,
    /// What appears there.
    pub kind: MountKind,
    /// Whether the container may write.
    pub read_only: bool,
}

impl Mount {
    /// The volume that appears, or a directory of it.
    #[must_use]
    pub fn volume(&self) -> Option<&VolumeName> {
        match &self.kind {
            MountKind::Volume { volume } | MountKind::VolumePath { volume, .. } => Some(volume),
            _ => None,
        }
    }
}

/// The kinds of mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A directory or file of a source's checkout, with a private writable layer per service unless read-only.
    Source {
        /// Which source.
        source: SourceName,
        /// Relative path inside the checkout, `/`-separated, without `..`; empty for the whole checkout.
        subpath: String,
    },
    /// A volume of the environment.
    Volume {
        /// Which volume.
        volume: VolumeName,
    },
    /// A directory inside of a volume of the environment.
    VolumePath {
        /// Which volume.
        volume: VolumeName,
        /// Relative path inside the volume, `/`-separated, without `..`.
        subpath: String,
    },
    /// What a job on [`JobEvent::Build`] has made, with a private writable layer per container.
    Built {
        /// The job.
        job: JobName,
        /// Relative path inside of the checkout that the job left, `/`-separated, without `..`; empty for all of it.
        subpath: String,
    },
    /// Memory.
    Tmpfs {
        /// Upper bound in bytes; `None` is the runtime's default.
        size_bytes: Option<u64>,
        /// Permission bits; everybody may write if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
        /// Owner inside the container; root if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// Group inside the container; root's if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
    /// Maquette's own program, as a file that may be read and run. It needs the libraries of the machine: [`Root::Host`].
    Program,
    /// A file with this text, in memory.
    Content {
        /// The text; it may be a secret.
        content: Value,
        /// Permission bits, `0o444` unless the stack says otherwise.
        mode: u32,
        /// Owner inside the container; root if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// Group inside the container; root's if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
}

impl MountKind {
    /// Memory of at most that many bytes, or of what the runtime gives.
    #[must_use]
    pub fn memory(size_bytes: Option<u64>) -> Self {
        Self::Tmpfs {
            size_bytes,
            mode: None,
            uid: None,
            gid: None,
        }
    }
}

/// What tells that a service is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The probe.
    pub test: HealthTest,
    /// Pause between probes once the service has been ready, in milliseconds.
    pub interval_ms: u64,
    /// How long a probe may take, in milliseconds.
    pub timeout_ms: u64,
    /// Failures in a row that make the service unhealthy.
    pub retries: u32,
    /// Failures within this time after the start do not count, in milliseconds.
    pub start_period_ms: u64,
    /// Pause between probes within that time, in milliseconds; absent if the runtime chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval_ms: Option<u64>,
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// A command in the container; exit status 0 is healthy.
    Exec(Vec<String>),
    /// A TCP port of the service accepts connections.
    Tcp(u16),
}

/// What a dependent service waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It was started.
    Started,
    /// It is ready: its health check passes, or without one its first port accepts connections.
    Healthy,
    /// It ran to its end with exit status 0.
    Completed,
}

/// What happens when a container's main process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Nothing.
    Never,
    /// It is started again if its exit status was not 0.
    OnFailure,
    /// It is started again.
    Always,
}

/// Upper bounds. `None` means the bound of what contains it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes on disk.
    pub disk_bytes: Option<u64>,
}

/// What a container is, whether it runs for ever (a service) or to an end (a job).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its root file system.
    pub root: Root,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments; with [`Root::Host`] the whole command.
    pub command: Option<Vec<String>>,
    /// Environment variables. Nothing else of any environment is passed.
    pub environment: BTreeMap<String, Value>,
    /// Absolute path.
    pub working_dir: Option<String>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Bounds for this container.
    pub limits: Limits,
    /// Whether the root file system outside of mounts is read-only. [`Root::Host`] always is.
    pub read_only: bool,
    /// What else it asks for.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

impl Workload {
    /// The secrets that it is given, as variables, as files, or to be built with.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<&SecretRef> {
        let files = self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Content { content, .. } => Some(content),
            _ => None,
        });
        let built_with = match &self.root {
            Root::Build(build) => Some(build.secrets.values()),
            _ => None,
        };
        let built_with = built_with.into_iter().flatten().filter_map(|secret| match secret {
            BuildSecret::Value(value) => Some(value),
            BuildSecret::File(_) => None,
        });
        let values = self.environment.values().chain(files).chain(built_with);
        values.flat_map(Value::secrets).collect()
    }
}

/// A network of an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Whether nothing outside of the environment can be reached from it, whatever the policy allows.
    pub internal: bool,
}

/// How a service is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// To its networks.
    #[default]
    Networks,
    /// To nothing but itself. Needs [`crate::Feature::Networks`].
    None,
}

impl NetworkMode {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A service: one container that runs until it is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What runs.
    pub workload: Workload,
    /// Names besides its own under which other services find it.
    pub aliases: Vec<String>,
    /// Ports that it listens on; the first one is the one that is probed where there is no health check.
    pub ports: Vec<u16>,
    /// The port that the gateway leads to, if people may visit this service.
    pub public_port: Option<u16>,
    /// What must be so before it starts.
    pub depends_on: BTreeMap<ServiceName, Condition>,
    /// What tells that it is ready.
    pub health: Option<HealthCheck>,
    /// What happens at its end.
    pub restart: Restart,
    /// The signal that asks it to stop, for example `SIGTERM`.
    pub stop_signal: String,
    /// How long it may take to stop, in milliseconds.
    pub stop_grace_ms: u64,
    /// The networks that it is in, each with the names under which it is found there besides its own and `aliases`. Empty
    /// means the one network that all services of a stack without networks share.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<NetworkName, Vec<String>>,
    /// Whether it is connected to them.
    #[serde(default, skip_serializing_if = "NetworkMode::is_default")]
    pub net: NetworkMode,
    /// Services that it depends on and with which it is started again when they change.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub restarts_with: BTreeSet<ServiceName>,
    /// How often [`Restart::OnFailure`] starts it again before it is left alone; absent for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_limit: Option<u32>,
}

/// When a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEvent {
    /// Before whatever mounts what it makes ([`MountKind::Built`]), unless some environment of the project has made the same.
    Build,
    /// Once in the life of the environment, before its services start.
    Create,
    /// In every generation, before its services start.
    Start,
    /// Before the services stop, each time that they do.
    Stop,
    /// Before the environment is removed; one that sleeps is woken for it.
    Delete,
    /// When somebody asks for it, as often as somebody does. It is no step of a plan.
    Hand,
}

/// The variable that tells one run of a job on [`JobEvent::Hand`] or [`JobEvent::Stop`] from the next, and so gives each a digest of
/// its own.
pub const RUN_VARIABLE: &str = "MAQUETTE_RUN";

/// What a job on [`JobEvent::Build`] makes: the checkout as the job leaves it. It is kept as a snapshot and mounted by every
/// environment of the project that wants the same, so nothing that the job sees may be left out of what it is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// The source whose checkout it is.
    pub source: SourceName,
    /// The only files of the checkout that the job sees: an id of the content by path from the root. Absent for the whole
    /// commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<BTreeMap<String, String>>,
    /// The one environment that may use it; all of the project if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_to: Option<EnvironmentId>,
}

/// A job: one container that runs to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub name: JobName,
    /// What runs.
    pub workload: Workload,
    /// When it runs.
    pub on: JobEvent,
    /// Services that must be ready first (usually engines).
    pub needs: Vec<ServiceName>,
    /// How long it may run, in milliseconds.
    pub timeout_ms: u64,
    /// What it makes; for [`JobEvent::Build`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<Product>,
    /// The times at which it runs elsewhere, in the words of cron; here nothing runs by the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}
