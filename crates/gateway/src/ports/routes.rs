//! The port that knows which host leads where.

use crate::ports::Target;
use model::{HostLabel, ProjectName};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::SystemTime};
use tokio::sync::watch;

/// A host: a label under a base.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteKey {
    /// The base, lower case, without port: `preview.example.org`.
    #[serde(with = "super::shared_text")]
    pub base: Arc<str>,
    /// The label in front of it.
    pub label: HostLabel,
}

/// What is told of an environment on its pages, to visitors who may see its project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
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
    /// It is kept from running, which no visitor can change: it waits for an approval, or is suspended.
    Held {
        /// Why, in words.
        reason: Vec<String>,
    },
    /// Frozen or stopped until somebody wants it.
    Sleeping,
    /// Ended.
    Gone,
}

/// What a host leads to. Like all that routes consist of, it can be written and read as JSON: routes are fed to the gateway by
/// another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Where the host will lead once what is being started is live; visitors are not led there yet.
    fn awaited(&self, key: &RouteKey) -> Option<Target>;

    /// Counts the snapshots: changes whenever one has been replaced. Held requests then look again.
    fn changes(&self) -> watch::Receiver<u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_survive_the_way_through_json() {
        let step = Step {
            name: "build".into(),
            state: StepState::Done,
            detail: "ok".into(),
            since: Some(SystemTime::UNIX_EPOCH),
        };
        let states = [
            RouteState::Live,
            RouteState::Sleeping,
            RouteState::Gone,
            RouteState::Starting { steps: vec![step] },
            RouteState::Failed {
                reason: vec!["why".into()],
            },
            RouteState::Held {
                reason: vec!["why".into()],
            },
        ];
        for state in states {
            let key = RouteKey {
                base: "localhost".into(),
                label: "pr-7".parse().unwrap(),
            };
            let target = Target {
                environment: "e000000007".parse().unwrap(),
                service: "web".parse().unwrap(),
                port: 80,
            };
            let route = Route {
                target,
                project: "shop".parse().unwrap(),
                state,
                epoch: 3,
                about: About::default(),
            };
            let text = serde_json::to_string(&(&key, &route)).unwrap();
            assert_eq!(
                serde_json::from_str::<(RouteKey, Route)>(&text).unwrap(),
                (key, route),
                "{text}"
            );
        }
    }
}
