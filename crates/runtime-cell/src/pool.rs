//! The storage pool: sources, volumes and goldens as btrfs subvolumes, bounded by quotas.
//!
//! The pool belongs to the privileged cell host; one process holds it at a time. It is either a directory on the
//! operator's btrfs or an image file of its own. Below its root:
//!
//! ```text
//! sources/<key>                  read-only, filled by an unprivileged process before it was sealed
//! images/<digest>                read-only, unpacked by a process without rights before it was sealed
//! environments/<env>/<volume>    writable, bounded
//! snapshots/<id>/tree            read-only; the time of the directory around it is that of the last use
//! ```
//!
//! What must stay true: a name without the prefix `.tmp-` is complete. Half-made things are swept when the pool is opened, so
//! every operation can be repeated after a crash at any point. Operations block (milliseconds; removal of large trees and
//! sealing longer): call them off the event loop.

mod error;
mod image;
mod images;
mod inventory;
mod ioctl;
mod marker;
mod names;
mod orderly;
mod quota;
mod snapshots;
mod sources;
mod subvolume;
#[cfg(test)]
mod tests;
mod volumes;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::Serialize;

pub use error::PoolError;
use error::io_error;
pub use image::IMAGE_SIZE_MIN;
pub use inventory::{Inventory, InventorySubvolume};
pub use quota::{Qgroup, QuotaKind};
pub use snapshots::SnapshotInfo;
pub use volumes::{Origin, Owner};

const SOURCES: &str = "sources";
const ENVIRONMENTS: &str = "environments";
const IMAGES: &str = "images";
const SNAPSHOTS: &str = "snapshots";
const TEMPORARY: &str = ".tmp-";
const UNMOUNT_BOUND: Duration = Duration::from_secs(30);
const ROOM_PAUSES: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
];
/// On a machine that is busy some seconds pass between a fork and its exec.
const LOCK_ATTEMPTS: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Where the pool keeps its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory on a btrfs file system of the operator's. Nothing is mounted.
    Directory(PathBuf),
    /// An image file that Maquette makes, mounted at a directory.
    Image {
        /// The file.
        path: PathBuf,
        /// Its size in bytes when it is made. One that exists keeps its own.
        size: u64,
        /// Where it is mounted.
        mountpoint: PathBuf,
        /// Bytes that must stay free on the disk below when the image is made or grown.
        reserve: u64,
    },
}

/// How to open a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Where it is.
    pub place: Place,
    /// The instance of Maquette that owns it; a pool of another instance is refused.
    pub instance: String,
    /// New environments are refused when less than this share of the pool is free, in percent.
    pub watermark_percent: u8,
}

/// How full the pool is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The size of the file system.
    pub total: u64,
    /// What can still be written.
    pub free: u64,
    /// What must stay free for more environments to be admitted.
    pub watermark: u64,
    /// How limits are kept.
    pub quota: QuotaKind,
}

/// An open pool. Dropping it leaves it mounted, for the next process; [`Pool::close`] does not.
#[derive(Debug)]
pub struct Pool {
    config: PoolConfig,
    root: PathBuf,
    root_file: File,
    /// The image or the directory; its lock keeps a second cell host away.
    lock: File,
    quota: QuotaKind,
    /// Added to the inode number of an environment's directory to get the number of its qgroup.
    group_base: u64,
    changing: Mutex<()>,
}

