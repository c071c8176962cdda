//! Labels and annotations: whose an object is. Labels are short and ours; texts of authors are in annotations only.

use super::Order;
use crate::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use model::Origin;
use std::collections::BTreeMap;

/// On everything that we make.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "maquette");
/// On a pod: the name of its service among objects.
pub(crate) const SERVICE: &str = "maquette/service";
/// On a pod: the name of its job among objects.
pub(crate) const JOB: &str = "maquette/job";
/// On a pod that is connected to anything at all, be it only to names.
pub(super) const CONNECTED: (&str, &str) = ("maquette/connected", "yes");
/// On a pod that may send to the door.
pub(super) const OUTSIDE: (&str, &str) = ("maquette/outside", "yes");
/// On the door's pod.
pub(super) const DOOR: (&str, &str) = ("maquette/role", "door");
/// Annotation: the digest of the service or job that it was made for.
pub(crate) const DIGEST: &str = "maquette/digest";
/// Annotation: what its author calls it; on a name under which a service is found, the service.
pub(crate) const CALLED: &str = "maquette/name";
/// Annotation of a volume: the generation that it was made for.
pub(crate) const INCARNATION: &str = "maquette/incarnation";
/// Annotation of what runs a service: the names, among objects, of those that must have completed before, with commas between them.
pub(crate) const COMPLETED: &str = "maquette/completed-before";
/// On everything: the installation whose it is.
pub(crate) const INSTANCE: &str = "maquette/instance";
/// On everything: the environment whose it is.
pub(crate) const ENVIRONMENT: &str = "maquette/environment";
/// On the marker, so that it can be watched without all other config maps.
pub(crate) const MARKER: (&str, &str) = ("maquette/role", "marker");
/// The network of a stack that names none.
const ALL: &str = "maquette/network";
/// A network that a stack names, followed by it.
const NETWORK: &str = "maquette/network.";

pub(super) type Map = BTreeMap<String, String>;

/// A map from pairs.
pub(super) fn map<const N: usize>(pairs: [(&str, &str); N]) -> Map {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The labels of every object: whose it is.
pub(super) fn owner(order: &Order<'_>) -> Map {
    map([
        MANAGED_BY,
        (ENVIRONMENT, order.spec.environment.as_str()),
        (INSTANCE, order.cluster.instance.as_str()),
        ("maquette/project", order.spec.project.as_str()),
    ])
}

/// The labels and annotations by which people find a namespace: why the environment exists.
pub(super) fn origin(origin: &Origin) -> (Map, Map) {
    let (labels, annotations): (Map, Map) = Default::default();
    let kind = |word: &str| ("maquette/origin".to_owned(), word.to_owned());
    let number = |number: u64| ("maquette/pull-request".to_owned(), number.to_string());
    let text = |key: &str, text: &str| (format!("maquette/{key}"), text.to_owned());
    let (more, notes) = match origin {
        Origin::PullRequest { number: n } => (vec![kind("pull-request"), number(*n)], vec![]),
        Origin::FurtherPullRequest { source, number: n } => (
            vec![kind("pull-request"), number(*n), text("source", source.as_str())],
            vec![],
        ),
        Origin::PullRequests { branch } => (vec![kind("pull-requests")], vec![text("branch", branch.as_str())]),
        Origin::Branch { branch } => (vec![kind("branch")], vec![text("branch", branch.as_str())]),
        Origin::Baseline { branch } => (vec![kind("baseline")], vec![text("branch", branch.as_str())]),
        Origin::Clone { of } => (vec![kind("clone"), text("clone-of", of.as_str())], vec![]),
        Origin::Golden => (vec![kind("golden")], vec![]),
        Origin::Spare => (vec![kind("spare")], vec![]),
    };
    (
        labels.into_iter().chain(more).collect(),
        annotations.into_iter().chain(notes).collect(),
    )
}

/// What the author calls the thing that an object belongs to.
pub(crate) fn called(meta: &ObjectMeta) -> Option<&str> {
    note(meta, CALLED)
}

/// An annotation.
pub(crate) fn note<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A label.
pub(crate) fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// Metadata of an object in the environment's namespace.
pub(super) fn meta(order: &Order<'_>, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(names::namespace(&order.cluster.instance, &order.spec.environment)),
        labels: Some(owner(order)),
        ..ObjectMeta::default()
    }
}

/// The label of those that are in a network; of all if it is none by name.
pub(super) fn network(name: Option<&str>) -> String {
    // A key is at most 63 bytes after its slash.
    name.map_or_else(
        || ALL.to_owned(),
        |name| format!("{NETWORK}{}", names::object_within(&[name], 50)),
    )
}

/// Selects what has this label.
pub(super) fn selects(label: (&str, &str)) -> LabelSelector {
    LabelSelector {
        match_labels: Some(map([label])),
        ..LabelSelector::default()
    }
}
