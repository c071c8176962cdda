//! The port against a real Gitea. Each test has users and a repository of its own; the server is shared.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, too, fail by panicking"
)]

mod access;
mod comments;
mod pull_requests;
mod remote;
mod webhooks;

use forge::{
    Forge, PullRequest, PullRequestFact, PullRequestNumber, RepositoryId, Secret,
    gitea::{Gitea, Limits},
};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use test_support::gitea::{self, Client, NewRepository, WorkTree};

/// A repository with its owner, a second developer who may push, our own account, and a checkout.
struct World {
    server: Arc<gitea::Gitea>,
    admin: Client,
    ada: Client,
    bob: Client,
    bot: Client,
    repository: NewRepository,
    id: RepositoryId,
    tree: WorkTree,
    forge: Gitea,
}

/// Nothing here takes longer, unless it never happens.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name that no other test uses.
fn name(of: &str) -> String {
    format!("{of}{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn connect(server: &gitea::Gitea, token: &str) -> Gitea {
    let limits = Limits {
        pause: std::time::Duration::from_millis(10),
        ..Limits::default()
    };
    Gitea::new(&server.url().parse().unwrap(), Secret::new(token.to_owned()), limits).unwrap()
}

impl World {
    async fn new() -> Self {
        Self::on(gitea::Gitea::shared().await.unwrap_or_else(|error| panic!("{error}"))).await
    }

    async fn on(server: Arc<gitea::Gitea>) -> Self {
        let admin = server.admin().unwrap();
        let ada = admin.make_user(&name("ada")).await.unwrap();
        let bob = admin.make_user(&name("bob")).await.unwrap();
        let bot = admin.make_user(&name("bot")).await.unwrap();
        let repository = ada.make_repository("shop", true).await.unwrap();
        ada.allow(&repository.path, bob.user(), "write").await.unwrap();
        ada.allow(&repository.path, bot.user(), "admin").await.unwrap();
        let tree = WorkTree::clone(&ada.git_url(&repository.path)).unwrap();
        let forge = connect(&server, bot.token());
        let id = forge
            .repository_find(&repository.path.parse().unwrap())
            .await
            .unwrap()
            .id;
        Self {
            server,
            admin,
            ada,
            bob,
            bot,
            repository,
            id,
            tree,
            forge,
        }
    }

    fn path(&self) -> &str {
        &self.repository.path
    }

    /// Commits to a branch (made from what is checked out if it is not there) and pushes it.
    fn push(&self, branch: &str, content: &str) -> String {
        self.tree.git(&["checkout", "--quiet", "-B", branch]).unwrap();
        let commit = self.tree.commit("file.txt", content, content).unwrap();
        self.tree
            .git(&["push", "--quiet", "--force", "origin", branch])
            .unwrap();
        commit
    }

    async fn open(&self, branch: &str) -> PullRequestNumber {
        let number = self
            .ada
            .open_pull_request(self.path(), branch, "main", "A title")
            .await
            .unwrap();
        PullRequestNumber(number)
    }

    async fn read(&self, number: PullRequestNumber) -> PullRequest {
        match self.forge.pull_request(&self.id, number).await.unwrap() {
            PullRequestFact::Present(pull) => *pull,
            PullRequestFact::Absent => panic!("pull request {number} is absent"),
        }
    }
}

/// Asks until the answer is right: some things a forge does after it has answered.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let until = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < until {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen within {PATIENCE:?}")
}
