//! What the kernel offers: namespaces, control groups, capabilities, limits.

use std::path::Path;

use super::Finding;
use crate::sys::{self, Extent};

const NAMESPACES: [&str; 6] = ["user", "pid", "mnt", "net", "ipc", "uts"];
const NEEDED_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// One environment with many watchers must not use up the instances that all share.
const INOTIFY_INSTANCES: u64 = 1024;
const INOTIFY_WATCHES: u64 = 65_536;

pub(super) fn read(path: &str) -> Option<String> {
    // These are files of the kernel's, a few kilobytes at most.
    std::fs::read_to_string(path).ok()
}

fn number(path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

pub(super) fn namespaces() -> Finding {
    const CHECK: &str = "namespaces";
    let missing: Vec<&str> = NAMESPACES
        .into_iter()
        .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
        .collect();
    if missing.is_empty() {
        return Finding::ok(
            CHECK,
            "the kernel has user, pid, mount, network, ipc and uts namespaces",
        );
    }
    Finding::fail(
        CHECK,
        format!("the kernel lacks {} namespaces; cells need them", missing.join(", ")),
    )
    .mend("boot a kernel of the distribution, for example `apt install linux-image-amd64`")
}

pub(super) fn user_namespace() -> Finding {
    const CHECK: &str = "user namespace";
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return Finding::fail(
            CHECK,
            "user namespaces are switched off (user.max_user_namespaces is 0)",
        )
        .mend("sysctl -w user.max_user_namespaces=15000");
    }
    if !rustix::process::geteuid().is_root() {
        return Finding::warn(CHECK, "not tried: only root can map a range of ids").mend("sudo maquette doctor");
    }
    match sys::user_namespace(&[range()], &[range()]) {
        Ok(_closed_at_once) => Finding::ok(CHECK, "one was made with a range of ids of its own"),
        Err(error) => Finding::fail(CHECK, format!("making one failed: {error}")),
    }
}

/// A range far from real users, as environments get them.
pub(super) const fn range() -> Extent {
    Extent {
        inside: 0,
        outside: 1_900_000_000,
        count: 65_536,
    }
}

pub(super) fn control_groups() -> Finding {
    if let Some(controllers) = read("/sys/fs/cgroup/cgroup.controllers") {
        let controllers: Vec<&str> = controllers.split_whitespace().collect();
        return judge_controllers(2, &controllers);
    }
    let found: Vec<String> = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .flat_map(|name| name.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    judge_controllers(1, &found.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn judge_controllers(version: u8, controllers: &[&str]) -> Finding {
    const CHECK: &str = "control groups";
    let missing: Vec<&str> = NEEDED_CONTROLLERS
        .into_iter()
        .filter(|name| !controllers.contains(name))
        .collect();
    match (missing.is_empty(), version) {
        (false, _) => {
            let meaning = format!(
                "version {version}, without {}: services can't be limited",
                missing.join(", ")
            );
            Finding::fail(CHECK, meaning).mend("boot without `cgroup_disable=` on the kernel's command line")
        }
        (true, 1) if !controllers.contains(&"freezer") => Finding::warn(
            CHECK,
            "version 1 without freezer: environments are stopped instead of frozen when they sleep",
        ),
        (true, 1) => Finding::warn(
            CHECK,
            "version 1: limits and sleep work; memory is reclaimed less gently (no memory.high)",
        )
        .mend("boot with `systemd.unified_cgroup_hierarchy=1` on the kernel's command line"),
        (true, _) => Finding::ok(CHECK, format!("version 2 with {}", controllers.join(", "))),
    }
}

pub(super) fn resource_capability() -> Finding {
    const CHECK: &str = "CAP_SYS_RESOURCE";
    const BIT: u32 = 24;
    let status = read("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    match effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) {
        Some(bits) if bits & (1 << BIT) != 0 => Finding::ok(CHECK, "limits of services can be raised and lowered"),
        Some(_) if !rustix::process::geteuid().is_root() => {
            Finding::warn(CHECK, "not known: this process is not root").mend("sudo maquette doctor")
        }
        _ => Finding::warn(
            CHECK,
            "missing (a container or a locked-down machine): services keep the limits of the cell host, and the kernel's \
             out-of-memory killer is not told whom to spare",
        ),
    }
}

pub(super) fn inotify() -> Finding {
    let instances = number("/proc/sys/fs/inotify/max_user_instances").unwrap_or(0);
    let watches = number("/proc/sys/fs/inotify/max_user_watches").unwrap_or(0);
    judge_inotify(instances, watches)
}

pub(super) fn judge_inotify(instances: u64, watches: u64) -> Finding {
    const CHECK: &str = "inotify limits";
    if instances >= INOTIFY_INSTANCES && watches >= INOTIFY_WATCHES {
        return Finding::ok(CHECK, format!("{instances} instances, {watches} watches"));
    }
    let meaning = format!(
        "{instances} instances and {watches} watches, shared by all environments: file watchers of many at once will fail"
    );
    Finding::warn(CHECK, meaning)
        .mend("sysctl -w fs.inotify.max_user_instances=8192 fs.inotify.max_user_watches=524288")
}
