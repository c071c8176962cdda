//! Mounts on which the ids of the disk appear as those of an environment, so that nothing is ever chowned.
//!
//! Such a mount is made under the run directory right before a container is created and removed right after: the container's
//! own bind mount keeps the map.

use crate::sys::{self, Extent};
use rustix::{
    fs::CWD,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount as mount_new, mount_bind,
        mount_change, move_mount, open_tree, unmount,
    },
};
use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

/// What the kernel calls a file system in memory (`TMPFS_MAGIC`).
const TMPFS: rustix::fs::FsWord = 0x0102_1994;
/// How many ids an environment has.
pub(crate) const WIDTH: u32 = 65_536;
/// What others than an environment's root write into a mount with another owner gets ids from here on disk: nobody has them.
const FOREIGN: u32 = 0x6000_0000;

/// The ids of one environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// The machine's id that the environment sees as 0.
    pub(crate) first: u32,
}

impl Range {
    /// The range with that number above a base.
    pub(crate) fn numbered(base: u32, number: u32) -> Option<Self> {
        let first = base.checked_add(number.checked_mul(WIDTH)?)?;
        first.checked_add(WIDTH - 1).map(|_| Self { first })
    }

    /// A user namespace that maps the ids on disk to this range.
    pub(crate) fn namespace(self) -> io::Result<OwnedFd> {
        self.namespace_owned_by(0, 0)
    }

    /// A user namespace for files that were written by an unprivileged process: they belong to the environment's root.
    pub(crate) fn namespace_owned_by(self, uid: u32, gid: u32) -> io::Result<OwnedFd> {
        sys::user_namespace(&self.extents(uid), &self.extents(gid))
    }

    fn extents(self, owner: u32) -> Vec<Extent> {
        if owner == 0 {
            return vec![Extent {
                inside: 0,
                outside: self.first,
                count: WIDTH,
            }];
        }
        vec![
            Extent {
                inside: owner,
                outside: self.first,
                count: 1,
            },
            Extent {
                inside: FOREIGN,
                outside: self.first + 1,
                count: WIDTH - 1,
            },
        ]
    }
}

/// Makes a directory a private mount of its own, so that what is mounted below is seen nowhere else.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    if !is_mount_point(path)? {
        mount_bind(path, path)?;
    }
    mount_change(path, MountPropagationFlags::PRIVATE)?;
    Ok(())
}

/// Makes a directory one in memory, of its own, unless it is: what is in it is on no disk. Where the kernel can, it is not swapped out.
pub(crate) fn memory_directory(path: &Path) -> io::Result<()> {
    let in_memory = || Ok::<_, io::Error>(rustix::fs::statfs(path)?.f_type == TMPFS);
    if is_mount_point(path)? || fs::read_dir(path)?.next().is_some() {
        return match in_memory()? {
            true => Ok(()),
            false => Err(io::Error::other("it is in use, and on a disk; it may hold secrets")),
        };
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    // Each container's part is small; a quarter of the memory is for thousands of them.
    let mounted = |options: &CStr| mount_new("tmpfs", path, "tmpfs", flags, Some(options));
    mounted(c"mode=0711,size=25%,noswap").or_else(|_| mounted(c"mode=0711,size=25%"))?;
    mount_change(path, MountPropagationFlags::PRIVATE)?;
    Ok(())
}

/// Whether this path is the root of a mount.
pub(crate) fn is_mount_point(path: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let stat = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Mounts `source` (a file or directory, already resolved) at `target` with mapped ids.
pub(crate) fn mount(
    source: BorrowedFd<'_>,
    target: &Path,
    namespace: BorrowedFd<'_>,
    read_only: bool,
) -> io::Result<()> {
    if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode).is_dir() {
        fs::create_dir_all(target)?;
    } else {
        fs::File::create(target)?;
    }
    let tree = detached(source, namespace, read_only)?;
    move_mount(tree.as_fd(), c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| sys::not_the_disk("fs.mount-max")(error.into()))
}

/// As [`mount`], writable and without the bounds that the file system has: for a container that mounts parts of it elsewhere.
pub(crate) fn mount_storage(source: BorrowedFd<'_>, target: &Path, namespace: BorrowedFd<'_>) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(source, c"", flags)?;
    sys::mount_map_ids_unbound(tree.as_fd(), namespace)?;
    move_mount(tree.as_fd(), c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// A mount of `source` with mapped ids that is nowhere: whoever has the descriptor can reach it.
pub(crate) fn detached(source: BorrowedFd<'_>, namespace: BorrowedFd<'_>, read_only: bool) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(source, c"", flags).map_err(|error| sys::not_the_disk("fs.mount-max")(error.into()))?;
    sys::mount_map_ids(tree.as_fd(), namespace, read_only)?;
    Ok(tree)
}

/// Unmounts and removes everything directly below a directory, then the directory. Nothing happens if it is gone.
pub(crate) fn clear(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let path = entry?.path();
        while is_mount_point(&path)? {
            unmount(&path, UnmountFlags::DETACH)?;
        }
        if path.is_dir() {
            fs::remove_dir(&path)?
        } else {
            fs::remove_file(&path)?
        }
    }
    fs::remove_dir(directory)
}
