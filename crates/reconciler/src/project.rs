//! Projects as the operator has configured them.

use forge::{Forge, RepositoryId};
use model::{
    BranchName, ClusterName, HostLabel, Origin, ProjectName, ServiceName, SourceName, environment_label, service_label,
};
use std::{fmt, sync::Arc};

/// A project and what it is made from.
#[derive(Debug)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// Where its environments are found.
    pub base: Base,
    /// Its sources; the first one carries the blueprint.
    pub sources: Vec<Source>,
    /// Whether pull requests whose heads are branches of the same name share one environment.
    pub joins: bool,
    /// The cluster on which its environments are made; cells of this machine unless given.
    pub cluster: Option<ClusterName>,
}

impl Project {
    /// The source that carries the blueprint.
    #[must_use]
    pub fn primary(&self) -> Option<&Source> {
        self.sources.first()
    }

    /// The source of that name.
    #[must_use]
    pub fn source(&self, name: &SourceName) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == *name)
    }

    /// The sources beside the one that carries the blueprint.
    pub fn further(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().skip(1)
    }

    /// The origin of the environment that is for one pull request alone.
    #[must_use]
    pub fn origin_of(&self, source: &SourceName, number: u64) -> Origin {
        if self.primary().is_none_or(|primary| primary.name == *source) {
            return Origin::PullRequest { number };
        }
        Origin::FurtherPullRequest {
            source: source.clone(),
            number,
        }
    }

    /// The one pull request that an environment of this origin is for.
    #[must_use]
    pub fn pull_request_of(&self, origin: &Origin) -> Option<(&Source, u64)> {
        match origin {
            Origin::PullRequest { number } => Some((self.primary()?, *number)),
            Origin::FurtherPullRequest { source, number } => Some((self.source(source)?, *number)),
            _ => None,
        }
    }

    /// The source whose commit an environment of this origin is for: that of its pull request, else the one that carries the
    /// blueprint.
    #[must_use]
    pub fn leading(&self, origin: &Origin) -> Option<&Source> {
        match self.pull_request_of(origin) {
            Some((source, _)) => Some(source),
            None if matches!(origin, Origin::FurtherPullRequest { .. }) => None,
            None => self.primary(),
        }
    }

    /// The label of an environment of this project.
    #[must_use]
    pub fn label(&self, origin: &Origin) -> HostLabel {
        environment_label(origin, self.base.shared.then_some(&self.name))
    }

    /// The address of a service; `main` is the one that the environment's own address leads to.
    #[must_use]
    pub fn address(&self, environment: &HostLabel, service: &ServiceName, main: bool) -> String {
        if main {
            self.base.url(environment)
        } else {
            self.base.url(&service_label(service, environment))
        }
    }
}

/// A repository of a project.
pub struct Source {
    /// Its name in the project.
    pub name: SourceName,
    /// The forge that it lives on.
    pub forge: Arc<dyn Forge>,
    /// The forge's id of the repository.
    pub repository: RepositoryId,
    /// The branch that environments are compared with.
    pub base_branch: BranchName,
    /// The branch that `policy:` is read from.
    pub policy_branch: BranchName,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({} on {}, {})", self.name, self.forge.kind(), self.repository)
    }
}

/// The domain under which environments are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// `http` or `https`.
    pub scheme: String,
    /// For example `preview.example.com`, in lower case.
    pub domain: String,
    /// The port, unless it is the scheme's own.
    pub port: Option<u16>,
    /// Whether several projects share it; then labels carry the project's name.
    pub shared: bool,
}

impl Base {
    /// The authority of a label's address.
    #[must_use]
    pub fn authority(&self, label: &HostLabel) -> String {
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{label}.{}{port}", self.domain)
    }

    /// The address of a label, without a slash at the end.
    #[must_use]
    pub fn url(&self, label: &HostLabel) -> String {
        format!("{}://{}", self.scheme, self.authority(label))
    }
}
