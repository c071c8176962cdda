//! The planner: from what is observed to what is desired.
//!
//! [`plan`] is a pure function. It reads no clock, does no I/O and leaves no choice to whoever carries the plan out: each
//! step says whether it is done, may be carried out now, waits (and for what), or has failed for good. The reconciler carries
//! out the ready steps in parallel, records facts and asks again; the waiting page, the comment and `why` show the same steps.

mod end;
mod gone;
mod retry;
mod run;
mod service;
mod step;

use model::{
    Capabilities, DataFact, EnvironmentSpec, Generation, ImageDigest, Observation, Power, ServiceName, SnapshotId,
    SourceName, Timestamp,
};
pub use retry::{ATTEMPTS_MAX, GATEWAY, REGISTRY, ROOM, backoff, waits_for};
pub use run::kept_snapshot;
pub use service::{END_DEADLINE, START_DEADLINE_DEFAULT};
use std::collections::{BTreeMap, BTreeSet};
pub use step::{Action, Plan, Step, StepState};

/// What an environment should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Desired<'a> {
    /// It should run as this generation says, or sleep as that generation.
    Present {
        /// The generation.
        spec: &'a EnvironmentSpec,
        /// Whether it should run.
        power: Power,
    },
    /// It should be stopped as it stands: what it is on its way to is not to be gone on with.
    Stopped {
        /// What was live there, for its jobs on stop, as part of the newest generation; `None` if nothing was.
        spec: Option<&'a EnvironmentSpec>,
    },
    /// It should be gone.
    Absent {
        /// The newest generation, for jobs that belong to its end; `None` if there never was one or none of it is to run.
        last: Option<&'a EnvironmentSpec>,
        /// The generation that the removal itself carries: newer than every other.
        generation: Generation,
    },
}

/// What is known about the tries at one step in the current generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How often it failed.
    pub count: u32,
    /// When it may be tried again; `None` if trying again can not help.
    pub next: Option<Timestamp>,
    /// The last failure in words.
    pub failure: String,
    /// Whether it waits for room, which may come however often there was none.
    pub waits: bool,
}

/// What is observed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// What the runtime sees; `None` if there is nothing.
    pub runtime: Option<Observation>,
    /// Sources of the desired generation that the runtime holds.
    pub sources: BTreeSet<SourceName>,
    /// Images that were brought to the runtime.
    pub images: BTreeSet<ImageDigest>,
    /// How far images are that are being brought, in words.
    pub fetching: BTreeMap<ImageDigest, String>,
    /// How far builds are that fetch what their Dockerfiles start from, in words, by the service.
    pub fetching_bases: BTreeMap<ServiceName, String>,
    /// Snapshots that exist.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Snapshots that could not be made, with the reason.
    pub snapshots_failed: BTreeMap<SnapshotId, String>,
    /// What is known to be in each database.
    pub data: BTreeMap<ServiceName, DataFact>,
    /// Whether nothing was ever live here, so that nobody can have done anything that is worth keeping.
    pub unused: bool,
    /// Failures so far, by step id.
    pub attempts: BTreeMap<String, Attempt>,
    /// Steps that have been carried out in this generation, whatever has become of what they made.
    pub carried_out: BTreeSet<String>,
    /// Steps that are being carried out.
    pub running: BTreeSet<String>,
    /// The generation that was last verified to answer.
    pub verified: Option<Generation>,
    /// Whether the ledger's entries have all been seen gone.
    pub receipted: bool,
}

/// Makes the plan. Same arguments, same plan.
#[must_use]
pub fn plan(desired: &Desired<'_>, observed: &Observed, capabilities: &Capabilities, now: Timestamp) -> Plan {
    let mut plan = match desired {
        Desired::Present { spec, power } => run::plan(spec, *power, observed, capabilities, now),
        Desired::Stopped { spec } => run::stop(*spec, observed),
        Desired::Absent { last, generation } => gone::plan(*last, *generation, observed, now),
    };
    let patient = !matches!(desired, Desired::Present { .. });
    retry::apply(&mut plan, observed, patient, now);
    plan
}
