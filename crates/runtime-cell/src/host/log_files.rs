//! The files of a container's log: what is written now, and what was written before that.
//!
//! The monitor bounds a log by putting a new, empty file in its place, so that the last lines could be the only ones. A second
//! name keeps the file that is written now; when another one takes its place it becomes the older part of the log. Both together
//! have at most twice the bound. The kernel tells when that happens, so a quiet container costs nothing.

use crate::sys::watch_readable;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::{
    collections::HashMap,
    fs,
    io::{self, ErrorKind},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The second name of the file that is written now.
fn held(log: &Path) -> PathBuf {
    log.with_extension("log-held")
}

/// The file that was written before.
fn older(log: &Path) -> PathBuf {
    log.with_extension("log-older")
}

fn number(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found.ino())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// All parts of a log that are there, the oldest first; the file that is written now is the last one.
pub(crate) fn parts(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut parts = Vec::new();
    if number(&older(log))?.is_some() {
        parts.push(older(log));
    }
    // A file took the place of another one and nobody has seen that yet.
    if number(&held(log))?.is_some_and(|held| number(log).ok().flatten() != Some(held)) {
        parts.push(held(log));
    }
    parts.push(log.to_owned());
    Ok(parts)
}

/// Removes all parts of a log. Nothing happens to those that are gone.
pub(crate) fn remove(log: &Path) -> io::Result<()> {
    for path in [log.to_owned(), held(log), older(log)] {
        match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Gives the file that is written now its second name; what had that name before becomes the older part.
fn hold(log: &Path) -> io::Result<()> {
    let (now, before) = (number(log)?, number(&held(log))?);
    if now.is_none() || now == before {
        return Ok(());
    }
    if before.is_some() {
        fs::rename(held(log), older(log))?;
    }
    match fs::hard_link(log, held(log)) {
        // Replaced once more in between: the kernel tells of that, too.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Looks after the logs of all containers.
#[derive(Debug)]
pub(crate) struct LogKeeper {
    notify: OwnedFd,
    directories: Mutex<HashMap<i32, PathBuf>>,
}

impl LogKeeper {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            notify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            directories: Mutex::default(),
        })
    }

    fn directories(&self) -> MutexGuard<'_, HashMap<i32, PathBuf>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after a log from now on. Without that it would still be written, and be read in part.
    pub(crate) fn keep(&self, log: &Path) {
        let Some(directory) = log.parent() else { return };
        let watched = inotify::add_watch(&self.notify, directory, WatchFlags::MOVED_TO | WatchFlags::ONLYDIR)
            .map(|id| self.directories().insert(id, directory.to_owned()));
        if let Err(error) = watched.map_err(io::Error::from).and_then(|_| hold(log)) {
            tracing::warn!(log = %log.display(), %error, "the older part of a log will not be kept");
        }
    }

    /// Follows what the kernel tells, for as long as the process lives.
    pub(crate) async fn follow(&self) {
        let notify = match self.notify.try_clone().and_then(watch_readable) {
            Ok(notify) => notify,
            Err(error) => {
                tracing::warn!(%error, "older parts of logs will not be kept");
                return std::future::pending().await;
            }
        };
        loop {
            match notify.readable().await {
                Ok(mut ready) => {
                    self.take();
                    ready.clear_ready();
                }
                Err(error) => tracing::warn!(%error, "waiting for logs"),
            }
        }
    }

    fn take(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.notify, &mut buffer);
        while let Ok(event) = reader.next() {
            let place = self.directories().get(&event.wd()).cloned();
            if event.events().contains(ReadFlags::IGNORED) {
                self.directories().remove(&event.wd());
            } else if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                self.hold_all();
            } else if let (Some(place), Some(name)) = (place, event.file_name().and_then(|name| name.to_str().ok())) {
                hold_one(&place.join(name));
            }
        }
    }

    fn hold_all(&self) {
        let places: Vec<PathBuf> = self.directories().values().cloned().collect();
        for entry in places
            .iter()
            .filter_map(|place| fs::read_dir(place).ok())
            .flatten()
            .flatten()
        {
            hold_one(&entry.path());
        }
    }
}

fn hold_one(log: &Path) {
    if log.extension().is_some_and(|kind| kind == "log")
        && let Err(error) = hold(log)
    {
        tracing::warn!(log = %log.display(), %error, "a part of a log was not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &Path) -> String {
        let parts = parts(log).unwrap();
        parts.iter().map(|part| fs::read_to_string(part).unwrap()).collect()
    }

    /// As the monitor does it.
    fn replace(log: &Path, text: &str) {
        let part = log.with_extension("log.tmp");
        fs::write(&part, text).unwrap();
        fs::rename(part, log).unwrap();
    }

    #[tokio::test]
    async fn the_part_before_the_newest_is_kept_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("s-web.log");
        fs::write(&log, "one ").unwrap();
        let keeper = LogKeeper::new().unwrap();
        keeper.keep(&log);
        assert_eq!(read(&log), "one ");
        replace(&log, "two ");
        assert_eq!(read(&log), "one two ", "before the kernel was asked");
        keeper.take();
        assert_eq!(read(&log), "one two ");
        replace(&log, "three ");
        assert_eq!(read(&log), "one two three ");
        keeper.take();
        assert_eq!(read(&log), "two three ");
        remove(&log).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_replaced_while_nobody_looked_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("s-web.log");
        fs::write(&log, "one ").unwrap();
        LogKeeper::new().unwrap().keep(&log);
        replace(&log, "two ");
        let next = LogKeeper::new().unwrap();
        next.keep(&log);
        replace(&log, "three ");
        next.hold_all();
        assert_eq!(read(&log), "two three ");
    }
}
