//! Snapshots: read-only copies of a volume, goldens above all. Taken of a stopped engine only; that is the caller's part.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::error::io_error;
use super::{Pool, PoolError, SNAPSHOTS, directory_ensure, ioctl, names, subvolume};

const TREE: &str = "tree";

/// A snapshot and when it was of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub id: String,
    /// When a volume was last made from it, or when it was made.
    pub last_used: SystemTime,
}

impl Pool {
    /// Makes a read-only snapshot of a volume. If one of that name exists it is kept as it is.
    ///
    /// # Errors
    /// [`PoolError::Missing`] if there is no such volume.
    pub fn snapshot_create(&self, environment: &str, volume: &str, id: &str) -> Result<(), PoolError> {
        names::check("snapshot", id)?;
        self.retried(|| self.snapshot_make(environment, volume, id))
    }

    fn snapshot_make(&self, environment: &str, volume: &str, id: &str) -> Result<(), PoolError> {
        if self.snapshot_exists(id)? {
            return Ok(());
        }
        let source = subvolume::open(&self.volume_path(environment, volume)?)?;
        let _changing = self.changing();
        let directory = self.root.join(SNAPSHOTS).join(id);
        directory_ensure(&directory, 0o700)?;
        let parent = subvolume::open(&directory)?;
        // One step of the kernel's: the snapshot is there, complete and read-only, or it is not.
        ioctl::snapshot_create(source.as_fd(), parent.as_fd(), TREE, true, None)
            .map_err(io_error("make the snapshot", &directory))
    }

    /// Whether there is such a snapshot.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn snapshot_exists(&self, id: &str) -> Result<bool, PoolError> {
        names::check("snapshot", id)?;
        subvolume::exists(&self.root.join(SNAPSHOTS).join(id).join(TREE))
    }

    /// Where the snapshot's files are.
    ///
    /// # Errors
    /// [`PoolError::Missing`] if it is not there.
    pub fn snapshot_path(&self, id: &str) -> Result<PathBuf, PoolError> {
        if !self.snapshot_exists(id)? {
            return Err(PoolError::Missing {
                kind: "snapshot",
                id: id.into(),
            });
        }
        Ok(self.root.join(SNAPSHOTS).join(id).join(TREE))
    }

    /// Removes a snapshot. Volumes made from it are not touched. Returns the ids of what was deleted.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn snapshot_remove(&self, id: &str) -> Result<Vec<u64>, PoolError> {
        names::check("snapshot", id)?;
        let _changing = self.changing();
        self.snapshot_directory_remove(&self.root.join(SNAPSHOTS).join(id))
    }

    pub(super) fn snapshot_directory_remove(&self, directory: &Path) -> Result<Vec<u64>, PoolError> {
        let removed = subvolume::remove(self.fd(), directory, TREE)?;
        match std::fs::remove_dir(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", directory)(error)),
            _ => Ok(removed),
        }
    }

    /// The snapshots and their last use, in the order of their names.
    ///
    /// # Errors
    /// What the system says.
    pub fn snapshot_list(&self) -> Result<Vec<SnapshotInfo>, PoolError> {
        let directory = self.root.join(SNAPSHOTS);
        let mut found = Vec::new();
        for id in self.directory_names(&directory)? {
            let path = directory.join(&id);
            if subvolume::exists(&path.join(TREE))? {
                let last_used = std::fs::metadata(&path)
                    .and_then(|found| found.modified())
                    .map_err(io_error("look at", &path))?;
                found.push(SnapshotInfo { id, last_used });
            }
        }
        Ok(found)
    }

    /// Records that the snapshot was of use now.
    pub(super) fn snapshot_used(&self, id: &str) -> Result<(), PoolError> {
        let directory = self.root.join(SNAPSHOTS).join(id);
        subvolume::open(&directory)?
            .set_modified(SystemTime::now())
            .map_err(io_error("record the use of", &directory))
    }
}
