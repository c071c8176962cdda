//! Bounds: what a container gets that names none, what everything together may use, and when that is in force.

use super::{Object, Order, labels};
use crate::quantity::{bytes, count, millis, worth};
use k8s_openapi::{
    api::core::v1::{
        LimitRange, LimitRangeItem, LimitRangeSpec, ResourceQuota, ResourceQuotaSpec, ResourceRequirements,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use model::Limits;
use std::collections::BTreeMap;

type Quantities = BTreeMap<String, Quantity>;

/// The most that a container may use that names no bound: room for a small service of any language.
const MEMORY: u64 = 512 << 20;
const CPU_MILLIS: u64 = 1000;
const DISK: u64 = 2 << 30;

/// The least that is of any use.
const MEMORY_MIN: u64 = 64 << 20;
const CPU_MILLIS_MIN: u64 = 50;

/// Of what it may use, what is kept for it on a node. Previews idle most of the time, and without a request a cluster keeps all
/// of the limit.
const MEMORY_KEPT: u64 = 4;
const CPU_KEPT: u64 = 20;

/// What everything may use where the generation has no bound.
const ALL_MEMORY: u64 = 8 << 30;
const ALL_CPU_MILLIS: u64 = 8000;
const ALL_DISK: u64 = 50 << 30;

/// What a container gets that names no bound.
///
/// A quota adds up what containers may use at most, other than the one control group of a cell, whose members share. A pod beyond
/// the sum is not made at all, so what those with bounds leave is shared out among those without. Shares are powers of two: when a
/// service comes or goes, those of others seldom change, and with them their pods.
#[derive(Clone, Copy)]
pub(super) struct Shares {
    memory: u64,
    cpu_millis: u64,
    /// Whether everything together fits.
    pub(super) fit: bool,
}

impl Shares {
    /// The shares of a generation.
    pub(super) fn of(order: &Order<'_>) -> Self {
        let all = &order.spec.limits;
        let services = order.stack.services.values().map(|service| service.workload.limits);
        let jobs = order.stack.jobs.values().map(|job| job.workload.limits);
        let each: Vec<Limits> = services.chain(jobs).collect();
        let memory = share(
            all.memory_bytes.unwrap_or(ALL_MEMORY),
            each.iter().map(|limits| limits.memory_bytes),
        );
        let cpu = share(
            all.cpu_millis.unwrap_or(ALL_CPU_MILLIS),
            each.iter().map(|limits| limits.cpu_millis),
        );
        let enough = |share: Option<u64>, least: u64| share.is_some_and(|share| share >= least);
        Self {
            memory: power_of_two(memory).min(MEMORY),
            cpu_millis: power_of_two(cpu).min(CPU_MILLIS),
            fit: enough(memory, MEMORY_MIN) && enough(cpu, CPU_MILLIS_MIN),
        }
    }
}

/// The highest power of two that is not more.
fn power_of_two(share: Option<u64>) -> u64 {
    share.and_then(u64::checked_ilog2).map_or(0, |power| 1 << power)
}

/// The equal parts of what bounds leave of everything; as much as there is if all have bounds, nothing if they have too much.
fn share(all: u64, bounds: impl Iterator<Item = Option<u64>> + Clone) -> Option<u64> {
    let bounded = bounds.clone().flatten().fold(0, u64::saturating_add);
    let rest = all.checked_sub(bounded)?;
    match bounds.filter(Option::is_none).count() as u64 {
        0 => Some(u64::MAX),
        others => Some(rest / others),
    }
}

/// Limits and requests of one container.
pub(super) fn container(limits: &Limits, shares: Shares) -> ResourceRequirements {
    let Limits {
        memory_bytes,
        cpu_millis,
        // Warned of where the workload is taken apart.
        pids: _,
        disk_bytes,
    } = limits;
    let memory = memory_bytes.unwrap_or(shares.memory);
    let cpu = cpu_millis.unwrap_or(shares.cpu_millis);
    let disk = disk_bytes.unwrap_or(DISK);
    ResourceRequirements {
        limits: Some(quantities([
            ("cpu", millis(cpu)),
            ("ephemeral-storage", bytes(disk)),
            ("memory", bytes(memory)),
        ])),
        requests: Some(requests(memory, cpu)),
        ..ResourceRequirements::default()
    }
}

fn requests(memory: u64, cpu: u64) -> Quantities {
    quantities([
        ("cpu", millis((cpu / CPU_KEPT).max(1))),
        ("ephemeral-storage", count(0)),
        ("memory", bytes(memory / MEMORY_KEPT)),
    ])
}

fn quantities<const N: usize>(pairs: [(&str, Quantity); N]) -> Quantities {
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}

pub(super) fn objects(order: &Order<'_>) -> [Object; 2] {
    let all = &order.spec.limits;
    let defaults = container(&Limits::default(), Shares::of(order));
    let range = LimitRangeItem {
        type_: "Container".to_owned(),
        default: defaults.limits,
        default_request: defaults.requests,
        ..LimitRangeItem::default()
    };
    let units = (order.stack.services.len() + order.stack.jobs.len()) as u64;
    let hard = quantities([
        ("limits.cpu", millis(all.cpu_millis.unwrap_or(ALL_CPU_MILLIS))),
        ("limits.memory", bytes(all.memory_bytes.unwrap_or(ALL_MEMORY))),
        // One that ends and one that begins, and the door.
        ("pods", count(units * 2 + 1)),
        ("persistentvolumeclaims", count(order.stack.volumes.len() as u64 * 2)),
        ("requests.storage", bytes(all.disk_bytes.unwrap_or(ALL_DISK))),
        ("services.loadbalancers", count(0)),
        ("services.nodeports", count(0)),
    ]);
    [
        Object::LimitRange(LimitRange {
            metadata: labels::meta(order, "limits"),
            spec: Some(LimitRangeSpec { limits: vec![range] }),
        }),
        Object::ResourceQuota(ResourceQuota {
            metadata: labels::meta(order, "quota"),
            spec: Some(ResourceQuotaSpec {
                hard: Some(hard),
                ..ResourceQuotaSpec::default()
            }),
            status: None,
        }),
    ]
}

/// Whether a quota, as observed, is in force as it is wanted: its controller has taken up every bound. Until then the cluster
/// counts nothing, so pods get in without bound.
#[must_use]
pub fn quota_is_enforced(wanted: &ResourceQuota, observed: &ResourceQuota) -> bool {
    let wanted = wanted.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let status = observed.status.as_ref();
    let (Some(wanted), Some(status)) = (wanted, status) else {
        return false;
    };
    let (Some(hard), Some(used)) = (&status.hard, &status.used) else {
        return false;
    };
    wanted.iter().all(|(key, bound)| {
        let bound = worth(bound);
        bound.is_some() && hard.get(key).and_then(worth) == bound && used.contains_key(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ResourceQuotaStatus;

    fn quota(hard: Quantities) -> ResourceQuota {
        ResourceQuota {
            spec: Some(ResourceQuotaSpec {
                hard: Some(hard),
                ..ResourceQuotaSpec::default()
            }),
            ..ResourceQuota::default()
        }
    }

    fn observed(hard: Option<Quantities>, used: Option<Quantities>) -> ResourceQuota {
        ResourceQuota {
            status: Some(ResourceQuotaStatus { hard, used }),
            ..quota(quantities([("pods", count(3)), ("limits.memory", bytes(1 << 30))]))
        }
    }

    #[test]
    fn no_pod_is_made_before_the_quota_counts() {
        let wanted = quota(quantities([("pods", count(3)), ("limits.memory", bytes(1 << 30))]));
        let text = |memory: &str| quantities([("pods", count(3)), ("limits.memory", Quantity(memory.to_owned()))]);
        let zero = text("0");
        assert!(
            !quota_is_enforced(&wanted, &wanted),
            "accepted, and not yet seen by the controller"
        );
        assert!(!quota_is_enforced(&wanted, &observed(None, None)));
        assert!(
            !quota_is_enforced(&wanted, &observed(Some(text("1Gi")), None)),
            "nothing is counted"
        );
        let partly = quantities([("pods", count(3))]);
        assert!(!quota_is_enforced(&wanted, &observed(Some(partly), Some(zero.clone()))));
        let older = observed(Some(text("512Mi")), Some(zero.clone()));
        assert!(
            !quota_is_enforced(&wanted, &older),
            "the bound of the generation before"
        );
        for same in ["1Gi", "1024Mi", "1073741824"] {
            assert!(
                quota_is_enforced(&wanted, &observed(Some(text(same)), Some(zero.clone()))),
                "{same}"
            );
        }
        let more = observed(
            Some(text("1Gi").into_iter().chain(quantities([("x", count(1))])).collect()),
            Some(zero),
        );
        assert!(quota_is_enforced(&wanted, &more), "bounds of others do no harm");
    }
}
