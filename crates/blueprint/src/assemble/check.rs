//! Checks of what is put together: names, conditions, volumes.

use super::Assembly;
use crate::{
    compose::{Declared, Need},
    escape::quoted,
    problem::At,
    suggest,
};
use model::{Condition, Generation, MountKind, Restart, ServiceName, ServiceStack, Volume, VolumeName, VolumeOrigin};
use std::collections::{BTreeMap, BTreeSet};

impl Assembly<'_> {
    /// Names in `maquette.yaml` must be those of the Compose file.
    pub(super) fn check_names(&self) {
        let names: Vec<&str> = self.file.names().collect();
        let services = self.stack.services.iter().map(|(name, service)| (name, service.at));
        for (name, at) in services.chain(self.stack.data.iter().map(|(name, data)| (name, data.at))) {
            if !names.contains(&name.as_str()) {
                let message = format!("there is no service {} in {}", quoted(name), self.compose.file);
                self.settings.error_hint(at, message, suggest::hint(name, &names));
            }
        }
    }

    /// What others wait for must be able to come.
    pub(super) fn check_conditions(&self, stack: &ServiceStack) {
        for Declared { name, body, .. } in &self.file.services {
            for Need {
                at,
                name: need,
                condition,
                ..
            } in &body.depends_on
            {
                let Some(service) = need
                    .parse::<ServiceName>()
                    .ok()
                    .and_then(|need| stack.services.get(&need))
                else {
                    continue;
                };
                let silent = service.health.is_none() && service.ports.is_empty();
                let may_tell = need.parse().is_ok_and(|need| self.image_may_tell(&need));
                if *condition == Condition::Healthy && silent && !may_tell {
                    self.compose.error_hint(
                        *at,
                        format!("service `{name}` waits for `{need}` to be healthy, and nothing tells whether it is"),
                        "give it a `healthcheck`, or `expose` a port, whose answer counts then",
                    );
                }
                if *condition == Condition::Completed && service.restart == Restart::Always {
                    self.compose.error_hint(
                        *at,
                        format!("service `{name}` waits for the end of `{need}`, which is always started again"),
                        format!("remove `restart` of `{need}`"),
                    );
                }
            }
        }
    }

    /// Volumes that are mounted; what is mounted must be declared, what is declared should be mounted.
    pub(super) fn volumes(&self, stack: &mut ServiceStack) {
        let declared: BTreeMap<&VolumeName, At> = self.file.volumes.iter().map(|(name, at)| (name, *at)).collect();
        let names: Vec<&str> = declared.keys().map(|name| name.as_str()).collect();
        for Declared { name, body, .. } in &self.file.services {
            for (at, mount) in &body.mounts {
                let (MountKind::Volume { volume } | MountKind::VolumePath { volume, .. }) = &mount.kind else {
                    continue;
                };
                if !body.made.contains(volume) && !declared.contains_key(volume) {
                    let message = format!("service `{name}` mounts the volume `{volume}`, which is not declared");
                    let hint = match suggest::nearest(volume.as_str(), names.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!(
                            "add `volumes: {{ {volume}: }}` at the top level, or write `./{volume}` for a folder"
                        ),
                    };
                    self.compose.error_hint(*at, message, hint);
                }
            }
        }
        let mut users: BTreeSet<&VolumeName> = BTreeSet::new();
        for (engine, set) in &stack.data {
            if !users.insert(&set.volume) {
                self.compose.error(
                    None,
                    format!("service `{engine}` shares its data directory with another engine"),
                );
            }
        }
        let workloads = stack
            .services
            .values()
            .map(|s| &s.workload)
            .chain(stack.jobs.values().map(|j| &j.workload));
        let used: BTreeSet<VolumeName> = workloads
            .flat_map(|workload| &workload.mounts)
            .filter_map(|mount| match &mount.kind {
                MountKind::Volume { volume } | MountKind::VolumePath { volume, .. } => Some(volume.clone()),
                _ => None,
            })
            .collect();
        for (volume, at) in &declared {
            if !used.contains(volume) && !self.compose.has_errors() {
                self.compose
                    .warn(*at, format!("no service mounts the volume `{volume}`; it is not made"));
            }
        }
        for volume in used {
            let fresh = Volume {
                origin: VolumeOrigin::Empty,
                incarnation: Generation::default(),
                limit_bytes: None,
            };
            stack.volumes.insert(volume, fresh);
        }
    }
}
