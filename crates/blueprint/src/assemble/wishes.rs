//! What not every runtime does: refused or warned of by name where it does not.

use super::Assembly;
use crate::{
    compose::{Declared, Wish, keys},
    escape::quoted,
    suggest,
};
use model::{Feature, MountKind, Network, NetworkMode, NetworkName, Root, Service, ServiceStack};
use std::collections::{BTreeMap, BTreeSet};

impl Assembly<'_> {
    /// Whether the runtime has a feature.
    fn has(&self, feature: Feature) -> bool {
        self.capabilities.features.contains(&feature)
    }

    /// Tells what the runtime lacks for a service.
    pub(super) fn check_wishes(&self, declared: &Declared, root: &Root) {
        let engine = matches!(root, Root::Engine(_));
        let mounts = declared.body.mounts.iter().filter(|_| !self.capabilities.sources);
        for (at, mount) in mounts.filter(|(_, mount)| matches!(mount.kind, MountKind::Source { .. })) {
            let message = format!(
                "service `{}` mounts files of the commit at {}, which the runtime `{}` does not have",
                declared.name,
                quoted(&mount.target),
                self.capabilities.runtime
            );
            self.compose.error_hint(
                *at,
                message,
                "copy them into an image of your own, or leave the mount out",
            );
        }
        for Wish { at, feature, what } in &declared.body.wishes {
            // What an engine of the runtime is started with is the runtime's own.
            if self.has(*feature) && !engine {
                continue;
            }
            let (refused, lack) = keys::lack(*feature);
            let runtime = &self.capabilities.runtime;
            if engine {
                self.compose.warn(
                    *at,
                    format!("{what} has no effect: it runs as an engine of the runtime `{runtime}`"),
                );
            } else if refused {
                self.compose
                    .error_hint(*at, format!("{what} is not supported by the runtime `{runtime}`"), lack);
            } else {
                self.compose.warn(*at, format!("{what} has no effect: {lack}"));
            }
        }
    }

    /// The networks of the stack. Where all services are in one network that is like any other, there is nothing to say.
    pub(super) fn networks(&self, stack: &mut ServiceStack) {
        let declared: BTreeMap<&str, bool> = self
            .file
            .networks
            .iter()
            .map(|(name, _, internal)| (name.as_str(), *internal))
            .collect();
        let mut sets: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
        for service in &self.file.services {
            let mut names: BTreeSet<&str> = BTreeSet::new();
            for (at, network, _) in &service.body.networks {
                if network != "default" && !declared.contains_key(network.as_str()) {
                    let known: Vec<&str> = declared.keys().copied().collect();
                    let message = format!(
                        "service `{}` is in the network `{network}`, which is not declared",
                        service.name
                    );
                    let hint = match suggest::nearest(network, known) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("add `networks: {{ {network}: }}` at the top level"),
                    };
                    self.compose.error_hint(*at, message, hint);
                }
                names.insert(network);
            }
            if service.body.net == NetworkMode::None {
                continue;
            }
            if names.is_empty() {
                names.insert("default");
            }
            sets.insert(names);
        }
        let internal = |name: &str| declared.get(name).copied().unwrap_or_default();
        let used: BTreeSet<&str> = sets.iter().flatten().copied().collect();
        let apart = sets.len() > 1 || used.iter().any(|name| internal(name));
        if !apart || !self.has(Feature::Networks) {
            if apart {
                let at = self.file.networks.first().map(|(_, at, _)| *at);
                let message = "the networks of the stack are not kept apart: all its services share one";
                self.compose.warn_hint(
                    at,
                    message,
                    format!(
                        "the runtime `{}` has one network per environment",
                        self.capabilities.runtime
                    ),
                );
            }
            for service in &self.file.services {
                if let Some(made) = stack.services.get_mut(&service.name) {
                    let more = service.body.networks.iter().flat_map(|(_, _, aliases)| aliases);
                    for alias in more {
                        if !made.aliases.contains(alias) {
                            made.aliases.push(alias.clone());
                        }
                    }
                }
            }
            return;
        }
        for service in &self.file.services {
            if let Some(made) = stack.services.get_mut(&service.name)
                && service.body.net == NetworkMode::Networks
            {
                join(made, &service.body.networks);
            }
        }
        let networks = used.into_iter().filter_map(|name| {
            let internal = internal(name);
            Some((name.parse::<NetworkName>().ok()?, Network { internal }))
        });
        stack.networks = networks.collect();
    }
}

/// Puts a service into its networks, or into the default one.
fn join(service: &mut Service, networks: &[(crate::problem::At, String, Vec<String>)]) {
    for (_, network, aliases) in networks {
        if let Ok(name) = network.parse::<NetworkName>() {
            service.networks.insert(name, aliases.clone());
        }
    }
    if let (true, Ok(name)) = (service.networks.is_empty(), "default".parse()) {
        service.networks.insert(name, Vec::new());
    }
}
