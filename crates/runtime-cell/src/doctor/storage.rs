//! What the pool needs: btrfs, loop devices, quotas, room; and what its way of cloning costs.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::mount::OpenTreeFlags;

use super::kernel::{range, read};
use super::{Finding, programs};
use crate::pool::{Place, PoolConfig};
use crate::sys;

const GIB: u64 = 1 << 30;
/// The first kernel with simple quotas.
const SIMPLE_QUOTAS: (u32, u32) = (6, 7);

pub(super) fn all(pool: &PoolConfig) -> Vec<Finding> {
    let mut findings = vec![btrfs()];
    let root = match &pool.place {
        Place::Image {
            path,
            size,
            mountpoint,
            reserve,
        } => {
            findings.extend([formatter(), loop_devices(), room(path, *size, *reserve)]);
            mountpoint
        }
        Place::Directory(path) => {
            findings.push(directory(path));
            path
        }
    };
    findings.extend([quotas(&pool.place), mapped_mounts(root), clone_method(&pool.place)]);
    findings
}

fn btrfs() -> Finding {
    const CHECK: &str = "btrfs";
    let known = read("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.trim() == "btrfs") {
        return Finding::ok(
            CHECK,
            "the kernel has it: environments get their data as snapshots, within limits",
        );
    }
    // The kernel loads the module by itself when something is mounted.
    let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = Path::new("/lib/modules").join(kernel.trim());
    if modules.join("kernel/fs/btrfs").is_dir() {
        return Finding::ok(CHECK, "the kernel has it as a module that is loaded when it is needed");
    }
    Finding::fail(CHECK, "this kernel does not have it: there can be no pool").mend("apt install linux-image-amd64")
}

fn formatter() -> Finding {
    const CHECK: &str = "mkfs.btrfs";
    match programs::find("mkfs.btrfs") {
        Some(path) => Finding::ok(CHECK, path.display().to_string()),
        None => Finding::fail(CHECK, "not installed; the pool's image is made with it").mend("apt install btrfs-progs"),
    }
}

fn loop_devices() -> Finding {
    const CHECK: &str = "loop devices";
    let path = Path::new("/dev/loop-control");
    match std::fs::File::options().read(true).write(true).open(path) {
        Ok(_closed_at_once) => Finding::ok(CHECK, "available for the pool's image"),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::warn(CHECK, "not tried: only root may use them").mend("sudo maquette doctor")
        }
        Err(error) => {
            Finding::fail(CHECK, format!("{} can't be opened: {error}", path.display())).mend("modprobe loop")
        }
    }
}

fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / GIB;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// The nearest directory above that exists, and what is free there.
fn free_at(path: &Path) -> Option<u64> {
    let directory = path.ancestors().skip(1).find(|directory| directory.is_dir())?;
    let state = rustix::fs::statvfs(directory).ok()?;
    Some(state.f_bavail.saturating_mul(state.f_frsize))
}

fn room(image: &Path, size: u64, reserve: u64) -> Finding {
    const CHECK: &str = "room for the pool";
    let Some(free) = free_at(image) else {
        return Finding::fail(CHECK, format!("the disk of {} can't be asked", image.display()));
    };
    match std::fs::metadata(image) {
        Ok(found) => judge_image(image, found.len(), found.blocks().saturating_mul(512), free, reserve),
        Err(_) if free >= size.saturating_add(reserve) => Finding::ok(
            CHECK,
            format!("{} will be allocated, {} are free", gib(size), gib(free)),
        ),
        Err(_) => {
            let meaning = format!(
                "{} are to be allocated and {} to stay free, but only {} are free",
                gib(size),
                gib(reserve),
                gib(free)
            );
            Finding::fail(CHECK, meaning).mend("choose a smaller pool, or a directory on a larger disk")
        }
    }
}

