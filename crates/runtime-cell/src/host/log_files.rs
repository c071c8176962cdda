//! The files of a container's log: what is written now, and what was written before that.
//!
//! The monitor bounds a log by putting a new, empty file in its place, so that the last lines could be the only ones. A second
//! name keeps the file that is written now; when another one takes its place it becomes the older part of the log. Both together
//! have at most twice the bound, thrice until it was seen that a file was replaced. The kernel tells when that happens, so a quiet container costs nothing. Where the kernel has
//! nothing left to tell it with, because all processes of root share that and containers count among them, it is looked for.

use crate::sys::watch_readable;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::{self, ErrorKind},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{io::unix::AsyncFd, sync::Notify, time::sleep};

/// How often directories are looked at that the kernel can not watch: a log that grows by its bound twice in that time loses
/// what was in between.
const LOOK: Duration = Duration::from_secs(2);

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
    notify: Option<OwnedFd>,
    directories: Mutex<HashMap<i32, PathBuf>>,
    /// Those that the kernel does not watch.
    unwatched: Mutex<BTreeSet<PathBuf>>,
    more_unwatched: Notify,
}

impl LogKeeper {
    /// One that the kernel tells of new files, as far as it can.
    pub(crate) fn new() -> Self {
        let notify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        if let Err(error) = &notify {
            tracing::warn!(
                %error,
                "logs are looked at every few seconds: root has no `fs.inotify.max_user_instances` left"
            );
        }
        Self::over(notify.ok())
    }

    fn over(notify: Option<OwnedFd>) -> Self {
        Self {
            notify,
            directories: Mutex::default(),
            unwatched: Mutex::default(),
            more_unwatched: Notify::new(),
        }
    }

    fn directories(&self) -> MutexGuard<'_, HashMap<i32, PathBuf>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwatched(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unwatched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after a log from now on. Without that it would still be written, and be read in part.
    pub(crate) fn keep(&self, log: &Path) {
        let Some(directory) = log.parent() else { return };
        if !self.watch(directory) {
            self.unwatched().insert(directory.to_owned());
            self.more_unwatched.notify_one();
        }
        if let Err(error) = hold(log) {
            tracing::warn!(log = %log.display(), %error, "the older part of a log will not be kept");
        }
    }

    fn watch(&self, directory: &Path) -> bool {
        let Some(notify) = &self.notify else { return false };
        let watched = inotify::add_watch(notify, directory, WatchFlags::MOVED_TO | WatchFlags::ONLYDIR);
        watched
            .map(|id| self.directories().insert(id, directory.to_owned()))
            .is_ok()
    }

    /// Follows what the kernel tells, for as long as the process lives.
    pub(crate) async fn follow(&self) {
        tokio::join!(self.follow_told(), self.follow_unwatched());
    }

    async fn follow_told(&self) {
        let Some(notify) = self.told() else { return };
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

    fn told(&self) -> Option<AsyncFd<OwnedFd>> {
        let notify = self.notify.as_ref()?.try_clone().and_then(watch_readable);
        notify
            .inspect_err(|error| tracing::warn!(%error, "older parts of logs will not be kept"))
            .ok()
    }

    async fn follow_unwatched(&self) {
        loop {
            if self.unwatched().is_empty() {
                self.more_unwatched.notified().await;
            }
            sleep(LOOK).await;
            self.look();
        }
    }

    /// Looks at what the kernel does not watch, and forgets what is gone.
    fn look(&self) {
        let places = self.unwatched().clone();
        for place in places {
            if hold_all_of(&place).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                self.unwatched().remove(&place);
            }
        }
    }

    fn take(&self) {
        let Some(notify) = &self.notify else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(notify, &mut buffer);
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
        for place in places {
            // Gone: its logs are, too.
            let _ = hold_all_of(&place);
        }
    }
}

fn hold_all_of(place: &Path) -> io::Result<()> {
    for entry in fs::read_dir(place)?.flatten() {
        hold_one(&entry.path());
    }
    Ok(())
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
        let keeper = LogKeeper::new();
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
        LogKeeper::new().keep(&log);
        replace(&log, "two ");
        let next = LogKeeper::new();
        next.keep(&log);
        replace(&log, "three ");
        next.hold_all();
        assert_eq!(read(&log), "two three ");
    }
    #[test]
    fn without_the_kernel_telling_it_the_part_before_the_newest_is_kept_too() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("logs");
        fs::create_dir(&place).unwrap();
        let log = place.join("s-web.log");
        fs::write(&log, "one ").unwrap();
        let keeper = LogKeeper::over(None);
        keeper.keep(&log);
        for text in ["two ", "three "] {
            replace(&log, text);
            keeper.look();
        }
        assert_eq!(read(&log), "two three ");
        fs::remove_dir_all(&place).unwrap();
        keeper.look();
        assert!(keeper.unwatched().is_empty(), "what is gone is not looked at for ever");
    }
}
