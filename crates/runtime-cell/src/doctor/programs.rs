//! Programs of the host that cells use.

use super::Finding;
use crate::engine::probe::version_of;
use crate::engine::{EngineKind, HostEngines, probe_host};
use crate::host::BUILDER as PROGRAM;
pub(super) use crate::sandbox::oci::find;
use crate::sandbox::{filter, init};

pub(super) fn all() -> Vec<Finding> {
    let mut findings = vec![
        program("conmon", "watches containers and keeps their logs"),
        program("git", "reads the repositories"),
    ];
    findings.push(judge_builder(find(PROGRAM).is_some()));
    findings.push(judge_optional(
        filter::PROGRAM,
        "nftables",
        filter::available(),
        "networks of a stack are kept apart with it",
        "all services of an environment share one network, whatever their Compose file says",
    ));
    findings.push(judge_optional(
        "init",
        init::PROGRAMS[0],
        init::program().is_some(),
        "containers that ask for an init process have one",
        "`init` of a service has no effect: nothing reaps what its program leaves behind",
    ));
    let host = probe_host();
    findings.extend(EngineKind::ALL.into_iter().map(|kind| judge_engine(kind, &host)));
    findings
}

fn program(name: &'static str, purpose: &str) -> Finding {
    let Some(path) = find(name) else {
        let meaning = format!("`{name}` is not installed; it {purpose}");
        return Finding::fail(name, meaning).mend(format!("apt install {name}"));
    };
    match version_of(&path, &["--version"])
        .as_deref()
        .and_then(|text| text.lines().next())
    {
        Some(version) => Finding::ok(name, format!("{} ({})", version.trim(), path.display())),
        None => Finding::fail(name, format!("{} does not tell its version", path.display()))
            .mend(format!("apt install --reinstall {name}")),
    }
}

pub(super) fn judge_builder(there: bool) -> Finding {
    if there {
        return Finding::ok(PROGRAM, "images are built from Dockerfiles with it".to_owned());
    }
    let meaning = "not installed: a stack whose services have `build` can't run here";
    Finding::warn(PROGRAM, meaning.to_owned()).mend(format!("apt install {PROGRAM}"))
}

fn judge_optional(name: &'static str, package: &str, there: bool, with: &str, without: &str) -> Finding {
    if there {
        return Finding::ok(name, with.to_owned());
    }
    Finding::warn(name, format!("not there: {without}")).mend(format!("apt install {package}"))
}

pub(super) fn judge_engine(kind: EngineKind, host: &HostEngines) -> Finding {
    let versions: Vec<&str> = host
        .installed
        .iter()
        .filter(|installed| installed.kind == kind)
        .map(|found| found.version.as_str())
        .collect();
    if versions.is_empty() {
        let package = kind.package(None);
        let meaning = format!("not installed: a stack that uses {kind} can't run here");
        return Finding::warn(kind.name(), meaning).mend(format!("apt install {package}"));
    }
    Finding::ok(kind.name(), format!("{} installed", versions.join(", ")))
}
