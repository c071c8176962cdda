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
}
