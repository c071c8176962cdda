//! What an environment's databases are made from, and what is known to be in them.

use crate::{Digest, Generation, SnapshotId, Value, VolumeName};
use serde::{Deserialize, Serialize};

/// One migration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Path in the checkout.
    pub path: String,
    /// Digest of its bytes.
    pub digest: Digest,
}

/// One file of test data, run after all migrations when a database is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedFile {
    /// Path in the checkout.
    pub path: String,
    /// Digest of its bytes.
    pub digest: Digest,
}

/// The desired content of one database engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSet {
    /// The volume that holds the data directory.
    pub volume: VolumeName,
    /// Name of the database that Compose gives.
    pub database: String,
    /// Role that owns it; not a superuser.
    pub user: String,
    /// Password of that role.
    pub password: Value,
    /// Migrations in the order in which they run.
    pub migrations: Vec<Migration>,
    /// Seed files in the order in which they run.
    pub seeds: Vec<SeedFile>,
}

/// What is known to be in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFact {
    /// The generation for which the volume was made.
    pub incarnation: Generation,
    /// The golden that it was cloned from.
    pub golden: Option<SnapshotId>,
    /// Whether role and database exist.
    pub prepared: bool,
    /// The password that the role was given ([`crate::EnvironmentSpec::password_digest`]).
    #[serde(default)]
    pub password: Option<Digest>,
    /// Migrations that were applied, in order.
    pub applied: Vec<Migration>,
    /// Whether the seed files were run.
    pub seeded: bool,
}
