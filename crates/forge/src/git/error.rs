//! What can go wrong with git.

use model::CommitId;
use std::{path::PathBuf, time::Duration};

/// Git, or something around it, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// The program could not be started.
    #[error("git can not be run (hint: apt-get install git)")]
    Start(#[source] std::io::Error),
    /// The program said no.
    #[error("git {subcommand} failed: {stderr}")]
    Failed {
        /// What it was asked to do.
        subcommand: &'static str,
        /// The exit code; none if a signal ended it.
        code: Option<i32>,
        /// The end of its error output, safe to print.
        stderr: String,
    },
    /// It took too long and was ended.
    #[error("git {subcommand} took longer than {} s", limit.as_secs())]
    Timeout {
        /// What it was asked to do.
        subcommand: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// It printed more than allowed and was ended.
    #[error("git {subcommand} printed more than {limit} bytes")]
    Output {
        /// What it was asked to do.
        subcommand: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// It printed what it should not.
    #[error("git {subcommand} printed what can not be understood")]
    Parse {
        /// What it was asked to do.
        subcommand: &'static str,
    },
    /// The remote repository does not have the commit (any more).
    #[error("commit {0} is not in the repository")]
    NoSuchCommit(CommitId),
    /// A file is not in a commit.
    #[error("`{path}` is not a file of commit {commit}")]
    NoSuchFile {
        /// The commit.
        commit: CommitId,
        /// The path, safe to print.
        path: String,
    },
    /// A reference or path is not one that we pass to git.
    #[error("`{given}` is not a {what}")]
    Name {
        /// What was given, safe to print.
        given: String,
        /// What was expected.
        what: &'static str,
    },
    /// A file of the commit has a path that no checkout may have.
    #[error("the commit has the path `{path}`: {reason}")]
    Path {
        /// The path, safe to print.
        path: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A symbolic link of the commit leads out of the checkout.
    #[error("the symbolic link `{path}` leads out of the repository, to `{target}`")]
    Escape {
        /// The path of the link, safe to print.
        path: String,
        /// Where it leads, safe to print.
        target: String,
    },
    /// A commit has more or larger files than allowed.
    #[error("the commit has more than {limit} {what}")]
    Limit {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The file system failed.
    #[error("{}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl GitError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
