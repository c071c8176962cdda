//! The root file system that layers are written to. Every path is resolved by the kernel inside the root (openat2(2),
//! `RESOLVE_IN_ROOT`), and the last name of a path is never followed.

use super::{LayerError, printable};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chownat,
        fchmod, fchown, futimens, linkat, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use std::{
    collections::{HashSet, hash_map::RandomState},
    ffi::{CStr, OsStr},
    hash::BuildHasher,
    io::{Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

/// Ids that a container has.
const MAX_ID: u64 = 65_535;

/// Owner, mode and time of an entry.
pub(super) struct Meta {
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mode: u32,
    pub(super) seconds: i64,
}

/// What an entry is.
pub(super) enum Node<'a> {
    File(&'a mut dyn Read),
    Directory,
    Symlink(&'a [u8]),
    /// A further name of a file, given by its path below the root.
    Link(&'a Path),
    Fifo,
}

/// A root that one layer is being written to.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// The directory of the last entry: archives list a directory's files one after another.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Hashes of the paths that this layer made, which whiteouts of the same layer do not touch. The hash is keyed at random,
    /// so an archive can not be made for collisions.
    made: HashSet<u64>,
    hasher: RandomState,
    /// Times of directories, set at the end: writing into a directory changes its time.
    times: Vec<(PathBuf, i64)>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Self {
        Self {
            root,
            parent: None,
            made: HashSet::new(),
            hasher: RandomState::new(),
            times: Vec::new(),
        }
    }

    /// Makes an entry, in place of what is there. A directory stays and gets new owner and mode.
    pub(super) fn put(&mut self, path: &Path, node: Node<'_>, meta: &Meta) -> Result<(), LayerError> {
        let owner = owner(path, meta)?;
        let Some(name) = path.file_name() else {
            // The root itself.
            if matches!(node, Node::Directory) {
                set(self.root, owner, meta).map_err(io(path))?;
                self.times.push((PathBuf::new(), meta.seconds));
            }
            return Ok(());
        };
        let dir = self.parent_of(path)?;
        match node {
            Node::File(content) => {
                let file = retry(&dir, name, || {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    openat(&dir, name, flags, Mode::from_raw_mode(0o600))
                })
                .map_err(io(path))?;
                let mut file = std::fs::File::from(file);
                copy(content, &mut file, path)?;
                set(file.as_fd(), owner, meta).map_err(io(path))?;
                let times = times(meta.seconds);
                futimens(&file, &times).map_err(io(path))?;
            }
            Node::Directory => {
                let fd = directory(&dir, name).map_err(io(path))?;
                set(fd.as_fd(), owner, meta).map_err(io(path))?;
                self.times.push((path.to_owned(), meta.seconds));
            }
            Node::Symlink(target) => {
                retry(&dir, name, || symlinkat(OsStr::from_bytes(target), &dir, name)).map_err(io(path))?;
                chownat(&dir, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW).map_err(io(path))?;
                utimensat(&dir, name, &times(meta.seconds), AtFlags::SYMLINK_NOFOLLOW).map_err(io(path))?;
            }
            Node::Link(target) => self.link(path, &dir, name, target)?,
            Node::Fifo => {
                retry(&dir, name, || {
                    mknodat(&dir, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                })
                .map_err(io(path))?;
                chownat(&dir, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW).map_err(io(path))?;
            }
        }
        self.parent = Some((path.parent().unwrap_or(Path::new("")).to_owned(), dir));
        self.remember(path);
        Ok(())
    }

    fn link(&self, path: &Path, dir: &OwnedFd, name: &OsStr, target: &Path) -> Result<(), LayerError> {
        let (Some(target_name), true) = (target.file_name(), path != target) else {
            return Err(LayerError::Path(printable(target.as_os_str().as_bytes())));
        };
        let target_dir = self
            .open(target.parent().unwrap_or(Path::new("")))
            .map_err(io(target))?;
        // No AT_SYMLINK_FOLLOW: a link to a symbolic link is a further name of that.
        retry(dir, name, || {
            linkat(&target_dir, target_name, dir, name, AtFlags::empty())
        })
        .map_err(io(path))
    }

    /// Removes what lower layers have at a path. Returns how much: one or nothing.
    pub(super) fn hide(&mut self, path: &Path) -> Result<u64, LayerError> {
        let Some(name) = path.file_name() else {
            return Ok(0);
        };
        match self.open(path.parent().unwrap_or(Path::new(""))) {
            Ok(dir) => self.hide_in(&dir, name, path),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(0),
            Err(error) => Err(io(path)(error)),
        }
    }

    /// Removes what lower layers have in a directory. Returns how many names.
    pub(super) fn empty(&mut self, path: &Path) -> Result<u64, LayerError> {
        let dir = match self.open(path) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(0),
            Err(error) => return Err(io(path)(error)),
        };
        let mut removed = 0;
        for name in names(&dir).map_err(io(path))? {
            let child = path.join(&name);
            removed += self.hide_in(&dir, &name, &child)?;
        }
        Ok(removed)
    }

    fn hide_in(&mut self, dir: &OwnedFd, name: &OsStr, path: &Path) -> Result<u64, LayerError> {
        if !self.made.contains(&self.hash(path)) {
            return match remove(dir, name) {
                Ok(()) => Ok(1),
                Err(Errno::NOENT) => Ok(0),
                Err(error) => Err(io(path)(error)),
            };
        }
        // This layer has it: what lower layers have inside goes, if it is a directory. How deep this goes is bounded by the length
        // of a path in this archive.
        let kind = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::Directory) => self.empty(path),
            _ => Ok(0),
        }
    }

    /// Sets the times of directories, the last thing that happens to them.
    pub(super) fn finish(self) -> Result<(), LayerError> {
        for (path, seconds) in &self.times {
            // A later entry may have replaced it; then it is no directory of ours any more.
            if let Ok(dir) = self.open(path) {
                futimens(&dir, &times(*seconds)).map_err(io(path))?;
            }
        }
        Ok(())
    }

    fn hash(&self, path: &Path) -> u64 {
        self.hasher.hash_one(path.as_os_str().as_bytes())
    }

    /// The path and the directories above it belong to this layer.
    fn remember(&mut self, path: &Path) {
        for above in path.ancestors().take_while(|above| *above != Path::new("")) {
            let hash = self.hash(above);
            if !self.made.insert(hash) {
                break;
            }
        }
    }

    fn parent_of(&mut self, path: &Path) -> Result<OwnedFd, LayerError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some((_, dir)) = self.parent.take().filter(|(last, _)| last == parent) {
            return Ok(dir);
        }
        match self.open(parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_all(parent),
            opened => opened,
        }
        .map_err(io(path))
    }

    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        resolve(self.root, path, OFlags::DIRECTORY | OFlags::RDONLY)
    }

    /// Makes the directories that an archive left out. They belong to root, as others have it.
    fn make_all(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut at = self.open(Path::new(""))?;
        let mut sofar = PathBuf::new();
        for name in path {
            sofar.push(name);
            at = match self.open(&sofar) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let fresh = directory(&at, name)?;
                    fchmod(&fresh, Mode::from_raw_mode(0o755))?;
                    fresh
                }
                Err(error) => return Err(error),
            };
        }
        Ok(at)
    }
}

