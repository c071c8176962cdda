//! The namespace: whose it is, and what may run in it.

use super::{Object, Order, labels};
use crate::names;
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};

/// The version of the Pod Security Standards that is meant, that of the objects that we write: what a newer cluster asks beyond
/// it stops no environment.
const STANDARD: &str = "v1.36";

pub(super) fn object(order: &Order<'_>) -> Object {
    let (origin, annotations) = labels::origin(&order.spec.origin);
    let word = order.cluster.pod_security.word();
    let mut labels = labels::owner(order);
    labels.extend(origin);
    for mode in ["enforce", "audit", "warn"] {
        labels.insert(format!("pod-security.kubernetes.io/{mode}"), word.to_owned());
        labels.insert(
            format!("pod-security.kubernetes.io/{mode}-version"),
            STANDARD.to_owned(),
        );
    }
    Object::Namespace(Namespace {
        metadata: ObjectMeta {
            name: Some(names::namespace(&order.cluster.instance, &order.spec.environment)),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    })
}
