//! Projects as the operator has configured them.

use forge::{Forge, RepositoryId};
use model::{BranchName, HostLabel, Origin, ProjectName, ServiceName, SourceName, environment_label, service_label};
use std::{fmt, sync::Arc};

/// A project and what it is made from.
#[derive(Debug)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// Where its environments are found.
    pub base: Base,
    /// Its sources; pull requests of the first one make environments.
    pub sources: Vec<Source>,
}

impl Project {
    /// The source whose pull requests make environments.
    #[must_use]
    pub fn primary(&self) -> Option<&Source> {
        self.sources.first()
    }

    /// The source of that name.
    #[must_use]
    pub fn source(&self, name: &SourceName) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == *name)
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
