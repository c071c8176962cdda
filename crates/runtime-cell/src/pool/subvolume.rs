//! Making, finding and deleting single subvolumes, nested ones included.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::error::io_error;
use super::{PoolError, ioctl, quota};

/// A subvolume's root directory has this inode number, and no other directory has.
const ROOT_INODE: u64 = 256;

/// Whether there is a subvolume at `path` (a symbolic link is none).
pub(super) fn exists(path: &Path) -> Result<bool, PoolError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_dir() && found.ino() == ROOT_INODE),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("look at", path)(error)),
    }
}

/// Opens a directory without following a link that stands in its place.
pub(super) fn open(path: &Path) -> Result<File, PoolError> {
    File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
        .map_err(io_error("open", path))
}

/// The id of the subvolume at `path`.
pub(super) fn id(path: &Path) -> Result<u64, PoolError> {
    ioctl::subvolume_id(open(path)?.as_fd()).map_err(io_error("look at", path))
}

/// Deletes the subvolume `name` in `directory`, and those nested in it first. Returns the ids of all that went; an empty
/// list if there was none.
pub(super) fn remove(file_system: BorrowedFd<'_>, directory: &Path, name: &str) -> Result<Vec<u64>, PoolError> {
    let path = directory.join(name);
    if !exists(&path)? {
        return Ok(Vec::new());
    }
    let id = id(&path)?;
    let mut removed = Vec::new();
    nested_remove(file_system, &path, id, &mut removed)?;
    let parent = open(directory)?;
    ioctl::subvolume_destroy(parent.as_fd(), name).map_err(io_error("delete the volume", &path))?;
    removed.push(id);
    Ok(removed)
}

/// Whoever made them chose their depth, and may have used up the limit that deleting them is charged to.
fn nested_remove(file_system: BorrowedFd<'_>, path: &Path, id: u64, removed: &mut Vec<u64>) -> Result<(), PoolError> {
    let (mut nested, mut left) = (Vec::new(), vec![id]);
    while let Some(parent) = left.pop() {
        let children = quota::subvolume_children(file_system, parent).map_err(io_error("search", path))?;
        if !children.is_empty() {
            // It goes anyway. Where there is no such group nothing is limited.
            let _ = ioctl::qgroup_limit(file_system, parent, u64::MAX);
        }
        nested.extend(&children);
        left.extend(children);
    }
    // Each stands behind the one that it is in.
    for child in nested.into_iter().rev() {
        ioctl::subvolume_destroy_id(file_system, child).map_err(io_error("delete a volume nested in", path))?;
        removed.push(child);
    }
    Ok(())
}