impl Pool {
    /// Opens the pool: makes, attaches and mounts what is not there yet, finds again what is, and sweeps what a crash left.
    ///
    /// # Errors
    /// See [`PoolError`]; nothing that was there before is changed by an attempt that fails.
    pub fn open(config: PoolConfig) -> Result<Self, PoolError> {
        names::check("instance", &config.instance)?;
        let (lock, root) = match &config.place {
            Place::Directory(path) => {
                check_is_btrfs(path)?;
                (lock(path)?, path.clone())
            }
            Place::Image {
                path,
                size,
                mountpoint,
                reserve,
            } => {
                image::image_create(path, *size, *reserve, "maquette")?;
                let lock = lock(path)?;
                mount_ensure(path, mountpoint)?;
                (lock, mountpoint.clone())
            }
        };
        let root_file = File::open(&root).map_err(io_error("open", &root))?;
        marker::ensure(&root, &config.instance)?;
        let own_file_system = matches!(config.place, Place::Image { .. });
        if own_file_system {
            // A crash while growing may have left the file system smaller than its device.
            ioctl::resize_max(root_file.as_fd()).map_err(io_error("grow the file system at", &root))?;
        }
        // On the operator's file system the kind that changes nothing about who can mount it.
        let quota =
            quota::enable(root_file.as_fd(), own_file_system).map_err(io_error("switch on quotas at", &root))?;
        let group_base = if own_file_system {
            0
        } else {
            let id = ioctl::subvolume_id(root_file.as_fd()).map_err(io_error("look at", &root))?;
            (id & 0xffff) << 32
        };
        let pool = Self {
            config,
            root,
            root_file,
            lock,
            quota,
            group_base,
            changing: Mutex::new(()),
        };
        for (name, mode) in [
            (SOURCES, 0o711),
            (IMAGES, 0o700),
            (ENVIRONMENTS, 0o700),
            (SNAPSHOTS, 0o700),
        ] {
            directory_ensure(&pool.root.join(name), mode)?;
        }
        orderly::unmark(&pool.root, !pool.environment_list()?.is_empty())?;
        pool.sweep()?;
        Ok(pool)
    }

    /// Unmounts the pool and detaches its loop device. All that is in it stays. The engines have to be stopped before.
    ///
    /// # Errors
    /// [`PoolError::Busy`] while something in it is in use; it is not marked as orderly then.
    pub fn close(self) -> Result<(), PoolError> {
        if let Err(error) = self.orderly_mark() {
            // On a full pool. It closes nevertheless; after a reboot its volumes are made again.
            tracing::warn!(%error, "the pool could not be marked as closed in order");
        }
        let Self {
            config,
            root,
            root_file,
            lock,
            ..
        } = self;
        drop(root_file);
        if let Place::Image { path, mountpoint, .. } = &config.place
            && let Err(error) = image::unmount(path, mountpoint, UNMOUNT_BOUND)
        {
            if matches!(error, PoolError::Busy { .. }) {
                orderly::unmark(&root, true)?;
            }
            return Err(error);
        }
        drop(lock);
        Ok(())
    }

    /// The directory that everything is below.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How limits are kept. With [`QuotaKind::Full`] the total of an environment is not bounded, its volumes are.
    #[must_use]
    pub const fn quota_kind(&self) -> QuotaKind {
        self.quota
    }

    /// How full the pool is.
    ///
    /// # Errors
    /// When the file system can't be asked.
    pub fn usage(&self) -> Result<Usage, PoolError> {
        let state = rustix::fs::fstatvfs(&self.root_file).map_err(io_error("ask for the free space of", &self.root))?;
        let total = state.f_blocks.saturating_mul(state.f_frsize);
        let free = state.f_bavail.saturating_mul(state.f_frsize);
        let watermark = total / 100 * u64::from(self.config.watermark_percent.min(100));
        Ok(Usage {
            total,
            free,
            watermark,
            quota: self.quota,
        })
    }

    /// Refuses when `bytes` more would bring the free space below the watermark.
    ///
    /// # Errors
    /// [`PoolError::Full`].
    pub fn admit(&self, bytes: u64) -> Result<(), PoolError> {
        let usage = self.usage()?;
        let needed = usage.watermark.saturating_add(bytes);
        if usage.free < needed {
            Err(PoolError::Full {
                free: usage.free,
                needed,
            })
        } else {
            Ok(())
        }
    }

    /// Grows the image to `size` bytes while it is in use. Repeating it does nothing more.
    ///
    /// # Errors
    /// [`PoolError::NotAnImage`], [`PoolError::Shrink`], [`PoolError::NoRoom`] or what the system says.
    pub fn grow(&self, size: u64) -> Result<(), PoolError> {
        let Place::Image { path, reserve, .. } = &self.config.place else {
            return Err(PoolError::NotAnImage {
                path: self.root.clone(),
            });
        };
        let _changing = self.changing();
        image::image_grow(path, &self.lock, size, *reserve)?;
        let device = image::loop_find(path)?;
        let device = device.ok_or_else(|| PoolError::Missing {
            kind: "loop device of",
            id: path.display().to_string(),
        })?;
        device.refresh()?;
        ioctl::resize_max(self.fd()).map_err(io_error("grow the file system at", &self.root))
    }

