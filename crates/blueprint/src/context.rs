//! What a blueprint is read for: the values that a stack may use.

use crate::{escape::tame, interpolate::Values};
use model::{
    BranchName, CommitId, Digest, Endpoint, HostLabel, ImageFacts, ProjectName, ServiceName, SourceName, service_label,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How much of a title is handed on, in characters.
const TITLE_MAX: usize = 200;

/// What an environment is for.
///
/// These values may be interpolated in a Compose file, and are in the environment of every service and job that is no
/// engine, unless its file says otherwise:
///
/// | name | value |
/// |---|---|
/// | `MAQUETTE_PROJECT` | the project's name |
/// | `MAQUETTE_ENVIRONMENT` | the environment's label, as in its address |
/// | `MAQUETTE_COMMIT` | the full id of the commit |
/// | `MAQUETTE_BRANCH` | its branch; empty if there is none |
/// | `MAQUETTE_BASE_BRANCH` | the branch that a pull request wants to go into, or empty |
/// | `MAQUETTE_PULL_REQUEST` | the number of the pull request, or empty |
/// | `MAQUETTE_TITLE` | its title, control characters made spaces, at most 200 characters; or empty |
/// | `MAQUETTE_HOST`, `MAQUETTE_URL` | where the main service is visited |
/// | `COMPOSE_PROJECT_NAME` | what `.env` or `name` of the Compose file says, else the project's name (interpolation only) |
/// | `PWD` | `.`, where a path is meant (interpolation only) |
/// | `MAQUETTE_HOST_<SERVICE>`, `MAQUETTE_URL_<SERVICE>` | the same for each public service: in capitals, `-` and `.` made `_` |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The project.
    pub project: ProjectName,
    /// The source that the tree is a commit of.
    pub source: SourceName,
    /// The commit.
    pub commit: CommitId,
    /// The branch that it is the head of.
    pub branch: Option<BranchName>,
    /// The branch that a pull request wants to go into.
    pub base: Option<BranchName>,
    /// The pull request, if there is one.
    pub pull_request: Option<PullRequest>,
    /// The environment's label, for example `pr-12--shop`.
    pub environment: HostLabel,
    /// Where environments are reached.
    pub address: Address,
    /// Services that somebody wants this environment without.
    #[serde(default)]
    pub without: BTreeSet<ServiceName>,
    /// Services that somebody wants this environment with, although the stack leaves them out.
    #[serde(default)]
    pub with: BTreeSet<ServiceName>,
    /// Where services are found that somebody wants this environment without.
    #[serde(default)]
    pub endpoints: BTreeMap<ServiceName, Endpoint>,
    /// Names of the secrets that have a value and that the head may be given if the policy names them: none where the head is
    /// not trusted.
    #[serde(default)]
    pub secrets: BTreeSet<String>,
    /// What the images of the stack say, by reference; absent where nobody has looked: then nothing is said against what an image
    /// could make good.
    #[serde(default)]
    pub images: Option<BTreeMap<String, ImageFacts>>,
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// Its number on the forge.
    pub number: u64,
    /// Its title: anything that its author wants.
    pub title: String,
}

/// Where environments are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// `http` or `https`.
    pub scheme: String,
    /// The name that labels stand in front of, for example `preview.example.com`.
    pub base: String,
    /// The port, unless it is the scheme's own.
    pub port: Option<u16>,
}

impl Context {
    /// The host name of a service; of the environment itself for its main service.
    #[must_use]
    pub fn host(&self, further: Option<&ServiceName>) -> String {
        let label = further.map_or_else(
            || self.environment.clone(),
            |service| service_label(service, &self.environment),
        );
        format!("{label}.{}", self.address.base)
    }

    /// The URL of a service, without a slash at its end; of the environment itself for its main service.
    #[must_use]
    pub fn url(&self, further: Option<&ServiceName>) -> String {
        let port = self.address.port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{}{port}", self.address.scheme, self.host(further))
    }

    /// A digest of all that a stack can see of this: it changes when, and only when, one of the values does.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        // The hosts of further services follow from the label and the address, which are in here.
        let values = self.values(&[]);
        let secrets = self.secrets.iter().flat_map(|name| [name.as_bytes(), b"".as_slice()]);
        Digest::of_parts(
            values
                .iter()
                .flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()])
                .chain(secrets),
        )
    }

    /// The documented values. What is absent (no pull request, no branch) is empty, so that a stack works everywhere.
    pub(crate) fn values(&self, public: &[ServiceName]) -> Values {
        let branch = |name: &Option<BranchName>| name.as_ref().map_or_else(String::new, ToString::to_string);
        let pull_request = self.pull_request.as_ref();
        let mut values: Values = [
            ("MAQUETTE_PROJECT", self.project.to_string()),
            ("MAQUETTE_ENVIRONMENT", self.environment.to_string()),
            ("MAQUETTE_COMMIT", self.commit.to_string()),
            ("MAQUETTE_BRANCH", branch(&self.branch)),
            ("MAQUETTE_BASE_BRANCH", branch(&self.base)),
            (
                "MAQUETTE_PULL_REQUEST",
                pull_request.map_or_else(String::new, |pr| pr.number.to_string()),
            ),
            (
                "MAQUETTE_TITLE",
                pull_request.map_or_else(String::new, |pr| tame(&pr.title, TITLE_MAX)),
            ),
            ("MAQUETTE_HOST", self.host(None)),
            ("MAQUETTE_URL", self.url(None)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        for (index, service) in public.iter().enumerate() {
            let name = service.as_str().to_ascii_uppercase().replace(['-', '.'], "_");
            let further = (index > 0).then_some(service);
            values.insert(format!("MAQUETTE_HOST_{name}"), self.host(further));
            values.insert(format!("MAQUETTE_URL_{name}"), self.url(further));
        }
        values
    }
}
