//! The part of the Compose Specification that is read: what stands in a Compose file, before it is decided what runs it.
//! Whatever else stands there is refused or warned of by name.

mod environment;
mod health;
mod keys;
mod limits;
mod mounts;
mod network;
mod resolve;
mod service;

pub(crate) use mounts::implicit_volume;
pub(crate) use resolve::resolve;
pub(crate) use service::{Body, Need};

use crate::{
    escape::quoted,
    interpolate::Values,
    problem::{At, Report},
    read,
    tree::Tree,
    yaml::{Node, NodeKind},
};
use model::{ServiceName, SourceName, VolumeName};

/// The names under which a Compose file is looked for, in this order.
pub(crate) const DEFAULT_FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];
/// The most services of one stack.
const SERVICES_MAX: usize = 100;
/// Top-level keys that are read.
const TOP_KEYS: [&str; 5] = ["name", "services", "volumes", "networks", "version"];

/// What a Compose file says.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// Services in the order of the file.
    pub(crate) services: Vec<Declared>,
    /// Names of services that belong to a profile and are left out.
    pub(crate) left_out: Vec<String>,
    /// Names of services that could not be read, about which enough was said.
    pub(crate) unreadable: Vec<String>,
    /// Named volumes.
    pub(crate) volumes: Vec<(VolumeName, At)>,
}

/// One service of a Compose file.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: ServiceName,
    pub(crate) at: At,
    pub(crate) body: Body,
}

/// What surrounds a Compose file.
pub(crate) struct Scene<'a> {
    pub(crate) report: &'a Report,
    pub(crate) tree: &'a dyn Tree,
    /// The source that the tree is a commit of.
    pub(crate) source: &'a SourceName,
    /// The folder that relative paths start from.
    pub(crate) folder: &'a str,
    /// What may be interpolated.
    pub(crate) values: &'a Values,
}

/// Names of services that publish ports, without reading more than that; in the order of the file.
pub(crate) fn publishing(root: &Node) -> Vec<(String, bool)> {
    let Some(NodeKind::Map(services)) = root.get("services").map(|node| &node.kind) else {
        return Vec::new();
    };
    let filled = |node: &Node| matches!(&node.kind, NodeKind::List(items) if !items.is_empty());
    services
        .iter()
        .map(|(key, node)| (key.text.clone(), node.get("ports").is_some_and(|ports| filled(ports))))
        .collect()
}

/// Reads a file whose values were resolved.
pub(crate) fn read(scene: &Scene<'_>, root: &Node) -> Option<File> {
    let report = scene.report;
    let mut file = File::default();
    for (key, node) in read::map(report, root, "a Compose file")? {
        match key.text.as_str() {
            "services" => services(scene, node, &mut file),
            "volumes" => volumes(report, node, &mut file),
            "networks" => networks(report, node),
            "name" => {}
            "version" => report.warn_hint(
                key.at,
                "`version` has no effect",
                "Compose has no versions any more: remove it",
            ),
            other => match keys::top(other) {
                Some(hint) => report.error_hint(key.at, format!("{} is not supported", quoted(other)), hint),
                None => read::unknown_key(report, key, "in a Compose file", &TOP_KEYS),
            },
        }
    }
    if root
        .get("services")
        .is_none_or(|node| matches!(node.kind, NodeKind::Null))
    {
        report.error_hint(root.at, "there are no services", "a Compose file has a key `services`");
    }
    Some(file)
}

fn services(scene: &Scene<'_>, node: &Node, file: &mut File) {
    let report = scene.report;
    let Some(entries) = read::map(report, node, "`services`") else {
        return;
    };
    if entries.len() > SERVICES_MAX {
        report.error(
            node.at,
            format!("there are {} services; at most {SERVICES_MAX} are run", entries.len()),
        );
        return;
    }
    for (key, node) in entries {
        if key.text.starts_with("x-") {
            continue;
        }
        let Some(name) = read::name::<ServiceName>(report, key.at, &key.text) else {
            continue;
        };
        if let Some(profiles) = node
            .get("profiles")
            .and_then(|node| read::list(report, node, "`profiles`"))
            && !profiles.is_empty()
        {
            report.warn(key.at, format!("service `{name}` belongs to a profile and is left out"));
            file.left_out.push(key.text.clone());
            continue;
        }
        match service::read(scene, &name, node) {
            Some(body) => file.services.push(Declared { name, at: key.at, body }),
            None => file.unreadable.push(key.text.clone()),
        }
    }
}

fn volumes(report: &Report, node: &Node, file: &mut File) {
    for (key, node) in read::map(report, node, "`volumes`").unwrap_or_default() {
        if key.text.starts_with("x-") {
            continue;
        }
        let place = format!("in volume {}", quoted(&key.text));
        for (option, value) in read::map(report, node, &format!("volume {}", quoted(&key.text))).unwrap_or_default() {
            let plain = |expected: &str| matches!(&value.kind, NodeKind::Scalar { text, .. } if text == expected);
            match option.text.as_str() {
                "driver" if plain("local") => {}
                "external" if plain("false") => {}
                "name" | "labels" => report.warn(option.at, format!("`{}` {place} has no effect", option.text)),
                "external" => report.error_hint(
                    option.at,
                    format!("`external` {place} is not supported"),
                    "every environment has volumes of its own: remove `external`",
                ),
                "driver" | "driver_opts" => report.error_hint(
                    option.at,
                    format!("`{}` {place} is not supported", option.text),
                    "every environment has volumes of its own, kept by Maquette: remove it",
                ),
                _ => read::unknown_key(report, option, &place, &["driver", "name", "labels"]),
            }
        }
        if let Some(name) = read::name(report, key.at, &key.text) {
            file.volumes.push((name, key.at));
        }
    }
}

fn networks(report: &Report, node: &Node) {
    for (key, node) in read::map(report, node, "`networks`").unwrap_or_default() {
        if key.text != "default" && !key.text.starts_with("x-") {
            report.error_hint(
                key.at,
                format!("network {} is not supported", quoted(&key.text)),
                "the services of an environment share one network, `default`: remove `networks`",
            );
        } else if key.text == "default" {
            for (option, _) in read::map(report, node, "network `default`").unwrap_or_default() {
                report.error_hint(
                    option.at,
                    format!("{} of network `default` is not supported", quoted(&option.text)),
                    "the network is made by the runtime: remove it",
                );
            }
        }
    }
}
