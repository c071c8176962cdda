//! The keepers of the cell host and of the gateway: each starts its process again when that has ended and nobody asked it to.
//!
//! The control plane can not do that: it is neither root nor the gateway's user. So a process of the same user stays beside
//! each of the two; it opens nothing but the file that tells of it, listens to nobody, and knows one command. Where a service
//! manager does this work (`deploy/systemd`) there is no keeper.

use super::{asked_to_end, cell_host, gateway, load, log, running, serve};
use crate::{
    cli::{CellHostArgs, GatewayArgs},
    exit::Failure,
};
use server::config::ServerConfig;
use std::{
    ffi::OsString,
    os::unix::{net::UnixStream, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often it is looked whether the first one answers.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether one that another keeper has started still runs.
const LOOK_AT_OTHER: Duration = Duration::from_millis(500);
/// One that ran so long did not end because of how it was started: the pauses begin anew.
const SETTLED: Duration = Duration::from_secs(3);

/// The file that tells of a running keeper of the cell host.
pub(crate) fn pid_file(config: &ServerConfig) -> PathBuf {
    config.cell.run_dir.join("cell-keeper.pid")
}

/// The file that tells of a running keeper of the gateway.
pub(crate) fn gateway_pid_file(config: &ServerConfig) -> PathBuf {
    config.gateway_run_dir().join("gateway-keeper.pid")
}

/// A process that is kept.
struct Kept {
    what: &'static str,
    pid_file: PathBuf,
    /// What it holds itself while it runs.
    held: PathBuf,
    arguments: Vec<OsString>,
    answers: Box<dyn Fn() -> bool>,
}

/// Keeps the cell host.
pub(crate) fn run(args: &CellHostArgs) -> Result<ExitCode, Failure> {
    super::leave_session();
    log("cell-keeper");
    let config = load(&args.config)?;
    cell_host::make_directories(&config)?;
    let control = config.cell.run_dir.join("control.sock");
    let mut arguments = vec![
        "cell-host".into(),
        "--door".into(),
        "--config".into(),
        args.config.clone().into_os_string(),
    ];
    if let Some(instance) = &args.instance {
        arguments.extend(["--instance".into(), instance.as_str().into()]);
    }
    until_asked(&Kept {
        what: "the cell host",
        pid_file: pid_file(&config),
        held: cell_host::pid_file(&config),
        arguments,
        answers: Box::new(move || UnixStream::connect(&control).is_ok()),
    })
}

/// Keeps the gateway.
pub(crate) fn of_gateway(args: &GatewayArgs) -> Result<ExitCode, Failure> {
    super::leave_session();
    log("gateway-keeper");
    let config = load(&args.config)?;
    until_asked(&Kept {
        what: "the gateway",
        pid_file: gateway_pid_file(&config),
        held: gateway::pid_file(&config),
        arguments: vec![
            "gateway".into(),
            "--config".into(),
            args.config.clone().into_os_string(),
        ],
        answers: Box::new(serve::gateway_answers(&config)),
    })
}

/// Runs until the process was asked to end, or the keeper itself: it passes that on.
fn until_asked(kept: &Kept) -> Result<ExitCode, Failure> {
    let pid_file = &kept.pid_file;
    let held = running::hold(pid_file)
        .map_err(|error| Failure::new(1, format!("{} can not be made: {error}", pid_file.display())))?;
    if held.is_none() {
        return Err(Failure::new(
            6,
            format!("another process looks after {} already", kept.what),
        ));
    }
    // One thread: it only waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(1, format!("no event loop could be made: {error}")))?;
    runtime.block_on(keep(kept))
}

async fn keep(kept: &Kept) -> Result<ExitCode, Failure> {
    let end = asked_to_end()?;
    let mut pause = FIRST_PAUSE;
    let mut answered = running::is_held(&kept.held);
    if answered {
        tracing::info!("{} runs already and is looked after from now on", kept.what);
        tokio::select! {
            () = end.cancelled() => return Ok(ExitCode::SUCCESS),
            () = until_free(&kept.held) => tracing::warn!("{} has ended and is started again", kept.what),
        }
    }
    loop {
        let since = Instant::now();
        let mut child = start(kept)?;
        let status = tokio::select! {
            status = until_end(kept, &mut child, &end) => status?,
            // Never ends.
            () = note_answer(kept, &mut answered) => continue,
        };
        // What fails before it ever answered is told to whoever starts it, and not tried for ever.
        let hopeless = !answered && status.signal().is_none();
        if status.success() || end.is_cancelled() || hopeless {
            return Ok(ExitCode::from(
                status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
            ));
        }
        if since.elapsed() > SETTLED {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(%status, "{} has ended and is started again", kept.what);
        tokio::select! {
            () = end.cancelled() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Waits for the end of a process that another keeper has started.
async fn until_free(held: &Path) {
    while running::is_held(held) {
        tokio::time::sleep(LOOK_AT_OTHER).await;
    }
}

/// Notes when it answers for the first time.
async fn note_answer(kept: &Kept, answered: &mut bool) {
    while !*answered {
        tokio::time::sleep(LOOK).await;
        *answered = (kept.answers)();
    }
    std::future::pending().await
}

fn start(kept: &Kept) -> Result<Child, Failure> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(super::NAME)
        .args(&kept.arguments)
        .current_dir("/")
        .stdin(Stdio::null());
    command
        .spawn()
        .map_err(|error| Failure::new(1, format!("{} could not be started: {error}", kept.what)))
}

/// Waits for its end. Whoever asks the keeper to end means the process.
async fn until_end(kept: &Kept, child: &mut Child, end: &CancellationToken) -> Result<ExitStatus, Failure> {
    let failed = |error: std::io::Error| Failure::new(1, format!("{} can not be waited for: {error}", kept.what));
    tokio::select! {
        status = child.wait() => return status.map_err(failed),
        () = end.cancelled() => {}
    }
    let pid = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    if let Some(pid) = pid {
        // It may have ended by itself just now.
        let _ = running::end(pid);
    }
    child.wait().await.map_err(failed)
}
