//! Images that were brought to the runtime, and that services run from.

use model::{EnvironmentId, ImageDigest, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    /// Its manifest's digest: `sha256:…`.
    #[schema(value_type = String)]
    pub digest: ImageDigest,
    /// A name that stood for it when it was brought.
    pub reference: String,
    /// Its layers as they were fetched, in bytes.
    pub bytes: u64,
    /// When it was brought.
    #[schema(value_type = u64)]
    pub created: Timestamp,
    /// When an environment was seen to want it last.
    #[schema(value_type = u64)]
    pub last_used: Timestamp,
    /// The id under which its ledger and, after its end, its receipt are kept.
    #[schema(value_type = Option<String>)]
    pub keeper: Option<EnvironmentId>,
}

/// The images of all projects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageList {
    /// Those first that were wanted longest ago.
    pub images: Vec<ImageView>,
}
