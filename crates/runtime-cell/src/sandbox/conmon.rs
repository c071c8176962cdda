//! One container as the OCI runtime and its monitor see it. argv only; every wait has an end.

use super::{
    oci::{self, Maker, Oci},
    process::Process,
};
use crate::sys;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const CREATE_PATIENCE: Duration = Duration::from_secs(60);
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Nothing is wrong with a command that takes longer to become the first process.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const END_PATIENCE: Duration = Duration::from_secs(30);
const REPORT_MAX: u64 = 64 * 1024;

/// A container could not be made or started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
    /// The runtime refused it, in the runtime's words.
    #[error("{0}")]
    Refused(String),
    /// A call on the way failed.
    #[error("{action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

fn during(action: &'static str) -> impl FnOnce(io::Error) -> ContainerError {
    move |source| ContainerError::Io { action, source }
}

/// The programs that run containers.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// The OCI runtime that makes new ones.
    pub(crate) oci: Oci,
    /// Others that may have made those which are there.
    pub(crate) others: Vec<Oci>,
    /// The monitor, `conmon`.
    pub(crate) conmon: PathBuf,
}

impl Programs {
    /// The runtime that has made a container, or would: each keeps its state in a directory of its own.
    pub(crate) fn oci_of(&self, states: &Path, container: &str) -> &Oci {
        let made = |oci: &&Oci| states.join(oci.kind.name()).join(container).exists();
        let all = std::iter::once(&self.oci).chain(&self.others);
        all.into_iter().find(made).unwrap_or(&self.oci)
    }
}

/// Names and places of one container; all of them follow from instance, environment and service.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// Unique on the machine.
    pub(crate) id: String,
    /// Directory with `config.json`, of a mode that the mapped root can pass.
    pub(crate) bundle: PathBuf,
    /// The runtime that makes it, or has.
    pub(crate) oci: Oci,
    /// The runtime's own state.
    pub(crate) runtime_root: PathBuf,
    /// The log file.
    pub(crate) log: PathBuf,
    /// How many bytes the log file may have.
    pub(crate) log_max: u64,
}

/// A created or running container.
#[derive(Debug)]
pub(crate) struct Running {
    /// Its first process, as the machine numbers it.
    pub(crate) pid: u32,
    /// The same, held, once it was seen to be one of the environment's.
    pub(crate) process: Option<Process>,
    /// Becomes readable when the monitor has recorded the exit status and ended.
    pub(crate) monitor: OwnedFd,
}

#[derive(serde::Deserialize)]
struct Report {
    #[serde(alias = "pid", alias = "exit_code")]
    data: i64,
    message: Option<String>,
}

impl Container {
    fn exit_directory(&self) -> PathBuf {
        self.bundle.join("exit")
    }

    fn monitor_pid_file(&self) -> PathBuf {
        self.bundle.join("monitor.pid")
    }

    fn pid_file(&self) -> PathBuf {
        self.bundle.join("container.pid")
    }

