//! Options of a container that not every runtime has: users, bounds of the kernel, names in `/etc/hosts` and the like.

use super::{
    Scene,
    keys::{self, says},
    service::Body,
};
use crate::{
    escape::quoted,
    problem::At,
    read, suggest,
    yaml::{Key, Node, NodeKind},
};
use model::{Feature, Pull, SYSCTLS, Ulimit, is_harmless_sysctl};

/// The most lines of `/etc/hosts`, bounds of the kernel and the like.
const ITEMS_MAX: usize = 100;
/// The capabilities that the root user of a container may have, inside its own user namespace.
const CAPABILITIES: [&str; 10] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The bounds that the kernel knows.
const ULIMITS: [&str; 13] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nofile",
    "nproc",
    "rss",
    "sigpending",
    "stack",
];

/// Reads one of the keys that nothing else reads.
pub(super) fn read(scene: &Scene<'_>, key: &Key, node: &Node, what: &str, body: &mut Body) {
    let report = scene.report;
    let at = key.at;
    match key.text.as_str() {
        "user" => {
            body.options.user = read::text(report, node, what)
                .filter(|text| !text.is_empty())
                .map(str::to_owned);
            if body.options.user.is_some() {
                body.wish(at, Feature::Users, what);
            }
        }
        "group_add" => {
            let groups = read::texts(report, node, what, false).unwrap_or_default();
            body.options.groups = groups.into_iter().take(ITEMS_MAX).map(|(_, group)| group).collect();
            body.wish(at, Feature::Users, what);
        }
        "init" => {
            body.options.init = read::flag(report, node, what);
            if body.options.init == Some(true) {
                body.wish(at, Feature::Init, what);
            }
        }
        "hostname" => {
            body.options.hostname = hostname(scene, node, what);
            body.wish(at, Feature::Hostname, what);
        }
        "extra_hosts" => hosts(scene, node, what, at, body),
        "ulimits" => ulimits(scene, node, what, at, body),
        "sysctls" => sysctls(scene, node, what, at, body),
        "cap_drop" => {
            let names = read::texts(report, node, what, false).unwrap_or_default();
            let names = names.into_iter().take(ITEMS_MAX).map(|(_, name)| capability(&name));
            body.options.drop_capabilities = names.collect();
            body.wish(at, Feature::DropCapabilities, what);
        }
        "cap_add" => added(scene, node, what, at, body),
        "shm_size" => {
            body.options.shm_bytes = read::bytes(report, node, what);
            body.wish(at, Feature::SharedMemory, what);
        }
        "tty" | "stdin_open" => {
            let flag = read::flag(report, node, what).unwrap_or_default();
            if key.text == "tty" {
                body.options.terminal = flag;
            } else {
                body.options.stdin_open = flag;
            }
            if flag {
                body.wish(at, Feature::Terminal, what);
            }
        }
        "platform" => body.options.platform = read::text(report, node, what).map(str::to_owned),
        "pull_policy" => body.options.pull = pull(scene, node, what),
        "security_opt" => security(scene, node, what),
        "ipc" => only(scene, node, what, &["private", "shareable", ""]),
        "cgroup" => only(scene, node, what, &["private", ""]),
        // Every key that is honoured has its arm above or in `service.rs`, which a test holds.
        _ => {}
    }
}

/// The name of a capability as the kernel has it, without `CAP_`.
fn capability(name: &str) -> String {
    name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned()
}

/// Capabilities: those that services may have, those that they can do without, and those that mean the machine.
fn added(scene: &Scene<'_>, node: &Node, what: &str, at: At, body: &mut Body) {
    for (place, name) in read::texts(scene.report, node, what, false).unwrap_or_default() {
        let name = capability(&name);
        let lack = match name.as_str() {
            known if CAPABILITIES.contains(&known) => {
                body.options.add_capabilities.push(name);
                continue;
            }
            "AUDIT_WRITE" | "MKNOD" | "SETFCAP" => {
                "it means nothing in the user namespace that a service has of its own"
            }
            "NET_RAW" => "raw sockets could speak in the name of other services",
            "IPC_LOCK" | "LEASE" | "SYS_NICE" | "SYS_PTRACE" | "SYS_RESOURCE" => {
                "the bounds of the environment apply to all of its processes"
            }
            _ => {
                scene.report.error_hint(
                    place,
                    format!("{} in {what} is not supported", quoted(&name)),
                    "raised privileges are a matter of the project's policy, and no policy can grant them yet: remove it",
                );
                continue;
            }
        };
        let message = format!("{} in {what} has no effect: {lack}", quoted(&name));
        scene.report.warn(place, message);
    }
    if !body.options.add_capabilities.is_empty() {
        body.wish(at, Feature::DropCapabilities, what);
    }
}

