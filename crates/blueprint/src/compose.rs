//! The Compose Specification: what stands in Compose files, before it is decided what runs it. What becomes of each key stands
//! in `compose/keys.rs`; whatever is not honoured is refused or warned of by name.

mod build;
mod depend;
mod environment;
mod files;
mod health;
pub(crate) mod keys;
mod limits;
mod load;
mod merge;
mod mounts;
mod network;
mod options;
mod paths;
mod ports;
mod profiles;
mod reference;
mod resolve;
mod resolved;
mod service;
mod unique;

pub(crate) use depend::Need;
pub(crate) use load::{Loader, Source};
pub use reference::{keys as reference_keys, reference};
pub(crate) use resolved::{chosen, resolved};
pub(crate) use service::{Body, Wish};

use crate::{
    escape::quoted,
    interpolate::{self, Giver, Scope},
    problem::{At, Report},
    read,
    settings::Stack,
    sources::Elsewhere,
    suggest,
    tree::Tree,
    yaml::{Node, NodeKind},
};
use keys::says;
use model::{NetworkName, ServiceName, SourceName, VolumeName};
use std::collections::{BTreeMap, BTreeSet};

/// The names under which a Compose file is looked for, in this order.
pub(crate) const DEFAULT_FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];
/// The names of the file that overrides it, if one of them is there.
pub(crate) const OVERRIDE_FILES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];
/// The most services of one stack.
const SERVICES_MAX: usize = 100;

/// What Compose files say.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// Services in the order of the file.
    pub(crate) services: Vec<Declared>,
    /// Names of services that are left out, and why.
    pub(crate) left_out: Vec<(String, LeftOut)>,
    /// Names of services that could not be read, about which enough was said.
    pub(crate) unreadable: Vec<String>,
    /// Named volumes.
    pub(crate) volumes: Vec<(VolumeName, At)>,
    /// Named networks, and whether they are internal.
    pub(crate) networks: Vec<(NetworkName, At, bool)>,
}

impl File {
    /// The names of all services, those that are left out and those that could not be read too.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let there = self.services.iter().map(|service| service.name.as_str());
        let out = self.left_out.iter().map(|(name, _)| name.as_str());
        there.chain(out).chain(self.unreadable.iter().map(String::as_str))
    }

    /// Whether a service is left out, for whatever reason.
    pub(crate) fn leaves_out(&self, name: &str) -> bool {
        self.left_out.iter().any(|(out, _)| out == name)
    }
}

/// Why a service does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// None of its profiles is chosen.
    Profile,
    /// It has no replicas.
    Replicas,
    /// `stack.without`, or somebody who changed this environment, wants it to be left out.
    Wish,
}

/// One service of a Compose file.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: ServiceName,
    pub(crate) at: At,
    pub(crate) body: Body,
}

/// What a named volume really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// A volume of the environment.
    Volume,
    /// A folder of the repository.
    Folder(At, String),
    /// Memory with these options.
    Memory(String),
}

/// What surrounds a Compose file.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) report: &'a Report,
    pub(crate) tree: &'a dyn Tree,
    /// The source that the tree is a commit of.
    pub(crate) source: &'a SourceName,
    /// The folder that relative paths start from.
    pub(crate) folder: &'a str,
    /// What may be interpolated.
    pub(crate) scope: &'a Scope,
    /// The whole file.
    pub(crate) root: &'a Node,
    /// Profiles that are chosen.
    pub(crate) profiles: &'a BTreeSet<String>,
    /// Services that somebody wants to be left out.
    pub(crate) without: &'a BTreeSet<String>,
    /// Services that extend what can't be read.
    pub(crate) broken: &'a BTreeSet<String>,
    /// What `maquette.yaml` says of the services.
    pub(crate) stack: &'a Stack,
    /// Whether the runtime builds images.
    pub(crate) builds: bool,
    /// Services whose files are of another source.
    pub(crate) elsewhere: &'a BTreeMap<String, Elsewhere<'a>>,
    /// Whether the files of the source are not here, so that nothing can be said of them.
    pub(crate) unseen: bool,
}

