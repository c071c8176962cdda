//! Goldens: databases that were migrated and seeded once, of which environments get clones.

use model::{EnvironmentId, ProjectName, SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One golden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GoldenView {
    /// Its id, made from all that determines its content.
    #[schema(value_type = String)]
    pub id: SnapshotId,
    /// The project.
    #[schema(value_type = String)]
    pub project: ProjectName,
    /// Engine and full version.
    pub engine: String,
    /// `making`, `ready` or `failed`.
    pub state: String,
    /// Why it could not be made.
    pub failure: Option<String>,
    /// When it was begun.
    #[schema(value_type = u64)]
    pub created: Timestamp,
    /// When it was cloned, or wanted by somebody, last.
    #[schema(value_type = u64)]
    pub last_used: Timestamp,
    /// The id under which its ledger and, after its end, its receipt are kept.
    #[schema(value_type = Option<String>)]
    pub keeper: Option<EnvironmentId>,
}

/// The goldens of all projects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GoldenList {
    /// The oldest first.
    pub goldens: Vec<GoldenView>,
}