    /// Creates the container: all its namespaces exist and its command does not run yet.
    pub(crate) fn create(&self, programs: &Programs) -> Result<Running, ContainerError> {
        fs::create_dir_all(self.exit_directory()).map_err(during("making the exit directory"))?;
        let (mut report, write_end) = io::pipe().map_err(during("making a pipe"))?;
        let maker = self.oci.maker(&self.runtime_root);
        let maker = maker.map_err(during("making a mount namespace for the OCI runtime"))?;
        let mut command = self.monitor_command(programs, &maker);
        command.env("_OCI_SYNCPIPE", write_end.as_raw_fd().to_string());
        sys::inherit(&mut command, vec![write_end.as_raw_fd()]);
        let mut child = command.spawn().map_err(during("starting conmon"))?;
        drop(write_end);
        // It only forks: the monitor proper is not our child and outlives us.
        let forked = child.wait().map_err(during("waiting for conmon"))?;
        if !forked.success() {
            return Err(ContainerError::Refused(format!("conmon ended with {forked}")));
        }
        let text = read_report(&mut report).map_err(during("reading conmon's report"))?;
        let parsed: Report = serde_json::from_str(text.lines().next().unwrap_or_default()).map_err(|_| {
            ContainerError::Refused(format!("conmon did not report a process: `{}`", text.escape_debug()))
        })?;
        let pid = u32::try_from(parsed.data).ok().filter(|pid| *pid > 0);
        let pid = pid
            .ok_or_else(|| ContainerError::Refused(readable(parsed.message.as_deref().unwrap_or("no reason given"))))?;
        let monitor = self.monitor().map_err(during("finding the monitor"))?;
        let monitor = monitor.ok_or_else(|| ContainerError::Refused("the monitor is gone".into()))?;
        if self.oci.wants_input() {
            oci::close_input(&self.bundle).map_err(during("closing the standard input"))?;
        }
        Ok(Running {
            pid,
            process: None,
            monitor,
        })
    }

    fn monitor_command(&self, programs: &Programs, maker: &Maker) -> Command {
        let mut command = Command::new(&programs.conmon);
        command
            .args([
                "--api-version",
                "1",
                "--full-attach",
                "--no-sync-log",
                "--no-new-keyring",
                "--log-level",
                "error",
            ])
            .args(["-c", &self.id, "-u", &self.id, "-n", &self.id])
            .args(self.oci.wants_input().then_some("--stdin"))
            .arg("-r")
            .arg(&maker.program)
            .args(maker.arguments.iter().map(|word| format!("--runtime-arg={word}")))
            .arg("-b")
            .arg(&self.bundle)
            .arg("-p")
            .arg(self.pid_file())
            .arg("-P")
            .arg(self.monitor_pid_file())
            .arg("--exit-dir")
            .arg(self.exit_directory())
            .arg("-l")
            .arg(format!("k8s-file:{}", self.log.display()))
            .args(["--log-size-max", &self.log_max.to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Lets the command of a created container run.
    ///
    /// Its first process waits at a fifo. The runtime's own `start` would do no more than go there, but costs the start of
    /// another program; it is asked where the fifo is not found.
    ///
    /// Returns once it does: as long as the first process is still the runtime, nothing else can be run beside it.
    pub(crate) fn start(&self) -> Result<(), ContainerError> {
        let first = self.pid().map_err(during("finding the first process"))?;
        let runtime = first.and_then(program_of);
        self.let_go()?;
        let begun = Instant::now();
        let mut pause = Duration::from_micros(100);
        // One that has ended is told by its monitor.
        while let (Some(pid), Some(runtime)) = (first, runtime)
            && program_of(pid).is_some_and(|program| program == runtime || !has_arguments(pid))
            && begun.elapsed() < COMMAND_PATIENCE
        {
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(4));
        }
        Ok(())
    }

    fn let_go(&self) -> Result<(), ContainerError> {
        let fifo = self.runtime_root.join(&self.id).join("exec.fifo");
        match self.oci.release(&fifo, START_PATIENCE) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(during("starting the command")(e)),
        }
        let output = self
            .runtime()
            .args(["start", &self.id])
            .output()
            .map_err(during("running the OCI runtime's start"))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(ContainerError::Refused(readable(&String::from_utf8_lossy(
                &output.stderr,
            ))))
        }
    }

    /// The OCI runtime with this container's state and nothing of our environment.
    pub(crate) fn runtime(&self) -> Command {
        self.oci.command(&self.runtime_root)
    }