impl<'a> Scene<'a> {
    /// The same, for what a service builds and mounts of a repository.
    fn of_files(&self, name: &ServiceName) -> Scene<'a> {
        match self.elsewhere.get(name.as_str()) {
            None => *self,
            Some(elsewhere) => Scene {
                tree: elsewhere.found.map_or(self.tree, |found| found.tree),
                source: &elsewhere.source,
                unseen: elsewhere.found.is_none(),
                ..*self
            },
        }
    }

    /// Whether what a service says of its build matters.
    fn is_built(&self, name: &ServiceName) -> bool {
        let said = self.stack.services.get(name.as_str());
        let host = said.and_then(|service| service.host).is_some_and(|(_, host)| host);
        self.builds && !host
    }

    /// What stands for a granted secret; `None` if there is none of that name.
    fn secret(&self, name: &str) -> Option<String> {
        let known = self.scope.0.get(name)?;
        (known.from == Giver::Secret).then(|| interpolate::secret_mark(name))
    }

    /// What a named volume really is; `None` if it is not declared.
    fn backing(&self, name: &str) -> Option<Backing> {
        let options = self.root.get("volumes")?.get(name)?.get("driver_opts");
        let Some(options) = options else {
            return Some(Backing::Volume);
        };
        let text = |key: &str| match options.get(key).map(|node| (&node.kind, node.at)) {
            Some((NodeKind::Scalar { text, .. }, at)) => Some((at, text.as_str())),
            _ => None,
        };
        let o = text("o").map_or("", |(_, o)| o);
        if text("type").is_some_and(|(_, kind)| kind == "tmpfs") {
            return Some(Backing::Memory(o.to_owned()));
        }
        match text("device") {
            Some((at, device)) if o.split(',').any(|option| option == "bind") => {
                Some(Backing::Folder(at, device.to_owned()))
            }
            _ => Some(Backing::Volume),
        }
    }
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
pub(crate) fn read(scene: &Scene<'_>) -> Option<File> {
    let report = scene.report;
    let mut file = File::default();
    if is_first_version(scene.root) {
        report.error_hint(
            scene.root.at,
            "the services of this file stand at the top level, as in the first version of Compose",
            "put them below `services:`, each two spaces further to the right",
        );
        return None;
    }
    for (key, node) in read::map(report, scene.root, "a Compose file")? {
        if !keys::admit(report, "", key, "in a Compose file") {
            continue;
        }
        match key.text.as_str() {
            "services" => services(scene, node, &mut file),
            "volumes" => volumes(scene, node, &mut file),
            "networks" => networks(report, node, &mut file),
            section @ ("secrets" | "configs") => files::section(scene, node, section),
            // `name` is read before anything is interpolated, `include` when files are put together.
            _ => {}
        }
    }
    link(report, &mut file);
    share(scene, &mut file);
    let none = |node: &NodeKind| match node {
        NodeKind::Null => true,
        NodeKind::Map(entries) => entries.is_empty() && !report.has_errors(),
        _ => false,
    };
    if scene.root.get("services").is_none_or(|node| none(&node.kind)) {
        report.error_hint(
            scene.root.at,
            "there are no services",
            "a Compose file has a key `services`",
        );
    }
    Some(file)
}

/// Whether services stand where sections should be. Files of that version have no `services`.
fn is_first_version(root: &Node) -> bool {
    let NodeKind::Map(entries) = &root.kind else {
        return false;
    };
    let service = |node: &Node| node.get("image").or_else(|| node.get("build")).is_some();
    let known = |name: &str| keys::find("", name).is_some() || name.starts_with("x-");
    root.get("services").is_none() && entries.iter().any(|(key, node)| !known(&key.text) && service(node))
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
        if scene.broken.contains(&key.text) {
            file.unreadable.push(key.text.clone());
            continue;
        }
        if scene.without.contains(&key.text) {
            file.left_out.push((key.text.clone(), LeftOut::Wish));
            continue;
        }
        if !profiles::chosen(scene, key, node) {
            file.left_out.push((key.text.clone(), LeftOut::Profile));
            continue;
        }
        match service::read(scene, &name, node) {
            Some(body) => match body.off {
                Some(at) => {
                    report.warn(at, format!("service `{name}` has no replicas and is left out"));
                    file.left_out.push((key.text.clone(), LeftOut::Replicas));
                }
                None => file.services.push(Declared { name, at: key.at, body }),
            },
            None => file.unreadable.push(key.text.clone()),
        }
    }
}

