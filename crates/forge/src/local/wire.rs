//! The documents of a local forge.

use crate::{Account, DisplayText, PullRequestState, RepositoryId, RepositoryPath, StatusState};
use model::{BranchName, CommitId, Timestamp};
use serde::{Deserialize, Serialize};
use url::Url;

/// `forge.json`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Root {
    pub(super) id: RepositoryId,
    pub(super) path: RepositoryPath,
    pub(super) default_branch: BranchName,
}

/// `pulls/<n>.json`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PullRequest {
    pub(super) number: u64,
    pub(super) state: PullRequestState,
    /// None for a head from a fork.
    pub(super) branch: Option<BranchName>,
    /// The newest commit that was seen.
    pub(super) head: CommitId,
    pub(super) base: BranchName,
    pub(super) title: DisplayText,
    pub(super) author: Account,
    pub(super) labels: Vec<DisplayText>,
    pub(super) draft: bool,
    pub(super) updated: Timestamp,
}

/// `comments/<n>/<id>.json`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Comment {
    pub(super) id: u64,
    pub(super) account: Account,
    pub(super) body: String,
    pub(super) updated: Timestamp,
}

/// `statuses/<commit>.json`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) context: String,
    pub(super) state: StatusState,
    pub(super) description: String,
    pub(super) target: Option<Url>,
    pub(super) updated: Timestamp,
}
