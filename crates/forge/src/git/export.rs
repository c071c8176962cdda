//! Writes the files of a commit into a directory.
//!
//! The bytes are those that were committed: they come from `cat-file --batch`, which knows no attributes. So no
//! `export-ignore` hides a file, no `export-subst` or `ident` rewrites one, no `filter` runs a program and no line end
//! changes; `git archive` would do the first two, and a checkout the others.
//!
//! The directory must be empty and writable by nobody else. Files and directories come first and links last, every
//! file is made and never opened, so that no link of the commit is ever followed while writing.

use super::{EntryKind, GitError, Mirror, TreeEntry, TreeLimits, objects::Asked};
use model::CommitId;
use std::{
    collections::{HashMap, HashSet},
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

/// Bounds of a checkout.
#[derive(Clone, Copy, Debug)]
pub struct ExportLimits {
    /// The most files, links and submodules.
    pub entries: u64,
    /// The most bytes in one file.
    pub file: u64,
    /// The most bytes in all files.
    pub total: u64,
}

impl Default for ExportLimits {
    fn default() -> Self {
        Self {
            entries: 200_000,
            file: 1 << 30,
            total: 4 << 30,
        }
    }
}

/// Something in a commit that is written, but is not what its author may think. The user is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A submodule: its place is an empty directory.
    Submodule {
        /// Where.
        path: String,
    },
    /// A pointer of Git LFS: the file has a few lines of text in place of its content.
    LfsPointer {
        /// Where.
        path: String,
    },
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The number of files and links.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What the user should know.
    pub findings: Vec<Finding>,
}

const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
const LFS_POINTER_MAX: u64 = 1024;
const LINK_MAX: u64 = 4000;
const LINKS_FOLLOWED_MAX: u32 = 40;

impl Mirror {
    /// Writes the files of a commit into an existing, empty directory: files 0644 or 0755, directories 0755.
    ///
    /// # Errors
    /// If the directory is not empty, a bound is exceeded, or the commit has a path or link that no checkout may have.
    /// Files may then have been written; who made the directory removes it.
    pub async fn export(&self, commit: &CommitId, into: &Path, limits: ExportLimits) -> Result<Exported, GitError> {
        let most = TreeLimits {
            entries: limits.entries,
        };
        let entries = self.read_tree(commit, most).await?;
        self.export_listed(&entries, into, limits).await
    }

    /// The same for a commit whose entries [`Mirror::read_tree`] gave.
    ///
    /// # Errors
    /// As [`Mirror::export`].
    pub async fn export_listed(
        &self,
        entries: &[TreeEntry],
        into: &Path,
        limits: ExportLimits,
    ) -> Result<Exported, GitError> {
        check_sizes(entries, limits)?;
        if fs::read_dir(into).map_err(GitError::io(into))?.next().is_some() {
            let source = std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty);
            return Err(GitError::Io {
                path: into.to_owned(),
                source,
            });
        }
        let limit = self.git.limits().fetch;
        tokio::time::timeout(limit, self.write_all(entries, into))
            .await
            .map_err(|_| GitError::Timeout {
                subcommand: "cat-file",
                limit,
            })?
    }

    /// What the user should know of a commit, and whether it can be written at all, found out without writing it. `entries`
    /// are those that [`Mirror::read_tree`] gave. A pointer of Git LFS is looked for only where a commit has attributes.
    ///
    /// # Errors
    /// As [`Mirror::export`].
    pub async fn inspect(&self, entries: &[TreeEntry]) -> Result<Vec<Finding>, GitError> {
        let limit = self.git.limits().fetch;
        tokio::time::timeout(limit, self.inspect_all(entries))
            .await
            .map_err(|_| GitError::Timeout {
                subcommand: "cat-file",
                limit,
            })?
    }

    async fn inspect_all(&self, entries: &[TreeEntry]) -> Result<Vec<Finding>, GitError> {
        check_sizes(entries, ExportLimits::default())?;
        let name = |entry: &TreeEntry| entry.path.rsplit('/').next() == Some(".gitattributes");
        let attributes = entries.iter().any(name);
        let asked = entries.iter().filter(|entry| match entry.kind {
            EntryKind::Link => true,
            EntryKind::File { .. } => attributes && (LFS_POINTER.len() as u64..LFS_POINTER_MAX).contains(&entry.size),
            EntryKind::Submodule => false,
        });
        let asked: Vec<TreeEntry> = asked.cloned().collect();
        let submodules = entries.iter().filter(|entry| entry.kind == EntryKind::Submodule);
        let mut findings: Vec<Finding> = submodules
            .map(|entry| Finding::Submodule {
                path: entry.path.clone(),
            })
            .collect();
        if asked.is_empty() {
            return Ok(findings);
        }
        let mut contents = self.ask(asked.iter()).await?;
        let mut links = Vec::new();
        for entry in &asked {
            let bytes = contents.read(entry).await?;
            if entry.kind == EntryKind::Link {
                links.push((entry, bytes));
            } else if bytes.starts_with(LFS_POINTER) {
                findings.push(Finding::LfsPointer {
                    path: entry.path.clone(),
                });
            }
        }
        contents.finish().await?;
        checked_links(links)?;
        Ok(findings)
    }

    async fn write_all(&self, entries: &[TreeEntry], into: &Path) -> Result<Exported, GitError> {
        let mut contents = self.ask(entries.iter()).await?;
        let mut exported = Exported::default();
        let mut made = HashSet::new();
        let mut links = Vec::new();
        for entry in entries {
            let target = into.join(&entry.path);
            make_directories(into, &entry.path, &mut made)?;
            match entry.kind {
                EntryKind::Submodule => {
                    fs::create_dir(&target).map_err(GitError::io(&target))?;
                    exported.findings.push(Finding::Submodule {
                        path: entry.path.clone(),
                    });
                    continue;
                }
                EntryKind::Link => links.push((entry, contents.read(entry).await?)),
                EntryKind::File { executable } => {
                    if copy(&mut contents, entry, &target, executable).await? {
                        exported.findings.push(Finding::LfsPointer {
                            path: entry.path.clone(),
                        });
                    }
                }
            }
            exported.files += 1;
            exported.bytes += entry.size;
        }
        contents.finish().await?;
        for (path, target) in checked_links(links)? {
            let place = into.join(path);
            symlink(target, &place).map_err(GitError::io(&place))?;
        }
        Ok(exported)
    }
}

