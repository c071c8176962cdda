//! `ports`, `expose` and `networks` of a service.

use super::{Body, Scene};
use crate::{
    escape::quoted,
    problem::At,
    read,
    yaml::{Node, NodeKind},
};
use model::ServiceName;

/// The most ports of one service.
const PORTS_MAX: usize = 100;

fn add(ports: &mut Vec<u16>, port: u16) {
    if !ports.contains(&port) {
        ports.push(port);
    }
}

/// Published ports. Only the port in the container matters: what leads there is the gateway.
pub(super) fn ports(scene: &Scene<'_>, name: &ServiceName, at: At, node: &Node, body: &mut Body) {
    let report = scene.report;
    let mut published = Vec::new();
    let mut on_host = None;
    for item in read::list(report, node, &format!("`ports` of service `{name}`")).unwrap_or_default() {
        match &item.kind {
            NodeKind::Map(_) => long(scene, item, &mut published, &mut on_host),
            _ => short(scene, item, &mut published, &mut on_host),
        }
    }
    if let Some(place) = on_host {
        let message = format!("the host's side of `ports` of service `{name}` has no effect");
        report.warn_hint(
            place,
            message,
            "people reach it through the gateway, at an address of its own",
        );
    }
    if !published.is_empty() {
        body.published = Some(at);
    }
    published.append(&mut body.ports);
    for port in published {
        add(&mut body.ports, port);
    }
}

/// `[[address:]host:]container[/protocol]`
fn short(scene: &Scene<'_>, node: &Node, ports: &mut Vec<u16>, on_host: &mut Option<At>) {
    let Some(text) = read::text(scene.report, node, "a port") else {
        return;
    };
    let (addresses, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (host, container) = match addresses.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, addresses),
    };
    if host.is_some() {
        on_host.get_or_insert(node.at);
    }
    push(scene, node.at, text, container, protocol, ports);
}

fn long(scene: &Scene<'_>, node: &Node, ports: &mut Vec<u16>, on_host: &mut Option<At>) {
    let report = scene.report;
    let (mut target, mut protocol) = (None, "tcp");
    for (key, value) in read::map(report, node, "a port").unwrap_or_default() {
        match key.text.as_str() {
            "target" => target = read::text(report, value, "`target`").map(|text| (value.at, text)),
            "protocol" => protocol = read::text(report, value, "`protocol`").unwrap_or("tcp"),
            "published" | "host_ip" => {
                on_host.get_or_insert(key.at);
            }
            "mode" | "name" | "app_protocol" => {}
            _ => read::unknown_key(
                report,
                key,
                "in a port",
                &["target", "published", "protocol", "host_ip", "mode"],
            ),
        }
    }
    match target {
        Some((at, text)) => push(scene, at, text, text, protocol, ports),
        None => report.error(node.at, "a port needs `target`, the port in the container"),
    }
}

fn push(scene: &Scene<'_>, at: At, whole: &str, container: &str, protocol: &str, ports: &mut Vec<u16>) {
    let report = scene.report;
    match (protocol, read::port(container)) {
        ("tcp", Some(_)) if ports.len() >= PORTS_MAX => {
            report.error(at, format!("a service has at most {PORTS_MAX} ports"));
        }
        ("tcp", Some(port)) => add(ports, port),
        ("udp", Some(_)) => {
            report.warn(
                at,
                format!("{} is not reached from outside: the gateway speaks HTTP", quoted(whole)),
            );
        }
        ("tcp" | "udp", None) if container.contains('-') => {
            report.error_hint(
                at,
                format!("the range of ports {} is not supported", quoted(whole)),
                "name each port",
            );
        }
        _ => report.error_hint(
            at,
            format!("{} is not a port", quoted(whole)),
            "written `\"8080:80\"`, `\"80\"` or with `target:`; in quotes, as YAML reads some of them as numbers",
        ),
    }
}

/// Ports that only other services use.
pub(super) fn expose(scene: &Scene<'_>, node: &Node, body: &mut Body) {
    for (at, text) in read::texts(scene.report, node, "`expose`", false).unwrap_or_default() {
        let (container, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        push(scene, at, &text, container, protocol, &mut body.ports);
    }
}

/// Only the default network, which may give further names.
pub(super) fn networks(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    let report = scene.report;
    let what = format!("`networks` of service `{name}`");
    let refuse = |at: At, network: &str| {
        report.error_hint(
            at,
            format!("network {} of service `{name}` is not supported", quoted(network)),
            "the services of an environment share one network, `default`: remove `networks`",
        );
    };
    if let NodeKind::List(_) = node.kind {
        for (at, network) in read::texts(report, node, &what, false).unwrap_or_default() {
            if network != "default" {
                refuse(at, &network);
            }
        }
        return;
    }
    for (key, value) in read::map(report, node, &what).unwrap_or_default() {
        if key.text != "default" {
            refuse(key.at, &key.text);
            continue;
        }
        for (option, value) in read::map(report, value, &what).unwrap_or_default() {
            if option.text == "aliases" {
                for (at, alias) in read::texts(report, value, "`aliases`", false).unwrap_or_default() {
                    if read::name::<ServiceName>(report, at, &alias).is_some() {
                        body.aliases.push(alias);
                    }
                }
            } else {
                read::unknown_key(report, option, &format!("in {what}"), &["aliases"]);
            }
        }
    }
}
