//! What can go wrong with the vault.

use crate::name::SecretName;
use std::path::{Path, PathBuf};

/// What the vault returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on the vault failed. No variant holds a value or a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path} can not be {what}")]
    Io {
        /// What was tried: `read`, `written`, …
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others may read or write the key or the vault.
    #[error("{path} is open to others: its mode is {mode:o}, and {wanted:o} is wanted (`chmod {wanted:o} {path}`)")]
    Open {
        /// Which file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Those that it should have at most.
        wanted: u32,
    },
    /// The file of the key holds something else.
    #[error("{path} holds no age identity (a line that begins with AGE-SECRET-KEY-1)")]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// There are secrets, but their key is missing; a new one could not read them.
    #[error("{key} is missing, and {vault} holds secrets that only it can open: restore it, or remove them")]
    KeyLost {
        /// Where the key should be.
        key: PathBuf,
        /// Where the secrets are.
        vault: PathBuf,
    },
    /// The secret was sealed to another key, or its file is damaged.
    #[error("{path} can not be opened with this instance's key: it is damaged, or was sealed to another key")]
    Sealed {
        /// Which file.
        path: PathBuf,
    },
    /// A file was moved to the place of another secret.
    #[error("{path} holds another secret than its name says")]
    Misplaced {
        /// Which file.
        path: PathBuf,
    },
    /// There is no secret of that name.
    #[error("project `{project}` has no secret `{name}`")]
    Unknown {
        /// The project.
        project: String,
        /// The name.
        name: SecretName,
    },
    /// The project holds as many secrets as one may.
    #[error("project `{project}` holds {limit} secrets, which is the most that one may")]
    TooMany {
        /// The project.
        project: String,
        /// The bound.
        limit: usize,
    },
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