    /// The running monitor of this container, found by its pid file and verified by its command line.
    pub(crate) fn monitor(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = read_pid(&self.monitor_pid_file())? else {
            return Ok(None);
        };
        let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(None);
        };
        let ours = monitored(pid).is_some_and(|id| id == self.id);
        Ok(ours.then_some(held))
    }

    /// The container's first process.
    pub(crate) fn pid(&self) -> io::Result<Option<u32>> {
        Ok(read_pid(&self.pid_file())?.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()))
    }

    /// The exit status, once there is one; 128 + n after signal n.
    pub(crate) fn exit_status(&self) -> Option<i32> {
        fs::read_to_string(self.exit_directory().join(&self.id))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Forgets a container whose processes are gone: what the runtime and the monitor have written.
    pub(crate) fn forget(&self) -> io::Result<()> {
        remove_directory(&self.runtime_root.join(&self.id))?;
        remove_directory(&self.bundle)
    }
}

/// Waits until a process has ended. Returns whether it has.
pub(crate) fn wait_gone(held: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(patience).map_err(io::Error::other)?;
    Ok(poll(&mut [PollFd::new(held, PollFlags::IN)], Some(&limit))? > 0)
}

/// The container that a process monitors, if it is a monitor.
pub(crate) fn monitored(pid: Pid) -> Option<String> {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let mut words = line.split(|b| *b == 0);
    words.next().filter(|program| program.ends_with(b"conmon"))?;
    words.find(|word| *word == b"-c")?;
    words.next().map(|id| String::from_utf8_lossy(id).into_owned())
}

/// Kills a process if this container's id is one of its arguments, and waits for its end. To be given processes of the host's
/// own group only: these are monitors and runtimes. Tells whether it was one and has ended.
pub(crate) fn end_maker(number: u32, id: &str) -> io::Result<bool> {
    let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) else {
        return Ok(false);
    };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(false);
    };
    // Read once the process is held: the number may have been given away before.
    let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    if !line.split(|b| *b == 0).any(|word| word == id.as_bytes()) {
        return Ok(false);
    }
    match pidfd_send_signal(&held, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(e) => return Err(e.into()),
    }
    wait_gone(&held, END_PATIENCE)
}

/// Removes a directory with all that is in it. Nothing happens if it is gone.
pub(crate) fn remove_directory(path: &Path) -> io::Result<()> {
    super::tree::remove(path)
}

/// Whether the kernel has completed a process's change to another program: its arguments come last.
fn has_arguments(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Which file a process runs, by device and number; `None` if it has ended.
fn program_of(pid: u32) -> Option<(u64, u64)> {
    let found = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((found.dev(), found.ino()))
}

fn read_pid(path: &Path) -> io::Result<Option<Pid>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().ok().and_then(Pid::from_raw)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads one line, but not for ever and not without bound: a container that hangs in its creation must not hang the host.
fn read_report(pipe: &mut io::PipeReader) -> io::Result<String> {
    let deadline = Instant::now() + CREATE_PATIENCE;
    let mut bytes = Vec::new();
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
        if poll(
            &mut [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)],
            Some(&left),
        )? == 0
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut chunk = [0; 4096];
        let length = pipe.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..length]);
        if length == 0 || bytes.contains(&b'\n') || bytes.len() as u64 > REPORT_MAX {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

/// Reads the byte that the first process writes when it goes on, and removes the fifo: that marks the container as running.
pub(super) fn read_fifo(path: &Path, patience: Duration) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    // Without waiting: a process that has died meanwhile would never open the other end.
    let mut fifo = fs::File::from(open(path, flags, Mode::empty())?);
    let limit = Timespec::try_from(patience).map_err(io::Error::other)?;
    if poll(&mut [PollFd::new(&fifo, PollFlags::IN)], Some(&limit))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut byte = [0];
    if fifo.read(&mut byte)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    fs::remove_file(path)
}

/// The part of a runtime's error output that a person can use: its last line without the decoration of its logger.
fn readable(text: &str) -> String {
    let line = text
        .lines()
        .rev()
        .find(|l| !l.trim().is_empty())
        .unwrap_or("no reason given");
    let line = line
        .split_once("msg=\"")
        .map_or(line, |(_, rest)| rest.trim_end_matches('"'));
    line.replace("\\\"", "\"").chars().take(500).collect()
}
