//! A trial container: whether an OCI runtime works on this machine, and really applies what the walls of a cell are made of.

use super::{
    bundle::{self, Plan},
    cgroup::{Cgroups, TRIAL},
    conmon::{Container, Programs, Running, remove_directory, wait_gone},
    idmap,
    network::container_address,
    oci::{Oci, OciKind},
};
use model::Limits;
use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Without a trial that went well there are no cells: a machine that is busy is given time.
const PATIENCE: Duration = Duration::from_secs(60);
const UNIT: &str = "trial";
const PIDS: u64 = 16;
const COMMAND: &str = "sleep";

/// Where trials are made.
pub(crate) struct Ground<'a> {
    /// Control groups that nobody else uses.
    pub(crate) groups: &'a Cgroups,
    /// A directory that everybody can pass; nothing stays in it.
    pub(crate) directory: &'a Path,
    /// An `/etc` for containers.
    pub(crate) etc: &'a Path,
    /// Ids that no environment has.
    pub(crate) range: idmap::Range,
    /// The monitor.
    pub(crate) conmon: &'a Path,
}

/// The programs that are to make containers: with the runtime that the operator wants, else with the first that works.
///
/// # Errors
/// Why the wanted one can not be used.
pub(crate) fn choose(wanted: Option<OciKind>, ground: &Ground<'_>) -> Result<Programs, String> {
    let there: Vec<Oci> = OciKind::ALL.into_iter().filter_map(Oci::find).collect();
    let mut refused = Vec::new();
    let mut chosen = None;
    for kind in OciKind::ALL
        .into_iter()
        .filter(|kind| wanted.is_none_or(|w| w == *kind))
    {
        let Some(oci) = there.iter().find(|oci| oci.kind == kind) else {
            refused.push(format!("{kind} is not installed"));
            continue;
        };
        match run(oci, ground) {
            Ok(took) => {
                tracing::info!(runtime = %kind, ?took, why = refused.join("; "), "containers are made by this OCI runtime");
                chosen = Some(oci.clone());
                break;
            }
            Err(reason) => refused.push(format!("{kind} can not be used: {reason}")),
        }
    }
    let oci = chosen.ok_or_else(|| refused.join("; "))?;
    Ok(Programs {
        others: there.into_iter().filter(|other| *other != oci).collect(),
        oci,
        conmon: ground.conmon.to_owned(),
    })
}

/// Makes a container, looks at it from outside and removes it. Returns how long it took until its command was let go.
///
/// # Errors
/// Says what did not work, or what was not as it has to be.
pub(crate) fn run(oci: &Oci, ground: &Ground<'_>) -> Result<Duration, String> {
    let container = Container {
        id: format!("trial-{}-{}", oci.kind, std::process::id()),
        bundle: ground.directory.join("trial"),
        oci: oci.clone(),
        runtime_root: ground.directory.join("trial-state"),
        log: ground.directory.join("trial.log"),
        log_max: 64 << 10,
    };
    // A trial that was interrupted may have left something.
    let before = clear(&container, ground);
    let tried = before.and_then(|()| attempt(&container, ground));
    let cleared = clear(&container, ground);
    let took = tried?;
    cleared.map(|()| took)
}

fn attempt(container: &Container, ground: &Ground<'_>) -> Result<Duration, String> {
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        cpu_millis: None,
        pids: Some(PIDS),
        disk_bytes: None,
    };
    let said = |e: io::Error| super::super::host::chain(&e);
    ground.groups.ensure(TRIAL, &limits).map_err(said)?;
    let plan = Plan {
        host_name: UNIT.to_owned(),
        address: container_address(0),
        argv: vec![COMMAND.to_owned(), "600".to_owned()],
        variables: Vec::new(),
        working_directory: "/".to_owned(),
        user: 0,
        group: 0,
        groups: Vec::new(),
        home: None,
        image: None,
        builds: false,
        mounts: Vec::new(),
        limits,
        bounds_swap: ground.groups.bounds_swap(),
        cgroup: ground.groups.oci_path(TRIAL, UNIT),
        range: ground.range,
        etc: ground.etc.to_owned(),
        init: None,
        options: model::Options::default(),
    };
    bundle::write(&container.bundle, &plan).map_err(said)?;
    let programs = Programs {
        oci: container.oci.clone(),
        others: Vec::new(),
        conmon: ground.conmon.to_owned(),
    };
    let null = null_owner();
    let begun = Instant::now();
    let made = |e: super::conmon::ContainerError| super::super::host::chain(&e);
    let running = container.create(&programs).map_err(made)?;
    // Before anything runs in it: from then on it would be too late.
    if null_owner() != null {
        return Err("it gives the machine's /dev/null to the container".to_owned());
    }
    container.start().map_err(made)?;
    let took = begun.elapsed();
    examine(&running, ground)?;
    Ok(took)
}

