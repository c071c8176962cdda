//! What the host remembers of an environment across its own restarts: a file per environment, without secret values.

use super::door::{Exits, Told};
use crate::{
    names::UnitName,
    sandbox::filter::{Reach, Reaches},
};
use model::{
    Condition, Digest, EnvironmentId, Generation, Limits, NetworkName, Power, Restart, ServiceName, ServiceState,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Larger than any record that was written here.
const RECORD_MAX: u64 = 16 << 20;
const FILE: &str = "record.json";

/// One environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which.
    pub(crate) environment: EnvironmentId,
    /// The boot of the machine during which its processes were started.
    pub(crate) boot: String,
    /// The number of its range of ids.
    pub(crate) number: u32,
    /// Newest generation accepted.
    pub(crate) generation: Generation,
    /// Newest generation whose envelope is complete.
    pub(crate) envelope: Option<Generation>,
    /// Whether it runs.
    pub(crate) power: Power,
    /// Bounds for everything in it.
    pub(crate) limits: Limits,
    /// The volumes that it has, by their names, with the incarnation.
    pub(crate) volumes: BTreeMap<String, Generation>,
    /// Volumes of databases that ran when the machine went down without warning: what was written last may be half there.
    #[serde(default)]
    pub(crate) torn: BTreeSet<String>,
    /// Volumes that were not there when the machine came back, and have been or will be made anew.
    #[serde(default)]
    pub(crate) lost: BTreeSet<String>,
    /// Its containers.
    pub(crate) units: BTreeMap<UnitName, UnitRecord>,
    /// What it may reach.
    #[serde(default)]
    pub(crate) exits: Exits,
    /// What became of that.
    #[serde(default)]
    pub(crate) told: Told,
    /// Whether the networks of its containers are kept apart.
    #[serde(default)]
    pub(crate) apart: bool,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitRecord {
    /// Of what its author wanted.
    pub(crate) digest: Digest,
    /// The number of its address.
    pub(crate) number: u16,
    /// As observed.
    pub(crate) state: ServiceState,
    /// Since when.
    pub(crate) since: Timestamp,
    /// When its main process was started last.
    pub(crate) started: Timestamp,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// What went wrong last.
    pub(crate) message: Option<String>,
    /// Whether its first start was completed: else there is nothing to go on with, and it is not shown.
    pub(crate) launched: bool,
    /// Whether its end was wanted by its job's timeout.
    pub(crate) timed_out: bool,
    /// What was begun with it and is not known to be done.
    #[serde(default)]
    pub(crate) underway: Underway,
    /// What its author and its engine say about running it.
    pub(crate) manner: Manner,
}

/// What the host is doing with a container. It is written down before its first effect: without it the next host could not
/// tell a container that was asked to end from one that failed, or one that waits for its start from one that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Underway {
    /// Nothing: it is as its state says, unless it ended since.
    #[default]
    Nothing,
    /// A start, the first or a later one.
    Start,
    /// An end that was asked for.
    Stop,
}

/// How a container is run, watched and stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manner {
    /// Other names under which it is found.
    pub(crate) aliases: Vec<String>,
    /// The networks that it is in, each with its names there; absent for one that reaches all others of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) networks: Option<BTreeMap<NetworkName, Vec<String>>>,
    /// What tells that it is ready.
    pub(crate) check: Check,
    /// A port that it opens before it can be well, as its author says.
    #[serde(default)]
    pub(crate) opens: Option<u16>,
    /// The times of its health check.
    pub(crate) pace: Pace,
    /// What must be so before it is started again after a stop.
    pub(crate) depends_on: BTreeMap<ServiceName, Condition>,
    /// How long a job may run, in milliseconds.
    pub(crate) timeout_ms: Option<u64>,
    /// What happens at its end.
    pub(crate) restart: Restart,
    /// How often it is started again when it ends soon each time; absent for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restart_limit: Option<u32>,
    /// Settings of its own kernel namespaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sysctls: BTreeMap<String, String>,
    /// The number of the signal that asks it to stop.
    pub(crate) stop_signal: i32,
    /// How long it may take to stop, in milliseconds.
    pub(crate) stop_grace_ms: u64,
    /// User and group inside.
    pub(crate) user: u32,
    /// Its disk mounts, in the order of the bundle.
    pub(crate) mounts: Vec<DiskMount>,
    /// The volumes that it uses.
    pub(crate) volumes: Vec<String>,
    /// The engine's socket for its administrator, below the container's own administration directory.
    pub(crate) administration: Option<String>,
    /// Its root, if that is not the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<DiskMount>,
}

