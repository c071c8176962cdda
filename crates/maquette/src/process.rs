//! The server's four processes, and how they find each other.
//!
//! `serve` (the control plane), `gateway` and `door` run as users without privileges, one each; `cell-host` as root. Whoever starts
//! `serve` as root gets all of them; each of the others outlives it and is found again: the cell host by its socket, the gateway and
//! the door by the locks that they hold. Each of these comes back when it is killed: its keeper looks after it, and the cell host after
//! the door. The control plane comes back, and a keeper does, when somebody starts `serve` again; a service manager does that for all.

pub(crate) mod cell_host;
pub(crate) mod door;
pub(crate) mod gateway;
pub(crate) mod instance;
pub(crate) mod keeper;
pub(crate) mod mail_catcher;
mod places;
pub(crate) mod running;
pub(crate) mod serve;
mod spawn;
pub(crate) mod stop;
pub(crate) mod user;

use crate::exit::Failure;
use server::config::{ConfigError, ServerConfig};
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt};

/// How this program is called in lists of processes.
const NAME: &str = "maquette";

/// Runs something to its end on an event loop.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(1, format!("no event loop could be made: {error}")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

/// The configuration of a process of the server.
pub(crate) fn load(path: &Path) -> Result<ServerConfig, Failure> {
    ServerConfig::load(path).map_err(|error| config_failure(&error))
}

/// A configuration that can not be used.
pub(crate) fn config_failure(error: &ConfigError) -> Failure {
    let failure = Failure::of(error);
    match (error.hint(), error) {
        (Some(hint), _) => failure.hint(hint),
        (None, ConfigError::Read { .. }) => {
            failure.hint("name the file with --config; it must be readable for the server's user, too")
        }
        (None, _) => failure,
    }
}

/// Writes the log to standard error. `MAQUETTE_LOG` says how much, as in `info,reconciler=debug`.
pub(crate) fn log(process: &'static str) {
    let filter = EnvFilter::try_from_env("MAQUETTE_LOG").unwrap_or_else(|_| EnvFilter::new("info,tokio_postgres=warn"));
    let started = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .try_init();
    if started.is_ok() {
        tracing::debug!(process, "starting");
    }
}

/// Cancelled when the process is asked to end.
pub(crate) fn asked_to_end() -> Result<CancellationToken, Failure> {
    let failed = |error: std::io::Error| Failure::new(1, format!("signals can not be waited for: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let end = CancellationToken::new();
    let asked = end.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end");
        asked.cancel();
    });
    Ok(end)
}

/// Leaves the session of whoever started this process, so that its end is not ours.
pub(crate) fn leave_session() {
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "this process leads a group already");
    }
}