fn check_sizes(entries: &[TreeEntry], limits: ExportLimits) -> Result<(), GitError> {
    let mut total: u64 = 0;
    for entry in entries {
        let (what, limit) = match entry.kind {
            EntryKind::Link => ("bytes in one symbolic link", LINK_MAX),
            _ => ("bytes in one file", limits.file),
        };
        if entry.size > limit {
            return Err(GitError::Limit { what, limit });
        }
        total = total.saturating_add(entry.size);
        if total > limits.total {
            return Err(GitError::Limit {
                what: "bytes",
                limit: limits.total,
            });
        }
    }
    Ok(())
}

/// Makes the directories above a path. A tree that has both a file `a` and a directory `a` ends here or at the file.
fn make_directories(into: &Path, path: &str, made: &mut HashSet<String>) -> Result<(), GitError> {
    for (at, _) in path.match_indices('/') {
        if made.insert(path[..at].to_owned()) {
            let directory = into.join(&path[..at]);
            fs::create_dir(&directory).map_err(GitError::io(&directory))?;
        }
    }
    Ok(())
}

/// Writes a file and says whether it is a pointer of Git LFS.
async fn copy(asked: &mut Asked, entry: &TreeEntry, target: &Path, executable: bool) -> Result<bool, GitError> {
    let mode = if executable { 0o755 } else { 0o644 };
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(target)
        .map_err(GitError::io(target))?;
    let mut head = Vec::new();
    let write = |piece: &[u8]| {
        if head.len() < LFS_POINTER.len() {
            head.extend_from_slice(&piece[..piece.len().min(LFS_POINTER.len() - head.len())]);
        }
        file.write_all(piece).map_err(GitError::io(target))
    };
    asked.pieces(entry, write).await?;
    // The umask of this process must not decide what the application sees.
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    file.set_permissions(permissions).map_err(GitError::io(target))?;
    Ok(entry.size < LFS_POINTER_MAX && head == LFS_POINTER)
}

/// Refuses links that lead out, also by way of other links: of `p/up -> ..` and `out -> p/up/..` each looks harmless.
fn checked_links(links: Vec<(&TreeEntry, Vec<u8>)>) -> Result<Vec<(String, PathBuf)>, GitError> {
    let mut targets = HashMap::new();
    for (entry, target) in links {
        let text = String::from_utf8(target).map_err(|error| GitError::Escape {
            path: crate::display(&entry.path, 200).into(),
            target: crate::display(&String::from_utf8_lossy(error.as_bytes()), 200).into(),
        })?;
        targets.insert(entry.path.clone(), text);
    }
    for (path, target) in &targets {
        if target.is_empty() || target.contains('\0') || !stays_inside(path, &targets) {
            let (path, target) = (crate::display(path, 200).into(), crate::display(target, 200).into());
            return Err(GitError::Escape { path, target });
        }
    }
    Ok(targets
        .into_iter()
        .map(|(path, target)| (path, PathBuf::from(target)))
        .collect())
}

/// Walks where a link leads, following every other link on the way, as the kernel would.
fn stays_inside(link: &str, targets: &HashMap<String, String>) -> bool {
    let mut place: Vec<&str> = Vec::new();
    let mut left: Vec<&str> = link.split('/').rev().collect();
    let mut followed = 0;
    while let Some(part) = left.pop() {
        match part {
            "" | "." => continue,
            ".." => {
                if place.pop().is_none() {
                    return false;
                }
                continue;
            }
            part => place.push(part),
        }
        if let Some(target) = targets.get(&place.join("/")) {
            followed += 1;
            if followed > LINKS_FOLLOWED_MAX || target.starts_with('/') {
                return false;
            }
            place.pop();
            left.extend(target.split('/').rev());
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(links: &[(&str, &str)]) -> bool {
        let targets: HashMap<_, _> = links.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        targets.keys().all(|link| stays_inside(link, &targets))
    }

    #[test]
    fn links_within_the_checkout_are_kept() {
        assert!(inside(&[
            ("a/b/link", "../../x/y"),
            ("dangling", "nothing/here"),
            ("self", ".")
        ]));
    }

    #[test]
    fn links_that_lead_out_are_found_also_through_other_links() {
        assert!(!inside(&[("link", "/etc/passwd")]));
        assert!(!inside(&[("link", "../x")]));
        assert!(!inside(&[("a/link", "x/../../../y")]));
        assert!(!inside(&[("p/q/up", "../.."), ("out", "p/q/up/..")]));
        assert!(!inside(&[("a", "b"), ("b", "a")]), "what never ends is not proven");
    }
}