/// Gives services the names that links give them.
fn link(report: &Report, file: &mut File) {
    let links: Vec<(At, String, String)> = file
        .services
        .iter()
        .flat_map(|service| service.body.links.clone())
        .collect();
    for (at, service, alias) in links {
        let taken = file.services.iter().any(|other| other.name.as_str() == alias);
        let target = file.services.iter_mut().find(|other| other.name.as_str() == service);
        match target {
            Some(_) if taken => report.error(at, format!("the link {} has the name of a service", quoted(&alias))),
            Some(target) if !target.body.aliases.contains(&alias) => target.body.aliases.push(alias),
            // A service that does not exist is told of with the other dependencies.
            _ => {}
        }
    }
}

/// Gives services the mounts of those that `volumes_from` names, in as many steps as they follow from each other. What a service
/// mounts itself goes before.
fn share(scene: &Scene<'_>, file: &mut File) {
    let mut waits: Vec<usize> = (0..file.services.len()).collect();
    while !waits.is_empty() {
        let is_done = |name: &str| {
            let still = waits.iter().filter_map(|index| file.services.get(*index));
            still.into_iter().all(|service| service.name.as_str() != name)
        };
        let free = |index: &usize| {
            let service = file.services.get(*index);
            service.is_none_or(|service| service.body.volumes_from.iter().all(|(_, from, _)| is_done(from)))
        };
        let (now, later): (Vec<usize>, Vec<usize>) = waits.iter().partition(|index| free(index));
        if now.is_empty() {
            let at = later
                .first()
                .and_then(|index| file.services.get(*index))
                .map(|service| service.at);
            scene.report.error_hint(
                at.unwrap_or(scene.root.at),
                "services have each other's volumes in a circle",
                "remove one `volumes_from`",
            );
            return;
        }
        for index in now {
            mounts::take_over(scene, file, index);
        }
        waits = later;
    }
}

fn volumes(scene: &Scene<'_>, node: &Node, file: &mut File) {
    let report = scene.report;
    for (key, node) in read::map(report, node, "`volumes`").unwrap_or_default() {
        if key.text.starts_with("x-") {
            continue;
        }
        let of = format!("of volume {}", quoted(&key.text));
        for (option, value) in read::map(report, node, &format!("volume {}", quoted(&key.text))).unwrap_or_default() {
            let known = ["type", "o", "device"];
            match option.text.as_str() {
                "driver" if !says(value, &["local", ""]) => report.error_hint(
                    option.at,
                    format!("`driver` {of} is not supported"),
                    "every environment has volumes of its own, kept by Maquette: remove it",
                ),
                "external" if says(value, &["false"]) => {}
                "driver_opts" => {
                    let entries = read::map(report, value, &format!("`driver_opts` {of}")).unwrap_or_default();
                    let strange = entries.iter().find(|(key, _)| !known.contains(&key.text.as_str()));
                    if let Some((key, _)) = strange {
                        read::unknown_key(report, key, &format!("in `driver_opts` {of}"), &known);
                    } else if !entries.is_empty() && scene.backing(&key.text) == Some(Backing::Volume) {
                        report.error_hint(
                            option.at,
                            format!("`driver_opts` {of} is not supported"),
                            "every environment has volumes of its own, kept by Maquette: remove it",
                        );
                    }
                }
                _ => {
                    keys::admit(report, "volumes.*", option, &of);
                }
            }
        }
        if let Some(name) = read::name(report, key.at, &key.text)
            && scene.backing(&key.text) == Some(Backing::Volume)
        {
            file.volumes.push((name, key.at));
        }
    }
}

fn networks(report: &Report, node: &Node, file: &mut File) {
    for (key, node) in read::map(report, node, "`networks`").unwrap_or_default() {
        if key.text.starts_with("x-") {
            continue;
        }
        let of = format!("of network {}", quoted(&key.text));
        let mut internal = false;
        for (option, value) in read::map(report, node, &format!("network {}", quoted(&key.text))).unwrap_or_default() {
            let harmless = match option.text.as_str() {
                "driver" => says(value, &["bridge", "default"]),
                "external" | "attachable" | "enable_ipv6" => says(value, &["false"]),
                _ => false,
            };
            if option.text == "driver" && says(value, &["host", "none"]) {
                let drivers = ["bridge"];
                report.error_hint(
                    value.at,
                    format!("`driver` {of} is not supported"),
                    suggest::hint("", &drivers),
                );
            } else if !harmless && keys::admit(report, "networks.*", option, &of) {
                internal = read::flag(report, value, &format!("`internal` {of}")).unwrap_or_default();
            }
        }
        if let Some(name) = read::name(report, key.at, &key.text) {
            file.networks.push((name, key.at, internal));
        }
    }
}
