//! Secrets of a project: what may be known of them. Values come in as they are, and never out.

use model::{EnvironmentId, HostLabel, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What may be known of one secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// Changes with the value, and says nothing about it.
    pub version: String,
    /// When that value was set.
    #[schema(value_type = u64)]
    pub set: Timestamp,
    /// Why the value looked like production's or staging's, if somebody insisted on it nevertheless.
    pub despite: Option<String>,
    /// Whether the project's policy grants it to trusted commits; absent if the policy has not been read.
    pub granted: Option<bool>,
    /// The environments that are given it.
    pub used_by: Vec<SecretUserView>,
}

/// An environment that is given a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretUserView {
    /// Its id.
    #[schema(value_type = String)]
    pub environment: EnvironmentId,
    /// Its label.
    #[schema(value_type = String)]
    pub label: HostLabel,
    /// The services and jobs that are given it.
    pub services: Vec<String>,
}

/// The secrets of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretList {
    /// By name.
    pub secrets: Vec<SecretView>,
}

/// How a secret is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct SecretQuery {
    /// Only if there is one of that name: its value is replaced.
    pub existing: bool,
    /// Also if the value looks like production's or staging's; that it did is kept and shown.
    pub insist: bool,
}
