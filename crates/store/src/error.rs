//! Errors of the store. Callers branch on the variant.

use crate::instance::instance_file;
use model::InstanceId;
use std::path::{Path, PathBuf};

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The row would stand beside another one that must be the only one of its kind.
    #[error("{what} exists already")]
    Conflict {
        /// What it was, with its names.
        what: String,
    },
    /// The row that was to be changed is not there.
    #[error("{what} is not in the store")]
    NotFound {
        /// What it was, with its names.
        what: String,
    },
    /// A value in the database is not what its column is for: the file was changed by something else.
    #[error("{table}.{column} holds a value that can not be read: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// Why it can not be read.
        reason: String,
    },
    /// A value could not be written because it has no form in the database.
    #[error("{column} has no form in which it can be stored")]
    Encode {
        /// The column.
        column: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The file could not be made or opened.
    #[error("the store {} can not be opened", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store is that of another installation than the file beside it says.
    #[error("the store {} is of the installation {has}, and {} says {noted}", store.display(), instance_file(store).display())]
    OtherInstance {
        /// The store.
        store: Box<Path>,
        /// Whose it is.
        has: InstanceId,
        /// The id in the file beside it.
        noted: InstanceId,
    },
    /// A migration failed, or the file was written by a newer version.
    #[error("the store {} can not be brought to this version", path.display())]
    Migrate {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// The database refused or did not answer.
    #[error("{action} failed")]
    Database {
        /// The method that was called.
        action: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
}

/// SQLite's primary result code for a full disk.
const SQLITE_FULL: &str = "13";

impl StoreError {
    /// Whether the disk that the store is on has no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Database {
                source: sqlx::Error::Database(error),
                ..
            } => error.code().as_deref() == Some(SQLITE_FULL),
            _ => false,
        }
    }
}

/// Shorthand for this crate's results.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Gives an error of the database the name of the method in which it happened.
pub(crate) fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { action, source }
}

/// Says of which file it is that it can not be opened.
pub(crate) fn unopened(path: &Path) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    move |source| StoreError::Open {
        path: path.to_owned(),
        source,
    }
}

/// As [`failed`], but a second row of its kind is a [`StoreError::Conflict`].
pub(crate) fn conflict(action: &'static str, what: impl FnOnce() -> String) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| match &source {
        sqlx::Error::Database(error) if error.is_unique_violation() => StoreError::Conflict { what: what() },
        _ => StoreError::Database { action, source },
    }
}
