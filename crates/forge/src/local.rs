//! A forge in a directory: for the demo, for trying things, and for tests of what is above the port.
//!
//! It holds a bare repository, and beside it one JSON document for each pull request, comment and status. A pull
//! request follows its branch, as on any forge; `refs/maquette/pulls/<n>/head` keeps its newest commit. Several
//! processes may use the directory at once: changes are made under a lock and files are replaced whole.

mod client;
mod comment;
mod commit;
mod pull_request;
mod refs;
mod repository;
mod status;
mod webhook;
mod wire;

use crate::{
    Account, BranchFact, Comment, CommentId, CommitStatus, DeliveryError, DisplayText, Forge, Headers, Marker,
    Permission, PullRequest, PullRequestFact, PullRequestNumber, Received, Remark, Remote, Repository, RepositoryId,
    RepositoryPath, Result, Secret, WebhookId, git::Git,
};
use async_trait::async_trait;
pub(crate) use client::write_atomically;
pub use comment::LocalComment;
pub use commit::FileChange;
use model::{BranchName, CommitId};
pub use pull_request::{LocalHead, NewPullRequest};
use std::path::{Path, PathBuf};
use tokio::sync::{Mutex, broadcast};
use url::Url;
pub use webhook::EVENTS_KEPT;

/// A forge in a directory.
#[derive(Debug)]
pub struct LocalForge {
    root: PathBuf,
    repository: PathBuf,
    git: Git,
    id: RepositoryId,
    path: RepositoryPath,
    default_branch: BranchName,
    events: broadcast::Sender<crate::Delivery>,
    lock: Mutex<()>,
}

impl LocalForge {
    /// The account that Maquette writes comments with.
    #[must_use]
    pub fn ours() -> Account {
        Account {
            id: 1,
            login: DisplayText::new("maquette"),
        }
    }

    /// The account of whoever works on this machine: who may write to the directory may push.
    #[must_use]
    pub fn developer() -> Account {
        Account {
            id: 2,
            login: DisplayText::new("developer"),
        }
    }

    /// The account that opens pull requests from forks.
    #[must_use]
    pub fn stranger() -> Account {
        Account {
            id: 3,
            login: DisplayText::new("stranger"),
        }
    }

    /// The directory of the bare repository, to clone from and to push to.
    #[must_use]
    pub fn repository_dir(&self) -> &Path {
        &self.repository
    }

    /// The id of the one repository.
    #[must_use]
    pub fn repository_id(&self) -> &RepositoryId {
        &self.id
    }
}

#[async_trait]
impl Forge for LocalForge {
    fn kind(&self) -> &'static str {
        "local"
    }

    async fn account(&self) -> Result<Account> {
        Ok(Self::ours())
    }

    async fn repository_find(&self, path: &RepositoryPath) -> Result<Repository> {
        repository::find(self, path)
    }

    async fn repository(&self, id: &RepositoryId) -> Result<Repository> {
        repository::read(self, id)
    }

    async fn pull_request_list_open(&self, repository: &RepositoryId) -> Result<Vec<PullRequest>> {
        pull_request::list_open(self, repository).await
    }

    async fn pull_request(&self, repository: &RepositoryId, number: PullRequestNumber) -> Result<PullRequestFact> {
        pull_request::read(self, repository, number).await
    }

    async fn branch(&self, repository: &RepositoryId, branch: &BranchName) -> Result<BranchFact> {
        repository::branch(self, repository, branch)
    }

    async fn permission(&self, repository: &RepositoryId, login: &str) -> Result<Permission> {
        repository::permission(self, repository, login)
    }

    async fn pusher(&self, id: &RepositoryId, branch: &BranchName, commit: &CommitId) -> Result<Option<Account>> {
        repository::pusher(self, id, branch, commit)
    }

    async fn comment_ours(
        &self,
        repository: &RepositoryId,
        number: PullRequestNumber,
        marker: &Marker,
        _known: Option<CommentId>,
    ) -> Result<Option<Comment>> {
        comment::ours(self, repository, number, marker)
    }

    async fn comment_put(
        &self,
        repository: &RepositoryId,
        number: PullRequestNumber,
        marker: &Marker,
        _known: Option<CommentId>,
        body: &str,
    ) -> Result<Comment> {
        comment::put(self, repository, number, marker, body).await
    }

    async fn remarks(&self, repository: &RepositoryId, number: PullRequestNumber) -> Result<Vec<Remark>> {
        comment::remarks(self, repository, number)
    }

    async fn status_set(&self, repository: &RepositoryId, commit: &CommitId, status: &CommitStatus) -> Result<()> {
        status::set(self, repository, commit, status).await
    }

    async fn webhook_ensure(
        &self,
        repository: &RepositoryId,
        _url: &Url,
        _secret: &Secret,
        _known: Option<WebhookId>,
    ) -> Result<WebhookId> {
        self.check(repository)?;
        Ok(WebhookId(0))
    }

    async fn webhook_remove(&self, repository: &RepositoryId, _id: WebhookId) -> Result<()> {
        self.check(repository)
    }

    fn delivery(&self, _headers: &Headers, _body: &[u8], _secret: &Secret) -> Result<Received, DeliveryError> {
        // Its news come by `subscribe`; whatever comes by HTTP is not from it.
        Err(DeliveryError::Signature)
    }

    async fn remote(&self, repository: &RepositoryId) -> Result<Remote> {
        repository::remote(self, repository)
    }
}

#[cfg(test)]
mod tests;
