//! `maquette stop`: ends the server's processes and nothing else.

use super::{cell_host, door, gateway, keeper, load, log, running};
use crate::{cli::StopArgs, exit::Failure, screen};
use server::StateDir;
use std::{
    path::PathBuf,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

/// How long they may take: what is in flight is completed.
const PATIENCE: Duration = Duration::from_secs(30);

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
        let Some(pid) = running::holder(file) else {
            if running::is_held(file) {
                return Err(Failure::new(
                    1,
                    format!("{name} is another user's, or runs from another program file, and is left alone"),
                )
                .hint("sudo maquette stop"));
            }
            continue;
        };
        running::end(pid).map_err(|error| {
            Failure::new(4, format!("{name} can not be asked to end: {error}")).hint("sudo maquette stop")
        })?;
        screen::tell(&format!("{name} was asked to end"));
        left.push((*name, pid));
    }
    let since = Instant::now();
    loop {
        left.retain(|(_, pid)| running::exists(*pid));
        if left.is_empty() {
            return Ok(());
        }
        if since.elapsed() > PATIENCE {
            let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
            return Err(Failure::new(1, format!("still running: {}", names.join(", "))));
        }
        sleep(Duration::from_millis(20));
    }
}
