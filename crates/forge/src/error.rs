//! What can go wrong when a forge is asked something, cut so that callers can branch.

use std::time::Duration;

/// What the functions of a forge return.
pub type Result<T, E = ForgeError> = std::result::Result<T, E>;

/// A question to a forge was not answered.
///
/// No variant is ever a reason to delete something: that something is gone is said by a value
/// ([`crate::PullRequestFact::Absent`], [`crate::BranchFact::Absent`]), never by an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgeError {
    /// The forge says that it does not exist, which is also what forges say to those who may not see it.
    #[error("{what} does not exist, or this account may not see it")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The token is not valid (any more).
    #[error("{what}: the forge does not accept our token")]
    Unauthorized {
        /// What was asked for.
        what: String,
    },
    /// The token is valid but may not do this.
    #[error("{what}: our account lacks the permission")]
    Forbidden {
        /// What was asked for.
        what: String,
    },
    /// Too many requests.
    #[error("{what}: the forge limits our requests, again in {} s", retry_after.as_secs())]
    RateLimited {
        /// What was asked for.
        what: String,
        /// How long the forge wants us to wait.
        retry_after: Duration,
    },
    /// No answer, or one that says that the forge is ill.
    #[error("{what}: the forge can not be reached")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: Unreachable,
    },
    /// The forge refused the request as wrong, or its answer made no sense.
    #[error("{what}: {reason}")]
    Invalid {
        /// What was asked for.
        what: String,
        /// Why, bounded and safe to print.
        reason: String,
    },
    /// An answer was larger than allowed.
    #[error("{what}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The state of a local forge could not be read or written.
    #[error("{what}: {path}")]
    Storage {
        /// What was asked for.
        what: String,
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Git failed beneath a local forge.
    #[error("{what}: git failed")]
    Git {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: Box<crate::git::GitError>,
    },
}

/// Why a forge could not be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreachable {
    /// No connection, or it broke.
    #[error("connection failed")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing came in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The forge answered that it is ill.
    #[error("the forge answered with status {0}")]
    Status(u16),
}

impl ForgeError {
    /// Whether the same request may succeed later without anybody doing something.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unreachable { .. })
    }

    /// Whether we have lost access: the clock for stopping environments runs (DESIGN: 24 hours).
    #[must_use]
    pub fn is_access_lost(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. } | Self::Unauthorized { .. } | Self::Forbidden { .. } | Self::Unreachable { .. }
        )
    }

    pub(crate) fn invalid(what: impl Into<String>, reason: impl AsRef<str>) -> Self {
        Self::Invalid {
            what: what.into(),
            reason: crate::display(reason.as_ref(), 300).into(),
        }
    }
}
