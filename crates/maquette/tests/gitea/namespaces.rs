//! The namespaces of an environment, by their numbers, which outlive no namespace: they are found without asking Maquette.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, path::Path};

const KINDS: [&str; 6] = ["net", "user", "pid", "mnt", "ipc", "uts"];

/// Those of the containers in the control groups of an environment, and the network namespaces that are kept by name below `run`.
/// Those that are this machine's own are left out.
pub(crate) fn of(environment: &str, run: &Path) -> BTreeSet<String> {
    let own: BTreeSet<String> = KINDS.iter().filter_map(|kind| namespace("1", kind)).collect();
    let mut found = BTreeSet::new();
    for pid in pids() {
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if group.contains(environment) {
            found.extend(KINDS.iter().filter_map(|kind| namespace(&pid, kind)));
        }
    }
    for entry in fs::read_dir(run.join("net")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(environment) {
            found.insert(format!("net:[{}]", entry.metadata().unwrap().ino()));
        }
    }
    found.difference(&own).cloned().collect()
}

/// Which of these a process is in or a mount keeps, in words.
pub(crate) fn left(namespaces: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for pid in pids() {
        let inside = KINDS.iter().filter_map(|kind| namespace(&pid, kind));
        for name in inside.filter(|name| namespaces.contains(name)) {
            found.push(format!("process {pid} is in {name}"));
        }
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        for name in namespaces.iter().filter(|name| mounts.contains(name.as_str())) {
            found.push(format!("a mount that process {pid} sees keeps {name}"));
        }
    }
    found
}

fn namespace(pid: &str, kind: &str) -> Option<String> {
    let name = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some(name.to_string_lossy().into_owned())
}

fn pids() -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}
