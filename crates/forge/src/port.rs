//! The port that every forge implements.

use crate::{
    Account, BranchFact, Comment, CommentId, CommitStatus, DeliveryError, Headers, Marker, Permission, PullRequest,
    PullRequestFact, PullRequestNumber, Received, Remark, Remote, Repository, RepositoryId, RepositoryPath, Result,
    Secret, WebhookId,
};
use async_trait::async_trait;
use model::{BranchName, CommitId};
use url::Url;

/// A forge, seen with one account of ours.
///
/// Every call is bounded in time, size and number of tries. Reads are tried again within these bounds; writes are
/// not, but each may be repeated by the caller without a second effect.
#[async_trait]
pub trait Forge: Send + Sync + std::fmt::Debug {
    /// A short name for logs: `gitea`, `local`.
    fn kind(&self) -> &'static str;

    /// Our own account.
    async fn account(&self) -> Result<Account>;

    /// Learns the id of a repository from its name. Used when a project is set up, never afterwards.
    async fn repository_find(&self, path: &RepositoryPath) -> Result<Repository>;

    /// Reads a repository by its id.
    async fn repository(&self, id: &RepositoryId) -> Result<Repository>;

    /// The open pull requests, at most 1000. That one is missing here does not mean that it is closed.
    async fn pull_request_list_open(&self, repository: &RepositoryId) -> Result<Vec<PullRequest>>;

    /// Reads one pull request, never from a cache.
    async fn pull_request(&self, repository: &RepositoryId, number: PullRequestNumber) -> Result<PullRequestFact>;

    /// Where a branch stands now.
    async fn branch(&self, repository: &RepositoryId, branch: &BranchName) -> Result<BranchFact>;

    /// What an account may do with the repository at this moment. Accounts that do not exist may do nothing.
    async fn permission(&self, repository: &RepositoryId, login: &str) -> Result<Permission>;

    /// Who pushed this commit to this branch, as far as the forge's own records tell; authors and committers that are
    /// written in the commit are not asked. `None` if the records do not reach back, which earns no trust.
    async fn pusher(
        &self,
        repository: &RepositoryId,
        branch: &BranchName,
        commit: &CommitId,
    ) -> Result<Option<Account>>;

    /// Our comment with this mark on a pull request. `known` is the id it had last time and saves a listing.
    async fn comment_ours(
        &self,
        repository: &RepositoryId,
        number: PullRequestNumber,
        marker: &Marker,
        known: Option<CommentId>,
    ) -> Result<Option<Comment>>;

    /// Sees to it that our one comment has this text (the mark is appended here): edits it in place, creates it if
    /// there is none, deletes surplus ones that an interrupted call may have left.
    async fn comment_put(
        &self,
        repository: &RepositoryId,
        number: PullRequestNumber,
        marker: &Marker,
        known: Option<CommentId>,
        body: &str,
    ) -> Result<Comment>;

    /// The comments that others wrote on a pull request, the oldest first; of many, the newest [`Remark::MAX_COUNT`]. Whoever
    /// acts on one asks [`Self::permission`] what its author may do.
    async fn remarks(&self, repository: &RepositoryId, number: PullRequestNumber) -> Result<Vec<Remark>>;

    /// Sets our status of a commit; the newest one counts.
    async fn status_set(&self, repository: &RepositoryId, commit: &CommitId, status: &CommitStatus) -> Result<()>;

    /// Sees to it that the repository has one webhook to `url`, with this secret. A forge never shows the secret of a
    /// webhook: unless `known` names one that was made with this very secret, it is made anew.
    async fn webhook_ensure(
        &self,
        repository: &RepositoryId,
        url: &Url,
        secret: &Secret,
        known: Option<WebhookId>,
    ) -> Result<WebhookId>;

    /// Removes a webhook that we made. That there is none is no error.
    async fn webhook_remove(&self, repository: &RepositoryId, id: WebhookId) -> Result<()>;

    /// Verifies and reads a delivery. Pure: size, then signature, then parsing.
    ///
    /// # Errors
    /// See [`DeliveryError`]; nothing of the body was looked at unless the signature was right.
    fn delivery(&self, headers: &Headers, body: &[u8], secret: &Secret) -> Result<Received, DeliveryError>;

    /// How Git reaches the repository.
    async fn remote(&self, repository: &RepositoryId) -> Result<Remote>;
}
