//! Objects of all kinds that an environment consists of.

use super::SecretObject;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, LimitRange, Namespace, PersistentVolumeClaim, ResourceQuota, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
};
use serde_json::Value;

/// An object. Its `Debug` shows no secrets.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is the kind of that name")]
pub enum Object {
    Namespace(Namespace),
    LimitRange(LimitRange),
    ResourceQuota(ResourceQuota),
    NetworkPolicy(NetworkPolicy),
    ServiceAccount(ServiceAccount),
    Secret(SecretObject),
    ConfigMap(ConfigMap),
    PersistentVolumeClaim(PersistentVolumeClaim),
    StatefulSet(StatefulSet),
    Job(Job),
    Deployment(Deployment),
    Service(Service),
    /// The config map that says which generation this is; the last of all.
    Marker(ConfigMap),
}

impl Object {
    /// The object as it is sent to a cluster. Secrets are in it: it is for a delivery alone.
    ///
    /// # Errors
    /// None that is known: all of these are made of text, numbers, lists and maps.
    pub fn expose(&self) -> serde_json::Result<Value> {
        match self {
            Self::Secret(secret) => serde_json::to_value(secret.expose()),
            other => other.shown(),
        }
    }

    /// The object as people may see it: a secret has its keys and no values.
    ///
    /// # Errors
    /// As [`Self::expose`].
    pub fn shown(&self) -> serde_json::Result<Value> {
        match self {
            Self::Namespace(object) => serde_json::to_value(object),
            Self::LimitRange(object) => serde_json::to_value(object),
            Self::ResourceQuota(object) => serde_json::to_value(object),
            Self::NetworkPolicy(object) => serde_json::to_value(object),
            Self::ServiceAccount(object) => serde_json::to_value(object),
            Self::Secret(object) => object.shown(),
            Self::ConfigMap(object) | Self::Marker(object) => serde_json::to_value(object),
            Self::PersistentVolumeClaim(object) => serde_json::to_value(object),
            Self::StatefulSet(object) => serde_json::to_value(object),
            Self::Job(object) => serde_json::to_value(object),
            Self::Deployment(object) => serde_json::to_value(object),
            Self::Service(object) => serde_json::to_value(object),
        }
    }

    /// Its place in the order in which objects are made. Equal ones keep the order of their names.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Namespace(_) => 0,
            Self::LimitRange(_) | Self::ResourceQuota(_) => 1,
            Self::NetworkPolicy(_) => 2,
            Self::ServiceAccount(_) => 3,
            Self::Secret(_) | Self::ConfigMap(_) => 4,
            Self::PersistentVolumeClaim(_) => 5,
            Self::StatefulSet(_) => 6,
            Self::Job(_) => 7,
            Self::Deployment(_) => 8,
            Self::Service(_) => 9,
            Self::Marker(_) => 10,
        }
    }
}
