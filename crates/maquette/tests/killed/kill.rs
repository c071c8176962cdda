//! Where a process is killed, how, and how it is started again.

use crate::rig::Rig;
use model::{EnvironmentId, Generation, Origin};
use rustix::{
    fs::FlockOperation,
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
};
use server::StateDir;
use std::{
    fmt, fs,
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use store::{StepRow, Store};
use tokio::time::sleep;

/// Nothing takes longer on a machine that is busy with other tests, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// One of Maquette's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Process {
    Serve,
    CellHost,
    Gateway,
    /// The cell host starts it again.
    Door,
    /// Not one of those that do something: it starts the cell host again.
    Keeper,
}

pub(crate) const PROCESSES: [Process; 3] = [Process::Serve, Process::CellHost, Process::Gateway];

impl Process {
    fn file(self, rig: &Rig) -> PathBuf {
        match self {
            Self::Serve => StateDir::new(rig.state()).lock(),
            Self::CellHost => rig.run_dir.join("cell-host.pid"),
            Self::Gateway => rig.run_dir.join("gateway/gateway.pid"),
            Self::Door => rig.run_dir.join("door/door.pid"),
            Self::Keeper => rig.run_dir.join("cell-keeper.pid"),
        }
    }

    /// Whether it runs: it holds its file.
    fn runs(self, rig: &Rig) -> bool {
        fs::File::open(self.file(rig))
            .is_ok_and(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }

    fn noted(self, rig: &Rig) -> Option<i32> {
        fs::read_to_string(self.file(rig)).ok()?.trim().parse().ok()
    }

    /// Its number, if the rig started it: it runs the rig's own copy of the program.
    pub(crate) fn pid(self, rig: &Rig) -> Option<Pid> {
        let pid = self.noted(rig)?;
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        (self.runs(rig) && program.starts_with(&rig.root)).then(|| Pid::from_raw(pid))?
    }

    /// Whether the process of this number has let go of everything. One that is being ended still answers for a moment.
    pub(crate) fn is_gone(self, rig: &Rig, pid: Pid) -> bool {
        !self.runs(rig) || self.noted(rig) != Some(pid.as_raw_nonzero().get())
    }
}

/// The part of a pull request's life, or that before all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Golden,
    Open,
    Push,
    Close,
}

/// A moment in it: a step begins, or has ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) part: Part,
    pub(crate) step: String,
    pub(crate) ended: bool,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = if self.ended { "ended" } else { "began" };
        write!(f, "{:?} {} {moment}", self.part, self.step)
    }
}

impl Point {
    fn is_reached(&self, steps: &[StepRow]) -> bool {
        steps
            .iter()
            .any(|row| row.step == self.step && (!self.ended || row.ok == Some(true)))
    }
}

/// What the store remembers of the steps of generations newer than this one, the removal's too.
pub(crate) async fn steps_after(store: &Store, id: &EnvironmentId, before: Generation) -> Vec<StepRow> {
    let newest = store
        .generation_list(id)
        .await
        .unwrap()
        .last()
        .map_or(0, |last| last.generation.0);
    let mut steps = Vec::new();
    for generation in before.0 + 1..=newest + 1 {
        steps.extend(store.step_list(id, Generation(generation)).await.unwrap());
    }
    steps
}

/// The store while nobody is killed. Only read.
pub(crate) async fn open_store(rig: &Rig) -> Store {
    Store::open(&StateDir::new(rig.state()).store()).await.unwrap()
}

/// The environment of this origin that has not ended, if there is one by now.
pub(crate) async fn environment_of(store: &Store, origin: &Origin) -> Option<EnvironmentId> {
    let rows = store.environment_list(None, false).await.unwrap();
    rows.into_iter().find(|row| row.origin == *origin).map(|row| row.id)
}

/// Which environment, and its newest generation until now. At the beginning there is none yet.
pub(crate) struct Subject<'a> {
    pub(crate) origin: Origin,
    pub(crate) id: Option<&'a EnvironmentId>,
    pub(crate) before: Generation,
}

impl Subject<'_> {
    /// The one that is yet to come.
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            origin,
            id: None,
            before: Generation(0),
        }
    }
}

/// Waits for the point, kills the process there, and starts again what is missing.
pub(crate) async fn strike(rig: &mut Rig, subject: &Subject<'_>, point: &Point, process: Process) {
    let store = open_store(rig).await;
    let since = Instant::now();
    let mut id = subject.id.cloned();
    loop {
        if id.is_none() {
            id = environment_of(&store, &subject.origin).await;
        }
        if let Some(id) = &id {
            let row = store.environment_get(id).await.unwrap().unwrap();
            // A removal that is seen to be done before its step returns leaves that step without an end.
            if row.ended.is_some() || point.is_reached(&steps_after(&store, id, subject.before).await) {
                break;
            }
        }
        assert!(since.elapsed() < PATIENCE, "{point} was not reached\n{}", rig.log());
        sleep(Duration::from_millis(1)).await;
    }
    let pid = process.pid(rig).expect("a process that runs");
    kill_process(pid, Signal::KILL).unwrap();
    store.close().await;
    mend(rig, process, pid).await;
}

/// Whether the cell host and the gateway answer.
fn answer(rig: &Rig) -> bool {
    let sockets = ["control.sock", "dial.sock"].map(|name| rig.run_dir.join(name));
    sockets.iter().all(|socket| UnixStream::connect(socket).is_ok())
        && TcpStream::connect(("127.0.0.1", rig.gateway)).is_ok()
}

/// Waits until all three run again. The operator starts `maquette serve`; the two others come back by themselves.
pub(crate) async fn mend(rig: &mut Rig, process: Process, pid: Pid) {
    if process == Process::Serve {
        // It was our child.
        waitpid(Some(pid), WaitOptions::empty()).unwrap();
    }
    while !process.is_gone(rig, pid) {
        sleep(Duration::from_millis(1)).await;
    }
    if process == Process::Serve {
        rig.start().await;
    }
    let since = Instant::now();
    // A process holds its file before it answers.
    while !answer(rig)
        || PROCESSES
            .iter()
            .any(|process| process.pid(rig).is_none_or(|now| now == pid))
    {
        assert!(
            since.elapsed() < PATIENCE,
            "{process:?} does not come back\n{}",
            rig.log()
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// Starts `maquette serve` beside one that runs: it starts a missing cell host, then says that the other is there.
pub(crate) async fn serve_beside(rig: &Rig) -> String {
    let mut command = Command::new(rig.root.join("bin/maquette"));
    command
        .args(["serve".as_ref(), "--config".as_ref(), rig.config().as_os_str()])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    // The cell host keeps what it was given as standard error: a file, not a pipe that would have to be read to its end.
    let path = rig.root.join("second.log");
    command.stderr(fs::File::create(&path).unwrap());
    let mut child = command.spawn().unwrap();
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(!status.success());
            return fs::read_to_string(&path).unwrap();
        }
        if since.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the second server goes on: {}", fs::read_to_string(&path).unwrap());
        }
        sleep(Duration::from_millis(10)).await;
    }
}
