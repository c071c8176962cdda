//! Processes of ours that run: a locked file tells that one does, and its number.

use rustix::{
    fs::{FlockOperation, OFlags},
    process::{Pid, Signal, kill_process},
};
use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// The file that a process holds while it runs. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Held {
    file: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing the file would leave the lock to a process that is just being started, too.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// One that has ended may hold its file for a moment longer, by a process that it was just starting: two seconds in all.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);
/// Whoever looks whether a file is held holds it for that moment, which may be long for one that has to wait for a processor.
const LOOKED_AT: Duration = Duration::from_secs(20);

/// Takes the file; `None` if another process holds it.
pub(crate) fn hold(path: &Path) -> io::Result<Option<Held>> {
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    let (mut looks, since) = (0, Instant::now());
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        // Those who look share it: only who holds it keeps others from looking, too.
        if is_held(path) {
            looks += 1;
        }
        if looks > LOOKS || since.elapsed() > LOOKED_AT {
            return Ok(None);
        }
        sleep(PAUSE);
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Some(Held { file }))
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

/// The text of a small file that may be another user's; `None` if there is none, or if it is larger than that.
pub(crate) fn read(path: &Path, max: u64) -> Option<String> {
    let mut text = String::new();
    let read = look(path).ok()?.take(max + 1).read_to_string(&mut text).ok()?;
    (read as u64 <= max).then_some(text)
}

/// The number that stands in a file that is held.
fn noted(path: &Path) -> Option<Pid> {
    if !is_held(path) {
        return None;
    }
    Pid::from_raw(read(path, 20)?.trim().parse().ok()?)
}

/// The command line of the process that holds the file.
pub(crate) fn arguments(path: &Path) -> Vec<String> {
    let line = noted(path).and_then(|pid| fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok());
    line.unwrap_or_default()
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Whether a service manager has started the process that holds the file: then it is in a unit's control group.
pub(crate) fn is_of_a_service(path: &Path) -> bool {
    let groups = noted(path).and_then(|pid| fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).ok());
    groups.is_some_and(|groups| groups.lines().any(|line| line.ends_with(".service")))
}

/// The effective user of a process.
fn user_of(pid: Pid) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(1)?.parse().ok()
}

/// The process that holds the file, if it runs this very program as the file's user: a number in a file is not enough to end
/// anything by.
pub(crate) fn holder(path: &Path) -> Option<Pid> {
    let pid = noted(path)?;
    if user_of(pid)? != fs::symlink_metadata(path).ok()?.uid() {
        return None;
    }
    let name = |link: &str| {
        let target = fs::read_link(link).ok()?.to_string_lossy().into_owned();
        Some(target.trim_end_matches(" (deleted)").to_owned())
    };
    let theirs = name(&format!("/proc/{}/exe", pid.as_raw_nonzero()))?;
    (theirs == name("/proc/self/exe")?).then_some(pid)
}

/// Asks a process to end. It may have ended by itself just now.
pub(crate) fn end(pid: Pid) -> io::Result<()> {
    match kill_process(pid, Signal::TERM) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether it is this process that holds the file. One that has ended may do so for a moment longer.
pub(crate) fn holds(pid: Pid, path: &Path) -> bool {
    noted(path) == Some(pid)
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
        assert!(holds(rustix::process::getpid(), &path));
        assert_eq!(holder(&path), Pid::from_raw(i32::try_from(std::process::id()).unwrap()));
        // Who can write the file may write any number into it.
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        assert_eq!(holder(&path), None);
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        drop(held);
        assert!(!is_held(&path));
        assert_eq!(holder(&path), None);
    }

    #[test]
    fn whoever_looks_for_long_keeps_nobody_from_taking_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.pid");
        fs::write(&path, "").unwrap();
        let looks = look(&path).unwrap();
        rustix::fs::flock(&looks, FlockOperation::NonBlockingLockShared).unwrap();
        let taker = std::thread::spawn({
            let path = path.clone();
            move || hold(&path).unwrap().is_some()
        });
        // Longer than it waits for one that holds the file.
        sleep(PAUSE * LOOKS * 5 / 4);
        assert!(!taker.is_finished());
        drop(looks);
        assert!(taker.join().unwrap());
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
