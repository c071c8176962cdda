//! Data: claims of volumes, and engines as stateful sets, of which there is never more than one pod at a time.

use super::{Object, Order, labels, pod};
use crate::{
    finding::{Decision, Findings, Place},
    names,
    quantity::bytes,
};
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::{
            EnvVar, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodTemplateSpec, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use model::{Engine, Mount, MountKind, Volume, VolumeName, VolumeOrigin, Workload};
use std::collections::BTreeMap;

/// The size of a volume that has no bound.
const SIZE: u64 = 2 << 30;

/// The claim of a volume. An older incarnation has another name, so that a new one begins with nothing of it.
pub(super) fn claim_name(order: &Order<'_>, name: &VolumeName) -> Option<String> {
    let volume = order.stack.volumes.get(name)?;
    Some(names::object(&[name.as_str(), &format!("i{}", volume.incarnation)]))
}

/// Claims of all volumes.
pub(super) fn claims(order: &Order<'_>, findings: &mut Findings) -> Vec<Object> {
    let mut made = Vec::new();
    for (name, volume) in &order.stack.volumes {
        let place = Place::Volume(name.clone());
        let Volume {
            origin,
            incarnation,
            limit_bytes,
        } = volume;
        if matches!(origin, VolumeOrigin::Snapshot(_)) {
            findings.note(&place, Decision::VolumeSnapshot, "");
        }
        let shared = users(order, name) > 1;
        let class = if shared {
            &order.cluster.shared_storage_class
        } else {
            &order.cluster.storage_class
        };
        findings.note_if(shared && class.is_none(), &place, Decision::SharedVolume);
        let mode = if shared { "ReadWriteMany" } else { "ReadWriteOnce" };
        let size = bytes(limit_bytes.unwrap_or(SIZE));
        let claim = claim_name(order, name).unwrap_or_default();
        made.push(Object::PersistentVolumeClaim(PersistentVolumeClaim {
            metadata: ObjectMeta {
                annotations: Some(labels::map([
                    (labels::CALLED, name.as_str()),
                    (labels::INCARNATION, &incarnation.to_string()),
                ])),
                ..labels::meta(order, &claim)
            },
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec![mode.to_owned()]),
                resources: Some(VolumeResourceRequirements {
                    requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                    limits: None,
                }),
                storage_class_name: class.clone(),
                ..PersistentVolumeClaimSpec::default()
            }),
            status: None,
        }));
    }
    made
}

/// How many services and jobs mount a volume.
fn users(order: &Order<'_>, name: &VolumeName) -> usize {
    let mounts = |workload: &&Workload| {
        workload.mounts.iter().any(|mount| match &mount.kind {
            MountKind::Volume { volume } | MountKind::VolumePath { volume, .. } => volume == name,
            _ => false,
        })
    };
    let services = order.stack.services.values().map(|service| &service.workload);
    let jobs = order.stack.jobs.values().map(|job| &job.workload);
    services.chain(jobs).filter(mounts).count()
}

/// An engine.
pub(super) fn engine(
    order: &Order<'_>,
    unit: &pod::Unit<'_>,
    engine: &Engine,
    mut template: PodTemplateSpec,
) -> Object {
    if let Some(path) = data_path(engine, &unit.workload.mounts)
        && !unit.workload.environment.contains_key("PGDATA")
        && let Some(container) = pod::container(&mut template)
    {
        container.env.get_or_insert_default().push(EnvVar {
            name: "PGDATA".to_owned(),
            value: Some(path),
            value_from: None,
        });
    }
    let (key, name) = unit.selector();
    let service = names::found_as(unit.called).unwrap_or_else(|| name.clone());
    Object::StatefulSet(StatefulSet {
        metadata: ObjectMeta {
            annotations: Some(unit.annotations()),
            ..labels::meta(order, &name)
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            revision_history_limit: Some(1),
            selector: labels::selects((key, &name)),
            service_name: Some(service),
            template,
            ..StatefulSetSpec::default()
        }),
        status: None,
    })
}

/// Where PostgreSQL keeps its data: below the root of its volume, which belongs to the cluster and may hold `lost+found`.
fn data_path(engine: &Engine, mounts: &[Mount]) -> Option<String> {
    let volume = |mount: &&Mount| matches!(mount.kind, MountKind::Volume { .. });
    let mount = mounts.iter().find(volume).filter(|_| engine.kind == "postgres")?;
    Some(format!("{}/pgdata", mount.target.trim_end_matches('/')))
}
