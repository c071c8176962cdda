//! What an installation has on the machine, whatever it is called: also what does not bear an environment's name.

use crate::{
    golden::ready,
    kill::{PATIENCE, PROCESSES, Process, mend},
    rig::Rig,
};
use rustix::process::{Signal, kill_process};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Waits until only goldens and the processes themselves are there. A server that begins looks for what nobody wants, so one is
/// started: otherwise that happens after some minutes.
pub(crate) async fn nothing_is_left(rig: &mut Rig) {
    let serve = Process::Serve.pid(rig).unwrap();
    kill_process(serve, Signal::KILL).unwrap();
    mend(rig, Process::Serve, serve).await;
    let since = Instant::now();
    loop {
        let found = belongings(rig).await;
        if found.is_empty() {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "left: {found:#?}\n{}", rig.log());
        sleep(Duration::from_millis(100)).await;
    }
}

async fn belongings(rig: &Rig) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut note = |directory: PathBuf| {
        for name in names(&directory) {
            found.insert(directory.join(name).display().to_string());
        }
    };
    for part in ["net", "cells", "mounts"] {
        note(rig.run_dir.join(part));
    }
    note(rig.root.join("cells/environments"));
    note(rig.root.join("cells/pool/environments"));
    let goldens = ready(rig).await;
    let is_golden = |path: &String| {
        let path = Path::new(path);
        path.ends_with("snapshots") || goldens.iter().any(|id| path.ends_with(format!("snapshots/{id}")))
    };
    note(rig.root.join("cells/pool/snapshots"));
    found.retain(|path| !is_golden(path));
    let (groups, processes) = grouped(rig);
    found.extend(groups);
    found.extend(processes);
    found.extend(mounts(rig));
    found
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Control groups beside the cell host's own, and processes that share that with it.
fn grouped(rig: &Rig) -> (Vec<String>, Vec<String>) {
    let (mut groups, mut processes) = (Vec::new(), Vec::new());
    let Some(host) = Process::CellHost.pid(rig) else {
        return (vec!["no cell host".to_owned()], processes);
    };
    let host = host.as_raw_nonzero().to_string();
    let door = Process::Door.pid(rig).map(|pid| pid.as_raw_nonzero().to_string());
    for line in fs::read_to_string(format!("/proc/{host}/cgroup"))
        .unwrap_or_default()
        .lines()
    {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(hierarchy), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Some(parent) = path.strip_suffix("/host") else {
            continue;
        };
        let root = Path::new("/sys/fs/cgroup").join(hierarchy);
        let parent = root.join(parent.trim_start_matches('/'));
        let is_group = |name: &String| name != "host" && parent.join(name).is_dir();
        groups.extend(
            names(&parent)
                .into_iter()
                .filter(is_group)
                .map(|name| format!("{hierarchy}: {name}")),
        );
        let inside = fs::read_to_string(parent.join("host/cgroup.procs")).unwrap_or_default();
        processes.extend(
            inside
                .lines()
                .filter(|pid| *pid != host && Some(*pid) != door.as_deref())
                .map(|pid| format!("process {pid}")),
        );
    }
    (groups, processes)
}

/// Mounts other than the pool's and the runtime directory's own.
fn mounts(rig: &Rig) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    let points = text.lines().filter_map(|line| line.split(' ').nth(1));
    let own = [
        rig.root.join("cells/pool"),
        rig.run_dir.clone(),
        rig.run_dir.join("cells"),
    ];
    let ours = |point: &&str| {
        let point = Path::new(point);
        (point.starts_with(&rig.root) || point.starts_with(&rig.run_dir)) && !own.iter().any(|own| own == point)
    };
    points.filter(ours).map(|point| format!("mount {point}")).collect()
}

/// One of each, the door and the keeper.
pub(crate) fn running(rig: &Rig) -> usize {
    let others = [Process::Door, Process::Keeper];
    let all = PROCESSES.iter().chain(&others);
    all.filter(|process| process.pid(rig).is_some()).count()
}