impl Manner {
    /// Whom it hears.
    pub(crate) fn reach(&self) -> Reach {
        match &self.networks {
            Some(networks) => Reach::Networks(networks.keys().map(ToString::to_string).collect()),
            None => Reach::All,
        }
    }
}

/// What tells that a container is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Check {
    /// Its start.
    Started,
    /// A port accepts connections.
    Tcp(u16),
    /// A command ends with status 0.
    Exec(Vec<String>),
    /// The engine answers in its own protocol.
    Engine {
        /// Which.
        protocol: EngineProtocol,
        /// Its socket below the administration directory; else its port.
        socket: Option<String>,
        /// Its port.
        port: u16,
    },
}

/// The protocols of the engines, as written in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EngineProtocol {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// RabbitMQ.
    Amqp,
}

/// The times of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// Pause between two probes, in milliseconds.
    pub(crate) interval_ms: u64,
    /// How long one may take, in milliseconds.
    pub(crate) timeout_ms: u64,
    /// Failures in a row that make it unhealthy.
    pub(crate) retries: u32,
    /// Failures in this time after the start do not count, in milliseconds.
    pub(crate) start_period_ms: u64,
    /// Pause between two probes in that time, in milliseconds; absent if the host chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_interval_ms: Option<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval_ms: 1_000,
            timeout_ms: 5_000,
            retries: 30,
            start_period_ms: 30_000,
            start_interval_ms: None,
        }
    }
}

/// A mount from the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskMount {
    /// Where it comes from.
    pub(crate) origin: DiskOrigin,
    /// Relative path in it; empty for all.
    pub(crate) subpath: String,
    /// Whether the container may only read it.
    pub(crate) read_only: bool,
}

/// The part of the pool that is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DiskOrigin {
    /// A sealed source, by its name in the pool.
    Source(String),
    /// A volume or layer of the environment, by its name in the pool.
    Volume(String),
}

impl DiskOrigin {
    /// Whether file systems are assembled in it: the storage of a build, and where it works.
    pub(crate) fn is_storage(&self) -> bool {
        matches!(self, Self::Volume(name) if name.starts_with(['b', 'o']))
    }

    /// Whether the files were written by the control plane: a source, or a layer over one.
    pub(crate) fn is_checkout(&self) -> bool {
        match self {
            Self::Source(_) => true,
            Self::Volume(name) => name.starts_with('c'),
        }
    }
}

impl Record {
    /// A new one.
    pub(crate) fn new(environment: EnvironmentId, boot: String, number: u32, generation: Generation) -> Self {
        Self {
            environment,
            boot,
            number,
            generation,
            envelope: None,
            power: Power::Running,
            limits: Limits::default(),
            volumes: BTreeMap::new(),
            torn: BTreeSet::new(),
            lost: BTreeSet::new(),
            units: BTreeMap::new(),
            exits: Exits::default(),
            told: Told::default(),
            apart: false,
        }
    }

    /// The lowest address that no container has.
    pub(crate) fn free_number(&self, max: u16) -> Option<u16> {
        (1..=max).find(|number| self.units.values().all(|u| u.number != *number))
    }

    /// Whom each container hears.
    pub(crate) fn reaches(&self) -> Reaches {
        let units = self.units.values();
        units.map(|unit| (unit.number, unit.manner.reach())).collect()
    }

    /// Notes that the machine went down without warning. Engines with an administrator run without fsync; one that was stopped
    /// before had its files written by the kernel in the meantime.
    pub(crate) fn tear(&mut self) {
        let ran = |unit: &&UnitRecord| {
            unit.manner.administration.is_some()
                && (unit.underway != Underway::Nothing
                    || !matches!(unit.state, ServiceState::Stopped | ServiceState::Exited { .. }))
        };
        let torn = self.units.values().filter(ran).flat_map(|unit| &unit.manner.volumes);
        self.torn.extend(torn.cloned());
    }

    /// Reads the record of an environment; `None` if there is none or it can't be read: what exists is then found by listing.
    pub(crate) fn load(directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join(FILE);
        match fs::metadata(&path) {
            Ok(meta) if meta.len() <= RECORD_MAX => {}
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        }
        let bytes = fs::read(&path)?;
        let record = serde_json::from_slice(&bytes);
        if let Err(error) = &record {
            tracing::warn!(path = %path.display(), %error, "a record can not be read and is set aside");
        }
        Ok(record.ok())
    }

    /// Replaces the file. Not synced: what a power cut takes with it, it takes from the containers as well.
    pub(crate) fn save(&self, directory: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let part = directory.join("record.part");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(part, directory.join(FILE))
    }
}

/// The kernel's name for the time since the machine was started.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