/// Refuses everything but values that say what is the case anyway.
fn only(scene: &Scene<'_>, node: &Node, what: &str, harmless: &[&str]) {
    if !says(node, harmless) {
        let text = read::text(scene.report, node, what).unwrap_or_default();
        scene.report.error_hint(
            node.at,
            format!("{} as {what} is not supported", quoted(text)),
            "raised privileges are a matter of the project's policy, and no policy can grant them yet: remove it",
        );
    }
}

fn hostname(scene: &Scene<'_>, node: &Node, what: &str) -> Option<String> {
    let text = read::text(scene.report, node, what)?;
    let fits = !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !fits {
        scene
            .report
            .error(node.at, format!("{what} can not be {}", quoted(text)));
    }
    fits.then(|| text.to_owned())
}

/// `name: address`, `name=address`, `name:address`; an address may be a list.
fn hosts(scene: &Scene<'_>, node: &Node, what: &str, at: At, body: &mut Body) {
    let report = scene.report;
    let mut found: Vec<(At, String, String)> = Vec::new();
    match &node.kind {
        NodeKind::List(_) => {
            for (at, text) in read::texts(report, node, what, false).unwrap_or_default() {
                match text.split_once('=').or_else(|| text.split_once(':')) {
                    Some((name, address)) => found.push((at, name.to_owned(), address.to_owned())),
                    None => report.error_hint(
                        at,
                        format!("{} is no name with an address", quoted(&text)),
                        "written `name=address`",
                    ),
                }
            }
        }
        _ => {
            for (key, value) in read::map(report, node, what).unwrap_or_default() {
                for (at, address) in read::texts(report, value, what, true).unwrap_or_default() {
                    found.push((at, key.text.clone(), address));
                }
            }
        }
    }
    for (at, name, address) in found.into_iter().take(ITEMS_MAX) {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if address == "host-gateway" {
            report.warn_hint(
                at,
                format!("{} of {what} has no effect", quoted(&name)),
                "the machine that runs environments can not be reached from them",
            );
        } else if address.parse::<core::net::IpAddr>().is_ok() {
            body.options.hosts.push((name, address.to_owned()));
        } else {
            report.error(at, format!("{} is not an address", quoted(address)));
        }
    }
    if !body.options.hosts.is_empty() {
        body.wish(at, Feature::Hosts, what);
    }
}

fn ulimits(scene: &Scene<'_>, node: &Node, what: &str, at: At, body: &mut Body) {
    let report = scene.report;
    for (key, value) in read::map(report, node, what).unwrap_or_default() {
        if matches!(key.text.as_str(), "nice" | "rtprio" | "rttime") {
            report.error_hint(
                key.at,
                format!("`{}` in {what} is not supported", key.text),
                "raised privileges are a matter of the project's policy, and no policy can grant them yet: remove it",
            );
            continue;
        }
        if !ULIMITS.contains(&key.text.as_str()) {
            read::unknown_key(report, key, &format!("in {what}"), &ULIMITS);
            continue;
        }
        let bound = |node: &Node, what: &str| -> Option<Option<u64>> {
            if says(node, &["-1", "unlimited"]) {
                return Some(None);
            }
            read::number(report, node, what).map(Some)
        };
        let limit = match &value.kind {
            NodeKind::Map(_) => {
                let (mut soft, mut hard) = (None, None);
                for (key, value) in read::map(report, value, what).unwrap_or_default() {
                    if keys::admit(report, "services.*.ulimits.*", key, &format!("in {what}")) {
                        let read = bound(value, &format!("`{}` in {what}", key.text));
                        if key.text == "soft" {
                            soft = read;
                        } else {
                            hard = read;
                        }
                    }
                }
                soft.or(hard).zip(hard.or(soft))
            }
            _ => bound(value, &format!("`{}` in {what}", key.text)).map(|both| (both, both)),
        };
        if let Some((soft, hard)) = limit {
            body.options.ulimits.insert(key.text.clone(), Ulimit { soft, hard });
        }
    }
    if !body.options.ulimits.is_empty() {
        body.wish(at, Feature::Ulimits, what);
    }
}

