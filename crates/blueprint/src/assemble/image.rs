//! What an image says of its containers, where the stack says nothing.

use super::Assembly;
use crate::{interpolate::Values, problem::At};
use model::{Condition, ImageFacts, Mount, MountKind, Root, Service, ServiceName, Workload};
use std::{collections::BTreeMap, path::Path};

impl Assembly<'_> {
    /// What an image says, if somebody has looked.
    pub(super) fn image_facts(&self, reference: &str) -> Option<&ImageFacts> {
        self.images?.get(reference)
    }

    /// Whether a service runs from an image that nobody has looked at: it may have a port or a health check.
    pub(super) fn image_may_tell(&self, name: &ServiceName) -> bool {
        let runs_from_host = self.stack.services.get(name.as_str()).and_then(|service| service.host);
        self.images.is_none()
            && self.capabilities.images
            && !runs_from_host.is_some_and(|(_, host)| host)
            && self
                .body_of(name.as_str())
                .is_some_and(|body| body.build.is_none() && body.image.is_some())
    }

    /// Whether another service starts only when this one is healthy.
    pub(super) fn is_waited_for(&self, name: &ServiceName) -> bool {
        let needs = self.file.services.iter().flat_map(|service| &service.body.depends_on);
        needs
            .filter(|need| need.condition == Condition::Healthy)
            .any(|need| need.name == name.as_str())
    }
}

/// Fills in what a service leaves to its image. A service with an entrypoint of its own does not get the image's arguments.
pub(super) fn complete(
    workload: &mut Workload,
    facts: &ImageFacts,
    own: &BTreeMap<String, (At, String)>,
    documented: &Values,
) {
    if workload.entrypoint.is_none() {
        workload.entrypoint = Some(facts.entrypoint.clone());
        workload.command.get_or_insert_with(|| facts.command.clone());
    }
    for (name, value) in &facts.environment {
        if !own.contains_key(name) && !documented.contains_key(name) {
            workload.environment.insert(name.clone(), value.clone().into());
        }
    }
    if workload.working_dir.is_none() {
        workload.working_dir.clone_from(&facts.working_dir);
    }
    if workload.options.user.is_none() {
        workload.options.user.clone_from(&facts.user);
    }
    if workload.read_only {
        writable(workload, &facts.volumes);
    }
}

/// Fills in what a service leaves to the image that it was built to.
pub fn complete_built(service: &mut Service, facts: &ImageFacts) {
    let Root::Build(build) = &mut service.workload.root else {
        return;
    };
    let health = facts.health.clone().filter(|_| !build.no_health);
    complete_built_workload(&mut service.workload, facts);
    service.health = service.health.take().or(health);
    if let Some(signal) = &facts.stop_signal
        && service.stop_signal == "SIGTERM"
    {
        service.stop_signal.clone_from(signal);
    }
}

/// The same for whatever is not a service. Variables that it has are its own.
pub fn complete_built_workload(workload: &mut Workload, facts: &ImageFacts) {
    let Root::Build(build) = &mut workload.root else { return };
    build.made = Some(facts.digest.clone());
    let own = workload
        .environment
        .keys()
        .map(|name| (name.clone(), String::new()))
        .collect();
    complete(workload, facts, &BTreeMap::new(), &own);
}

/// Where an image wants to keep data, it can, also where its root is read-only.
fn writable(workload: &mut Workload, volumes: &[String]) {
    for volume in volumes {
        let covered = |mount: &Mount| Path::new(volume).starts_with(&mount.target);
        if !workload.mounts.iter().any(covered) {
            workload.mounts.push(Mount {
                target: volume.clone(),
                kind: MountKind::memory(None),
                read_only: false,
            });
        }
    }
    workload.mounts.sort_by(|a, b| a.target.cmp(&b.target));
}
