//! Processes of ours that run: a locked file tells that one does, and its number.

use rustix::{
    fs::{FlockOperation, OFlags},
    process::{Pid, Signal, kill_process},
};
use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The file that a process holds while it runs. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Held {
    _file: File,
}

/// Takes the file; `None` if another process holds it.
pub(crate) fn hold(path: &Path) -> io::Result<Option<Held>> {
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Some(Held { _file: file }))
}

/// Opens a file that may be another user's: nothing that stands in its place is followed or waited for.
pub(super) fn look(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// Whether a process holds the file.
pub(crate) fn is_held(path: &Path) -> bool {
    let Ok(file) = look(path) else { return false };
    matches!(
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared),
        Err(rustix::io::Errno::WOULDBLOCK)
    )
}

/// The process that holds the file, if it runs this very program: a number in a file is not enough to end anything by.
pub(crate) fn holder(path: &Path) -> Option<Pid> {
    if !is_held(path) {
        return None;
    }
    let mut text = String::new();
    look(path).ok()?.take(20).read_to_string(&mut text).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?)?;
    let name = |link: &str| {
        let target = fs::read_link(link).ok()?.to_string_lossy().into_owned();
        Some(target.trim_end_matches(" (deleted)").to_owned())
    };
    let theirs = name(&format!("/proc/{}/exe", pid.as_raw_nonzero()))?;
    (theirs == name("/proc/self/exe")?).then_some(pid)
}

/// Asks a process to end.
pub(crate) fn end(pid: Pid) -> io::Result<()> {
    Ok(kill_process(pid, Signal::TERM)?)
}

/// Whether a process runs. One that has ended and that nobody has waited for yet keeps its number, but runs no more.
pub(crate) fn exists(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    // The name stands in brackets and may contain anything.
    let state = status
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_once_and_tells_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.pid");
        assert!(!is_held(&path));
        let held = hold(&path).unwrap().unwrap();
        assert!(is_held(&path));
        assert!(hold(&path).unwrap().is_none());
        assert_eq!(holder(&path), Pid::from_raw(i32::try_from(std::process::id()).unwrap()));
        drop(held);
        assert!(!is_held(&path));
        assert_eq!(holder(&path), None);
    }

    #[test]
    fn a_dead_process_that_nobody_waited_for_does_not_exist() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(exists(pid));
        kill_process(pid, Signal::KILL).unwrap();
        // It stays in the list until the wait below.
        rustix::process::waitid(
            rustix::process::WaitId::Pid(pid),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .unwrap();
        assert!(!exists(pid));
        child.wait().unwrap();
    }
}
