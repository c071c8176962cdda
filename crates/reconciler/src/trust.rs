//! How far a commit is trusted, and what follows from that for what it runs.

use crate::{
    context::{Context, Trouble},
    pins,
    project::Project,
    pulls,
};
use model::{CommitId, EnvironmentId, Limits, Origin, Root, ServiceStack, SourceName};
use store::{EnvironmentRow, PullRequestRow};

/// How far a commit is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It gets what the policy gives.
    Full,
    /// Somebody has approved that it runs. That gives it no secrets, lets it speak with nobody outside, gives it half of the
    /// room, and shares nothing that it makes with others.
    Approved,
}

impl Trust {
    /// The bounds of an environment.
    pub(crate) fn limits(self, policy: Limits) -> Limits {
        let half = |bound: Option<u64>| bound.map(|bound| (bound / 2).max(1));
        match self {
            Self::Full => policy,
            Self::Approved => Limits {
                memory_bytes: half(policy.memory_bytes),
                cpu_millis: half(policy.cpu_millis),
                pids: half(policy.pids),
                disk_bytes: half(policy.disk_bytes),
            },
        }
    }

    /// Keeps what others would share with the commit apart: what it builds is its environment's own, because services of the
    /// same commit could have answered the build in place of those whom it asked.
    pub(crate) fn set_apart(self, environment: &EnvironmentId, stack: &mut ServiceStack) {
        if self == Self::Full {
            return;
        }
        for product in stack.jobs.values_mut().filter_map(|job| job.product.as_mut()) {
            product.private_to = Some(environment.clone());
        }
        let services = stack.services.values_mut().map(|service| &mut service.workload.root);
        let jobs = stack.jobs.values_mut().map(|job| &mut job.workload.root);
        for root in services.chain(jobs) {
            if let Root::Build(build) = root {
                build.private_to = Some(environment.clone());
            }
        }
    }
}

/// Whether something of an environment may run: its commit is approved or trusted. One that several pull requests share follows only
/// commits that may run, so that the first one counts.
pub(crate) fn is_approved(project: &Project, environment: &EnvironmentRow) -> bool {
    let Some(approved) = &environment.approved_commit else {
        return false;
    };
    matches!(environment.origin, Origin::PullRequests { .. })
        || project
            .leading(&environment.origin)
            .is_some_and(|source| environment.head.get(&source.name) == Some(approved))
}

/// The key in the overrides of a copy with the commit that was trusted where it was copied.
pub(crate) const TRUSTED: &str = "trusted";

/// How far the commit that an environment has now is trusted.
pub(crate) async fn of(context: &Context, environment: &EnvironmentRow) -> Result<Trust, Trouble> {
    let project = context.project(&environment.project)?;
    let pulls = pulls::pull_requests(&context.store, project, environment).await?;
    by(context, environment, &pulls).await
}

/// The same, by the pull requests that the environment is for.
pub(crate) async fn by(
    context: &Context,
    environment: &EnvironmentRow,
    pulls: &[PullRequestRow],
) -> Result<Trust, Trouble> {
    let trusted = is_trusted(context, environment, pulls).await?;
    Ok(if trusted { Trust::Full } else { Trust::Approved })
}

/// Whether a push to the pull request is known that its environment has not followed yet. What is noted of the pull request is about
/// that commit then, so it says nothing of the one that the environment has.
pub(crate) fn is_outrun(project: &Project, environment: &EnvironmentRow, pulls: &[PullRequestRow]) -> bool {
    let Some((source, _)) = project.pull_request_of(&environment.origin) else {
        return false;
    };
    let followed = environment.overrides.get("followed").and_then(|commit| commit.as_str());
    let head = environment.head.get(&source.name).map(model::CommitId::as_str);
    pulls.iter().any(|pull| followed.or(head) != Some(pull.head.as_str()))
}

/// Whether all commits are.
async fn is_trusted(
    context: &Context,
    environment: &EnvironmentRow,
    pulls: &[PullRequestRow],
) -> Result<bool, Trouble> {
    let project = context.project(&environment.project)?;
    if matches!(environment.origin, Origin::PullRequests { .. }) {
        if !approved_only(environment, pulls).is_empty() {
            return Ok(false);
        }
    } else if !is_leading_trusted(context, project, environment, pulls).await? {
        return Ok(false);
    }
    // Further sources are at branches of their own repository, unless somebody asked for a commit, which may be anybody's.
    for (source, branch) in pins::deployed(environment) {
        let Some(head) = environment.head.get(&source).filter(|head| **head != branch) else {
            continue;
        };
        let repositories = &context.repositories;
        if !repositories.is_ancestor(&project.name, &source, head, &branch).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The sources of an environment that several pull requests share whose commits run by approval only.
fn approved_only(environment: &EnvironmentRow, pulls: &[PullRequestRow]) -> Vec<SourceName> {
    let mut only = Vec::new();
    let approved = pins::approved(environment);
    for (source, commit) in approved {
        if environment.head.get(&source) != Some(&commit) {
            continue;
        }
        let trusted = |pull: &PullRequestRow| pull.source == source && pull.head == commit && pull.trusted;
        if !pulls.iter().any(trusted) {
            only.push(source);
        }
    }
    only
}

/// Whether the commit is, or is in the history of, one whose branch lives in the base repository and that somebody pushed who
/// may push there.
async fn is_leading_trusted(
    context: &Context,
    project: &Project,
    environment: &EnvironmentRow,
    pulls: &[PullRequestRow],
) -> Result<bool, Trouble> {
    let Some(source) = project.leading(&environment.origin) else {
        return Ok(false);
    };
    let Some(head) = environment.head.get(&source.name) else {
        return Ok(false);
    };
    let named = |key: &str| environment.overrides.get(key).and_then(serde_json::Value::as_str);
    let trusted: Option<CommitId> = match &environment.origin {
        Origin::PullRequest { .. } | Origin::FurtherPullRequest { .. } => {
            pulls.iter().find(|pull| pull.trusted).map(|pull| pull.head.clone())
        }
        // Whoever deploys a commit need not know whose it is.
        Origin::Branch { .. } | Origin::Baseline { .. } => {
            named("followed").map_or(Some(head.clone()), |followed| followed.parse().ok())
        }
        Origin::Clone { .. } => named(TRUSTED).and_then(|commit| commit.parse().ok()),
        // Engines need nobody.
        Origin::Golden | Origin::Spare | Origin::PullRequests { .. } => None,
    };
    match trusted {
        None => Ok(false),
        Some(trusted) if trusted == *head => Ok(true),
        // Somebody may have asked for an older one.
        Some(trusted) => {
            let repositories = &context.repositories;
            Ok(repositories
                .is_ancestor(&project.name, &source.name, head, &trusted)
                .await?)
        }
    }
}
