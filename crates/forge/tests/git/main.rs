//! The git wrapper against the real git, with repositories that people make and ones that only an attacker would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, too, fail by panicking"
)]

mod export;
mod hostile;
mod mirror;

use forge::{
    Remote, RemoteKind,
    git::{Git, GitLimits, Mirror},
};
use model::CommitId;
use std::path::Path;
use tempfile::TempDir;
use test_support::gitea::WorkTree;
use url::Url;

/// A developer's repository and a mirror of it.
struct World {
    dir: TempDir,
    tree: WorkTree,
    mirror: Mirror,
}

impl World {
    async fn new() -> Self {
        Self::with(GitLimits::default()).await
    }

    async fn with(limits: GitLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::new(dir.path().join("home"), limits).unwrap();
        let mirror = Mirror::open(git, dir.path().join("mirror.git")).await.unwrap();
        Self {
            dir,
            tree: WorkTree::init().unwrap(),
            mirror,
        }
    }

    fn remote(&self) -> Remote {
        remote(self.tree.path())
    }

    /// Commits what is in the checkout and fetches it into the mirror.
    async fn commit(&self) -> CommitId {
        self.tree.git(&["add", "--all"]).unwrap();
        self.tree
            .git(&["commit", "--quiet", "--allow-empty", "-m", "x"])
            .unwrap();
        self.fetch_head().await
    }

    async fn fetch_head(&self) -> CommitId {
        let commit = self.tree.head().unwrap().parse().unwrap();
        self.mirror.fetch(&self.remote(), &commit, None).await.unwrap();
        commit
    }

    /// An empty directory to export to.
    fn target(&self) -> std::path::PathBuf {
        let target = self.dir.path().join("checkout");
        std::fs::create_dir(&target).unwrap();
        target
    }
}

fn remote(path: &Path) -> Remote {
    Remote {
        url: Url::from_file_path(path).unwrap(),
        kind: RemoteKind::File,
        authorization: None,
    }
}
