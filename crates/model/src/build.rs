//! How an image is made from a source.

use crate::{SourceName, Value};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An image that is built from a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The source that holds the context.
    pub source: SourceName,
    /// Relative path of the context inside the checkout; empty for the whole checkout.
    pub context: String,
    /// What is built.
    pub dockerfile: Dockerfile,
    /// Build arguments. Secrets are never among them: arguments stay in layers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// The stage that is built; the last one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Further contexts by name: a folder of the checkout, an image (`docker-image://…`) or a service (`service:…`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, BuildContext>,
    /// Files that are there while it is built and in no layer, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, BuildSecret>,
    /// Labels of the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether the cache is left aside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_cache: bool,
    /// Whether the health check that the Dockerfile names is left aside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_health: bool,
    /// What it was built to; absent as long as it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<crate::ImageDigest>,
    /// The one environment that may use what it was built to; all of the project if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_to: Option<crate::EnvironmentId>,
    /// Names for the result besides that of the service, under which other builds of the stack may find it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
}

impl Build {
    /// Whether both are the same work, whatever has become of it.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let plain = |build: &Self| Self {
            made: None,
            no_health: false,
            ..build.clone()
        };
        plain(self) == plain(other)
    }
}

/// The text of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dockerfile {
    /// A file; its path starts from the checkout's root.
    Path(String),
    /// The text itself.
    Inline(String),
}

/// What a further context of a build is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildContext {
    /// A folder; its path starts from the checkout's root.
    Folder(String),
    /// An image, by reference.
    Image(String),
    /// What another service of the stack is built to, by its name.
    Service(String),
}

/// What a secret of a build holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildSecret {
    /// A file of the checkout.
    File(String),
    /// A value.
    Value(Value),
}
