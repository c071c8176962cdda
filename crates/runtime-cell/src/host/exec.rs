//! Commands in running containers: health checks, and those that people run.

use super::{Host, environment::Environment};
use crate::{
    names::UnitName,
    protocol::{Answer, WireError, exec_frame, read_frame, write_frame, write_json},
    sandbox::{idmap::Range, process::Process},
};
use model::{EnvironmentId, Power, ServiceName};
use runtime::{ExecExit, RuntimeError};
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{fs::OpenOptionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, Command},
};

const CHUNK: usize = 32 << 10;
const CONFIG_MAX: u64 = 4 << 20;
const MAX_ARGUMENTS: usize = 1 << 17;

/// Files of one command, removed when it is over; what it started in the container is ended with it.
struct Files {
    process: PathBuf,
    pid: PathBuf,
    range: Range,
}

impl Drop for Files {
    fn drop(&mut self) {
        let number = fs::read_to_string(&self.pid)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        // Usually it has ended, and its number may be another's.
        if let Some(Ok(Some(process))) = number.map(|number| Process::of(number, self.range)) {
            let _ = process.signal(Signal::KILL);
        }
        let _ = fs::remove_file(&self.process);
        let _ = fs::remove_file(&self.pid);
    }
}

impl Host {
    /// The ids of an environment.
    fn range(&self, environment: &EnvironmentId) -> io::Result<Range> {
        let environment = self.environment(environment).map_err(io::Error::other)?;
        let number = environment.inner().record.number;
        Range::numbered(self.config.first_uid, number).ok_or_else(|| io::Error::other("the user ids are used up"))
    }

    /// Starts a command in a container.
    fn exec_command(
        &self,
        environment: &EnvironmentId,
        unit: &UnitName,
        argv: &[String],
        variables: &BTreeMap<String, String>,
    ) -> io::Result<(Command, Files)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        self.groups.expect_move();
        let container = self.container(environment, unit);
        let range = self.range(environment)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // What an earlier cell host has begun may still run: its files are not ours.
        let file = |kind: &str| container.bundle.join(format!("exec-{}-{number}.{kind}", started()));
        let files = Files {
            process: file("json"),
            pid: file("pid"),
            range,
        };
        let process = process_of(&container.bundle, argv, variables)?;
        let mut options = fs::OpenOptions::new();
        let written = options.write(true).create_new(true).mode(0o600).open(&files.process)?;
        serde_json::to_writer(written, &process)?;
        let mut runtime = container.runtime();
        runtime
            .arg("exec")
            .arg("--process")
            .arg(&files.process)
            .arg("--pid-file")
            .arg(&files.pid)
            .arg(&container.id);
        let mut command = Command::from(runtime);
        command.kill_on_drop(true);
        Ok((command, files))
    }

    /// Runs a command without input or output and tells its exit status.
    pub(crate) async fn exec_status(
        &self,
        environment: &Environment,
        unit: &UnitName,
        argv: &[String],
    ) -> Result<i32, String> {
        let started = self.exec_command(&environment.id, unit, argv, &BTreeMap::new());
        let (mut command, files) = started.map_err(|e| format!("the command can not be run: {e}"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command
            .status()
            .await
            .map_err(|e| format!("the command can not be run: {e}"))?;
        forget_pid(&files);
        Ok(status_code(status))
    }

    /// Runs a command whose input and output go through a connection.
    pub(crate) async fn exec(
        self: &Arc<Self>,
        stream: &mut UnixStream,
        environment: &EnvironmentId,
        service: &ServiceName,
        argv: &[String],
        variables: &BTreeMap<String, String>,
    ) -> Result<(), RuntimeError> {
        let found = self.environment(environment)?;
        let unit = UnitName::service(service);
        let runs = found.inner().watchers.get(&unit).is_some_and(|w| !*w.done.borrow());
        if !runs {
            return Err(RuntimeError::NotFound {
                what: format!("a running container of {service}"),
            });
        }
        let failed = |reason: String| RuntimeError::Failed {
            action: format!("running a command in {service}"),
            reason,
        };
        if found.power() != Power::Running {
            return Err(failed("the environment sleeps".into()));
        }
        if argv.is_empty() || argv.iter().map(String::len).sum::<usize>() > MAX_ARGUMENTS {
            return Err(RuntimeError::Invalid {
                what: service.to_string(),
                reason: "the command is empty or too long".into(),
            });
        }
        let (mut command, files) = self
            .exec_command(environment, &unit, argv, variables)
            .map_err(|e| failed(e.to_string()))?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().map_err(|e| failed(e.to_string()))?;
        let accepted = write_json(stream, &Ok::<_, WireError>(Answer::Done)).await;
        accepted.map_err(|e| failed(e.to_string()))?;
        // From here on errors are those of the connection: the command ends with it.
        if let Err(error) = relay(stream, child, &files).await {
            tracing::debug!(%error, "a command was left by its caller");
        }
        Ok(())
    }
}

/// Tells this process of the cell host from all others.
fn started() -> u128 {
    static STARTED: OnceLock<u128> = OnceLock::new();
    let since = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    *STARTED.get_or_init(|| since().as_nanos())
}

/// The process has ended: its number may soon be another's.
fn forget_pid(files: &Files) {
    let _ = fs::remove_file(&files.pid);
}

/// The container's own process description with another command.
fn process_of(bundle: &Path, argv: &[String], variables: &BTreeMap<String, String>) -> io::Result<serde_json::Value> {
    let path = bundle.join("config.json");
    if fs::metadata(&path)?.len() > CONFIG_MAX {
        return Err(io::Error::other("the container's configuration is too large"));
    }
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(path)?)?;
    let mut process = config["process"].take();
    process["args"] = argv.into();
    process["terminal"] = false.into();
    if let Some(env) = process["env"].as_array_mut() {
        env.extend(variables.iter().map(|(name, value)| format!("{name}={value}").into()));
    }
    Ok(process)
}