    /// Waits until the space of everything deleted so far is free again, at most `bound`.
    ///
    /// # Errors
    /// [`PoolError::Timeout`] when the kernel is not done by then.
    pub fn space_reclaim(&self, deleted: &[u64], bound: Duration) -> Result<(), PoolError> {
        let begun = std::time::Instant::now();
        let mut rest = deleted.to_vec();
        let mut pause = Duration::from_millis(2);
        loop {
            ioctl::sync(self.fd()).map_err(io_error("sync", &self.root))?;
            let mut waiting = Vec::new();
            for id in rest {
                if !quota::subvolume_is_gone(self.fd(), id).map_err(io_error("search", &self.root))? {
                    waiting.push(id);
                }
            }
            if waiting.is_empty() {
                // What the cleaner freed can be written again once that is committed.
                return ioctl::sync(self.fd()).map_err(io_error("sync", &self.root));
            }
            if begun.elapsed() > bound {
                let (path, seconds) = (self.root.clone(), bound.as_secs());
                return Err(PoolError::Timeout {
                    what: "freeing the space of deleted volumes",
                    path,
                    seconds,
                });
            }
            rest = waiting;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// Repeats something that can be repeated while the pool seems full: chunks that became empty can be used for something else
    /// only after the cleaner's next round.
    fn retried<T>(&self, mut attempt: impl FnMut() -> Result<T, PoolError>) -> Result<T, PoolError> {
        for pause in ROOM_PAUSES {
            match attempt() {
                Err(PoolError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
                    ioctl::sync(self.fd()).map_err(io_error("sync", &self.root))?;
                    std::thread::sleep(pause);
                }
                other => return other,
            }
        }
        attempt()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.root_file.as_fd()
    }

    /// Changes happen one at a time; the kernel commits them one at a time anyway.
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn owns_file_system(&self) -> bool {
        matches!(self.config.place, Place::Image { .. })
    }
}

/// Whether a directory is on a btrfs file system.
///
/// # Errors
/// When it can't be looked at.
pub fn directory_is_btrfs(path: &Path) -> Result<bool, PoolError> {
    const BTRFS: u64 = 0x9123_683e;
    let state = rustix::fs::statfs(path).map_err(io_error("look at", path))?;
    Ok(u64::from_ne_bytes(state.f_type.to_ne_bytes()) == BTRFS)
}

fn check_is_btrfs(path: &Path) -> Result<(), PoolError> {
    if directory_is_btrfs(path)? {
        return Ok(());
    }
    Err(PoolError::Foreign {
        path: path.to_owned(),
        reason: "the directory is not on a btrfs file system".into(),
    })
}

fn lock(path: &Path) -> Result<File, PoolError> {
    let writable = !path.is_dir();
    let file = File::options()
        .read(true)
        .write(writable)
        .open(path)
        .map_err(io_error("open", path))?;
    // A process that the previous holder was just starting keeps the lock until its exec: hence more than one attempt.
    for attempt in 0..LOCK_ATTEMPTS {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if attempt + 1 < LOCK_ATTEMPTS => std::thread::sleep(LOCK_PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => break,
            Err(error) => return Err(io_error("lock", path)(error)),
        }
    }
    Err(PoolError::Locked { path: path.to_owned() })
}

/// Mounts the image unless it is mounted there. A loop device that a killed process left attached is used again.
fn mount_ensure(path: &Path, mountpoint: &Path) -> Result<(), PoolError> {
    directory_ensure(mountpoint, 0o711)?;
    let mountpoint = std::fs::canonicalize(mountpoint).map_err(io_error("resolve", mountpoint))?;
    let attached = image::loop_find(path)?;
    if let Some((kind, device)) = image::mount_find(&mountpoint)? {
        return match attached {
            Some(attached) if kind == "btrfs" && Path::new(&device) == attached.path => Ok(()),
            _ => Err(PoolError::Foreign {
                path: mountpoint,
                reason: format!("{kind} of {device} is mounted there"),
            }),
        };
    }
    let device = match attached {
        Some(device) => device,
        None => image::loop_attach(path)?,
    };
    // After a crash while growing the device may not know the file's size yet.
    device.refresh()?;
    image::mount(&device.path, &mountpoint)
}

fn directory_ensure(path: &Path, mode: u32) -> Result<(), PoolError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(io_error("make the directory", path))?;
    let found = std::fs::symlink_metadata(path).map_err(io_error("look at", path))?;
    if found.is_dir() && found.mode() & 0o7777 != mode && found.uid() == rustix::process::geteuid().as_raw() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(io_error("set the permissions of", path))?;
    }
    Ok(())
}
