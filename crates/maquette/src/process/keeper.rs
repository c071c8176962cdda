//! The keeper of the cell host: it starts it again when it has ended and nobody asked it to.
//!
//! The control plane can not do that, it is not root. So a process that is root stays beside the cell host; it opens nothing but
//! the file that tells of it, listens to nobody, and knows one command. Where a service manager does this work (`deploy/systemd`)
//! there is no keeper.

use super::{asked_to_end, cell_host, load, log, running};
use crate::{cli::CellHostArgs, exit::Failure};
use server::config::ServerConfig;
use std::{
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
/// One that ran so long did not end because of how it was started: the pauses begin anew.
const SETTLED: Duration = Duration::from_secs(3);

/// The file that tells of a running keeper.
pub(crate) fn pid_file(config: &ServerConfig) -> PathBuf {
    config.cell.run_dir.join("cell-keeper.pid")
}

/// Runs until the cell host was asked to end, or the keeper itself: it passes that on.
pub(crate) fn run(args: &CellHostArgs) -> Result<ExitCode, Failure> {
    super::leave_session();
    log("cell-keeper");
    let config = load(&args.config)?;
    cell_host::make_directories(&config)?;
    let pid_file = pid_file(&config);
    let held = running::hold(&pid_file)
        .map_err(|error| Failure::new(1, format!("{} can not be made: {error}", pid_file.display())))?;
    if held.is_none() {
        return Err(Failure::new(6, "another process looks after the cell host already"));
    }
    // One thread: it only waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(1, format!("no event loop could be made: {error}")))?;
    runtime.block_on(keep(args, &config.cell.run_dir.join("control.sock")))
}

async fn keep(args: &CellHostArgs, control: &Path) -> Result<ExitCode, Failure> {
    let end = asked_to_end()?;
    let mut pause = FIRST_PAUSE;
    let mut answered = false;
    loop {
        let since = Instant::now();
        let mut host = start(args)?;
        let status = tokio::select! {
            status = until_end(&mut host, &end) => status?,
            // Never ends.
            () = note_answer(control, &mut answered) => continue,
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
        tracing::warn!(%status, "the cell host has ended and is started again");
        tokio::select! {
            () = end.cancelled() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Notes when it answers for the first time.
async fn note_answer(control: &Path, answered: &mut bool) {
    while !*answered {
        tokio::time::sleep(LOOK).await;
        *answered = UnixStream::connect(control).is_ok();
    }
    std::future::pending().await
}

fn start(args: &CellHostArgs) -> Result<Child, Failure> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(super::NAME)
        .arg("cell-host")
        .arg("--config")
        .arg(&args.config)
        .current_dir("/")
        .stdin(Stdio::null());
    if let Some(instance) = &args.instance {
        command.args(["--instance", instance.as_str()]);
    }
    command
        .spawn()
        .map_err(|error| Failure::new(1, format!("the cell host could not be started: {error}")))
}

/// Waits for its end. Whoever asks the keeper to end means the cell host.
async fn until_end(host: &mut Child, end: &CancellationToken) -> Result<ExitStatus, Failure> {
    let failed = |error: std::io::Error| Failure::new(1, format!("the cell host can not be waited for: {error}"));
    tokio::select! {
        status = host.wait() => return status.map_err(failed),
        () = end.cancelled() => {}
    }
    let pid = host
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    if let Some(pid) = pid {
        // It may have ended by itself just now.
        let _ = running::end(pid);
    }
    host.wait().await.map_err(failed)
}
