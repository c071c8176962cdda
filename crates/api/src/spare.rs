//! Spares: engines that were started ahead of the environment that will need them.

use model::{EnvironmentId, HostLabel, ProjectName, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One spare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpareView {
    /// Its id, which the environment that adopts it keeps.
    #[schema(value_type = String)]
    pub id: EnvironmentId,
    /// Its label, by which commands know it until it is adopted.
    #[schema(value_type = String)]
    pub label: HostLabel,
    /// Whether an environment can adopt it now.
    pub ready: bool,
    /// When it was made.
    #[schema(value_type = u64)]
    pub created: Timestamp,
    /// Bytes of memory that it keeps from others, if the runtime can tell.
    pub memory_bytes: Option<u64>,
}

/// The spares of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectSparesView {
    /// The project.
    #[schema(value_type = String)]
    pub project: ProjectName,
    /// How many the operator wants.
    pub wanted: usize,
    /// Those that there are, the oldest first.
    pub spares: Vec<SpareView>,
    /// Why there are fewer than are wanted.
    pub why_fewer: Option<String>,
}

/// The spares of all projects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpareList {
    /// By project.
    pub projects: Vec<ProjectSparesView>,
}
