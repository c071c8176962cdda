//! `maquette stop`: ends the server's processes and nothing else.

use super::{cell_host, door, gateway, keeper, load, log, running};
use crate::{cli::StopArgs, exit::Failure, screen};
use rustix::process::Pid;
use server::StateDir;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

/// How long they may take: what is in flight is completed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a process may hold its file without being known: it is just beginning, or just ending.
const UNKNOWN: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks each to end and waits until they have. Environments go on.
pub(crate) fn run(args: &StopArgs) -> Result<ExitCode, Failure> {
    log("stop");
    let config = load(&args.config)?;
    let files = [
        ("serve", StateDir::new(&config.state_dir).lock()),
        // First each keeper, which would start the other again.
        ("gateway-keeper", keeper::gateway_pid_file(&config)),
        ("gateway", gateway::pid_file(&config)),
        ("cell-keeper", keeper::pid_file(&config)),
        ("cell-host", cell_host::pid_file(&config)),
    ];
    end(&files)?;
    // Last, because the cell host would start it again.
    end(&[("door", door::pid_file(&config))])?;
    Ok(ExitCode::SUCCESS)
}

fn end(files: &[(&'static str, PathBuf)]) -> Result<(), Failure> {
    let mut left = Vec::new();
    for (name, file) in files {
        let Some(pid) = holder(name, file)? else { continue };
        running::end(pid).map_err(|error| {
            Failure::new(4, format!("{name} can not be asked to end: {error}")).hint("sudo maquette stop")
        })?;
        screen::tell(&format!("{name} was asked to end"));
        left.push((*name, pid, file));
    }
    let since = Instant::now();
    loop {
        // Whoever starts it next must not take it for one that runs.
        left.retain(|(_, pid, file)| running::exists(*pid) || running::holds(*pid, file));
        if left.is_empty() {
            return Ok(());
        }
        if since.elapsed() > PATIENCE {
            let names: Vec<&str> = left.iter().map(|(name, ..)| *name).collect();
            return Err(Failure::new(1, format!("still running: {}", names.join(", "))));
        }
        sleep(PAUSE);
    }
}

/// The process of ours that holds the file, if one does.
fn holder(name: &str, file: &Path) -> Result<Option<Pid>, Failure> {
    let since = Instant::now();
    loop {
        if let Some(pid) = running::holder(file) {
            return Ok(Some(pid));
        }
        if !running::is_held(file) {
            return Ok(None);
        }
        if since.elapsed() > UNKNOWN {
            return Err(Failure::new(
                1,
                format!("{name} is another user's, or runs from another program file, and is left alone"),
            )
            .hint("sudo maquette stop"));
        }
        sleep(PAUSE);
    }
}
