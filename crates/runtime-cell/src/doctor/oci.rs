//! The OCI runtime that will make the containers, found out by making one with each.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::{Finding, kernel};
use crate::{
    host::{OciKind, chain},
    sandbox::{cgroup::Cgroups, etc, idmap, oci::Oci, trial},
};

const CHECK: &str = "OCI runtime";
const MEND: &str = "apt install crun";
const CONMON: &str = "/usr/bin/conmon";

/// What a trial came to.
type Tried = (OciKind, Result<Duration, String>);

pub(super) fn runtime(wanted: Option<OciKind>) -> Finding {
    let there: Vec<Oci> = OciKind::ALL.into_iter().filter_map(Oci::find).collect();
    if !there.is_empty() && !rustix::process::geteuid().is_root() {
        let names: Vec<&str> = there.iter().map(|oci| oci.kind.name()).collect();
        let meaning = format!(
            "{} installed, not tried: only root can make containers",
            names.join(" and ")
        );
        return Finding::warn(CHECK, meaning).mend("sudo maquette doctor");
    }
    match tried(&there) {
        Ok(tried) => judge(wanted, &tried),
        Err(reason) => Finding::fail(CHECK, format!("none could be tried: {reason}")),
    }
}

/// Tries each in a directory and in control groups of its own, which are removed.
fn tried(there: &[Oci]) -> Result<Vec<Tried>, String> {
    let said = |e: std::io::Error| chain(&e);
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("maquette-doctor-{}-{number}", std::process::id());
    // Below `/tmp` there may be no passing for a container's root.
    let directory = Path::new("/run").join(&name);
    let mut made = fs::DirBuilder::new();
    made.mode(0o711).create(&directory).map_err(said)?;
    let attempt = || -> Result<Vec<Tried>, String> {
        let shared = directory.join("etc");
        etc::write(&shared).map_err(said)?;
        // Last of what can fail: from here on it is removed.
        let groups = Cgroups::open(&name).map_err(said)?;
        let ground = trial::Ground {
            groups: &groups,
            directory: &directory,
            etc: &shared,
            range: idmap::Range {
                first: kernel::range().outside,
            },
            conmon: Path::new(CONMON),
        };
        let all = there.iter().map(|oci| (oci.kind, trial::run(oci, &ground))).collect();
        groups.dismantle().map_err(said)?;
        Ok(all)
    };
    let all = attempt();
    let removed = crate::sandbox::conmon::remove_directory(&directory).map_err(said);
    let all = all?;
    removed.map(|()| all)
}

/// Says which one will be used, why, and what the other one would cost.
pub(super) fn judge(wanted: Option<OciKind>, tried: &[Tried]) -> Finding {
    let of = |kind: OciKind| tried.iter().find(|(other, _)| *other == kind).map(|(_, result)| result);
    let candidates = OciKind::ALL
        .into_iter()
        .filter(|kind| wanted.is_none_or(|w| w == *kind));
    let chosen = candidates
        .clone()
        .find_map(|kind| Some((kind, of(kind)?.as_ref().ok()?)));
    let trouble = |kind: OciKind| match of(kind) {
        None => format!("{kind} is not installed"),
        Some(Err(reason)) => format!("{kind} can not be used: {reason}"),
        Some(Ok(took)) => format!("{kind} took {} ms", took.as_millis()),
    };
    let Some((kind, took)) = chosen else {
        let reasons: Vec<String> = candidates.map(trouble).collect();
        let meaning = format!("no service can be started: {}", reasons.join("; "));
        let finding = Finding::fail(CHECK, meaning);
        let installed = wanted.is_none_or(|kind| of(kind).is_some()) && !tried.is_empty();
        return match wanted {
            _ if installed => finding,
            Some(kind) => finding.mend(format!("apt install {}", kind.name())),
            None => finding.mend(MEND),
        };
    };
    let others: Vec<String> = OciKind::ALL
        .into_iter()
        .filter(|other| *other != kind)
        .map(trouble)
        .collect();
    let why = if wanted.is_some() {
        "as the settings say"
    } else {
        "the fastest that works here"
    };
    let meaning = format!(
        "{kind} makes the containers, {why}: a trial took {} ms; {}",
        took.as_millis(),
        others.join("; ")
    );
    if wanted.is_some() || kind == OciKind::ALL[0] {
        return Finding::ok(CHECK, meaning);
    }
    let finding = Finding::warn(
        CHECK,
        format!("{meaning}. Services start faster, with less of the CPU, by crun"),
    );
    if of(OciKind::Crun).is_none() {
        finding.mend(MEND)
    } else {
        finding
    }
}
