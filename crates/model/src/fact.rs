//! Facts that a runtime observes.

use crate::{Digest, EnvironmentId, Generation, JobName, ServiceName, Timestamp, VolumeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether an environment runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Its processes run.
    #[default]
    Running,
    /// Its processes exist and get no CPU.
    Frozen,
    /// Its services are stopped; volumes and network stay.
    Stopped,
}

/// The state of one service's container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// It was started and is not ready yet.
    Starting,
    /// It is ready.
    Ready,
    /// It was ready and its health check fails.
    Unhealthy,
    /// Its main process ended and it is not started again.
    Exited {
        /// Exit status; 128 + n after signal n.
        code: i32,
    },
    /// Its main process ended and is started again at that time.
    BackingOff {
        /// Exit status of the last run.
        code: i32,
        /// When it is started again.
        until: Timestamp,
    },
    /// Stopped on purpose.
    Stopped,
}

/// One service as observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFact {
    /// The digest of what runs ([`crate::EnvironmentSpec::service_digest`]).
    pub digest: Digest,
    /// Its state.
    pub state: ServiceState,
    /// Since when.
    pub since: Timestamp,
    /// How often its main process was started again since it was applied.
    pub restarts: u32,
    /// What went wrong last, in words: the failing probe, the memory limit that was hit.
    pub message: Option<String>,
}

/// One job as observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFact {
    /// The digest of what ran or runs ([`crate::EnvironmentSpec::job_digest`]).
    pub digest: Digest,
    /// Exit status; `None` while it runs.
    pub exit: Option<i32>,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// One volume as observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFact {
    /// The generation that it was made for.
    pub incarnation: Generation,
    /// Whether the machine went down without warning while a database wrote to it: what was written last may be damaged.
    #[serde(default)]
    pub torn: bool,
}

/// What a runtime sees of one environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Which environment.
    pub environment: EnvironmentId,
    /// When it was looked at.
    pub at: Timestamp,
    /// The newest generation of which the runtime has accepted a mutation.
    pub generation: Generation,
    /// The generation whose envelope is complete.
    pub envelope: Option<Generation>,
    /// Whether it runs.
    pub power: Power,
    /// Services that exist.
    pub services: BTreeMap<ServiceName, ServiceFact>,
    /// Jobs that ran or run.
    pub jobs: BTreeMap<JobName, JobFact>,
    /// Volumes that exist.
    pub volumes: BTreeMap<VolumeName, VolumeFact>,
    /// What went out of it, and what was not let out.
    #[serde(default, skip_serializing_if = "DoorFact::is_empty")]
    pub door: DoorFact,
}

/// What an environment did at its door.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorFact {
    /// What was let out, by name and port.
    pub passed: Vec<PassedFact>,
    /// What was not, the last one first.
    pub refused: Vec<RefusedFact>,
    /// How often more was refused than is listed.
    pub refused_more: u64,
    /// Whether nothing can get out at present although something is allowed, and why.
    pub closed: Option<String>,
}

impl DoorFact {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.passed.is_empty() && self.refused.is_empty() && self.refused_more == 0 && self.closed.is_none()
    }
}

/// Connections to one port of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedFact {
    /// The name.
    pub name: String,
    /// The port.
    pub port: u16,
    /// How many were made.
    pub connections: u64,
    /// How many could not be made.
    pub failed: u64,
    /// Why the last one of those could not.
    pub failure: Option<String>,
    /// Bytes that the environment sent.
    pub sent: u64,
    /// Bytes that it received.
    pub received: u64,
}

/// Something that was asked for and is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedFact {
    /// The name.
    pub name: String,
    /// The port, where the name is allowed and the port is not.
    pub port: Option<u16>,
    /// How often.
    pub count: u64,
    /// When it was asked for last.
    pub last: Timestamp,
    /// Why, where another line of policy would not help.
    pub why: Option<String>,
    /// Whether it was datagrams (UDP), which nothing lets out, and no connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub udp: bool,
    /// The service that asked last, where that is known and it was no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ServiceName>,
}