/// Opens a path inside the root; links are followed, but not out of it.
fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    openat2(
        root,
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// A small file's bytes; `None` if it is missing, too long or not a file.
pub(super) fn read(root: BorrowedFd<'_>, path: &str, most: u64) -> Option<Vec<u8>> {
    // Not blocking: a pipe in its place would make us wait for ever.
    let file = std::fs::File::from(resolve(root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// Does what needs a free name, and frees the name if it is taken.
fn retry<T>(dir: &OwnedFd, name: &OsStr, make: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    match make() {
        Err(Errno::EXIST) => {
            remove(dir, name)?;
            make()
        }
        made => made,
    }
}

/// A directory of that name: the one that is there, or a new one in place of something else.
fn directory(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    match mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => return openat(dir, name, flags, Mode::empty()),
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    match openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) => {
            remove(dir, name)?;
            mkdirat(dir, name, Mode::from_raw_mode(0o700))?;
            openat(dir, name, flags, Mode::empty())
        }
        opened => opened,
    }
}

/// Removes a name and everything below it. One open directory per level: a tree that is deeper than the bound of open files is an
/// error, not an overflow.
fn remove(dir: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return done,
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let first = openat(dir, name, flags, Mode::empty())?;
    let mut open: Vec<(OwnedFd, std::ffi::OsString)> = vec![(first, name.to_owned())];
    while let Some((at, _)) = open.last() {
        let mut below = None;
        for child in names(at)? {
            match unlinkat(at, &child, AtFlags::empty()) {
                Err(Errno::ISDIR) => {
                    below = Some(child);
                    break;
                }
                done => done?,
            }
        }
        if let Some(child) = below {
            let next = openat(at, &child, flags, Mode::empty())?;
            open.push((next, child));
            continue;
        }
        let Some((_, emptied)) = open.pop() else { break };
        let parent = open.last().map_or(dir, |(parent, _)| parent);
        unlinkat(parent, &emptied, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

fn names(dir: &OwnedFd) -> Result<Vec<std::ffi::OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    Ok(names)
}

fn copy(from: &mut dyn Read, to: &mut std::fs::File, path: &Path) -> Result<(), LayerError> {
    let mut buffer = [0; 64 * 1024];
    loop {
        let got = from
            .read(&mut buffer)
            .map_err(|error| LayerError::Damaged(error.to_string()))?;
        if got == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..got]).map_err(|source| LayerError::Io {
            path: printable(path.as_os_str().as_bytes()),
            source,
        })?;
    }
}

fn owner(path: &Path, meta: &Meta) -> Result<(Uid, Gid), LayerError> {
    let known = |id: u64| u32::try_from(id).ok().filter(|id| u64::from(*id) <= MAX_ID);
    match (known(meta.uid), known(meta.gid)) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(LayerError::Owner {
            path: printable(path.as_os_str().as_bytes()),
            uid: meta.uid,
            gid: meta.gid,
        }),
    }
}

/// The owner first: changing it takes the set-user-id bit away.
fn set(fd: BorrowedFd<'_>, owner: (Uid, Gid), meta: &Meta) -> Result<(), Errno> {
    fchown(fd, Some(owner.0), Some(owner.1))?;
    fchmod(fd, Mode::from_raw_mode(meta.mode))
}

fn times(seconds: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        },
    }
}

fn io(path: &Path) -> impl FnOnce(Errno) -> LayerError {
    let path = printable(path.as_os_str().as_bytes());
    move |error| LayerError::Io {
        path,
        source: error.into(),
    }
}
