//! What callers send, and what they get for a sign-in link.

use model::{BranchName, CommitId, ProjectName, ServiceName, SourceName, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// Asks for an environment: exactly one of `branch` and `clone_of`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    /// The project; may be left out where there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub project: Option<ProjectName>,
    /// The branch to follow; the environment ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub branch: Option<BranchName>,
    /// The environment to copy (id, label or number of a pull request), at the commits that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_of: Option<String>,
}

/// Asks that an environment takes a service from another branch, leaves services out or takes them in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    /// The service; together with `branch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub service: Option<ServiceName>,
    /// The branch that the service is taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub branch: Option<BranchName>,
    /// Services that this environment does without.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub without: BTreeSet<ServiceName>,
    /// Services that it runs again, or runs although the stack leaves them out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub with: BTreeSet<ServiceName>,
    /// Services that it does without because one outside does in their place: `host:port` by service. The policy has to allow it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub endpoints: BTreeMap<ServiceName, String>,
}

/// Asks that an environment runs a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The commit, in full.
    #[schema(value_type = String)]
    pub commit: CommitId,
    /// The source that it belongs to; the project's first one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub source: Option<SourceName>,
}

/// Asks that the newest commit of a pull request may run, whoever pushed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The commit, in full. It is refused if another one is the newest by now.
    #[schema(value_type = String)]
    pub commit: CommitId,
}

/// Asks for a sign-in link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    /// Who will use it, for the log; the caller unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How long it can be used, in seconds; an hour unless given, at most 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// How often it can be used; once unless given, at most 1000 times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
}

/// A link that signs in whoever has it. It is shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignInLink {
    /// The address, with the token in its fragment.
    pub url: String,
    /// When it stops working.
    #[schema(value_type = u64)]
    pub expires: Timestamp,
    /// How often it works.
    pub uses: u32,
}

impl std::fmt::Debug for SignInLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInLink")
            .field("expires", &self.expires)
            .field("uses", &self.uses)
            .finish_non_exhaustive()
    }
}
