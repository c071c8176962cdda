//! The ledger and the receipt: what was made outside the store, and that it is gone.

use crate::{EnvironmentId, Timestamp};
use serde::{Deserialize, Serialize};

/// Something that exists outside Maquette's own store. Its name is deterministic: it can be written down before it is made
/// and found again by listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resource {
    /// The environment that it belongs to.
    pub environment: EnvironmentId,
    /// What it is: `network-namespace`, `cgroup`, `container`, `subvolume`, `mount`, `directory`, `namespace`, …
    pub kind: String,
    /// Its name, unique within its kind.
    pub name: String,
}

/// One line of an environment's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// What.
    pub resource: Resource,
    /// When it was intended, before it was made.
    pub intended: Timestamp,
    /// When it was seen to be gone.
    pub gone: Option<Timestamp>,
}

/// The proof that nothing is left of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The environment.
    pub environment: EnvironmentId,
    /// Why it was removed, in words.
    pub reason: String,
    /// When removal began.
    pub began: Timestamp,
    /// When the last entry was seen to be gone.
    pub completed: Timestamp,
    /// Every entry of the ledger, each with the time at which it was seen to be gone.
    pub entries: Vec<LedgerEntry>,
}
