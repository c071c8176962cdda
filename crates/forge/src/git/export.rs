//! Writes the files of a commit into a directory.
//!
//! The bytes are those that were committed: they come from `cat-file --batch`, which knows no attributes. So no
//! `export-ignore` hides a file, no `export-subst` or `ident` rewrites one, no `filter` runs a program and no line end
//! changes; `git archive` would do the first two, and a checkout the others.
//!
//! The directory must be empty and writable by nobody else. Files and directories come first and links last, every
//! file is made and never opened, so that no link of the commit is ever followed while writing.

use super::{
    EntryKind, GitError, Mirror, TreeEntry, TreeLimits,
    command::{Group, tail},
};
use model::CommitId;
use std::{
    collections::{HashMap, HashSet},
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::ChildStdout,
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
const CHUNK: usize = 64 << 10;

impl Mirror {
    /// Writes the files of a commit into an existing, empty directory: files 0644 or 0755, directories 0755.
    ///
    /// # Errors
    /// If the directory is not empty, a bound is exceeded, or the commit has a path or link that no checkout may have.
    /// Files may then have been written; who made the directory removes it.
    pub async fn export(&self, commit: &CommitId, into: &Path, limits: ExportLimits) -> Result<Exported, GitError> {
        let entries = self
            .read_tree(
                commit,
                TreeLimits {
                    entries: limits.entries,
                },
            )
            .await?;
        check_sizes(&entries, limits)?;
        if fs::read_dir(into).map_err(GitError::io(into))?.next().is_some() {
            let source = std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty);
            return Err(GitError::Io {
                path: into.to_owned(),
                source,
            });
        }
        let limit = self.git.limits().fetch;
        tokio::time::timeout(limit, self.write_all(&entries, into))
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
        let mut batch = Batch::start(self, &asked)?;
        let mut links = Vec::new();
        for entry in &asked {
            let bytes = batch.read(entry).await?;
            if entry.kind == EntryKind::Link {
                links.push((entry, bytes));
            } else if bytes.starts_with(LFS_POINTER) {
                findings.push(Finding::LfsPointer {
                    path: entry.path.clone(),
                });
            }
        }
        batch.finish().await?;
        checked_links(links)?;
        Ok(findings)
    }

    async fn write_all(&self, entries: &[TreeEntry], into: &Path) -> Result<Exported, GitError> {
        let mut batch = Batch::start(self, entries)?;
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
                EntryKind::Link => links.push((entry, batch.read(entry).await?)),
                EntryKind::File { executable } => {
                    if batch.copy(entry, &target, executable).await? {
                        exported.findings.push(Finding::LfsPointer {
                            path: entry.path.clone(),
                        });
                    }
                }
            }
            exported.files += 1;
            exported.bytes += entry.size;
        }
        batch.finish().await?;
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

/// One `git cat-file --batch`, asked for all objects at once; the answers come in the same order.
struct Batch {
    child: Group,
    answers: BufReader<ChildStdout>,
}

impl Batch {
    fn start(mirror: &Mirror, entries: &[TreeEntry]) -> Result<Self, GitError> {
        let mut command = mirror
            .git
            .command(&mirror.dir, "cat-file", ["--batch", "--buffer"], None);
        let mut child = Group::spawn(&mut command)?;
        let wanted = entries.iter().filter(|entry| entry.kind != EntryKind::Submodule);
        let requests: String = wanted.map(|entry| format!("{}\n", entry.object)).collect();
        match (child.0.stdin.take(), child.0.stdout.take()) {
            (Some(mut stdin), Some(answers)) => {
                // Beside the reading, or both would wait for each other once the pipes are full. It ends with git.
                tokio::spawn(async move { stdin.write_all(requests.as_bytes()).await });
                Ok(Self {
                    child,
                    answers: BufReader::with_capacity(CHUNK, answers),
                })
            }
            _ => Err(GitError::Parse { subcommand: "cat-file" }),
        }
    }

    /// Begins the next answer, whose content follows. The size was checked before, so another one is an error.
    async fn next(&mut self, entry: &TreeEntry) -> Result<(), GitError> {
        let broken = |_| GitError::Parse { subcommand: "cat-file" };
        let mut header = String::new();
        (&mut self.answers)
            .take(200)
            .read_line(&mut header)
            .await
            .map_err(broken)?;
        if header.trim_end() == format!("{} blob {}", entry.object, entry.size) {
            Ok(())
        } else {
            Err(GitError::Parse { subcommand: "cat-file" })
        }
    }

    async fn end_of_content(&mut self) -> Result<(), GitError> {
        match self.answers.read_u8().await {
            Ok(b'\n') => Ok(()),
            _ => Err(GitError::Parse { subcommand: "cat-file" }),
        }
    }

    async fn read(&mut self, entry: &TreeEntry) -> Result<Vec<u8>, GitError> {
        self.next(entry).await?;
        let mut bytes = Vec::new();
        let read = (&mut self.answers).take(entry.size).read_to_end(&mut bytes).await;
        if read.ok().map(|n| n as u64) != Some(entry.size) {
            return Err(GitError::Parse { subcommand: "cat-file" });
        }
        self.end_of_content().await?;
        Ok(bytes)
    }

    /// Writes a file and says whether it is a pointer of Git LFS.
    async fn copy(&mut self, entry: &TreeEntry, target: &Path, executable: bool) -> Result<bool, GitError> {
        self.next(entry).await?;
        let mode = if executable { 0o755 } else { 0o644 };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(target)
            .map_err(GitError::io(target))?;
        let mut buffer = vec![0; usize::try_from(entry.size).map_or(CHUNK, |size| size.clamp(1, CHUNK))];
        let (mut left, mut pointer) = (entry.size, false);
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.answers.read_exact(&mut buffer[..want]).await;
            read.map_err(|_| GitError::Parse { subcommand: "cat-file" })?;
            pointer |= left == entry.size && entry.size < LFS_POINTER_MAX && buffer[..want].starts_with(LFS_POINTER);
            file.write_all(&buffer[..want]).map_err(GitError::io(target))?;
            left -= want as u64;
        }
        // The umask of this process must not decide what the application sees.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        file.set_permissions(permissions).map_err(GitError::io(target))?;
        self.end_of_content().await?;
        Ok(pointer)
    }

    async fn finish(self) -> Result<(), GitError> {
        let Self { mut child, .. } = self;
        let said = tail(child.0.stderr.take()).await;
        let status = child.0.wait().await.map_err(GitError::Start)?;
        if status.success() {
            return Ok(());
        }
        let stderr = crate::display(&said, 1000).into();
        Err(GitError::Failed {
            subcommand: "cat-file",
            code: status.code(),
            stderr,
        })
    }
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
