//! Gitea (and what speaks its API), version 1.22 or newer.

mod client;
mod comment;
mod pull_request;
mod repository;
mod status;
mod webhook;
mod wire;

use crate::{
    Account, BranchFact, Comment, CommentId, CommitStatus, DeliveryError, Forge, Headers, Marker, Permission,
    PullRequest, PullRequestFact, PullRequestNumber, Received, Remark, Remote, Repository, RepositoryId,
    RepositoryPath, Result, Secret, WebhookId,
};
use async_trait::async_trait;
use client::Client;
pub use client::Limits;
use model::{BranchName, CommitId};
use repository::Paths;
use tokio::sync::OnceCell;
use url::Url;

/// A Gitea server, seen with one token.
///
/// The token needs the scopes `write:repository`, `write:issue` and `read:user`. To learn what others may do, its
/// account must be an administrator of the repositories (webhooks need that, too).
#[derive(Debug)]
pub struct Gitea {
    client: Client,
    paths: Paths,
    account: OnceCell<Account>,
}

impl Gitea {
    /// A server by its address, for example `https://git.example.org/`. Nothing is asked yet.
    ///
    /// # Errors
    /// If the address is not one of HTTP or HTTPS, or has a user, a query or a fragment.
    pub fn new(base: &Url, token: Secret, limits: Limits) -> Result<Self> {
        Ok(Self {
            client: Client::new(base, token, limits)?,
            paths: Paths::default(),
            account: OnceCell::new(),
        })
    }
}

#[async_trait]
impl Forge for Gitea {
    fn kind(&self) -> &'static str {
        "gitea"
    }

    async fn account(&self) -> Result<Account> {
        self.account
            .get_or_try_init(|| repository::account(&self.client))
            .await
            .cloned()
    }

    async fn repository_find(&self, path: &RepositoryPath) -> Result<Repository> {
        repository::find(self, path).await
    }

    async fn repository(&self, id: &RepositoryId) -> Result<Repository> {
        repository::read(self, id).await
    }

    async fn pull_request_list_open(&self, repository: &RepositoryId) -> Result<Vec<PullRequest>> {
        pull_request::list_open(self, repository).await
    }

    async fn pull_request(&self, repository: &RepositoryId, number: PullRequestNumber) -> Result<PullRequestFact> {
        pull_request::read(self, repository, number).await
    }

    async fn branch(&self, repository: &RepositoryId, branch: &BranchName) -> Result<BranchFact> {
        repository::branch(self, repository, branch).await
    }

    async fn permission(&self, repository: &RepositoryId, login: &str) -> Result<Permission> {
        repository::permission(self, repository, login).await
    }

    async fn pusher(&self, id: &RepositoryId, branch: &BranchName, commit: &CommitId) -> Result<Option<Account>> {
        repository::pusher(self, id, branch, commit).await
    }

    async fn comment_ours(
        &self,
        repository: &RepositoryId,
        number: PullRequestNumber,
        marker: &Marker,
        known: Option<CommentId>,
    ) -> Result<Option<Comment>> {
        comment::ours(self, repository, number, marker, known).await
    }

    async fn comment_put(
        &self,
        repository: &RepositoryId,
        number: PullRequestNumber,
        marker: &Marker,
        known: Option<CommentId>,
        body: &str,
    ) -> Result<Comment> {
        comment::put(self, repository, number, marker, known, body).await
    }

    async fn remarks(&self, repository: &RepositoryId, number: PullRequestNumber) -> Result<Vec<Remark>> {
        comment::remarks(self, repository, number).await
    }

    async fn status_set(&self, repository: &RepositoryId, commit: &CommitId, status: &CommitStatus) -> Result<()> {
        status::set(self, repository, commit, status).await
    }

    async fn webhook_ensure(
        &self,
        repository: &RepositoryId,
        url: &Url,
        secret: &Secret,
        known: Option<WebhookId>,
    ) -> Result<WebhookId> {
        webhook::ensure(self, repository, url, secret, known).await
    }

    async fn webhook_remove(&self, repository: &RepositoryId, id: WebhookId) -> Result<()> {
        webhook::remove(self, repository, id).await
    }

    fn delivery(&self, headers: &Headers, body: &[u8], secret: &Secret) -> Result<Received, DeliveryError> {
        webhook::read(headers, body, secret)
    }

    async fn remote(&self, repository: &RepositoryId) -> Result<Remote> {
        repository::remote(self, repository).await
    }
}
