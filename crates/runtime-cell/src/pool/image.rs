//! A pool in an image file: allocated ahead of use, formatted, attached to a loop device, mounted.
//!
//! The file is never sparse, neither at first nor later: on a full host disk a sparse image would fail writes that
//! the file system inside had promised, and take every environment with it. So `fallocate` comes first, `mkfs` must not
//! discard, and the mount must not either (a discard on a loop device punches holes into the file).

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use rustix::mount::{MountFlags, UnmountFlags};

use super::error::io_error;
use super::{PoolError, ioctl};

/// The least size of an image: below it btrfs has no room for its own chunks beside data.
pub const IMAGE_SIZE_MIN: u64 = 256 << 20;

const BUSY_BOUND: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(10);

const MKFS: [&str; 4] = [
    "/usr/sbin/mkfs.btrfs",
    "/sbin/mkfs.btrfs",
    "/usr/bin/mkfs.btrfs",
    "/usr/local/sbin/mkfs.btrfs",
];

/// Makes the image file unless it exists; `true` if it was made.
///
/// It is made under another name and renamed when it is complete, so an image that exists is a formatted one.
pub(super) fn image_create(image: &Path, size: u64, reserve: u64, label: &str) -> Result<bool, PoolError> {
    let unfinished = unfinished_clear(image)?;
    if image.try_exists().map_err(io_error("look at", image))? {
        check_format(image)?;
        return Ok(false);
    }
    if size < IMAGE_SIZE_MIN {
        return Err(PoolError::TooSmall {
            size,
            minimum: IMAGE_SIZE_MIN,
        });
    }
    let directory = image.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).map_err(io_error("make the directory", directory))?;
    check_room(image, size, reserve)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(io_error("create", &unfinished))?;
    let made = fill(&file, &unfinished, size, label)
        .and_then(|()| std::fs::rename(&unfinished, image).map_err(io_error("rename", &unfinished)));
    if let Err(error) = made {
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("sync", directory))?;
    Ok(true)
}

/// Removes what killed processes left unfinished and returns the name for this one's. Each process has a name of its own: a
/// `mkfs` that outlives the process that started it must not write into its successor's file.
fn unfinished_clear(image: &Path) -> Result<PathBuf, PoolError> {
    let mut name = image.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished-");
    let directory = image.parent().unwrap_or(Path::new("/"));
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.map_err(io_error("list", directory))?),
    };
    for entry in entries.into_iter().flatten() {
        let entry = entry.map_err(io_error("list", directory))?;
        if entry.file_name().as_bytes().starts_with(name.as_bytes()) {
            std::fs::remove_file(entry.path()).map_err(io_error("remove", &entry.path()))?;
        }
    }
    name.push(std::process::id().to_string());
    Ok(directory.join(name))
}

fn fill(file: &File, path: &Path, size: u64, label: &str) -> Result<(), PoolError> {
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size).map_err(io_error("allocate", path))?;
    mkfs(path, label)?;
    file.sync_all().map_err(io_error("sync", path))
}

fn check_room(image: &Path, more: u64, reserve: u64) -> Result<(), PoolError> {
    let directory = image.parent().unwrap_or(Path::new("/"));
    let state = rustix::fs::statvfs(directory).map_err(io_error("ask for the free space of", directory))?;
    let free = state.f_bavail.saturating_mul(state.f_frsize);
    let needed = more.saturating_add(reserve);
    if free < needed {
        return Err(PoolError::NoRoom {
            path: image.to_owned(),
            needed,
            reserve,
            free,
        });
    }
    Ok(())
}

