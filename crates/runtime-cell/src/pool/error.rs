//! What can go wrong with the pool, told with the name or path that it is about.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// An error of the storage pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// A name that may not become part of a path.
    #[error(
        "`{name}` can't be the name of a {kind}: lowercase letters, digits, `-`, `_` and `.`, at most 96, not starting with `.`"
    )]
    Name {
        /// What was to be named.
        kind: &'static str,
        /// The refused name, as given.
        name: String,
    },
    /// The disk has no room for the image file.
    #[error("{} needs {needed} bytes, of which {reserve} stay unused; its disk has {free} free", path.display())]
    NoRoom {
        /// The image file.
        path: PathBuf,
        /// Bytes needed, the reserve included.
        needed: u64,
        /// Bytes that are to stay free on the host's disk.
        reserve: u64,
        /// Bytes free now.
        free: u64,
    },
    /// The configured size is too small for a pool.
    #[error("a pool of {size} bytes is too small, the minimum is {minimum}")]
    TooSmall {
        /// The configured size in bytes.
        size: u64,
        /// The least size in bytes.
        minimum: u64,
    },
    /// The image can't be made smaller.
    #[error("{} has {current} bytes and can't shrink to {size}", path.display())]
    Shrink {
        /// The image file.
        path: PathBuf,
        /// Its size in bytes.
        current: u64,
        /// The size asked for.
        size: u64,
    },
    /// Only a pool in an image file has a size of its own.
    #[error("{} is a directory of the operator's file system and can't be grown from here", path.display())]
    NotAnImage {
        /// The directory.
        path: PathBuf,
    },
    /// Another process holds the pool.
    #[error("{} is in use by another cell host", path.display())]
    Locked {
        /// The image file or directory.
        path: PathBuf,
    },
    /// What is there was not made by this instance, so it is left alone.
    #[error("{} is not the pool of this instance: {reason}", path.display())]
    Foreign {
        /// The image file, directory or mount point.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// A program of the host is missing.
    #[error("`{program}` is missing; it is in the package `{package}`")]
    ProgramMissing {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program of the host failed.
    #[error("`{program}` failed ({status}): {stderr}")]
    Program {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The pool is still used by somebody.
    #[error("{} is still in use", path.display())]
    Busy {
        /// The mount point.
        path: PathBuf,
    },
    /// Something that does not exist (any more).
    #[error("there is no {kind} `{id}`")]
    Missing {
        /// What was asked for.
        kind: &'static str,
        /// Its name.
        id: String,
    },
    /// A volume exists and holds something else.
    #[error("volume `{volume}` of `{environment}` exists and was made from {origin}")]
    OriginDiffers {
        /// The environment.
        environment: String,
        /// The volume.
        volume: String,
        /// What it was made from.
        origin: String,
    },
    /// What was put into a source is not allowed there.
    #[error("source `{key}`: {} {reason}", path.display())]
    SourceRefused {
        /// The source.
        key: String,
        /// The offending file, relative to the source.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The pool is too full to admit more.
    #[error("the pool is full: {free} bytes are free, {needed} are needed to admit more")]
    Full {
        /// Bytes free now.
        free: u64,
        /// Bytes that must be free, the watermark included.
        needed: u64,
    },
    /// The kernel did not finish in time.
    #[error("{what} of {} is not done after {seconds} s", path.display())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The bound in seconds.
        seconds: u64,
    },
    /// The operating system refused.
    #[error("can't {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Gives an operating system's error the context that [`PoolError::Io`] wants.
pub(super) fn io_error<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> PoolError {
    let path = path.to_owned();
    move |source| PoolError::Io {
        what,
        path,
        source: source.into(),
    }
}
