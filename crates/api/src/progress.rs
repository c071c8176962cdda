//! What is being done for an environment, what happened, and why it is as it is.

use crate::FailureView;
use model::{EnvironmentId, Generation, HostLabel, Phase, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStateView {
    /// Its turn has not come.
    Waiting,
    /// It is being carried out, or its effect is awaited.
    Running,
    /// It is done.
    Done,
    /// It failed and is tried again.
    Retrying,
    /// It failed for good.
    Failed,
}

impl StepStateView {
    /// The word that people see.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Retrying => "retrying",
            Self::Failed => "failed",
        }
    }
}

/// One step of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// Stable within a generation.
    pub id: String,
    /// What people see.
    pub title: String,
    /// How it stands.
    pub state: StepStateView,
    /// When it was begun last.
    #[schema(value_type = Option<u64>)]
    pub began: Option<Timestamp>,
    /// When it ended last.
    #[schema(value_type = Option<u64>)]
    pub ended: Option<Timestamp>,
    /// How long it took last, in milliseconds.
    pub took_ms: Option<u64>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    #[schema(value_type = Option<u64>)]
    pub next_try: Option<Timestamp>,
    /// What it waits for, in words.
    pub waiting_for: Option<String>,
    /// How it failed last.
    pub failure: Option<FailureView>,
}

/// One generation of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GenerationView {
    /// Which one.
    #[schema(value_type = u64)]
    pub generation: Generation,
    /// When it was made.
    #[schema(value_type = u64)]
    pub created: Timestamp,
    /// `live`, `failed`, `superseded`, or nothing while it is on its way.
    pub outcome: Option<String>,
    /// Why it failed.
    pub failure: Option<FailureView>,
    /// The older generation that it brings back.
    #[schema(value_type = Option<u64>)]
    pub restores: Option<Generation>,
    /// What people should know about it.
    pub notes: Vec<String>,
    /// Its steps in the order in which they began.
    pub steps: Vec<StepView>,
}

/// The generations of an environment with their steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepsView {
    /// The environment.
    #[schema(value_type = String)]
    pub environment: EnvironmentId,
    /// The oldest first.
    pub generations: Vec<GenerationView>,
    /// The steps of its end, once it is to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removal: Vec<StepView>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// The environment, in a project's history; absent where it happened to the project as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub environment: Option<EnvironmentId>,
    /// The label of that environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub label: Option<HostLabel>,
    /// When.
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// A word for programs.
    pub kind: String,
    /// A sentence for people.
    pub text: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    /// The newest first.
    pub events: Vec<EventView>,
}

/// Why an environment is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    /// The environment.
    #[schema(value_type = String)]
    pub environment: EnvironmentId,
    /// Its label.
    #[schema(value_type = String)]
    pub label: HostLabel,
    /// How it stands.
    #[schema(value_type = String)]
    pub phase: Phase,
    /// One sentence that says the most important thing.
    pub summary: String,
    /// Why it exists or ends.
    pub reason: String,
    /// The step that matters most now: the one that failed, else one that is tried again, else one that runs.
    pub step: Option<StepView>,
    /// The failure that matters most.
    pub failure: Option<FailureView>,
    /// What is waited for, in words.
    pub waiting_for: Vec<String>,
    /// How often the step was tried.
    pub attempts: u32,
    /// When it is tried again.
    #[schema(value_type = Option<u64>)]
    pub next_try: Option<Timestamp>,
    /// Services that are not as they should be, in words.
    pub services: Vec<String>,
    /// What went out of it, and what was not let out.
    #[serde(default)]
    pub door: crate::DoorView,
    /// What people should know about the newest generation.
    pub notes: Vec<String>,
    /// All steps of the newest generation.
    pub steps: Vec<StepView>,
    /// What happened last, the newest first.
    pub events: Vec<EventView>,
}
