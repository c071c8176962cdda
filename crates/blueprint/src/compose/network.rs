//! `ports`, `expose`, `networks` and names of a service.

use super::{
    Scene, depend,
    keys::{self, says},
    ports,
    service::Body,
};
use crate::{
    escape::quoted,
    problem::At,
    read,
    yaml::{Key, Node, NodeKind},
};
use model::{Feature, NetworkMode, NetworkName, ServiceName};

/// The most ports of one service.
const PORTS_MAX: usize = 100;
/// The most further names of one service.
const ALIASES_MAX: usize = 100;

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

fn short(scene: &Scene<'_>, node: &Node, ports: &mut Vec<u16>, on_host: &mut Option<At>) {
    let Some(text) = read::text(scene.report, node, "a port") else {
        return;
    };
    if text.contains(':') {
        on_host.get_or_insert(node.at);
    }
    match ports::parse(text) {
        Some(all) => {
            for port in all {
                push(scene, node.at, text, port.target, &port.protocol, ports);
            }
        }
        None => no_port(scene, node.at, text),
    }
}

fn no_port(scene: &Scene<'_>, at: At, text: &str) {
    scene.report.error_hint(
        at,
        format!("{} is not a port", quoted(text)),
        "written `\"8080:80\"`, `\"80\"`, `\"8000-8005:8000-8005\"` or with `target:`; in quotes, as YAML reads some of them as numbers",
    );
}

fn long(scene: &Scene<'_>, node: &Node, ports: &mut Vec<u16>, on_host: &mut Option<At>) {
    let report = scene.report;
    let (mut target, mut protocol) = (None, "tcp");
    for (key, value) in read::map(report, node, "a port").unwrap_or_default() {
        match key.text.as_str() {
            // One word about all of them is enough.
            "published" | "host_ip" => {
                on_host.get_or_insert(key.at);
                continue;
            }
            "mode" => continue,
            _ if !keys::admit(report, "services.*.ports[]", key, "of a port") => continue,
            "target" => target = read::text(report, value, "`target`").map(|text| (value.at, text)),
            "protocol" => protocol = read::text(report, value, "`protocol`").unwrap_or("tcp"),
            _ => {}
        }
    }
    match target {
        Some((at, text)) => match read::port(text) {
            Some(port) => push(scene, at, text, port, protocol, ports),
            None => no_port(scene, at, text),
        },
        None => report.error(node.at, "a port needs `target`, the port in the container"),
    }
}

fn push(scene: &Scene<'_>, at: At, whole: &str, port: u16, protocol: &str, ports: &mut Vec<u16>) {
    let report = scene.report;
    match protocol {
        "tcp" if ports.len() >= PORTS_MAX => {
            report.error(at, format!("a service has at most {PORTS_MAX} ports"));
        }
        "tcp" => add(ports, port),
        "udp" => report.warn(
            at,
            format!("{} is not reached from outside: the gateway speaks HTTP", quoted(whole)),
        ),
        _ => no_port(scene, at, whole),
    }
}

/// Ports that only other services use.
pub(super) fn expose(scene: &Scene<'_>, node: &Node, body: &mut Body) {
    for (at, text) in read::texts(scene.report, node, "`expose`", false).unwrap_or_default() {
        match ports::parse(&text).filter(|_| !text.contains(':')) {
            Some(all) => {
                for port in all {
                    push(scene, at, &text, port.target, &port.protocol, &mut body.ports);
                }
            }
            None => no_port(scene, at, &text),
        }
    }
}

/// The networks that a service is in.
pub(super) fn networks(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    let report = scene.report;
    let what = format!("`networks` of service `{name}`");
    if let NodeKind::List(_) = node.kind {
        for (at, network) in read::texts(report, node, &what, false).unwrap_or_default() {
            if read::name::<NetworkName>(report, at, &network).is_some() {
                body.networks.push((at, network, Vec::new()));
            }
        }
        return;
    }
    for (key, value) in read::map(report, node, &what).unwrap_or_default() {
        if key.text.starts_with("x-") && matches!(value.kind, NodeKind::Null)
            || read::name::<NetworkName>(report, key.at, &key.text).is_none()
        {
            continue;
        }
        let mut aliases = Vec::new();
        for (option, value) in read::map(report, value, &what).unwrap_or_default() {
            if keys::admit(report, "services.*.networks.*", option, &format!("in {what}")) {
                for (at, alias) in read::texts(report, value, "`aliases`", false).unwrap_or_default() {
                    if read::name::<ServiceName>(report, at, &alias).is_some() && aliases.len() < ALIASES_MAX {
                        aliases.push(alias);
                    }
                }
            }
        }
        body.networks.push((key.at, key.text.clone(), aliases));
    }
}

/// The networks that a service has anyway, or none.
pub(super) fn mode(scene: &Scene<'_>, key: &Key, node: &Node, what: &str, body: &mut Body) {
    if says(node, &["none"]) {
        body.net = NetworkMode::None;
        body.wish(key.at, Feature::Networks, what);
    } else if !says(node, &["bridge", "default", ""]) {
        let given = read::text(scene.report, node, what).unwrap_or_default();
        scene.report.error_hint(
            key.at,
            format!("{what} is not supported: {}", quoted(given)),
            "the services of an environment share private networks and find each other by name: remove it",
        );
    }
}

/// What has no network is in none and has no ports that anybody could reach.
pub(super) fn alone(scene: &Scene<'_>, name: &ServiceName, node: &Node, body: &mut Body) {
    if node.get("network_mode").is_some() && !body.networks.is_empty() {
        scene.report.error_hint(
            node.at,
            format!("service `{name}` has both `network_mode` and `networks`"),
            "keep one of the two",
        );
    }
    if body.net == NetworkMode::None && !body.ports.is_empty() {
        scene.report.warn(
            node.at,
            format!("the ports of service `{name}` have no effect: its `network_mode` is `none`"),
        );
        body.ports.clear();
        body.published = None;
    }
}

/// A further name; a problem if it can be none.
pub(super) fn alias(scene: &Scene<'_>, node: &Node, what: &str) -> Option<String> {
    let text = read::text(scene.report, node, what)?;
    read::name::<ServiceName>(scene.report, node.at, text).map(|_| text.to_owned())
}

/// `service`, or `service:name`.
pub(super) fn links(scene: &Scene<'_>, node: &Node, what: &str, body: &mut Body) {
    for (at, text) in read::texts(scene.report, node, what, false).unwrap_or_default() {
        let (service, alias) = text.split_once(':').unwrap_or((&text, &text));
        if alias != service && read::name::<ServiceName>(scene.report, at, alias).is_some() {
            body.links.push((at, service.to_owned(), alias.to_owned()));
        }
        body.depends_on.push(depend::Need {
            restart: true,
            ..depend::Need::plain(at, service.to_owned())
        });
    }
}
