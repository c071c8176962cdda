//! What can go wrong with a database, for the person who wrote the migration.

use std::{fmt, time::Duration};
use tokio_postgres::error::SqlState;

/// PostgreSQL refused a statement of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementError {
    /// Path of the file in the checkout.
    pub file: String,
    /// Line of the file, counted from 1: where PostgreSQL points to, else where the statement begins.
    pub line: u32,
    /// The five characters of the SQLSTATE.
    pub code: String,
    /// PostgreSQL's message.
    pub message: String,
    /// Its detail, if it gave one.
    pub detail: Option<String>,
    /// Its hint, or ours where PostgreSQL has none.
    pub hint: Option<String>,
}

impl fmt::Display for StatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {} (SQLSTATE {})",
            self.file, self.line, self.message, self.code
        )?;
        if let Some(detail) = &self.detail {
            write!(f, "\ndetail: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Anything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The engine did not accept the connection.
    #[error("can not open the database `{database}`")]
    Connect {
        /// The database.
        database: String,
        /// How it failed.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A name from the Compose file can not be honoured.
    #[error("the {what} `{name}` can not be used: {rule}\nhint: choose another one in the Compose file")]
    Name {
        /// `user`, `database`.
        what: &'static str,
        /// The name, shortened, control characters escaped.
        name: String,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// A statement of a file was refused.
    #[error("{0}")]
    Statement(Box<StatementError>),
    /// A file holds something that is not SQL for the server.
    #[error("{file}:{line}: {what}\nhint: {hint}")]
    Unsupported {
        /// Path of the file in the checkout.
        file: String,
        /// Line of the file, counted from 1.
        line: u32,
        /// What was found.
        what: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// The bytes of a file are not those that the generation names, or not those that were applied before.
    #[error("{file}: {reason}")]
    Content {
        /// Path of the file in the checkout.
        file: String,
        /// What differs.
        reason: &'static str,
    },
    /// The time was over. What was not recorded was rolled back.
    #[error("{what} took longer than {} s", after.as_secs_f32())]
    TimedOut {
        /// What was being done.
        what: String,
        /// The bound.
        after: Duration,
    },
    /// The system has no randomness to give.
    #[error("the system has no randomness")]
    Randomness,
    /// One of this crate's own statements failed.
    #[error("{action}")]
    Query {
        /// What was being done.
        action: String,
        /// How it failed.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl DataError {
    /// Whether the application's files or settings are wrong, so that trying the same again does not help.
    #[must_use]
    pub fn is_users(&self) -> bool {
        match self {
            Self::Name { .. } | Self::Unsupported { .. } | Self::Content { .. } | Self::TimedOut { .. } => true,
            Self::Statement(error) => !is_passing(&error.code),
            Self::Connect { .. } | Self::Query { .. } | Self::Randomness => false,
        }
    }
}

/// SQLSTATEs that say something about the moment, not about the statement: shutdown, memory, disk, deadlock, lost connection.
fn is_passing(code: &str) -> bool {
    let passing = [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::LOCK_NOT_AVAILABLE,
    ];
    code.starts_with("08")
        || code.starts_with("53")
        || code.starts_with("58")
        || passing.iter().any(|state| state.code() == code)
}

/// A result of this crate.
pub(crate) type Result<T, E = DataError> = std::result::Result<T, E>;

/// Our own words beside PostgreSQL's where it gives no hint.
pub(crate) fn own_hint(code: &SqlState) -> Option<&'static str> {
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        Some(
            "the application's role is no superuser here; extensions that are not marked as trusted and server settings are \
             out of its reach",
        )
    } else if *code == SqlState::ACTIVE_SQL_TRANSACTION {
        Some("put this statement into a file of its own: files that hold such statements run without a transaction")
    } else {
        None
    }
}
