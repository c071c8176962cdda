//! A forge that a test can lock us out of.

use async_trait::async_trait;
use forge::{
    Account, BranchFact, Comment, CommentId, CommitStatus, DeliveryError, Forge, ForgeError, Headers, Marker,
    Permission, PullRequest, PullRequestFact, PullRequestNumber, Received, Remark, Remote, Repository, RepositoryId,
    RepositoryPath, Result, Secret, Unreachable, WebhookId, local::LocalForge,
};
use model::{BranchName, CommitId};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// How the forge answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// It does not answer at all.
    Silent,
    /// It does not accept our token.
    Refused,
    /// It says of everything that it does not exist.
    Hidden,
    /// It lists nothing and says of everything else that it does not exist.
    Empty,
}

#[derive(Debug)]
pub(crate) struct Gate {
    forge: Arc<LocalForge>,
    door: Mutex<Door>,
    /// A commit of which it knows nobody who pushed it.
    doubted: Mutex<Option<CommitId>>,
    /// A branch of which it says once that it does not exist.
    missed: Mutex<Option<BranchName>>,
}

impl Gate {
    pub(crate) fn new(forge: Arc<LocalForge>) -> Self {
        Self {
            forge,
            door: Mutex::new(Door::Open),
            doubted: Mutex::default(),
            missed: Mutex::default(),
        }
    }

    /// The forge itself, past the gate.
    pub(crate) fn local(&self) -> &LocalForge {
        &self.forge
    }

    pub(crate) fn set(&self, door: Door) {
        *self.door.lock().unwrap() = door;
    }

    /// Lets it know nobody who pushed a commit.
    pub(crate) fn doubt(&self, commit: &CommitId) {
        *self.doubted.lock().unwrap() = Some(commit.clone());
    }

    /// Lets it say of a branch that it does not exist, to the next who asks and to nobody after.
    pub(crate) fn miss(&self, branch: &BranchName) {
        *self.missed.lock().unwrap() = Some(branch.clone());
    }

    /// Whether somebody has asked for the branch that it missed.
    pub(crate) fn has_missed(&self) -> bool {
        self.missed.lock().unwrap().is_none()
    }

    fn pass(&self) -> Result<&LocalForge> {
        let what = || "the shop".to_owned();
        let door = *self.door.lock().unwrap();
        match door {
            Door::Open => Ok(&self.forge),
            Door::Silent => Err(ForgeError::Unreachable {
                what: what(),
                source: Unreachable::Timeout(Duration::from_secs(30)),
            }),
            Door::Refused => Err(ForgeError::Unauthorized { what: what() }),
            Door::Hidden | Door::Empty => Err(ForgeError::NotFound { what: what() }),
        }
    }
}

#[async_trait]
impl Forge for Gate {
    fn kind(&self) -> &'static str {
        self.forge.kind()
    }

    async fn account(&self) -> Result<Account> {
        self.pass()?.account().await
    }

    async fn repository_find(&self, path: &RepositoryPath) -> Result<Repository> {
        self.pass()?.repository_find(path).await
    }

    async fn repository(&self, id: &RepositoryId) -> Result<Repository> {
        self.pass()?.repository(id).await
    }

    async fn pull_request_list_open(&self, repository: &RepositoryId) -> Result<Vec<PullRequest>> {
        if *self.door.lock().unwrap() == Door::Empty {
            return Ok(Vec::new());
        }
        self.pass()?.pull_request_list_open(repository).await
    }

    async fn pull_request(&self, repository: &RepositoryId, number: PullRequestNumber) -> Result<PullRequestFact> {
        self.pass()?.pull_request(repository, number).await
    }

    async fn branch(&self, repository: &RepositoryId, branch: &BranchName) -> Result<BranchFact> {
        let forge = self.pass()?;
        if self.missed.lock().unwrap().take_if(|missed| missed == branch).is_some() {
            return Ok(BranchFact::Absent);
        }
        forge.branch(repository, branch).await
    }

    async fn permission(&self, repository: &RepositoryId, login: &str) -> Result<Permission> {
        self.pass()?.permission(repository, login).await
    }

    async fn pusher(
        &self,
        repository: &RepositoryId,
        branch: &BranchName,
        commit: &CommitId,
    ) -> Result<Option<Account>> {
        let doubted = self.doubted.lock().unwrap().as_ref() == Some(commit);
        let found = self.pass()?.pusher(repository, branch, commit).await?;
        Ok(found.filter(|_| !doubted))
    }

    async fn comment_ours(
        &self,
        repository: &RepositoryId,
        number: PullRequestNumber,
        marker: &Marker,
        known: Option<CommentId>,
    ) -> Result<Option<Comment>> {
        self.pass()?.comment_ours(repository, number, marker, known).await
    }

    async fn comment_put(
        &self,
        repository: &RepositoryId,
        number: PullRequestNumber,
        marker: &Marker,
        known: Option<CommentId>,
        body: &str,
    ) -> Result<Comment> {
        self.pass()?.comment_put(repository, number, marker, known, body).await
    }

    async fn remarks(&self, repository: &RepositoryId, number: PullRequestNumber) -> Result<Vec<Remark>> {
        self.pass()?.remarks(repository, number).await
    }

    async fn status_set(&self, repository: &RepositoryId, commit: &CommitId, status: &CommitStatus) -> Result<()> {
        self.pass()?.status_set(repository, commit, status).await
    }

    async fn webhook_ensure(
        &self,
        repository: &RepositoryId,
        url: &url::Url,
        secret: &Secret,
        known: Option<WebhookId>,
    ) -> Result<WebhookId> {
        self.pass()?.webhook_ensure(repository, url, secret, known).await
    }

    async fn webhook_remove(&self, repository: &RepositoryId, id: WebhookId) -> Result<()> {
        self.pass()?.webhook_remove(repository, id).await
    }

    fn delivery(&self, headers: &Headers, body: &[u8], secret: &Secret) -> Result<Received, DeliveryError> {
        self.forge.delivery(headers, body, secret)
    }

    async fn remote(&self, repository: &RepositoryId) -> Result<Remote> {
        self.pass()?.remote(repository).await
    }
}
