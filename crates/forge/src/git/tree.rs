//! The files of a commit, without checking it out.

use super::{GitError, Mirror, command::Run};
use model::CommitId;
use std::fmt;

/// Bounds of a commit's tree.
#[derive(Clone, Copy, Debug)]
pub struct TreeLimits {
    /// The most files, links and submodules.
    pub entries: u64,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self { entries: 200_000 }
    }
}

/// Git's id of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId(pub(super) CommitId);

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A file.
    File {
        /// Whether it may be run.
        executable: bool,
    },
    /// A symbolic link.
    Link,
    /// Another repository at this place.
    Submodule,
}

/// One file, link or submodule of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// The path from the root, with `/`; checked: relative, no `.`, `..` or `.git` in it, not empty.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// In bytes; 0 for submodules.
    pub size: u64,
    /// The object that holds the content.
    pub object: ObjectId,
}

impl Mirror {
    /// All entries of a commit, in git's order.
    ///
    /// # Errors
    /// If the commit is not here, has a path that no checkout may have, or too many entries.
    pub async fn read_tree(&self, commit: &CommitId, limits: TreeLimits) -> Result<Vec<TreeEntry>, GitError> {
        let args = ["-r", "-l", "-z", "--full-tree", commit.as_str()];
        let listed = self
            .git
            .run(
                &self.dir,
                "ls-tree",
                args,
                Run {
                    records: Some(limits.entries),
                    ..Run::default()
                },
            )
            .await?;
        parse(&listed, limits)
    }

    /// The content of the file at a path of a commit; links are not followed.
    ///
    /// # Errors
    /// [`GitError::NoSuchFile`], or [`GitError::Limit`] if it has more than `max` bytes.
    pub async fn read_blob(&self, commit: &CommitId, path: &str, max: u64) -> Result<Vec<u8>, GitError> {
        check_path(path)?;
        let args = ["-l", "-z", "--full-tree", commit.as_str(), "--", path];
        let listed = self.git.output(&self.dir, "ls-tree", args).await?;
        let missing = || GitError::NoSuchFile {
            commit: commit.clone(),
            path: crate::display(path, 200).into(),
        };
        // A directory is listed as a tree, which is not an entry of ours.
        if listed
            .split(|b| *b == b'\t')
            .next()
            .is_some_and(|head| head.starts_with(b"040000"))
        {
            return Err(missing());
        }
        let entry = parse(&listed, TreeLimits { entries: 1 })?
            .into_iter()
            .next()
            .ok_or_else(missing)?;
        if entry.path != path || !matches!(entry.kind, EntryKind::File { .. }) {
            return Err(missing());
        }
        self.read_object(&entry, max).await
    }

    /// The content of an entry that [`Mirror::read_tree`] gave.
    ///
    /// # Errors
    /// [`GitError::Limit`] if it has more than `max` bytes.
    pub async fn read_object(&self, entry: &TreeEntry, max: u64) -> Result<Vec<u8>, GitError> {
        if entry.size > max {
            return Err(GitError::Limit {
                what: "bytes in one file",
                limit: max,
            });
        }
        if !matches!(entry.kind, EntryKind::File { .. } | EntryKind::Link) {
            return Err(GitError::Parse { subcommand: "cat-file" });
        }
        let limit = self.git.limits().local;
        let read = async {
            let mut asked = self.ask([entry].into_iter()).await?;
            let bytes = asked.read(entry).await?;
            asked.finish().await?;
            Ok(bytes)
        };
        tokio::time::timeout(limit, read).await.map_err(|_| GitError::Timeout {
            subcommand: "cat-file",
            limit,
        })?
    }
}

pub(super) fn parse(listed: &[u8], limits: TreeLimits) -> Result<Vec<TreeEntry>, GitError> {
    let mut entries = Vec::new();
    for line in listed.split(|b| *b == 0).filter(|line| !line.is_empty()) {
        if entries.len() as u64 >= limits.entries {
            return Err(GitError::Limit {
                what: "files",
                limit: limits.entries,
            });
        }
        let unreadable = || GitError::Parse { subcommand: "ls-tree" };
        let tab = line.iter().position(|b| *b == b'\t').ok_or_else(unreadable)?;
        let head = std::str::from_utf8(&line[..tab]).map_err(|_| unreadable())?;
        let mut fields = head.split_ascii_whitespace();
        let (mode, _, object, size) = (fields.next(), fields.next(), fields.next(), fields.next());
        let kind = match mode.ok_or_else(unreadable)? {
            "100755" => EntryKind::File { executable: true },
            // 100664 was written by very old versions of git.
            "100644" | "100664" => EntryKind::File { executable: false },
            "120000" => EntryKind::Link,
            "160000" => EntryKind::Submodule,
            _ => return Err(unreadable()),
        };
        let path = std::str::from_utf8(&line[tab + 1..]).map_err(|_| GitError::Path {
            path: crate::display(&String::from_utf8_lossy(&line[tab + 1..]), 200).into(),
            reason: "it is not UTF-8",
        })?;
        check_path(path)?;
        entries.push(TreeEntry {
            path: path.to_owned(),
            kind,
            size: size.and_then(|size| size.parse().ok()).unwrap_or(0),
            object: ObjectId(object.and_then(|id| id.parse().ok()).ok_or_else(unreadable)?),
        });
    }
    Ok(entries)
}

/// A path that git itself would never write can still stand in a tree that somebody made by hand.
pub(crate) fn check_path(path: &str) -> Result<(), GitError> {
    let refuse = |reason| {
        Err(GitError::Path {
            path: crate::display(path, 200).into(),
            reason,
        })
    };
    if path.len() > 4000 {
        return refuse("it is longer than 4000 bytes");
    }
    for part in path.split('/') {
        match part {
            "" => return refuse("it is absolute or has an empty part"),
            "." | ".." => return refuse("it has a part `.` or `..`"),
            part if part.eq_ignore_ascii_case(".git") => return refuse("it has a part `.git`"),
            part if part.len() > 255 => return refuse("a part is longer than 255 bytes"),
            part if part.contains('\0') => return refuse("it has a zero byte"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_checkout_or_reach_git_itself_are_refused() {
        for bad in [
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "",
            ".git/config",
            "a/.GIT/hooks/x",
            "./a",
            "a/",
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
        for good in ["a", ".github/x", "a b/ü", "...", "-rf", "a\nb"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
    }
}
