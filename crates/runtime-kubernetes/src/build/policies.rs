//! Network policies. They only ever add up, so everything is closed first and each opening names both of its sides.

use super::{Object, Order, labels, labels::selects};
use crate::names;
use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use model::{Egress, NetworkMode};
use std::collections::BTreeSet;

/// The label of a namespace that the API server sets to its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What is not the public internet (RFC 6890 and the registries of special addresses), by family. What the policy names in a
/// private network is opened address by address. Addresses of the old family in the new one's form are on no wire, and the API
/// server takes none.
const ANYWHERE: [(&str, &[&str]); 2] = [
    (
        "0.0.0.0/0",
        &[
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ],
    ),
    ("::/0", &["::/127", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8"]),
];

pub(super) fn objects(order: &Order<'_>) -> Vec<Object> {
    let mut made = vec![
        policy(
            order,
            "deny-all",
            LabelSelector::default(),
            Some(Vec::new()),
            Some(Vec::new()),
        ),
        policy(order, "names", selects(labels::CONNECTED), None, Some(vec![to_names()])),
    ];
    let networks: Vec<Option<&str>> = match order.stack.networks.is_empty() {
        true => vec![None],
        false => order.stack.networks.keys().map(|name| Some(name.as_str())).collect(),
    };
    made.extend(networks.into_iter().map(|network| within(order, network)));
    made.extend(from_gateway(order));
    if !order.spec.egress.is_empty() {
        made.extend(through_door(order, &order.spec.egress));
    }
    made
}

fn policy(
    order: &Order<'_>,
    name: &str,
    pods: LabelSelector,
    ingress: Option<Vec<NetworkPolicyIngressRule>>,
    egress: Option<Vec<NetworkPolicyEgressRule>>,
) -> Object {
    let types = [("Ingress", ingress.is_some()), ("Egress", egress.is_some())];
    let types = types.into_iter().filter(|(_, given)| *given);
    // A list that is absent denies as an empty one does, and is never taken for a change.
    Object::NetworkPolicy(NetworkPolicy {
        metadata: labels::meta(order, name),
        spec: Some(NetworkPolicySpec {
            policy_types: Some(types.map(|(name, _)| name.to_owned()).collect()),
            ingress: ingress.filter(|rules| !rules.is_empty()),
            egress: egress.filter(|rules| !rules.is_empty()),
            pod_selector: Some(pods),
        }),
    })
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number.into())),
        protocol: Some(protocol.to_owned()),
        end_port: None,
    }
}

fn tcp(ports: &BTreeSet<u16>) -> Option<Vec<NetworkPolicyPort>> {
    Some(ports.iter().map(|number| port("TCP", *number)).collect())
}

fn pods(selector: LabelSelector) -> Vec<NetworkPolicyPeer> {
    vec![NetworkPolicyPeer {
        pod_selector: Some(selector),
        ..NetworkPolicyPeer::default()
    }]
}

fn to_names() -> NetworkPolicyEgressRule {
    let servers = NetworkPolicyPeer {
        namespace_selector: Some(selects((NAMESPACE_NAME, "kube-system"))),
        pod_selector: Some(selects(("k8s-app", "kube-dns"))),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicyEgressRule {
        to: Some(vec![servers]),
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
    }
}

/// Those of one network reach each other.
fn within(order: &Order<'_>, network: Option<&str>) -> Object {
    let label = labels::network(network);
    let members = || selects((&label, "yes"));
    let name = network.map_or_else(
        || "same-namespace".to_owned(),
        |network| names::object(&[network, "network"]),
    );
    let ingress = NetworkPolicyIngressRule {
        from: Some(pods(members())),
        ports: None,
    };
    let egress = NetworkPolicyEgressRule {
        to: Some(pods(members())),
        ports: None,
    };
    policy(order, &name, members(), Some(vec![ingress]), Some(vec![egress]))
}

/// The gateway reaches public services, each on its public port.
fn from_gateway(order: &Order<'_>) -> Vec<Object> {
    let Some(namespace) = &order.cluster.gateway_namespace else {
        return Vec::new();
    };
    let public = order.stack.services.iter().filter_map(|(name, service)| {
        let connected = service.net == NetworkMode::Networks;
        service.public_port.filter(|_| connected).map(|port| (name, port))
    });
    public
        .map(|(name, number)| {
            let gateway = NetworkPolicyPeer {
                namespace_selector: Some(selects((NAMESPACE_NAME, namespace))),
                ..NetworkPolicyPeer::default()
            };
            let rule = NetworkPolicyIngressRule {
                from: Some(vec![gateway]),
                ports: Some(vec![port("TCP", number)]),
            };
            let service = names::workload(name.as_str());
            let name = names::object(&[name.as_str(), "gateway"]);
            policy(
                order,
                &name,
                selects((labels::SERVICE, &service)),
                Some(vec![rule]),
                None,
            )
        })
        .collect()
}

/// Whoever may go outside reaches the door on the ports of the list, and nobody but the door leaves the namespace.
fn through_door(order: &Order<'_>, egress: &Egress) -> [Object; 2] {
    let ports = egress.ports();
    let to_door = NetworkPolicyEgressRule {
        to: Some(pods(selects(labels::DOOR))),
        ports: tcp(&ports),
    };
    let from_pods = NetworkPolicyIngressRule {
        from: Some(pods(selects(labels::OUTSIDE))),
        ports: tcp(&ports),
    };
    let public: BTreeSet<u16> = egress.hosts.values().flatten().copied().collect();
    let mut outside = vec![to_names()];
    if !public.is_empty() {
        let blocks = ANYWHERE.map(|(cidr, except)| block(cidr.to_owned(), except));
        outside.push(NetworkPolicyEgressRule {
            to: Some(blocks.into()),
            ports: tcp(&public),
        });
    }
    let private: BTreeSet<_> = egress.private.values().flatten().collect();
    outside.extend(private.into_iter().map(|address| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        NetworkPolicyEgressRule {
            to: Some(vec![block(format!("{}/{bits}", address.ip()), &[])]),
            ports: Some(vec![port("TCP", address.port())]),
        }
    }));
    [
        policy(order, "to-door", selects(labels::OUTSIDE), None, Some(vec![to_door])),
        policy(
            order,
            "door",
            selects(labels::DOOR),
            Some(vec![from_pods]),
            Some(outside),
        ),
    ]
}

fn block(cidr: String, except: &[&str]) -> NetworkPolicyPeer {
    let except: Vec<String> = except.iter().map(|&cidr| cidr.to_owned()).collect();
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr,
            except: (!except.is_empty()).then_some(except),
        }),
        ..NetworkPolicyPeer::default()
    }
}
