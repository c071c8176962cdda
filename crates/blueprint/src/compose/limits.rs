//! Limits of a service, in the two places where Compose has them.

use super::Scene;
use crate::{
    problem::At,
    read,
    yaml::{Key, Node, NodeKind},
};
use model::{Limits, ServiceName};

/// `mem_limit`, `cpus`, `pids_limit`. Zero, and -1 for processes, mean no limit.
pub(super) fn simple(scene: &Scene<'_>, key: &Key, node: &Node, what: &str, limits: &mut Limits) {
    let report = scene.report;
    let (slot, value) = match key.text.as_str() {
        "mem_limit" | "memory" => (&mut limits.memory_bytes, read::bytes(report, node, what)),
        "cpus" => (&mut limits.cpu_millis, read::cpu_millis(report, node, what)),
        _ if matches!(&node.kind, NodeKind::Scalar { text, .. } if text == "-1") => return,
        _ => (&mut limits.pids, read::number(report, node, what)),
    };
    set(scene, node.at, what, slot, value.filter(|value| *value > 0));
}

fn set(scene: &Scene<'_>, at: At, what: &str, slot: &mut Option<u64>, value: Option<u64>) {
    match (*slot, value) {
        (Some(old), Some(new)) if old != new => {
            scene.report.error_hint(
                at,
                format!("{what} contradicts the other limit of this service"),
                "keep one of the two",
            );
        }
        (_, Some(new)) => *slot = Some(new),
        _ => {}
    }
}

/// `deploy.resources.limits`; of the rest, what would change what runs is refused.
pub(super) fn deploy(scene: &Scene<'_>, name: &ServiceName, node: &Node, limits: &mut Limits) {
    let report = scene.report;
    let place = format!("in `deploy` of service `{name}`");
    for (key, value) in read::map(report, node, &format!("`deploy` of service `{name}`")).unwrap_or_default() {
        match key.text.as_str() {
            "resources" => resources(scene, name, value, limits),
            "replicas" if matches!(&value.kind, NodeKind::Scalar { text, .. } if text == "1") => {}
            "replicas" | "mode" => report.error_hint(
                key.at,
                format!("`{}` {place} is not supported", key.text),
                "every service runs once in an environment: remove it",
            ),
            "restart_policy" => report.error_hint(
                key.at,
                format!("`restart_policy` {place} is not supported"),
                "use `restart` of the service",
            ),
            "labels" | "update_config" | "rollback_config" | "placement" | "endpoint_mode" => {
                report.warn(key.at, format!("`{}` {place} has no effect", key.text));
            }
            _ => read::unknown_key(report, key, &place, &["resources", "replicas"]),
        }
    }
}

fn resources(scene: &Scene<'_>, name: &ServiceName, node: &Node, limits: &mut Limits) {
    let report = scene.report;
    let place = format!("in `deploy.resources` of service `{name}`");
    for (key, value) in read::map(report, node, &format!("`deploy.resources` of service `{name}`")).unwrap_or_default()
    {
        match key.text.as_str() {
            "limits" => {
                for (limit, value) in read::map(report, value, &format!("`limits` {place}")).unwrap_or_default() {
                    match limit.text.as_str() {
                        "memory" | "cpus" | "pids" => {
                            simple(scene, limit, value, &format!("`{}` {place}", limit.text), limits);
                        }
                        _ => read::unknown_key(report, limit, &place, &["memory", "cpus", "pids"]),
                    }
                }
            }
            "reservations" => report.warn(
                key.at,
                format!("`reservations` {place} has no effect: nothing is reserved"),
            ),
            _ => read::unknown_key(report, key, &place, &["limits", "reservations"]),
        }
    }
}
