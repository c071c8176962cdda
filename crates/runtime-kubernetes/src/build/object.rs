//! Objects of all kinds that an environment consists of.

use super::SecretObject;
use crate::Kind;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, LimitRange, Namespace, PersistentVolumeClaim, ResourceQuota, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
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

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::LimitRange(_) => Kind::LimitRange,
            Self::ResourceQuota(_) => Kind::ResourceQuota,
            Self::NetworkPolicy(_) => Kind::NetworkPolicy,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Secret(_) => Kind::Secret,
            Self::ConfigMap(_) | Self::Marker(_) => Kind::ConfigMap,
            Self::PersistentVolumeClaim(_) => Kind::PersistentVolumeClaim,
            Self::StatefulSet(_) => Kind::StatefulSet,
            Self::Job(_) => Kind::Job,
            Self::Deployment(_) => Kind::Deployment,
            Self::Service(_) => Kind::Service,
        }
    }

    /// Its name, which all of them have.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Whose it is.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Namespace(object) => &object.metadata,
            Self::LimitRange(object) => &object.metadata,
            Self::ResourceQuota(object) => &object.metadata,
            Self::NetworkPolicy(object) => &object.metadata,
            Self::ServiceAccount(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::ConfigMap(object) | Self::Marker(object) => &object.metadata,
            Self::PersistentVolumeClaim(object) => &object.metadata,
            Self::StatefulSet(object) => &object.metadata,
            Self::Job(object) => &object.metadata,
            Self::Deployment(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
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
