//! Delivery by a Git repository and Argo CD: what an environment consists of is committed, and Argo CD is told of the commit.
//!
//! What must stay true:
//!
//! - No value of a secret is ever in the repository; secrets go to the cluster by its API server.
//! - Nothing of the repository outside of the environments' own folders is changed, and nothing is ever pushed over what others pushed.
//! - Argo CD is always given one commit by its id, never a branch: what others push to the branch reaches no environment by itself. What they
//!   put into an environment's folder is in our next commit, until the services that are not wanted are removed.

pub(crate) mod application;
pub(crate) mod folder;
mod writer;
mod yaml;

use crate::{api::failed, names};
pub(crate) use application::Application;
use application::Source;
use forge::{
    Remote,
    git::{Branch, Git, GitLimits},
};
use model::{BranchName, CommitId, EnvironmentId, InstanceId};
use runtime::Result;
use serde_json::Value;
use std::{path::PathBuf, time::Duration};
use writer::Place;
pub(crate) use writer::{Edit, Order, Writer};

/// The repository to which environments are written.
#[derive(Clone, Debug)]
pub struct Repository {
    /// How we reach it. It has to be writable.
    pub remote: Remote,
    /// The branch, which is made if it is not there.
    pub branch: BranchName,
    /// The folder of all environments, each of which has one below it. Nothing outside of it is touched. Installations that write to
    /// the same repository need folders of their own.
    pub folder: String,
    /// A directory of ours for a copy of the repository; what is in it can be lost.
    pub directory: PathBuf,
    /// The name of the author of commits.
    pub author: String,
    /// The author's address.
    pub email: String,
    /// The least time between two pushes. What is wanted meanwhile goes together.
    pub interval: Duration,
}

/// The Argo CD that brings commits to the cluster.
#[derive(Clone, Debug)]
pub struct ArgoCd {
    /// The namespace of its applications.
    pub namespace: String,
    /// How it calls the cluster: `in-cluster` for its own.
    pub cluster: String,
    /// The address of the repository as Argo CD reaches it, and has credentials for.
    pub repository: String,
    /// The project of what surrounds services: it has to allow namespaces, and in them limit ranges, resource quotas, network policies and
    /// service accounts.
    pub envelope_project: String,
    /// The project of services: it has to allow config maps, volume claims, deployments, stateful sets and services, and should
    /// allow nothing else.
    pub stack_project: String,
}

/// Delivery by a repository.
#[derive(Clone, Debug)]
pub struct GitOps {
    /// Where to.
    pub repository: Repository,
    /// Who brings it to the cluster.
    pub argo: ArgoCd,
}

/// Which of an environment's two applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Envelope,
    Stack,
}

impl Part {
    /// The last one is removed last: the namespace is in it.
    pub(crate) const REMOVED: [Self; 2] = [Self::Stack, Self::Envelope];

    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Envelope => folder::ENVELOPE,
            Self::Stack => folder::STACK,
        }
    }
}

/// The repository and Argo CD, at work.
pub(crate) struct Engine {
    pub(crate) argo: ArgoCd,
    pub(crate) writer: Writer,
    folder: String,
}

impl Engine {
    /// Opens our copy of the repository. Nothing is asked of anybody else yet.
    ///
    /// # Errors
    /// If the copy can not be made.
    pub(crate) async fn start(config: GitOps) -> Result<Self> {
        let GitOps { repository, argo } = config;
        let folder = repository.folder.trim_matches('/').to_owned();
        let copy = |error: forge::git::GitError| {
            failed(
                "opening our copy of the GitOps repository",
                crate::api::with_causes(&error),
            )
        };
        let git = Git::new(repository.directory.join("home"), GitLimits::default()).map_err(copy)?;
        let place = Place {
            folder: folder.clone(),
            name: repository.author,
            email: repository.email,
            interval: repository.interval,
            called: repository.remote.url.to_string(),
        };
        let directory = repository.directory.join("repository.git");
        let branch = Branch::open(git, directory, repository.remote, repository.branch).await;
        Ok(Self {
            argo,
            writer: Writer::start(branch.map_err(copy)?, place),
            folder,
        })
    }

    /// The name of an application of the environment whose namespace this is.
    pub(crate) fn application(namespace: &str, part: Part) -> String {
        names::object(&[namespace, part.folder()])
    }

    /// The folder of an environment, from the root of the repository.
    pub(crate) fn folder(&self, environment: &str) -> String {
        format!("{}/{environment}", self.folder)
    }

    /// What is asked of Argo CD.
    pub(crate) fn wanted(
        &self,
        instance: &InstanceId,
        id: &EnvironmentId,
        namespace: &str,
        part: Part,
        commit: &CommitId,
    ) -> Value {
        let source = Source {
            repo_url: self.argo.repository.clone(),
            path: format!("{}/{}", self.folder(id.as_str()), part.folder()),
            target_revision: commit.to_string(),
        };
        let project = match part {
            Part::Envelope => &self.argo.envelope_project,
            Part::Stack => &self.argo.stack_project,
        };
        let name = Self::application(namespace, part);
        application::object(&self.argo, instance, id, namespace, &name, &source, project)
    }

    /// What makes Argo CD try a commit again that it has given up.
    pub(crate) fn again(commit: &CommitId) -> Value {
        application::again(commit)
    }
}
