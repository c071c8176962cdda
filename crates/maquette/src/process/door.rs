//! The door's process, and what looks after it: a thread of the cell host, unless a service manager does.

use super::{leave_session, load, log, running, spawn, user::User};
use crate::{cli::DoorArgs, exit::Failure};
use runtime_cell::door::Bounds;
use rustix::process::geteuid;
use server::config::{DoorConfig, ServerConfig};
use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// One that ran so long did not end because of how it was started: the pauses begin anew.
const SETTLED: Duration = Duration::from_secs(3);

/// Runs it until it is asked to end.
pub(crate) fn run(args: &DoorArgs) -> Result<ExitCode, Failure> {
    leave_session();
    log("door");
    if geteuid().is_root() {
        return Err(
            Failure::new(1, "the door does not run as root").hint("`maquette serve` has it started as the right user")
        );
    }
    let config = load(&args.config)?;
    let pid_file = pid_file(&config);
    let failed = |error: io::Error| Failure::new(1, format!("{} can not be made: {error}", pid_file.display()));
    let Some(held) = running::hold(&pid_file).map_err(failed)? else {
        return Err(Failure::new(
            6,
            format!("another door uses {}", config.door_run_dir().display()),
        ));
    };
    // The control plane may look whether it runs; the directory keeps all others out.
    fs::set_permissions(&pid_file, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    runtime_cell::door::run(&config.cell.run_dir, bounds(&config.door)).map_err(|error| Failure::of(&error))?;
    drop(held);
    Ok(ExitCode::SUCCESS)
}

fn bounds(config: &DoorConfig) -> Bounds {
    Bounds {
        connections: usize::try_from(config.connections).unwrap_or(usize::MAX),
        bytes_an_hour: config.gib_per_hour.saturating_mul(1 << 30),
        loopback: config.loopback,
    }
}

/// The file that tells of a running door.
pub(crate) fn pid_file(config: &ServerConfig) -> PathBuf {
    config.door_run_dir().join("door.pid")
}

/// Has the door started as its user, and again whenever it has ended without being asked to. One that runs already is left alone: it
/// outlives the cell host, and its connections with it.
pub(crate) fn keep(config: &ServerConfig, config_path: &Path, user: &User) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(1, format!("the door can not be looked after: {error}"));
    let pid_file = pid_file(config);
    let config_path = config_path.canonicalize().map_err(failed)?;
    let (uid, gid) = (user.uid, user.gid);
    let keeper = thread::Builder::new().name("door".to_owned()).stack_size(128 << 10);
    let started = keeper.spawn(move || {
        let mut pause = FIRST_PAUSE;
        loop {
            wait_for_end(&pid_file);
            let since = Instant::now();
            match start_and_wait(&config_path, uid, gid) {
                Ok(status) if status.success() => return,
                Ok(status) => tracing::warn!(%status, "the door has ended and is started again"),
                Err(error) => tracing::error!(%error, "the door can not be started"),
            }
            if since.elapsed() > SETTLED {
                pause = FIRST_PAUSE;
            }
            sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
    started.map(drop).map_err(failed)
}

/// Returns when no door holds the file.
fn wait_for_end(pid_file: &Path) {
    if let Ok(file) = running::look(pid_file) {
        // A failure is told by the door itself, when it wants the file.
        let _ = rustix::fs::flock(&file, rustix::fs::FlockOperation::LockShared);
    }
}

fn start_and_wait(config_path: &Path, uid: u32, gid: u32) -> io::Result<ExitStatus> {
    Command::new("/proc/self/exe")
        .arg0(super::NAME)
        .args(["door".as_ref(), "--config".as_ref(), config_path.as_os_str()])
        .current_dir("/")
        .env_clear()
        .envs(spawn::kept())
        .uid(uid)
        .gid(gid)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?
        .wait()
}
