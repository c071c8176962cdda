//! Secrets: one per service or job that is given any, with variables and files in it, and the one that fetches images.

use super::{Order, labels};
use crate::Sensitive;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::Value;
use std::collections::BTreeMap;

/// The name of the secret that fetches images. Those of services and jobs have a `--` in theirs.
pub(crate) const PULL: &str = "pull";

/// A secret whose values are not printed. The type of Kubernetes' own would show them.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretObject {
    /// Name, namespace, labels.
    pub metadata: ObjectMeta,
    /// What kind of secret: `Opaque`, `kubernetes.io/dockerconfigjson`.
    pub kind: &'static str,
    /// Its values.
    pub data: BTreeMap<String, Sensitive>,
}

impl SecretObject {
    /// The object of Kubernetes, values in clear. It is for a delivery alone.
    #[must_use]
    pub fn expose(&self) -> Secret {
        let data = self.data.iter();
        let data = data.map(|(key, value)| (key.clone(), ByteString(value.expose().to_vec())));
        self.with(data.collect())
    }

    /// The same with empty values.
    pub(super) fn shown(&self) -> serde_json::Result<Value> {
        let empty = self.data.keys().map(|key| (key.clone(), ByteString(Vec::new())));
        let mut shown = serde_json::to_value(self.with(empty.collect()))?;
        let data = shown.get_mut("data").and_then(Value::as_object_mut);
        for (_, value) in data.into_iter().flatten() {
            *value = "(hidden)".into();
        }
        Ok(shown)
    }

    fn with(&self, data: BTreeMap<String, ByteString>) -> Secret {
        Secret {
            metadata: self.metadata.clone(),
            type_: Some(self.kind.to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }
}

/// What a service or job is given.
pub(super) fn of_unit(order: &Order<'_>, name: &str, data: BTreeMap<String, Sensitive>) -> SecretObject {
    SecretObject {
        metadata: labels::meta(order, name),
        kind: "Opaque",
        data,
    }
}

/// What fetches images.
pub(super) fn pull(order: &Order<'_>, config: &Sensitive) -> SecretObject {
    SecretObject {
        metadata: labels::meta(order, PULL),
        kind: "kubernetes.io/dockerconfigjson",
        data: BTreeMap::from([(".dockerconfigjson".to_owned(), config.clone())]),
    }
}
