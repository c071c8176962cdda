//! What an author asks of a container beyond what every container has.

use super::Unit;
use crate::{
    finding::{Decision, Findings},
    names,
    quantity::bytes,
};
use core::net::IpAddr;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, HostAlias, PodSpec, Sysctl, Volume, VolumeMount};
use model::{Options, Pull, Root};
use std::collections::BTreeMap;

/// Kernel settings that both Pod Security Standards allow.
const SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];
/// From which port on anybody may listen. As containers have had it since Docker 20.10, a stack may count on every port.
const FIRST_PORT: (&str, &str) = ("net.ipv4.ip_unprivileged_port_start", "0");
const SHARED_MEMORY: &str = "/dev/shm";

/// Honours what a pod can, and notes the rest. Taken apart by name, so that a new option does not compile until it is decided.
pub(super) fn apply(
    unit: &Unit<'_>,
    options: &Options,
    container: &mut Container,
    spec: &mut PodSpec,
    findings: &mut Findings,
) {
    let Options {
        // `identity` has these four.
        user: _,
        groups: _,
        drop_capabilities: _,
        add_capabilities: _,
        init,
        hostname,
        hosts,
        ulimits,
        sysctls,
        shm_bytes,
        terminal,
        stdin_open,
        // A volume of a cluster always begins empty; `mounts` warns where that is not meant.
        empty_volumes: _,
        platform,
        pull,
    } = options;
    // The first process of a shared process namespace is the pod's own, and reaps what others leave behind.
    spec.share_process_namespace = init.filter(|wanted| *wanted);
    container.tty = terminal.then_some(true);
    container.stdin = stdin_open.then_some(true);
    container.image_pull_policy = Some(pull_policy(*pull, &unit.workload.root).to_owned());
    if let Some(name) = hostname {
        if names::is_label(name) {
            spec.hostname = Some(name.clone());
        } else {
            findings.note(&unit.place, Decision::Hostname, name);
        }
    }
    for name in ulimits.keys() {
        findings.note(&unit.place, Decision::Ulimits, name);
    }
    spec.host_aliases = aliases(unit, hosts, findings);
    settings(unit, sysctls, spec, findings);
    if let Some(size) = shm_bytes {
        shared_memory(*size, container, spec);
    }
    if let Some(platform) = platform {
        run_on(unit, platform, spec, findings);
    }
}

/// An image with a digest is the same wherever it comes from.
fn pull_policy(pull: Pull, root: &Root) -> &'static str {
    match pull {
        Pull::Never => "Never",
        Pull::Always if root.image().is_none() => "Always",
        Pull::Always | Pull::Missing => "IfNotPresent",
    }
}

/// Lines of `/etc/hosts`, in order.
fn aliases(unit: &Unit<'_>, hosts: &[(String, String)], findings: &mut Findings) -> Option<Vec<HostAlias>> {
    let mut made: Vec<HostAlias> = Vec::new();
    for (name, address) in hosts {
        let is_name = !name.is_empty() && name.split('.').all(names::is_label);
        match address.parse::<IpAddr>() {
            Ok(address) if is_name => made.push(HostAlias {
                ip: address.to_string(),
                hostnames: Some(vec![name.clone()]),
            }),
            _ => findings.note(&unit.place, Decision::HostAddress, &format!("{name}={address}")),
        }
    }
    (!made.is_empty()).then_some(made)
}

fn settings(unit: &Unit<'_>, wanted: &BTreeMap<String, String>, spec: &mut PodSpec, findings: &mut Findings) {
    let mut made = BTreeMap::from([FIRST_PORT]);
    for (name, value) in wanted {
        if SYSCTLS.contains(&name.as_str()) {
            made.insert(name, value);
        } else {
            findings.note(&unit.place, Decision::Sysctl, name);
        }
    }
    let made = made.into_iter().map(|(name, value)| Sysctl {
        name: name.to_owned(),
        value: value.to_owned(),
    });
    spec.security_context.get_or_insert_default().sysctls = Some(made.collect());
}

/// Memory for `/dev/shm`, unless the stack mounts something there.
fn shared_memory(size: u64, container: &mut Container, spec: &mut PodSpec) {
    let mounts = container.volume_mounts.get_or_insert_default();
    if mounts.iter().any(|mount| mount.mount_path == SHARED_MEMORY) {
        return;
    }
    mounts.push(VolumeMount {
        name: "shared-memory".to_owned(),
        mount_path: SHARED_MEMORY.to_owned(),
        ..VolumeMount::default()
    });
    spec.volumes.get_or_insert_default().push(Volume {
        name: "shared-memory".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(bytes(size)),
        }),
        ..Volume::default()
    });
}

/// `linux/amd64`, maybe with a variant, by which the image was chosen already.
fn run_on(unit: &Unit<'_>, platform: &str, spec: &mut PodSpec, findings: &mut Findings) {
    let mut parts = platform.split('/');
    let architecture = match (parts.next(), parts.next()) {
        (Some("linux"), Some(architecture)) if names::is_label(architecture) => architecture,
        _ => return findings.note(&unit.place, Decision::Platform, platform),
    };
    let selector = spec.node_selector.get_or_insert_default();
    selector.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
    selector.insert("kubernetes.io/arch".to_owned(), architecture.to_owned());
}