fn check_format(image: &Path) -> Result<(), PoolError> {
    let file = File::open(image).map_err(io_error("open", image))?;
    let mut magic = [0; 8];
    match file.read_exact_at(&mut magic, 0x1_0040) {
        Ok(()) if &magic == b"_BHRfS_M" => Ok(()),
        Ok(()) => Err(PoolError::Foreign {
            path: image.to_owned(),
            reason: "the file holds no btrfs".into(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(PoolError::Foreign {
            path: image.to_owned(),
            reason: "the file is too short".into(),
        }),
        Err(error) => Err(io_error("read", image)(error)),
    }
}

fn mkfs(path: &Path, label: &str) -> Result<(), PoolError> {
    const MISSING: PoolError = PoolError::ProgramMissing {
        program: "mkfs.btrfs",
        package: "btrfs-progs",
    };
    let program = MKFS.iter().find(|program| Path::new(program).exists()).ok_or(MISSING)?;
    let mut child = Command::new(program)
        // One copy of metadata: the host's disk is what protects it, and everything here can be made again.
        .args([
            "--quiet",
            "--nodiscard",
            "--metadata",
            "single",
            "--data",
            "single",
            "--label",
            label,
            "--",
        ])
        .arg(path)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io_error("run", Path::new(program)))?;
    let mut stderr = Vec::new();
    if let Some(pipe) = child.stderr.take() {
        pipe.take(4096)
            .read_to_end(&mut stderr)
            .map_err(io_error("read from", Path::new(program)))?;
    }
    let status = child.wait().map_err(io_error("wait for", Path::new(program)))?;
    if status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
    Err(PoolError::Program {
        program: "mkfs.btrfs",
        status,
        stderr,
    })
}

/// A loop device with the image behind it. The open file keeps it attached until it is mounted.
#[derive(Debug)]
pub(super) struct LoopDevice {
    pub(super) path: PathBuf,
    file: File,
}

impl LoopDevice {
    /// Lets the device see that its file has grown.
    pub(super) fn refresh(&self) -> Result<(), PoolError> {
        ioctl::loop_capacity(self.file.as_fd()).map_err(io_error("refresh the size of", &self.path))
    }
}

/// Attaches the image to a free loop device.
///
/// The driver keeps the open file that it is given, and a lock belongs to an open file: with the one that the pool has
/// locked, the lock would outlive the process. So the image is opened once more.
pub(super) fn loop_attach(path: &Path) -> Result<LoopDevice, PoolError> {
    let image = open_device(path)?;
    let control_path = Path::new("/dev/loop-control");
    let control = open_device(control_path)?;
    // Between asking for a free device and taking it, somebody else may take it.
    let mut attempts = 16;
    loop {
        attempts -= 1;
        let number =
            ioctl::loop_free(control.as_fd()).map_err(io_error("find a free loop device with", control_path))?;
        let device_path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open_device(&device_path)?;
        match configure(&device, &image, path) {
            Ok(()) => {
                return Ok(LoopDevice {
                    path: device_path,
                    file: device,
                });
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempts > 0 => {}
            Err(error) => return Err(io_error("attach the image to", &device_path)(error)),
        }
    }
}

fn configure(device: &File, image: &File, path: &Path) -> std::io::Result<()> {
    let name = path.as_os_str().as_bytes();
    // Direct I/O saves caching everything twice; not every file system below can do it.
    match ioctl::loop_attach(device.as_fd(), image.as_fd(), name, true) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            ioctl::loop_attach(device.as_fd(), image.as_fd(), name, false)
        }
        other => other,
    }
}

fn open_device(path: &Path) -> Result<File, PoolError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(io_error("open", path))
}

/// The loop device that has the file `image` behind it, if one has.
pub(super) fn loop_find(image: &Path) -> Result<Option<LoopDevice>, PoolError> {
    let wanted = std::fs::metadata(image).map_err(io_error("look at", image))?;
    let block = Path::new("/sys/block");
    for entry in std::fs::read_dir(block).map_err(io_error("list", block))? {
        let entry = entry.map_err(io_error("list", block))?;
        let name = entry.file_name();
        if !name.as_bytes().starts_with(b"loop") || !entry.path().join("loop/backing_file").exists() {
            continue;
        }
        let path = Path::new("/dev").join(&name);
        let Ok(file) = open_device(&path) else { continue };
        if ioctl::loop_backing(file.as_fd()).is_ok_and(|found| found == (wanted.dev(), wanted.ino())) {
            return Ok(Some(LoopDevice { path, file }));
        }
    }
    Ok(None)
}

