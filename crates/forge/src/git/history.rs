//! Questions about the history in a mirror.

use super::{GitError, Mirror};
use crate::DisplayText;
use model::{CommitId, Timestamp};

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It was deleted.
    Deleted,
    /// It has another content, mode or type.
    Modified,
}

/// One changed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path from the root; what is not UTF-8 is replaced, so it is for comparing and showing only.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What a commit says of itself. Anybody can write anything here: it is shown, and nothing is decided by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitSummary {
    /// The first line of its message.
    pub subject: DisplayText,
    /// The name of its author.
    pub author: DisplayText,
    /// When it was committed.
    pub time: Timestamp,
}

impl Mirror {
    /// The newest commit that both have; none if they have no common history.
    ///
    /// # Errors
    /// If one of them is not here.
    pub async fn merge_base(&self, a: &CommitId, b: &CommitId) -> Result<Option<CommitId>, GitError> {
        match self.git.output(&self.dir, "merge-base", [a.as_str(), b.as_str()]).await {
            Ok(out) => {
                let text = String::from_utf8_lossy(&out);
                text.trim().parse().map(Some).map_err(|_| GitError::Parse {
                    subcommand: "merge-base",
                })
            }
            Err(GitError::Failed { code: Some(1), .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether `older` is in the history of `newer`; a commit is in its own.
    ///
    /// # Errors
    /// If one of them is not here.
    pub async fn is_ancestor(&self, older: &CommitId, newer: &CommitId) -> Result<bool, GitError> {
        let args = ["--is-ancestor", older.as_str(), newer.as_str()];
        match self.git.output(&self.dir, "merge-base", args).await {
            Ok(_) => Ok(true),
            Err(GitError::Failed { code: Some(1), .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The files that differ between two commits, renames as deletion and addition.
    ///
    /// # Errors
    /// If one of them is not here, or more than `max` files differ.
    pub async fn changed_files(&self, old: &CommitId, new: &CommitId, max: usize) -> Result<Vec<Change>, GitError> {
        let args = [
            "-r",
            "-z",
            "--no-renames",
            "--name-status",
            "--no-ext-diff",
            "--no-textconv",
            old.as_str(),
            new.as_str(),
        ];
        let out = self.git.output(&self.dir, "diff-tree", args).await?;
        let mut fields = out.split(|b| *b == 0).filter(|field| !field.is_empty());
        let mut changes = Vec::new();
        while let (Some(kind), Some(path)) = (fields.next(), fields.next()) {
            if changes.len() >= max {
                return Err(GitError::Limit {
                    what: "changed files",
                    limit: max as u64,
                });
            }
            let kind = match kind {
                b"A" => ChangeKind::Added,
                b"D" => ChangeKind::Deleted,
                _ => ChangeKind::Modified,
            };
            changes.push(Change {
                path: String::from_utf8_lossy(path).into_owned(),
                kind,
            });
        }
        Ok(changes)
    }

    /// What a commit says of itself.
    ///
    /// # Errors
    /// If it is not here.
    pub async fn summary(&self, commit: &CommitId) -> Result<CommitSummary, GitError> {
        let args = [
            "-s",
            "--no-walk",
            "--no-show-signature",
            "--encoding=UTF-8",
            "--format=%ct%x00%an%x00%s",
        ];
        let out = self
            .git
            .output(&self.dir, "log", args.into_iter().chain([commit.as_str(), "--"]))
            .await?;
        let text = String::from_utf8_lossy(&out);
        let mut fields = text.trim_end().splitn(3, '\0');
        match (
            fields.next().and_then(|seconds| seconds.parse::<u64>().ok()),
            fields.next(),
            fields.next(),
        ) {
            (Some(seconds), Some(author), Some(subject)) => Ok(CommitSummary {
                subject: DisplayText::new(subject),
                author: DisplayText::new(author),
                time: Timestamp(seconds.saturating_mul(1000)),
            }),
            _ => Err(GitError::Parse { subcommand: "log" }),
        }
    }
}
