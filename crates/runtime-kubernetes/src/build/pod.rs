//! The pod of a service or job, and what it is given: variables, files, memory, volumes.

mod identity;
mod image;
mod mounts;
mod options;
pub(super) mod probes;
mod values;

use super::{Object, Order, account, labels, limits, secrets};
use crate::{
    PodSecurity, Sensitive,
    finding::{Decision, Findings, Place},
    names,
};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Container, PodSpec, PodTemplateSpec, SeccompProfile},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use model::{Digest, ServiceName, Workload};
use std::collections::BTreeMap;

/// What a container may be given together. A config map holds 1 MiB with its names, and so does a secret.
const GIVEN_MAX: usize = 1_000_000;

/// The one container of a pod.
const CONTAINER: &str = "main";

/// A service or job of which a pod is made.
pub(super) struct Unit<'a> {
    /// For findings.
    pub(super) place: Place,
    /// What its author calls it.
    pub(super) called: &'a str,
    /// `service` or `job`: the two may have the same name.
    pub(super) kind: &'static str,
    /// What runs.
    pub(super) workload: &'a Workload,
    /// What it was made for; a pod with another digest is replaced.
    pub(super) digest: Option<Digest>,
    /// The labels of its networks; none if it is connected to nothing.
    pub(super) networks: Vec<String>,
    /// Whether one of them leads outside.
    pub(super) outside: bool,
    /// Services that must have completed before it.
    pub(super) completed_before: Vec<&'a ServiceName>,
}

impl Unit<'_> {
    /// Its name among objects.
    pub(super) fn name(&self) -> String {
        names::workload(self.called)
    }

    /// The name of the secret and of the config map that it is given.
    pub(super) fn given_name(&self) -> String {
        names::object(&[self.called, self.kind])
    }

    /// The label that selects its pods.
    pub(super) fn selector(&self) -> (&'static str, String) {
        let key = if self.kind == "job" {
            labels::JOB
        } else {
            labels::SERVICE
        };
        (key, self.name())
    }

    fn labels(&self, order: &Order<'_>) -> labels::Map {
        let mut all = labels::owner(order);
        let (key, name) = self.selector();
        all.insert(key.to_owned(), name);
        if !self.networks.is_empty() {
            all.extend(labels::map([labels::CONNECTED]));
        }
        all.extend(self.networks.iter().map(|label| (label.clone(), "yes".to_owned())));
        if self.outside {
            all.extend(labels::map([labels::OUTSIDE]));
        }
        all
    }

    /// Annotations of its workload and its pod.
    pub(super) fn annotations(&self) -> labels::Map {
        let mut all = labels::map([(labels::CALLED, self.called)]);
        if let Some(digest) = &self.digest {
            all.extend(labels::map([(labels::DIGEST, digest.as_str())]));
        }
        if !self.completed_before.is_empty() {
            let names = self.completed_before.iter().map(|name| names::workload(name.as_str()));
            let names: Vec<String> = names.collect();
            all.extend(labels::map([(labels::COMPLETED, &names.join(","))]));
        }
        all
    }
}

/// What a pod is given, as it is collected.
#[derive(Default)]
struct Given {
    /// Keys of its config map.
    plain: BTreeMap<String, String>,
    /// Keys of its secret.
    secret: BTreeMap<String, Sensitive>,
}

/// The template of a pod, and the objects that it is given.
pub(super) fn template(order: &Order<'_>, unit: &Unit<'_>, findings: &mut Findings) -> (PodTemplateSpec, Vec<Object>) {
    let Workload {
        root,
        entrypoint,
        command,
        environment,
        working_dir,
        mounts,
        limits,
        read_only,
        options,
    } = unit.workload;
    let mut given = Given::default();
    let (command, args) = values::program(entrypoint.as_deref(), command.as_deref());
    let identity = identity::of(order, unit, findings);
    let (mounts, volumes) = mounts::of(order, unit, mounts, &mut given, findings);
    let mut container = Container {
        name: CONTAINER.to_owned(),
        image: image::of(order, &unit.place, root, findings),
        command,
        args,
        env: values::variables(order, unit, environment, &mut given, findings),
        working_dir: working_dir.clone(),
        volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
        resources: Some(limits::container(limits, limits::Shares::of(order))),
        security_context: Some(identity::container(order, unit, *read_only, findings)),
        // What went wrong is in the status of the pod, with the last lines that it printed.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    findings.note_if(given.size() > GIVEN_MAX, &unit.place, Decision::TooLarge);
    findings.note_if(limits.pids.is_some(), &unit.place, Decision::Pids);
    let mut spec = PodSpec {
        service_account_name: Some(account::NAME.to_owned()),
        automount_service_account_token: Some(false),
        // Variables with the addresses of all services would be variables that the stack does not name.
        enable_service_links: Some(false),
        host_users: (order.cluster.pod_security == PodSecurity::Baseline).then_some(false),
        priority_class_name: order.cluster.priority_class.clone(),
        security_context: Some(identity.pod(order)),
        volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
        ..PodSpec::default()
    };
    options::apply(unit, options, &mut container, &mut spec, findings);
    spec.containers = vec![container];
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(unit.labels(order)),
            annotations: Some(unit.annotations()),
            ..ObjectMeta::default()
        }),
        spec: Some(spec),
    };
    (template, given.objects(order, unit))
}

/// The container of a template that [`template`] made.
pub(super) fn container(template: &mut PodTemplateSpec) -> Option<&mut Container> {
    template.spec.as_mut()?.containers.first_mut()
}

impl Given {
    fn size(&self) -> usize {
        let secret = self.secret.values().map(|value| value.expose().len());
        self.plain.values().map(String::len).chain(secret).sum()
    }

    fn objects(self, order: &Order<'_>, unit: &Unit<'_>) -> Vec<Object> {
        let name = unit.given_name();
        let plain = (!self.plain.is_empty()).then(|| {
            Object::ConfigMap(ConfigMap {
                metadata: labels::meta(order, &name),
                data: Some(self.plain),
                ..ConfigMap::default()
            })
        });
        let secret = (!self.secret.is_empty()).then(|| Object::Secret(secrets::of_unit(order, &name, self.secret)));
        secret.into_iter().chain(plain).collect()
    }
}

fn seccomp() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        localhost_profile: None,
    }
}
