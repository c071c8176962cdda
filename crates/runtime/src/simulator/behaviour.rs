//! How simulated services and jobs behave.

use super::Content;
use model::{MountKind, Workload};
use std::{path::Path, time::Duration};

/// How a service behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It is ready at once.
    Ready,
    /// It is ready after so much simulated time.
    ReadyAfter(Duration),
    /// It runs and never becomes ready.
    NeverReady,
    /// It was ready and its health check fails.
    Unhealthy,
    /// Its main process ends with this status whenever it is started.
    Exits(i32),
    /// It can not be started, for this reason. `apply` says so.
    Refused(String),
}

/// How one run of a job behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobBehaviour {
    /// It ends with this status.
    Exits(i32),
    /// It runs until its time is over.
    Forever,
    /// It runs until [`super::Simulator::release_job`].
    Held,
    /// It can not be started, for this reason.
    Refused(String),
}

/// The first words of a workload's command.
fn words(workload: &Workload) -> Vec<&str> {
    let parts = [&workload.entrypoint, &workload.command];
    parts.into_iter().flatten().flatten().map(String::as_str).collect()
}

/// What a container prints when it is started.
pub(super) fn text(workload: &Workload, name: &str) -> String {
    match words(workload).as_slice() {
        ["serve" | "exit", text, ..] => (*text).to_owned(),
        _ => name.to_owned(),
    }
}

/// How a service behaves by its command.
pub(super) fn service(workload: &Workload) -> Behaviour {
    match words(workload).as_slice() {
        ["idle" | "never-ready", ..] => Behaviour::NeverReady,
        ["ready-after", ms, ..] => Behaviour::ReadyAfter(Duration::from_millis(ms.parse().unwrap_or(0))),
        ["exit", _, code, ..] => Behaviour::Exits(code.parse().unwrap_or(1)),
        ["fail" | "crash-loop", ..] => Behaviour::Exits(1),
        ["missing", ..] => Behaviour::Refused("the command `missing` does not exist".to_owned()),
        _ => Behaviour::Ready,
    }
}

/// How a job behaves by its command.
pub(super) fn job(workload: &Workload) -> JobBehaviour {
    match words(workload).as_slice() {
        ["idle", ..] => JobBehaviour::Forever,
        ["exit", _, code, ..] => JobBehaviour::Exits(code.parse().unwrap_or(1)),
        ["fail" | "crash-loop", ..] => JobBehaviour::Exits(1),
        ["missing", ..] => JobBehaviour::Refused("the command `missing` does not exist".to_owned()),
        _ => JobBehaviour::Exits(0),
    }
}

/// All files below a directory, by path relative to it.
pub(super) fn files(root: &Path) -> Content {
    let mut found = Content::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if let (Ok(relative), Ok(bytes)) = (path.strip_prefix(root), std::fs::read(&path)) {
                found.insert(relative.to_string_lossy().into_owned(), bytes);
            }
        }
    }
    found
}

/// What a build's command does to its checkout: `list DIRECTORY FILE` writes the names of what is at the top of the directory.
pub(super) fn build(workload: &Workload, content: &mut Content) {
    let words = words(workload);
    let ["list", _, into, ..] = words.as_slice() else {
        return;
    };
    let checkout = workload.mounts.iter().find_map(|mount| match &mount.kind {
        MountKind::Source { .. } => into.strip_prefix(&format!("{}/", mount.target)),
        _ => None,
    });
    let Some(path) = checkout else { return };
    let mut names: Vec<&str> = content.keys().filter_map(|path| path.split('/').next()).collect();
    names.dedup();
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    content.insert(path.to_owned(), text.into_bytes());
}
