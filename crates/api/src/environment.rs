//! Environments as people and programs see them.

use crate::{DoorView, JobView};
use model::{
    CommitId, EnvironmentId, Generation, HostLabel, Origin, Phase, Power, ProjectName, ServiceName, SourceName,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Why an environment exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OriginView {
    /// A pull request.
    PullRequest {
        /// Its number on the forge.
        number: u64,
        /// Its source, where that is not the one that carries the blueprint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// All pull requests of the project whose heads are branches of this name.
    PullRequests {
        /// The branch.
        branch: String,
    },
    /// Somebody asked for an environment of a branch.
    Branch {
        /// The branch.
        branch: String,
    },
    /// The environment of the base branch.
    Baseline {
        /// The base branch.
        branch: String,
    },
    /// A copy of another environment.
    Clone {
        /// The id of that environment.
        of: String,
    },
    /// Maquette makes a golden.
    Golden,
    /// The engines of a project, started ahead of the next environment.
    Spare,
}

impl From<&Origin> for OriginView {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::PullRequest { number } => Self::PullRequest {
                number: *number,
                source: None,
            },
            Origin::FurtherPullRequest { source, number } => Self::PullRequest {
                number: *number,
                source: Some(source.to_string()),
            },
            Origin::PullRequests { branch } => Self::PullRequests {
                branch: branch.to_string(),
            },
            Origin::Branch { branch } => Self::Branch {
                branch: branch.to_string(),
            },
            Origin::Baseline { branch } => Self::Baseline {
                branch: branch.to_string(),
            },
            Origin::Clone { of } => Self::Clone { of: of.to_string() },
            Origin::Golden => Self::Golden,
            Origin::Spare => Self::Spare,
        }
    }
}

/// The pull request that an environment belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullRequestView {
    /// The source that it is of.
    #[schema(value_type = String)]
    pub source: SourceName,
    /// Its number on the forge.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Who opened it.
    pub author: String,
    /// The head branch.
    pub branch: String,
    /// The branch that it is for.
    pub base: String,
    /// `open`, `closed` or `merged`.
    pub state: String,
    /// Whether its head lives in another repository.
    pub fork: bool,
    /// Its page on the forge.
    pub web_url: Option<String>,
}

/// An address of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddressView {
    /// The service behind it.
    #[schema(value_type = String)]
    pub service: ServiceName,
    /// The address.
    pub url: String,
}

/// The commits of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommitView {
    /// The commit that is wanted.
    #[schema(value_type = Option<String>)]
    pub wanted: Option<CommitId>,
    /// The commit that is live.
    #[schema(value_type = Option<String>)]
    pub live: Option<CommitId>,
    /// The branch that the wanted commit is the head of, where the source takes part beside that of the pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Why the source can not be followed at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// The step that failed.
    pub step: String,
    /// What went wrong.
    pub message: String,
    /// What would help.
    pub hint: Option<String>,
    /// The lines of log that matter.
    pub log: Vec<String>,
}

/// The state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceStateView {
    /// It is wanted and not there yet.
    Waiting,
    /// It was started and is not ready yet.
    Starting,
    /// It is ready.
    Ready,
    /// It was ready and its health check fails.
    Unhealthy,
    /// Its main process ended and it is not started again.
    Exited,
    /// Its main process ended and is started again soon.
    BackingOff,
    /// Stopped on purpose.
    Stopped,
}

impl ServiceStateView {
    /// The word that people see.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::Exited => "exited",
            Self::BackingOff => "backing off",
            Self::Stopped => "stopped",
        }
    }
}

/// One service of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: ServiceName,
    /// Its state.
    pub state: ServiceStateView,
    /// Since when.
    #[schema(value_type = Option<u64>)]
    pub since: Option<Timestamp>,
    /// How often its main process was started again.
    pub restarts: u32,
    /// The exit status of its last run, if that ended.
    pub exit: Option<i32>,
    /// What went wrong last.
    pub message: Option<String>,
    /// Its address, if people may visit it.
    pub url: Option<String>,
}

/// One environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentView {
    /// Its id, never used twice.
    #[schema(value_type = String)]
    pub id: EnvironmentId,
    /// The project.
    #[schema(value_type = String)]
    pub project: ProjectName,
    /// Why it exists.
    pub origin: OriginView,
    /// Its label under the base: `pr-12`.
    #[schema(value_type = String)]
    pub label: HostLabel,
    /// The address of its main service.
    pub address: Option<String>,
    /// All addresses.
    pub addresses: Vec<AddressView>,
    /// How it stands: `needs_approval`, `starting`, `live`, `updating`, `live_older`, `live_unapproved`, `failed`, `sleeping`, `suspended`, `ending`, `ended`.
    #[schema(value_type = String)]
    pub phase: Phase,
    /// The same in words.
    pub status: String,
    /// Whether it should run: `running`, `frozen`, `stopped`.
    #[schema(value_type = String)]
    pub power: Power,
    /// The pull request, if it belongs to one.
    pub pull_request: Option<PullRequestView>,
    /// All pull requests, where several share it: open ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_requests: Vec<PullRequestView>,
    /// The commits, by source.
    #[schema(value_type = BTreeMap<String, CommitView>)]
    pub commits: BTreeMap<SourceName, CommitView>,
    /// The newest generation.
    #[schema(value_type = Option<u64>)]
    pub newest: Option<Generation>,
    /// The live generation.
    #[schema(value_type = Option<u64>)]
    pub live: Option<Generation>,
    /// The newest generation that failed for good.
    #[schema(value_type = Option<u64>)]
    pub failed: Option<Generation>,
    /// Why the newest generation failed.
    pub failure: Option<FailureView>,
    /// What people should know about the newest generation.
    pub notes: Vec<String>,
    /// Why it exists or ends.
    pub reason: String,
    /// When it was made.
    #[schema(value_type = u64)]
    pub created: Timestamp,
    /// When a generation of it became live last.
    #[schema(value_type = Option<u64>)]
    pub live_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<u64>)]
    pub ended: Option<Timestamp>,
    /// Its services.
    pub services: Vec<ServiceView>,
    /// Jobs that people run, each with its newest runs.
    #[serde(default)]
    pub jobs: Vec<JobView>,
    /// What went out of it, and what was not let out.
    #[serde(default)]
    pub door: DoorView,
}

/// Environments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentList {
    /// The oldest first.
    pub environments: Vec<EnvironmentView>,
}

/// One project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: ProjectName,
    /// The domain under which its environments have their hosts.
    pub base: String,
    /// Its sources; the first one's pull requests get environments.
    #[schema(value_type = Vec<String>)]
    pub sources: Vec<SourceName>,
}

/// Projects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectList {
    /// In the order of the configuration.
    pub projects: Vec<ProjectView>,
}