pub(super) fn judge_image(image: &Path, length: u64, allocated: u64, free: u64, reserve: u64) -> Finding {
    const CHECK: &str = "room for the pool";
    if allocated < length {
        let meaning = format!(
            "{} is sparse ({} of {} allocated): a full disk would break every environment at once",
            image.display(),
            gib(allocated),
            gib(length)
        );
        return Finding::fail(CHECK, meaning).mend(format!("fallocate --length {length} {}", image.display()));
    }
    if free < reserve {
        let meaning = format!(
            "the pool has its {}, but its disk has only {} left",
            gib(length),
            gib(free)
        );
        return Finding::warn(CHECK, meaning);
    }
    Finding::ok(
        CHECK,
        format!("{} are allocated, the disk has {} left", gib(length), gib(free)),
    )
}

fn directory(path: &Path) -> Finding {
    const CHECK: &str = "pool directory";
    match crate::pool::directory_is_btrfs(path) {
        Ok(true) => Finding::ok(CHECK, format!("{} is on btrfs", path.display())),
        Ok(false) => Finding::fail(CHECK, format!("{} is not on btrfs", path.display()))
            .mend("let Maquette make an image file, or name a directory on btrfs"),
        Err(error) => Finding::fail(CHECK, format!("{} can't be looked at: {error}", path.display())),
    }
}

fn release() -> (u32, u32) {
    let text = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = text.split(['.', '-']).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn quotas(place: &Place) -> Finding {
    const CHECK: &str = "quotas";
    match place {
        Place::Image { .. } if release() >= SIMPLE_QUOTAS => {
            Finding::ok(CHECK, "simple quotas: every volume and every environment as a whole is bounded")
        }
        Place::Image { .. } => Finding::warn(
            CHECK,
            "this kernel has full quotas only: every volume is bounded, an environment as a whole is not",
        )
        .mend("boot Linux 6.7 or newer before the pool is made"),
        Place::Directory(_) => Finding::warn(
            CHECK,
            "on your own file system full quotas are used unless simple ones are on: volumes are bounded, an environment as a \
             whole is not",
        )
        .mend("btrfs quota enable --simple DIRECTORY (Linux older than 6.7 can't mount the file system any more)"),
    }
}

/// Tries it, with a detached mount that nobody else sees.
fn mapped_mounts(root: &Path) -> Finding {
    const CHECK: &str = "id-mapped mounts";
    if !rustix::process::geteuid().is_root() {
        return Finding::warn(CHECK, "not tried: only root can make them").mend("sudo maquette doctor");
    }
    if !root.is_dir() {
        let meaning = "the pool does not exist yet; btrfs has them since Linux 5.15";
        return if release() >= (5, 15) {
            Finding::ok(CHECK, meaning)
        } else {
            Finding::fail(CHECK, meaning)
        };
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tried = rustix::mount::open_tree(rustix::fs::CWD, root, flags)
        .map_err(std::io::Error::from)
        .and_then(|tree| {
            let namespace = sys::user_namespace(&[range()], &[range()])?;
            sys::mount_map_ids(
                std::os::fd::AsFd::as_fd(&tree),
                std::os::fd::AsFd::as_fd(&namespace),
                true,
            )
        });
    match tried {
        Ok(()) => Finding::ok(
            CHECK,
            format!("tried at {}: nothing has to change its owner", root.display()),
        ),
        Err(error) => Finding::fail(
            CHECK,
            format!("the file system of {} refuses them: {error}", root.display()),
        )
        .mend("put the pool on btrfs under Linux 5.15 or newer"),
    }
}

fn clone_method(place: &Place) -> Finding {
    const CHECK: &str = "clone method";
    match place {
        Place::Image { .. } => Finding::ok(
            CHECK,
            "btrfs snapshots in an image file: a database of any size is cloned in milliseconds; a disk or partition of its \
             own would save the way through the loop device",
        ),
        Place::Directory(_) => Finding::ok(
            CHECK,
            "btrfs snapshots: a database of any size is cloned in milliseconds; there is nothing faster",
        ),
    }
}
