//! The port that knows which host leads where.

use crate::ports::Target;
use model::{HostLabel, ProjectName};
use std::{sync::Arc, time::SystemTime};
use tokio::sync::watch;

/// A host: a label under a base.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// The base, lower case, without port: `preview.example.org`.
    pub base: Arc<str>,
    /// The label in front of it.
    pub label: HostLabel,
}

/// What is told of an environment on its pages, to visitors who may see its project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The title of the pull request, or the name of the branch.
    pub title: String,
    /// The number of the pull request.
    pub pull_request: Option<u64>,
    /// The commit, in full.
    pub commit: String,
    /// The address of the pull request at the forge (`http` or `https`; anything else is not shown).
    pub link: Option<String>,
}

/// How far a step of a start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Its turn has not come.
    Waiting,
    /// It runs.
    Running,
    /// It is done.
    Done,
    /// It failed and may be tried again.
    Failed,
}

/// A step of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name: `build web`.
    pub name: String,
    /// How far it is.
    pub state: StepState,
    /// A word on it: the last error, what it waits for.
    pub detail: String,
    /// When it came into this state.
    pub since: Option<SystemTime>,
}

/// Whether requests can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteState {
    /// Services answer.
    Live,
    /// Not yet.
    Starting {
        /// What is being done, in order.
        steps: Vec<Step>,
    },
    /// The start has failed and is not being tried again by itself.
    Failed {
        /// Why, with the lines of log that matter.
        reason: Vec<String>,
    },
    /// Frozen or stopped until somebody wants it.
    Sleeping,
    /// Ended.
    Gone,
}

/// What a host leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Environment, service and port.
    pub target: Target,
    /// The project, for the right to see it.
    pub project: ProjectName,
    /// Whether it can be served.
    pub state: RouteState,
    /// Rises whenever connections made before must not be used again.
    pub epoch: u64,
    /// For the pages.
    pub about: About,
}

/// A snapshot of all routes, replaced as a whole by whoever feeds it.
pub trait Routes: Send + Sync + 'static {
    /// Where the host leads. Called for every request: an exact look-up in memory.
    fn route(&self, key: &RouteKey) -> Option<Arc<Route>>;

    /// Counts the snapshots: changes whenever one has been replaced. Held requests then look again.
    fn changes(&self) -> watch::Receiver<u64>;
}