/// Grows the image file; the room is allocated at once. The loop device and the file system follow in `Pool::grow`.
pub(super) fn image_grow(image: &Path, file: &File, size: u64, reserve: u64) -> Result<(), PoolError> {
    let current = file.metadata().map_err(io_error("look at", image))?.len();
    if size < current {
        return Err(PoolError::Shrink {
            path: image.to_owned(),
            current,
            size,
        });
    }
    check_room(image, size - current, reserve)?;
    rustix::fs::fallocate(file, FallocateFlags::empty(), current, size - current)
        .or_else(|error| if size == current { Ok(()) } else { Err(error) })
        .map_err(io_error("allocate", image))
}

/// What is mounted at exactly `point`: the kind of file system and the device, of the topmost mount.
pub(super) fn mount_find(point: &Path) -> Result<Option<(String, String)>, PoolError> {
    let table = Path::new("/proc/self/mountinfo");
    let mut text = String::new();
    let file = File::open(table).map_err(io_error("open", table))?;
    file.take(16 << 20)
        .read_to_string(&mut text)
        .map_err(io_error("read", table))?;
    Ok(mount_parse(&text, point))
}

fn mount_parse(text: &str, point: &Path) -> Option<(String, String)> {
    let point = escape(point);
    text.lines().rev().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut back = back.split(' ');
        (front.split(' ').nth(4)? == point).then_some((back.next()?.to_owned(), back.next()?.to_owned()))
    })
}

/// Paths in the mount table have blanks and backslashes as octal numbers.
fn escape(path: &Path) -> String {
    path.to_string_lossy()
        .replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('\t', "\\011")
        .replace('\n', "\\012")
}

/// Mounts the image. Data and metadata have chunks of their own, and a file system whose data have taken everything can't
/// even delete: so a chunk for metadata is set aside with every few chunks of data.
pub(super) fn mount(device: &Path, point: &Path) -> Result<(), PoolError> {
    rustix::mount::mount(
        device,
        point,
        "btrfs",
        MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID,
        Some(c"nodiscard,metadata_ratio=4"),
    )
    .map_err(io_error("mount the pool at", point))
}

/// Unmounts; the loop device goes with its last user, which is waited for.
pub(super) fn unmount(image: &Path, point: &Path, bound: Duration) -> Result<(), PoolError> {
    let begun = Instant::now();
    loop {
        match rustix::mount::unmount(point, UnmountFlags::NOFOLLOW) {
            Ok(()) => break,
            // A process that is just being started holds copies of all open files until its exec.
            Err(rustix::io::Errno::BUSY) if begun.elapsed() < BUSY_BOUND => std::thread::sleep(BUSY_PAUSE),
            Err(rustix::io::Errno::BUSY) => return Err(PoolError::Busy { path: point.to_owned() }),
            Err(error) => return Err(io_error("unmount", point)(error)),
        }
    }
    while loop_find(image)?.is_some() {
        if begun.elapsed() > bound {
            return Err(PoolError::Timeout {
                what: "detaching the loop device",
                path: image.to_owned(),
                seconds: bound.as_secs(),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_counts_and_blanks_are_octal() {
        let table = "22 1 0:20 / /srv/a\\040b rw shared:1 - ext4 /dev/vda rw\n\
                     23 22 0:21 / /srv/a\\040b rw - btrfs /dev/loop3 rw\n\
                     24 22 0:21 / /srv/a\\040bc rw - tmpfs none rw\n";
        let found = mount_parse(table, Path::new("/srv/a b"));
        assert_eq!(found, Some(("btrfs".into(), "/dev/loop3".into())));
        assert_eq!(mount_parse(table, Path::new("/srv")), None);
    }
}
