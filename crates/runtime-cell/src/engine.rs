//! Data engines: recognised by their Compose image, run from the host's packages.
//!
//! [`recognise`] and [`engine_run`] are pure; what the host has is found by [`probe_host`] and handed in. The result says all
//! that a sandbox needs: what to run, as whom, with which files, how to tell that it is ready, how it stops. Values that
//! may be secret go into files, never into arguments.

mod image;
mod postgres;
pub(crate) mod probe;
mod rabbitmq;
mod ready;
mod redis;
mod sensitive;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use image::{Recognised, majors_parse, recognise};
pub use postgres::{ADMINISTRATOR, PostgresAccount};
pub use probe::{HostEngines, Installed, probe_host};
pub use ready::{Address, Probe, Protocol, Verdict};
pub use sensitive::Sensitive;
use serde::Serialize;

/// A kind of data engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// RabbitMQ.
    Rabbitmq,
}

impl EngineKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Redis, Self::Rabbitmq];

    /// The name of its image, for example `postgres`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Rabbitmq => "rabbitmq",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The port that clients expect.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Redis => 6379,
            Self::Rabbitmq => 5672,
        }
    }

    /// The Debian package that brings a major version.
    #[must_use]
    pub fn package(self, major: Option<u32>) -> String {
        match (self, major) {
            (Self::Postgres, Some(major)) => format!("postgresql-{major}"),
            (Self::Postgres, None) => "postgresql".to_owned(),
            (Self::Redis, _) => "redis-server".to_owned(),
            (Self::Rabbitmq, _) => "rabbitmq-server".to_owned(),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an engine can't be run as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No installed version is in the range.
    #[error("{kind} {wanted} is not installed here ({present}); the Debian package `{package}` would add it")]
    Missing {
        /// The engine.
        kind: EngineKind,
        /// The versions that the stack accepts, for people.
        wanted: String,
        /// The versions that are installed, for people.
        present: String,
        /// The package that would help.
        package: String,
    },
    /// The Compose command is not one of the engine.
    #[error("the command `{word}` of a {kind} service can't be honoured: {reason}")]
    Command {
        /// The engine.
        kind: EngineKind,
        /// The word that can't be honoured.
        word: String,
        /// Why.
        reason: &'static str,
    },
    /// A Compose environment variable has no usable value.
    #[error("{variable} of a {kind} service {reason}")]
    Variable {
        /// The engine.
        kind: EngineKind,
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Whom an engine runs as, inside its user namespace. `/etc/passwd` there must have it: `initdb` asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineUser {
    /// The name.
    pub name: String,
    /// Never 0: PostgreSQL refuses it.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Where an engine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnginePlace {
    /// The mount point of its data volume. The root of the volume belongs to the user.
    pub data: PathBuf,
    /// A private directory in memory; the user must be able to write it.
    pub run: PathBuf,
    /// An IPv4 address to listen at, `None` for all.
    pub listen: Option<String>,
    /// The port, if it is not the usual one.
    pub port: Option<u16>,
    /// The port of RabbitMQ for its own tools, on the loopback address.
    pub distribution_port: u16,
    /// Whom it runs as.
    pub user: EngineUser,
}

impl EnginePlace {
    /// The place in a cell: the paths of the official images.
    #[must_use]
    pub fn cell(kind: EngineKind) -> Self {
        let data = match kind {
            EngineKind::Postgres => "/var/lib/postgresql/data",
            EngineKind::Redis => "/data",
            EngineKind::Rabbitmq => "/var/lib/rabbitmq",
        };
        Self {
            data: data.into(),
            run: "/run/maquette".into(),
            listen: None,
            port: None,
            distribution_port: 25_672,
            user: EngineUser {
                name: kind.name().to_owned(),
                uid: 999,
                gid: 999,
            },
        }
    }
}

/// What a stack asks for.
#[derive(Debug, Clone)]
pub struct EngineRequest<'a> {
    /// The engine.
    pub kind: EngineKind,
    /// The major versions that the stack accepts.
    pub majors: RangeInclusive<u32>,
    /// Whether the management pages are wanted (RabbitMQ's `-management` images).
    pub management: bool,
    /// The environment that Compose gives, secrets resolved.
    pub environment: &'a BTreeMap<String, Sensitive>,
    /// The command that Compose gives, empty for the image's own.
    pub command: &'a [String],
    /// The memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// Where it runs.
    pub place: &'a EnginePlace,
}

/// A directory that must exist before the start, belonging to the engine's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineDirectory {
    /// Its path as the engine sees it.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
}

/// A file that must exist before the start, readable by the engine's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFile {
    /// Its path as the engine sees it, below [`EnginePlace::run`].
    pub path: PathBuf,
    /// Its bytes; they may hold a password.
    pub content: Sensitive,
    /// Permission bits.
    pub mode: u32,
}

/// What makes an empty data volume usable, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initialise {
    /// The program and its arguments, with the same user and environment as the engine's.
    pub argv: Vec<String>,
    /// Whoever runs it creates this empty file after it has ended well. Where it is missing, the volume is emptied and the
    /// program runs (again): a half-made directory is never used.
    pub marker: PathBuf,
}

/// How an engine stops in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The signal, for example `SIGINT`.
    pub signal: &'static str,
    /// How long it may take before it is killed.
    pub grace: Duration,
}

/// All that is needed to run an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineRun {
    /// The engine.
    pub kind: EngineKind,
    /// The exact version that runs.
    pub version: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Directories to make first, in order.
    pub directories: Vec<EngineDirectory>,
    /// Files to write first.
    pub files: Vec<EngineFile>,
    /// What an empty volume needs, if anything.
    pub initialise: Option<Initialise>,
    /// The port that clients use.
    pub port: u16,
    /// How to tell that it is ready.
    pub ready: Probe,
    /// How it stops.
    pub stop: Stop,
    /// The role and database that Compose asked for; the `data` crate makes them.
    pub account: Option<PostgresAccount>,
    /// What was asked for and is done otherwise, for people.
    pub notes: Vec<String>,
}

/// Says how to run an engine with what the host has.
///
/// # Errors
/// [`EngineError`], naming what can't be honoured.
pub fn engine_run(request: &EngineRequest<'_>, host: &HostEngines) -> Result<EngineRun, EngineError> {
    let installed = host.pick(request.kind, &request.majors)?;
    match request.kind {
        EngineKind::Postgres => postgres::run(request, installed),
        EngineKind::Redis => redis::run(request, installed),
        EngineKind::Rabbitmq => rabbitmq::run(request, installed),
    }
}

fn base_environment(home: &std::path::Path) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("HOME".to_owned(), home.display().to_string()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        (
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
        ("TZ".to_owned(), "UTC".to_owned()),
    ])
}
