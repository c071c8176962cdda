//! Puts what an image has at a place into the new volume that is mounted over it, as Docker does: many files count on finding
//! there what their image brought, such as `node_modules`.
//!
//! A service may have the volume already and change it meanwhile: nothing is opened through a link, and what stands in the way stays.

use crate::sandbox::tree;
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat,
        fchmod, fchown, fgetxattr, fremovexattr, fsetxattr, futimens, ioctl_ficlone, mkdirat, open, openat2,
        readlinkat, statat, symlinkat,
    },
    io::Errno,
};
use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

/// What is in a volume with this attribute is not all that it gets: the host was killed. No container sees or sets it.
const UNFINISHED: &CStr = c"trusted.maquette.unfinished";
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Gives a volume that nobody has written to yet the owner and mode of that place in the image, and if it `copies`, what is there.
/// Links of the image are followed within the image.
pub(super) fn fill(root: &File, target: &str, volume: &Path, copies: bool) -> io::Result<()> {
    let to = open(volume, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    let unfinished = fgetxattr(&to, UNFINISHED, &mut [0; 8]).is_ok();
    if unfinished {
        tree::empty(volume)?;
    } else if rustix::fs::fstat(&to)?.st_uid != 0 || Dir::read_from(&to)?.nth(2).is_some() {
        return Ok(());
    }
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(from) = openat2(root, target, DIRECTORY, Mode::empty(), within) else {
        return Ok(());
    };
    fsetxattr(&to, UNFINISHED, b"1", XattrFlags::empty())?;
    if copies {
        copy(&from, &to)?;
    }
    be_like(&to, &rustix::fs::fstat(&from)?)?;
    Ok(fremovexattr(&to, UNFINISHED)?)
}

/// Directories are held by their paths, not open: there may be many, and they may be deep.
fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let (from, to) = (below(from, &path)?, below(to, &path)?);
        for entry in Dir::read_from(&from)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let copied = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    waiting.push(path.join(OsStr::from_bytes(name.to_bytes())));
                    directory(&to, name, &stat)
                }
                FileType::RegularFile => file(&from, &to, name, &stat),
                FileType::Symlink => link(&from, &to, name, &stat),
                // Nothing else is of use to anybody but who made it.
                _ => Ok(()),
            };
            match copied {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn below(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    Ok(openat2(root, path, DIRECTORY, Mode::empty(), BENEATH)?)
}

fn directory(to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    match mkdirat(to, name, Mode::RWXU) {
        // Another one may stand in the way, and is gone into.
        Ok(()) => be_like(&openat2(to, name, DIRECTORY, Mode::empty(), BENEATH)?, stat),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let read = openat2(from, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), BENEATH)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let written = openat2(to, name, flags, Mode::RUSR | Mode::WUSR, BENEATH)?;
    // Both lie in the pool, where files share their blocks.
    if ioctl_ficlone(written.as_fd(), read.as_fd()).is_err() {
        io::copy(&mut File::from(read), &mut File::from(written.try_clone()?))?;
    }
    be_like(&written, stat)?;
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(futimens(&written, &times)?)
}

fn link(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
    let (uid, gid) = owner(stat);
    Ok(chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

/// Owner and mode. No program gains rights by running from a volume.
fn be_like(made: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    fchown(made, uid, gid)?;
    Ok(fchmod(made, Mode::from_raw_mode(stat.st_mode & 0o1777))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    };

    /// An image with something at `/data`, and a place for a volume.
    fn ground() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let ground = tempfile::tempdir().unwrap();
        let (image, volume) = (ground.path().join("image"), ground.path().join("volume"));
        fs::create_dir_all(image.join("real/a/b")).unwrap();
        fs::create_dir(&volume).unwrap();
        fs::write(image.join("real/a/b/file"), "text").unwrap();
        fs::set_permissions(image.join("real/a/b/file"), fs::Permissions::from_mode(0o4640)).unwrap();
        chown(image.join("real/a/b/file"), Some(7), Some(8)).unwrap();
        chown(image.join("real"), Some(5), Some(6)).unwrap();
        symlink("/etc/passwd", image.join("real/a/link")).unwrap();
        symlink("/real", image.join("data")).unwrap();
        (ground, image, volume)
    }

    fn fill_from(image: &Path, volume: &Path, copies: bool) {
        fill(&File::open(image).unwrap(), "data", volume, copies).unwrap();
    }

    #[test]
    fn a_new_volume_gets_what_the_image_has_there() {
        let (_ground, image, volume) = ground();
        fill_from(&image, &volume, true);
        let file = fs::metadata(volume.join("a/b/file")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o640, 7, 8));
        assert_eq!(file.mtime(), fs::metadata(image.join("real/a/b/file")).unwrap().mtime());
        assert_eq!(fs::read_to_string(volume.join("a/b/file")).unwrap(), "text");
        assert_eq!(fs::read_link(volume.join("a/link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::metadata(&volume).unwrap().uid(), 5);
        // What its service has made of it stays.
        fs::remove_dir_all(volume.join("a")).unwrap();
        fill_from(&image, &volume, true);
        assert!(!volume.join("a").exists());
    }

    #[test]
    fn what_is_somebodys_work_stays_and_what_was_cut_is_made_anew() {
        let (_ground, image, volume) = ground();
        fs::write(volume.join("work"), "").unwrap();
        fill_from(&image, &volume, true);
        assert!(!volume.join("a").exists() && volume.join("work").exists());
        // As a host leaves it that is killed in the middle.
        let handle = File::open(&volume).unwrap();
        fsetxattr(&handle, UNFINISHED, b"1", XattrFlags::empty()).unwrap();
        fill_from(&image, &volume, true);
        assert!(volume.join("a/b/file").exists() && !volume.join("work").exists());
        assert!(fgetxattr(&handle, UNFINISHED, &mut [0; 8]).is_err());
    }

    #[test]
    fn one_that_is_to_start_empty_gets_the_owner_alone() {
        let (_ground, image, volume) = ground();
        fill_from(&image, &volume, false);
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
        assert_eq!(fs::metadata(&volume).unwrap().uid(), 5);
    }
}
