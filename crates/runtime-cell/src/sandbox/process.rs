//! A process of an environment, held in a way that no other process can take the place of.
//!
//! A number is only as good as the moment at which it was read: the process may have ended and the number be another's. So the
//! process is held by descriptor first, then it is asked whose it is, and at last whether it still lives: what was read in between
//! was its own.

use super::idmap::Range;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
};

/// The first process of a container, or one that was run in it.
#[derive(Debug)]
pub(crate) struct Process {
    held: OwnedFd,
    number: u32,
}

impl Process {
    /// Holds the process with that number if its ids are those of the environment; `None` if there is no such process.
    pub(crate) fn of(number: u32, range: Range) -> io::Result<Option<Self>> {
        let Some(id) = i32::try_from(number).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let held = match pidfd_open(id, PidfdFlags::empty()) {
            Ok(held) => held,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let process = Self { held, number };
        let map = process.read(|| fs::read_to_string(format!("/proc/{number}/uid_map")))?;
        let ours = map.is_some_and(|map| map.split_whitespace().nth(1) == Some(range.first.to_string().as_str()));
        Ok(ours.then_some(process))
    }

    /// One of its namespaces: `net`, `user`.
    pub(crate) fn namespace(&self, kind: &str) -> io::Result<OwnedFd> {
        let path = format!("/proc/{}/ns/{kind}", self.number);
        let found = self.read(|| File::open(path))?;
        found.map(OwnedFd::from).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether it would take notice of a signal: the first process of a pid namespace is not ended by one that it does not handle.
    pub(crate) fn handles(&self, signal: Signal) -> bool {
        let status = self.read(|| fs::read_to_string(format!("/proc/{}/status", self.number)));
        let Ok(Some(status)) = status else { return false };
        let mask = |of: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| u64::from_str_radix(line.strip_prefix(of)?.trim(), 16).ok())
        };
        // One that is blocked is waited for in another way: an init process takes its signals so.
        let (caught, blocked) = (mask("SigCgt:"), mask("SigBlk:").unwrap_or_default());
        caught.is_none_or(|caught| (caught | blocked) & (1 << (signal.as_raw() - 1)) != 0)
    }

    /// Sends it a signal; nothing happens if it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.held, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads something by its number; `None` if it has ended, for then it was somebody else's.
    fn read<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
        let result = work();
        if self.has_ended()? {
            return Ok(None);
        }
        result.map(Some)
    }

    fn has_ended(&self) -> io::Result<bool> {
        let now = Timespec::default();
        Ok(poll(&mut [PollFd::new(&self.held, PollFlags::IN)], Some(&now))? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_somebody_else_is_not_taken_for_one_of_the_environment() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let range = Range::numbered(500_000_000, 3).unwrap();
        assert!(Process::of(child.id(), range).unwrap().is_none());
        // The ids of the machine itself: its own processes are of that range.
        let machine = Process::of(child.id(), Range { first: 0 }).unwrap().unwrap();
        machine.namespace("net").unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(machine.namespace("net").is_err(), "the number may be another's by now");
        machine.signal(Signal::KILL).unwrap();
        assert!(Process::of(child.id(), Range { first: 0 }).unwrap().is_none());
    }
}
