//! The names under which services find each other.
//!
//! A service with ports has one address for life, whatever becomes of its pods, and answers on these ports only. One without any has
//! the address of its pod, on all ports.

use super::{Object, Order, labels, workloads::all_ports};
use crate::{
    finding::{Decision, Findings, Place},
    names,
};
use k8s_openapi::{
    api::core::v1::{Service as KubernetesService, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use model::{NetworkMode, Service, ServiceName};
use std::collections::BTreeMap;

/// One object per name of each service. What is connected to nothing has none.
pub(super) fn objects(order: &Order<'_>, findings: &mut Findings) -> Vec<Object> {
    let mut taken: BTreeMap<String, &ServiceName> = BTreeMap::new();
    let connected = order
        .stack
        .services
        .iter()
        .filter(|(_, service)| service.net == NetworkMode::Networks);
    // Own names first: an alias of somebody else does not take one away.
    let own = connected.clone().map(|(name, _)| (name, name.as_str()));
    let others = connected.flat_map(|(name, service)| {
        let in_networks = service.networks.values().flatten();
        service
            .aliases
            .iter()
            .chain(in_networks)
            .map(move |alias| (name, alias.as_str()))
    });
    for (service, name) in own.chain(others) {
        let place = Place::Service(service.clone());
        let Some(found_as) = names::found_as(name) else {
            let ports = order
                .stack
                .services
                .get(service)
                .map_or(0, |service| service.ports.len());
            let quiet = ports == 0 && name == service.as_str();
            findings.note(&place, if quiet { Decision::QuietName } else { Decision::Name }, name);
            continue;
        };
        let owner = taken.entry(found_as).or_insert(service);
        if *owner != service {
            findings.note(&place, Decision::NameTwice, name);
        }
    }
    taken
        .into_iter()
        .filter_map(|(name, service)| Some(object(order, &name, service, order.stack.services.get(service)?)))
        .collect()
}

fn object(order: &Order<'_>, found_as: &str, name: &ServiceName, service: &Service) -> Object {
    let ports: Vec<ServicePort> = all_ports(&service.ports, service.public_port)
        .into_iter()
        .map(|port| ServicePort {
            name: Some(format!("tcp-{port}")),
            port: port.into(),
            protocol: Some("TCP".to_owned()),
            target_port: Some(IntOrString::Int(port.into())),
            ..ServicePort::default()
        })
        .collect();
    let alone = ports.is_empty();
    Object::Service(KubernetesService {
        metadata: ObjectMeta {
            annotations: Some(labels::map([(labels::CALLED, name.as_str())])),
            ..labels::meta(order, found_as)
        },
        spec: Some(ServiceSpec {
            cluster_ip: alone.then(|| "None".to_owned()),
            // Compose answers with the address of a container from its start.
            publish_not_ready_addresses: alone.then_some(true),
            ports: (!alone).then_some(ports),
            selector: Some(labels::map([(labels::SERVICE, &names::workload(name.as_str()))])),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}
