//! Errors of the port. Callers branch on the variant; the text is for the person who reads `why`.

use model::{EnvironmentId, Generation};

/// What can go wrong in a runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime has accepted a newer generation: the caller must look again.
    #[error("generation {given} of {environment} is older than {newest}")]
    Superseded {
        /// The environment.
        environment: EnvironmentId,
        /// The generation that was given.
        given: Generation,
        /// The newest that was accepted.
        newest: Generation,
    },
    /// The runtime can not run this. Trying again does not help.
    #[error("{what} can not run on the {runtime} runtime")]
    Unsupported {
        /// The runtime's name.
        runtime: String,
        /// What it was, by name.
        what: String,
        /// What would help.
        hint: String,
    },
    /// The thing that was asked about does not exist.
    #[error("{what} does not exist")]
    NotFound {
        /// What it was, by name.
        what: String,
    },
    /// The user's part is wrong: a missing command, a file that is no directory. Trying again does not help.
    #[error("{what}: {reason}")]
    Invalid {
        /// The service, job or volume.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no room: disk, memory, addresses. Trying again later may help.
    #[error("no room for {what}: {reason}")]
    Full {
        /// What was to be made.
        what: String,
        /// What is exhausted.
        reason: String,
    },
    /// The runtime does not answer. Nothing may be concluded from it.
    #[error("the {runtime} runtime does not answer: {reason}")]
    Unreachable {
        /// The runtime's name.
        runtime: String,
        /// What was tried and how it failed.
        reason: String,
    },
    /// Anything else. Trying again may help.
    #[error("{action}: {reason}")]
    Failed {
        /// What was being done, with names.
        action: String,
        /// How it failed.
        reason: String,
    },
}

impl RuntimeError {
    /// Whether trying the same again can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Unreachable { .. } | Self::Failed { .. })
    }
}