fn status_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(-1)
}

async fn relay(stream: &mut UnixStream, mut child: Child, files: &Files) -> io::Result<()> {
    let (mut from_client, to_client) = stream.split();
    let to_client = tokio::sync::Mutex::new(to_client);
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(io::Error::other("a pipe is missing"));
    };
    let outputs = async {
        tokio::try_join!(
            forward(stdout, exec_frame::STDOUT, &to_client),
            forward(stderr, exec_frame::STDERR, &to_client)
        )?;
        child.wait().await
    };
    let status = tokio::select! {
        status = outputs => status?,
        gone = feed(&mut from_client, stdin) => return gone,
    };
    let exit = if files.pid.exists() {
        ExecExit::Status(status_code(status))
    } else {
        // The runtime writes the number once the command runs; its reason went to standard error.
        ExecExit::Failed("the command could not be run".into())
    };
    forget_pid(files);
    let exit = serde_json::to_vec(&exit)?;
    let mut frame = vec![exec_frame::EXIT];
    frame.extend(exit);
    write_frame(&mut *to_client.lock().await, &frame).await
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    kind: u8,
    to: &tokio::sync::Mutex<impl AsyncWrite + Unpin>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK + 1];
    chunk[0] = kind;
    loop {
        let length = from.read(&mut chunk[1..]).await?;
        if length == 0 {
            return Ok(());
        }
        write_frame(&mut *to.lock().await, &chunk[..=length]).await?;
    }
}

/// Passes input on. Returns only when the client has hung up.
async fn feed(from: &mut (impl AsyncRead + Unpin), stdin: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut stdin = Some(stdin);
    while let Some(frame) = read_frame(from, CHUNK * 2).await? {
        match (frame.split_first(), &mut stdin) {
            (Some((&exec_frame::STDIN, [])), _) => stdin = None,
            (Some((&exec_frame::STDIN, bytes)), Some(open)) => {
                // A command that does not read its input is no error.
                if open.write_all(bytes).await.is_err() || open.flush().await.is_err() {
                    stdin = None;
                }
            }
            (Some((&exec_frame::STDIN, _)), None) => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown frame")),
        }
    }
    Ok(())
}
