//! Plans and their steps.

use model::{ImageDigest, JobName, Power, ServiceName, SnapshotId, SourceName, Stage, Timestamp, VolumeName};
use serde::Serialize;

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Bring a source's commit to the runtime.
    Source(SourceName),
    /// Bring an image to the runtime.
    Image {
        /// Which.
        image: ImageDigest,
        /// A name that stood for it when the generation was made.
        reference: String,
    },
    /// Build the image of a service, and complete the generation with it.
    Dockerfile(ServiceName),
    /// Wait until somebody else has made this snapshot.
    AwaitSnapshot(SnapshotId),
    /// Let the environment run again, because something is to be changed in it.
    Wake,
    /// Stop an engine and keep a snapshot of its volume, before migrations change what people did.
    Keep {
        /// The engine.
        service: ServiceName,
        /// Its volume.
        volume: VolumeName,
        /// The snapshot's id.
        snapshot: SnapshotId,
    },
    /// Stop services whose volumes are about to be replaced.
    Release(Vec<ServiceName>),
    /// Apply a stage.
    Apply(Stage),
    /// Bring a database to the desired content: role and database, migrations, seed.
    Data(ServiceName),
    /// Run a job.
    Job(JobName),
    /// Run a job that makes something that others mount.
    Build(JobName),
    /// Ask the public services for an answer.
    Verify,
    /// Freeze, stop or run the environment.
    Power(Power),
    /// Remove everything.
    Remove,
    /// See each entry of the ledger gone.
    Receipt,
}

/// How a step stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum StepState {
    /// What it leads to is observed.
    Done,
    /// It may be carried out now.
    Ready,
    /// It is being carried out, or its effect is awaited.
    InProgress {
        /// What is awaited, in words.
        waiting_for: String,
        /// When the wait is over even if nothing happens.
        until: Option<Timestamp>,
    },
    /// Steps before it are not done.
    Blocked {
        /// The ids of those steps.
        by: Vec<String>,
    },
    /// It failed and is tried again later.
    BackingOff {
        /// How often it failed.
        count: u32,
        /// When it is tried again.
        until: Timestamp,
        /// The last failure.
        failure: String,
    },
    /// It failed for good.
    Failed {
        /// Why.
        failure: String,
    },
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Stable within a generation: the same step has the same id in every plan.
    pub id: String,
    /// What it does.
    pub action: Action,
    /// The ids of the steps that must be done first.
    pub after: Vec<String>,
    /// How it stands.
    #[serde(flatten)]
    pub state: StepState,
}

impl Step {
    /// What people see.
    #[must_use]
    pub fn title(&self) -> String {
        match &self.action {
            Action::Source(source) => format!("Fetch the files of {source}"),
            Action::Image { reference, .. } => format!("Fetch the image {reference}"),
            Action::Dockerfile(service) => format!("Build the image of {service}"),
            Action::AwaitSnapshot(_) => "Prepare the database golden".to_owned(),
            Action::Wake => "Wake up".to_owned(),
            Action::Keep { service, .. } => format!("Keep a copy of {service}'s data"),
            Action::Release(_) => "Stop services whose data is replaced".to_owned(),
            Action::Apply(Stage::Envelope) => "Make network, limits and volumes".to_owned(),
            Action::Apply(Stage::Services(names)) => {
                let names: Vec<&str> = names.iter().map(ServiceName::as_str).collect();
                format!("Start {}", names.join(", "))
            }
            Action::Apply(Stage::Prune) => "Remove what is no longer wanted".to_owned(),
            Action::Apply(Stage::Whole) => "Roll out".to_owned(),
            Action::Data(service) => format!("Migrate and seed {service}"),
            Action::Job(job) => format!("Run the job {job}"),
            Action::Build(job) => format!("Build {}", job.as_str().strip_prefix("build-").unwrap_or(job.as_str())),
            Action::Verify => "Check that it answers".to_owned(),
            Action::Power(Power::Running) => "Wake up".to_owned(),
            Action::Power(_) => "Go to sleep".to_owned(),
            Action::Remove => "Remove everything".to_owned(),
            Action::Receipt => "Verify that nothing is left".to_owned(),
        }
    }
}

/// The ordered steps that lead from what is observed to what is desired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// In an order in which they could be carried out one by one.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The steps that may be carried out now.
    pub fn ready(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.state == StepState::Ready)
    }

    /// The first step that failed for good.
    #[must_use]
    pub fn failed(&self) -> Option<&Step> {
        self.steps
            .iter()
            .find(|step| matches!(step.state, StepState::Failed { .. }))
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|step| step.state == StepState::Done)
    }

    /// The time at which to plan again even if nothing happens.
    #[must_use]
    pub fn next_look(&self) -> Option<Timestamp> {
        self.steps
            .iter()
            .filter_map(|step| match &step.state {
                StepState::InProgress { until, .. } => *until,
                StepState::BackingOff { until, .. } => Some(*until),
                _ => None,
            })
            .min()
    }

    pub(crate) fn push(&mut self, id: impl Into<String>, action: Action, after: Vec<String>, state: StepState) {
        self.steps.push(Step {
            id: id.into(),
            action,
            after,
            state,
        });
    }

    pub(crate) fn is_step_done(&self, id: &str) -> bool {
        self.steps
            .iter()
            .any(|step| step.id == id && step.state == StepState::Done)
    }

    /// A step that is [`StepState::Ready`] becomes blocked by those steps before it that are not done.
    pub(crate) fn push_when_free(
        &mut self,
        id: impl Into<String>,
        action: Action,
        after: Vec<String>,
        state: StepState,
    ) {
        let by: Vec<String> = after.iter().filter(|id| !self.is_step_done(id)).cloned().collect();
        let state = if state == StepState::Ready && !by.is_empty() {
            StepState::Blocked { by }
        } else {
            state
        };
        self.push(id, action, after, state);
    }
}
