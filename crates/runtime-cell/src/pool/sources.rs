//! Sources: trees that an unprivileged process fills once and that are read-only ever after.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::error::io_error;
use super::{Pool, PoolError, SOURCES, TEMPORARY, ioctl, names, subvolume};

/// More files than any checkout that Maquette would run.
const ENTRIES_MAX: usize = 2_000_000;

impl Pool {
    /// Makes an empty writable tree for `uid` and `gid` to fill; what an earlier attempt left is gone.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn source_begin(&self, key: &str, uid: u32, gid: u32) -> Result<PathBuf, PoolError> {
        names::check("source", key)?;
        self.retried(|| self.source_make(key, uid, gid))
    }

    fn source_make(&self, key: &str, uid: u32, gid: u32) -> Result<PathBuf, PoolError> {
        let _changing = self.changing();
        let directory = self.root.join(SOURCES);
        let name = format!("{TEMPORARY}{key}");
        subvolume::remove(self.fd(), &directory, &name)?;
        let path = directory.join(&name);
        let parent = subvolume::open(&directory)?;
        ioctl::subvolume_create(parent.as_fd(), &name, None).map_err(io_error("make the source", &path))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
            .map_err(io_error("set the permissions of", &path))?;
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(io_error("set the owner of", &path))?;
        Ok(path)
    }

    /// Ends the filling: freezes the tree, checks it, and gives it its name. Sealing one that is sealed does nothing.
    ///
    /// # Errors
    /// [`PoolError::SourceRefused`] for files of another owner, set-id bits, devices, sockets, pipes and nested
    /// subvolumes; the tree is left for [`Pool::source_begin`] to clear.
    pub fn source_seal(&self, key: &str) -> Result<(), PoolError> {
        names::check("source", key)?;
        let directory = self.root.join(SOURCES);
        let (unfinished, path) = (directory.join(format!("{TEMPORARY}{key}")), directory.join(key));
        if !subvolume::exists(&unfinished)? {
            return if self.source_exists(key)? {
                Ok(())
            } else {
                Err(PoolError::Missing {
                    kind: "source being filled",
                    id: key.into(),
                })
            };
        }
        let tree = subvolume::open(&unfinished)?;
        // Read-only first: whoever filled it may still be running and can't change what has been checked.
        ioctl::read_only_set(tree.as_fd(), true).map_err(io_error("freeze the source", &unfinished))?;
        check(key, &unfinished)?;
        rustix::fs::syncfs(&tree).map_err(io_error("sync", &unfinished))?;
        drop(tree);
        let _changing = self.changing();
        subvolume::remove(self.fd(), &directory, key)?;
        std::fs::rename(&unfinished, &path).map_err(io_error("rename", &unfinished))
    }

    /// Whether the source is there, sealed.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn source_exists(&self, key: &str) -> Result<bool, PoolError> {
        names::check("source", key)?;
        subvolume::exists(&self.root.join(SOURCES).join(key))
    }

    /// Where the sealed source is.
    ///
    /// # Errors
    /// [`PoolError::Missing`] if it is not there.
    pub fn source_path(&self, key: &str) -> Result<PathBuf, PoolError> {
        if !self.source_exists(key)? {
            return Err(PoolError::Missing {
                kind: "source",
                id: key.into(),
            });
        }
        Ok(self.root.join(SOURCES).join(key))
    }

    /// Removes a source, sealed or not. Volumes made from it are not touched. Returns the ids of what was deleted.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn source_remove(&self, key: &str) -> Result<Vec<u64>, PoolError> {
        names::check("source", key)?;
        let _changing = self.changing();
        let directory = self.root.join(SOURCES);
        let mut removed = subvolume::remove(self.fd(), &directory, &format!("{TEMPORARY}{key}"))?;
        removed.extend(subvolume::remove(self.fd(), &directory, key)?);
        Ok(removed)
    }

    /// The sealed sources, in order.
    ///
    /// # Errors
    /// What the system says.
    pub fn source_list(&self) -> Result<Vec<String>, PoolError> {
        self.directory_names(&self.root.join(SOURCES))
    }
}

/// Walks a frozen tree. Nothing in it can change, so paths are safe to use; links are not followed.
fn check(key: &str, root: &Path) -> Result<(), PoolError> {
    let refuse = |path: &Path, reason| {
        let path = path.strip_prefix(root).unwrap_or(path).to_owned();
        Err(PoolError::SourceRefused {
            key: key.to_owned(),
            path,
            reason,
        })
    };
    let top = std::fs::symlink_metadata(root).map_err(io_error("look at", root))?;
    let mut left = VecDeque::from([root.to_owned()]);
    let mut entries = 0;
    while let Some(directory) = left.pop_front() {
        for entry in std::fs::read_dir(&directory).map_err(io_error("list", &directory))? {
            let path = entry.map_err(io_error("list", &directory))?.path();
            let found = std::fs::symlink_metadata(&path).map_err(io_error("look at", &path))?;
            entries += 1;
            if entries > ENTRIES_MAX {
                return refuse(&path, "is one file too many (2,000,000 are allowed)");
            }
            let kind = found.file_type();
            if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
                return refuse(&path, "is neither a file nor a directory nor a symbolic link");
            }
            if found.dev() != top.dev() {
                return refuse(&path, "is a subvolume or another file system");
            }
            if (found.uid(), found.gid()) != (top.uid(), top.gid()) {
                return refuse(&path, "belongs to somebody else");
            }
            if !kind.is_symlink() && found.mode() & 0o6000 != 0 {
                return refuse(&path, "has a set-user-id or set-group-id bit");
            }
            if kind.is_dir() {
                left.push_back(path);
            }
        }
    }
    Ok(())
}
