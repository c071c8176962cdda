//! The ledger of an environment, which becomes its receipt.

use model::{EnvironmentId, HostLabel, LedgerEntry, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that was made outside Maquette's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerEntryView {
    /// What it is: `cgroup`, `container`, `subvolume`, …
    pub kind: String,
    /// Its name, unique within its kind.
    pub name: String,
    /// When it was intended, before it was made.
    #[schema(value_type = u64)]
    pub intended: Timestamp,
    /// When it was seen to be gone.
    #[schema(value_type = Option<u64>)]
    pub gone: Option<Timestamp>,
}

impl From<&LedgerEntry> for LedgerEntryView {
    fn from(entry: &LedgerEntry) -> Self {
        Self {
            kind: entry.resource.kind.clone(),
            name: entry.resource.name.clone(),
            intended: entry.intended,
            gone: entry.gone,
        }
    }
}

/// Everything that was made for an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerView {
    /// The environment.
    #[schema(value_type = String)]
    pub environment: EnvironmentId,
    /// Its label, if the store still knows it.
    #[schema(value_type = Option<String>)]
    pub label: Option<HostLabel>,
    /// Whether this is the receipt: the environment has ended and every entry was seen to be gone.
    pub complete: bool,
    /// Why it was removed, once it is.
    pub reason: Option<String>,
    /// When removal began.
    #[schema(value_type = Option<u64>)]
    pub began: Option<Timestamp>,
    /// When the last entry was seen to be gone.
    #[schema(value_type = Option<u64>)]
    pub completed: Option<Timestamp>,
    /// How many entries were not seen to be gone yet.
    pub left: u64,
    /// Every entry.
    pub entries: Vec<LedgerEntryView>,
}
