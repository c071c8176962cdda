//! Limits of a service, in the places where Compose has them, and the rest of `deploy`.

use super::{
    Scene,
    keys::{self, says},
    service::Body,
};
use crate::{
    escape::quoted,
    problem::At,
    read,
    yaml::{Key, Node, NodeKind},
};
use model::{Feature, Limits, Restart, ServiceName};

/// The period that a quota is of unless a file says otherwise, in microseconds.
const PERIOD_US: u64 = 100_000;

/// `mem_limit`, `cpus`, `pids_limit`. Zero, and -1 for processes, mean no limit.
pub(super) fn simple(scene: &Scene<'_>, key: &Key, node: &Node, what: &str, limits: &mut Limits) {
    let report = scene.report;
    let (slot, value) = match key.text.as_str() {
        "mem_limit" | "memory" => (&mut limits.memory_bytes, read::bytes(report, node, what)),
        "cpus" => (&mut limits.cpu_millis, read::cpu_millis(report, node, what)),
        _ if says(node, &["-1"]) => return,
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

/// `cpu_quota` and `cpu_period`, unless there is `cpus`.
pub(super) fn quota(scene: &Scene<'_>, node: &Node, body: &mut Body) {
    let Some(quota) = node.get("cpu_quota") else { return };
    let number = |node: &Node, what: &str| read::number(scene.report, node, what);
    let period = node.get("cpu_period").map_or(Some(PERIOD_US), |node| {
        read::duration_ms_quiet(node)
            .map(|ms| ms.saturating_mul(1_000))
            .or_else(|| number(node, "`cpu_period`"))
    });
    if says(quota, &["-1", "0"]) {
        return;
    }
    let quota = read::duration_ms_quiet(quota)
        .map(|ms| ms.saturating_mul(1_000))
        .or_else(|| number(quota, "`cpu_quota`"));
    if let (Some(quota), Some(period)) = (quota, period.filter(|period| *period > 0))
        && body.limits.cpu_millis.is_none()
    {
        body.limits.cpu_millis = Some((quota.saturating_mul(1_000) / period).max(1));
    }
}

/// `scale` and `deploy.replicas`.
pub(super) fn replicas(scene: &Scene<'_>, node: &Node, what: &str, body: &mut Body) {
    match read::number(scene.report, node, what) {
        Some(0) => body.off = Some(node.at),
        Some(2..) => scene.report.warn(
            node.at,
            format!("{what} has no effect: every service runs once in an environment"),
        ),
        _ => {}
    }
}

/// `deploy`: limits and the restart policy.
pub(super) fn deploy(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    let report = scene.report;
    let of = format!("in `deploy` of service `{name}`");
    for (key, value) in read::map(report, node, &format!("`deploy` of service `{name}`")).unwrap_or_default() {
        let harmless = key.text == "mode" && says(value, &["replicated"]);
        if harmless || !keys::admit(report, "services.*.deploy", key, &of) {
            continue;
        }
        let what = format!("`{}` {of}", key.text);
        match key.text.as_str() {
            "resources" => resources(scene, name, value, &mut body.limits),
            "replicas" => replicas(scene, value, &what, body),
            "restart_policy" => restart_policy(scene, name, value, body),
            _ => {}
        }
    }
}

fn resources(scene: &Scene<'_>, name: &ServiceName, node: &Node, limits: &mut Limits) {
    let report = scene.report;
    let of = format!("in `deploy.resources` of service `{name}`");
    for (key, value) in read::map(report, node, &format!("`deploy.resources` of service `{name}`")).unwrap_or_default()
    {
        if key.text == "reservations"
            && value
                .get("devices")
                .is_some_and(|node| !matches!(node.kind, NodeKind::Null))
        {
            for (key, _) in read::map(report, value, &format!("`reservations` {of}")).unwrap_or_default() {
                if key.text == "devices" {
                    keys::admit(report, "services.*.deploy.resources.reservations", key, &of);
                }
            }
            continue;
        }
        if !keys::admit(report, "services.*.deploy.resources", key, &of) {
            continue;
        }
        for (limit, value) in read::map(report, value, &format!("`limits` {of}")).unwrap_or_default() {
            if keys::admit(report, "services.*.deploy.resources.limits", limit, &of) {
                simple(scene, limit, value, &format!("`{}` {of}", limit.text), limits);
            }
        }
    }
}

/// `deploy.restart_policy`; `restart` of the service wins, wherever it stands.
fn restart_policy(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    let report = scene.report;
    let of = format!("in `restart_policy` of service `{name}`");
    let (mut restart, mut attempts) = (Restart::Always, None);
    for (key, value) in read::map(report, node, &format!("`restart_policy` of service `{name}`")).unwrap_or_default() {
        if !keys::admit(report, "services.*.deploy.restart_policy", key, &of) {
            continue;
        }
        let what = format!("`{}` {of}", key.text);
        if key.text == "max_attempts" {
            attempts = read::number(report, value, &what).and_then(|n| u32::try_from(n).ok());
            body.wish(key.at, Feature::RestartLimit, &what);
            continue;
        }
        restart = match read::text(report, value, &what).unwrap_or("any") {
            "none" => Restart::Never,
            "on-failure" => Restart::OnFailure,
            "any" => Restart::Always,
            other => {
                let hint = crate::suggest::hint(other, &["none", "on-failure", "any"]);
                report.error_hint(value.at, format!("unknown value {} of {what}", quoted(other)), hint);
                Restart::Always
            }
        };
    }
    if body.restart.is_none() {
        body.restart = Some(restart);
        body.restart_limit = body.restart_limit.or(attempts);
    }
}