fn sysctls(scene: &Scene<'_>, node: &Node, what: &str, at: At, body: &mut Body) {
    let report = scene.report;
    let Some(entries) = super::merge::pairs(node) else {
        report.error(node.at, format!("{what} must be a mapping, or a list of `name=value`"));
        return;
    };
    for (key, value) in entries.into_iter().take(ITEMS_MAX) {
        if !is_harmless_sysctl(&key.text) {
            report.error_hint(
                key.at,
                format!("{} in {what} is not supported", quoted(&key.text)),
                why_no_sysctl(&key.text),
            );
        } else if let Some(text) = read::text(report, &value, what) {
            body.options.sysctls.insert(key.text.clone(), text.to_owned());
        }
    }
    if !body.options.sysctls.is_empty() {
        body.wish(at, Feature::Sysctls, what);
    }
}

/// Why a setting is refused, and what to do.
fn why_no_sysctl(name: &str) -> String {
    let own = ["net.", "kernel.msg", "kernel.shm", "fs.mqueue."];
    if !own.iter().any(|start| name.starts_with(start)) {
        return "it is a setting of the whole machine, which no container has for itself: remove it".to_owned();
    }
    let near = suggest::nearest(name, SYSCTLS).map(|near| format!("; did you mean {}?", quoted(near)));
    format!(
        "it is none of those that can harm no other service, which docs/reference/compose.md lists: remove it{}",
        near.unwrap_or_default()
    )
}

fn pull(scene: &Scene<'_>, node: &Node, what: &str) -> Pull {
    match read::text(scene.report, node, what).unwrap_or_default() {
        "always" => Pull::Always,
        "never" => Pull::Never,
        "missing" | "if_not_present" | "build" | "" => Pull::Missing,
        // Docker looks again after a while; here a tag is looked up when a generation is made.
        text if matches!(text, "daily" | "weekly") || text.starts_with("every_") => {
            scene.report.warn(
                node.at,
                format!(
                    "{} as {what} has no effect: a tag is looked up when a generation is made",
                    quoted(text)
                ),
            );
            Pull::Missing
        }
        other => {
            let known = [
                "always",
                "missing",
                "if_not_present",
                "never",
                "build",
                "daily",
                "weekly",
            ];
            scene.report.error_hint(
                node.at,
                format!("unknown value {} of {what}", quoted(other)),
                crate::suggest::hint(other, &known),
            );
            Pull::Missing
        }
    }
}

fn security(scene: &Scene<'_>, node: &Node, what: &str) {
    for (at, text) in read::texts(scene.report, node, what, false).unwrap_or_default() {
        let (name, value) = text.split_once([':', '=']).unwrap_or((&text, "true"));
        match (name, value) {
            ("no-new-privileges", "true") => {}
            ("seccomp" | "apparmor" | "systempaths" | "mask" | "unmask", _) | ("no-new-privileges", "false") => {
                scene.report.warn(
                    at,
                    format!(
                        "{} in {what} has no effect: services are confined as the runtime has it",
                        quoted(&text)
                    ),
                );
            }
            ("label", _) => scene.report.warn(
                at,
                format!(
                    "{} in {what} has no effect: the runtime labels files itself",
                    quoted(&text)
                ),
            ),
            _ => scene.report.error_hint(
                at,
                format!("{} in {what} is not supported", quoted(&text)),
                "raised privileges are a matter of the project's policy, and no policy can grant them yet: remove it",
            ),
        }
    }
}