fn null_owner() -> Option<(u32, u32)> {
    fs::metadata("/dev/null").ok().map(|m| (m.uid(), m.gid()))
}

/// What the kernel says about the process once its command runs.
fn examine(running: &Running, ground: &Ground<'_>) -> Result<(), String> {
    let proc = PathBuf::from(format!("/proc/{}", running.pid));
    let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    while read("comm").trim() != COMMAND {
        if Instant::now() > deadline {
            return Err("the command of a trial container does not run".to_owned());
        }
        thread::sleep(Duration::from_micros(500));
    }
    let status = read("status");
    let field = |name: &str| {
        let found = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let lacks = |what: &str| Err(format!("a trial container runs {what}"));
    if field("Seccomp") != "2" {
        return lacks("without a filter of its system calls");
    }
    if field("NoNewPrivs") != "1" {
        return lacks("with the possibility to get new privileges");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if !field(set).trim_start_matches('0').is_empty() {
            return lacks("with capabilities");
        }
    }
    if !field("Groups").is_empty() {
        return lacks("with supplementary groups");
    }
    let first = ground.range.first.to_string();
    for map in ["uid_map", "gid_map"] {
        if read(map).split_whitespace().collect::<Vec<_>>() != ["0", first.as_str(), "65536"] {
            return lacks("with other user ids than it was given");
        }
    }
    let mounts = read("mountinfo");
    let option = |target: &str, wanted: &str| {
        let of = |line: &&str| line.split(' ').nth(4) == Some(target);
        let last = mounts.lines().rfind(of);
        last.and_then(|line| line.split(' ').nth(5))
            .is_some_and(|options| options.split(',').any(|o| o == wanted))
    };
    if !["/", "/usr", "/etc", "/proc/sys"]
        .iter()
        .all(|target| option(target, "ro"))
    {
        return lacks("with a root that it can write to");
    }
    let covered = |path: &str| mounts.lines().any(|line| line.split(' ').nth(4) == Some(path));
    let seen = bundle::MASKED
        .iter()
        .find(|path| Path::new(path).exists() && !covered(path));
    if let Some(path) = seen {
        return lacks(&format!("with {path} of the machine in sight"));
    }
    examine_groups(running.pid, ground.groups)
}

fn examine_groups(pid: u32, groups: &Cgroups) -> Result<(), String> {
    let lacks = |what: &str| Err(format!("a trial container runs {what}"));
    let inside = groups
        .processes(TRIAL, Some(UNIT))
        .is_ok_and(|found| found.contains(&pid));
    if !inside {
        return lacks("outside of its control group");
    }
    if groups.setting("pids", TRIAL, UNIT, "pids.max").as_deref() != Some(PIDS.to_string().as_str()) {
        return lacks("without limits");
    }
    // Version 2 has a program in the kernel in place of a list.
    let devices = groups.setting("devices", TRIAL, UNIT, "devices.list");
    if devices.is_some_and(|list| {
        list.lines()
            .any(|line| line.starts_with("a ") || line.starts_with("b ") && line != "b *:* m")
    }) {
        return lacks("with access to devices");
    }
    Ok(())
}

fn clear(container: &Container, ground: &Ground<'_>) -> Result<(), String> {
    let done = || -> io::Result<()> {
        ground.groups.kill(TRIAL, None)?;
        if let Some(monitor) = container.monitor()? {
            wait_gone(&monitor, PATIENCE)?;
        }
        ground.groups.remove(TRIAL, None)?;
        remove_directory(&container.runtime_root)?;
        remove_directory(&container.bundle)?;
        match fs::remove_file(&container.log) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    };
    done().map_err(|e| format!("a trial container can not be removed: {e}"))
}
