//! Services as workloads: a stateful set for an engine, a job for what others wait for to complete, a deployment for all else.

use super::{Object, Order, data, jobs, labels, pod};
use crate::finding::{Decision, Findings, Place};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy},
        core::v1::{ContainerPort, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use model::{Condition, Network, NetworkMode, NetworkName, Restart, Root, Service, ServiceName};
use std::collections::BTreeMap;

/// A service, and what it is given. Taken apart by name, so that a new field does not compile until it is decided.
pub(super) fn objects(
    order: &Order<'_>,
    name: &ServiceName,
    service: &Service,
    findings: &mut Findings,
) -> Vec<Object> {
    let Service {
        workload,
        // `services` has the names, and so those in networks.
        aliases: _,
        ports,
        // `services` and the policy for the gateway.
        public_port,
        // The planner's: it asks for the service when they are so. What is to complete is noted for the end of sleep.
        depends_on,
        health,
        restart,
        stop_signal,
        stop_grace_ms,
        networks,
        net,
        // In the digest: the annotation of the pod changes with theirs.
        restarts_with: _,
        restart_limit,
    } = service;
    let place = Place::Service(name.clone());
    let (labels, outside) = connected(order, &place, networks, *net, findings);
    let completed = depends_on
        .iter()
        .filter(|(_, condition)| **condition == Condition::Completed);
    let unit = pod::Unit {
        place: place.clone(),
        called: name.as_str(),
        kind: "service",
        workload,
        digest: order.spec.service_digest(name),
        networks: labels,
        outside: outside && !order.spec.egress.is_empty(),
        completed_before: completed.map(|(name, _)| name).collect(),
    };
    let (mut template, mut made) = pod::template(order, &unit, findings);
    let completes = order.stack.awaiting_end_of(name).next().is_some();
    if let Some(spec) = &mut template.spec {
        let grace = pod::probes::seconds(&place, "stop_grace", *stop_grace_ms, findings);
        spec.termination_grace_period_seconds = Some(grace.into());
    }
    if let Some(container) = pod::container(&mut template) {
        container.ports = container_ports(ports, *public_port);
        if !completes {
            container.readiness_probe = pod::probes::readiness(&place, health.as_ref(), ports, findings);
        }
    }
    if stop_signal != "SIGTERM" {
        findings.note(&place, Decision::StopSignal, stop_signal);
    }
    if !completes {
        findings.note_if(*restart != Restart::Always, &place, Decision::Restart);
        findings.note_if(restart_limit.is_some(), &place, Decision::RestartLimit);
    }
    made.push(match &workload.root {
        Root::Engine(engine) => data::engine(order, &unit, engine, template),
        _ if completes => {
            let run = jobs::run_of(unit.digest.as_ref());
            let retries = (*restart != Restart::Never).then_some(*restart_limit);
            jobs::run_to_end(order, &unit, &run, template, None, retries)
        }
        _ => deployment(order, &unit, template),
    });
    made
}

/// The labels of the networks that a service is in, and whether one of them leads outside.
fn connected(
    order: &Order<'_>,
    place: &Place,
    networks: &BTreeMap<NetworkName, Vec<String>>,
    net: NetworkMode,
    findings: &mut Findings,
) -> (Vec<String>, bool) {
    if net == NetworkMode::None {
        return (Vec::new(), false);
    }
    let all = &order.stack.networks;
    if all.is_empty() {
        return (vec![labels::network(None)], true);
    }
    // A service that names none reaches all others.
    let names: Vec<&NetworkName> = if networks.is_empty() {
        all.keys().collect()
    } else {
        networks.keys().collect()
    };
    let mut outside = false;
    for name in &names {
        match all.get(*name) {
            Some(Network { internal }) => outside |= !internal,
            None => findings.note(place, Decision::UnknownNetwork, name.as_str()),
        }
    }
    let labels = names.iter().map(|name| labels::network(Some(name.as_str())));
    (labels.collect(), outside)
}

/// All ports of a service, each once.
pub(super) fn all_ports(ports: &[u16], public: Option<u16>) -> Vec<u16> {
    let mut all: Vec<u16> = Vec::new();
    for port in ports.iter().copied().chain(public) {
        if !all.contains(&port) {
            all.push(port);
        }
    }
    all
}

fn container_ports(ports: &[u16], public: Option<u16>) -> Option<Vec<ContainerPort>> {
    let all: Vec<ContainerPort> = all_ports(ports, public)
        .into_iter()
        .map(|port| ContainerPort {
            container_port: port.into(),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        })
        .collect();
    (!all.is_empty()).then_some(all)
}

fn deployment(order: &Order<'_>, unit: &pod::Unit<'_>, template: PodTemplateSpec) -> Object {
    let (key, name) = unit.selector();
    Object::Deployment(Deployment {
        metadata: ObjectMeta {
            annotations: Some(unit.annotations()),
            ..labels::meta(order, &name)
        },
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            revision_history_limit: Some(1),
            selector: labels::selects((key, &name)),
            // A stack has one container of each service, and volumes that one of them mounts at a time.
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                rolling_update: None,
            }),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}
