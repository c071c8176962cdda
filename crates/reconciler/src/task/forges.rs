//! Follows one project on its forge: policy branch, pull requests, branches.
//!
//! Webhooks only nudge this task; it reads what is true. It also reads without being nudged, so that a lost webhook costs
//! minutes and not an environment. Nothing is removed but on a positive answer, read twice.

use crate::{
    context::{Context, Trouble, Troubles},
    heads, id,
    project::{Project, Source},
    service_source,
};
use forge::{BranchFact, HeadOrigin, PullRequest, PullRequestFact, PullRequestNumber, PullRequestState};
use model::{BranchName, CommitId, EnvironmentId, Origin, Power};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use store::{EnvironmentPatch, EnvironmentRow, PullRequestRow, StoreError};
use tokio::time::sleep;

/// The pause between the two reads that must both say "closed".
const SECOND_READ: Duration = Duration::from_millis(50);
/// Forges may tell of a push before they have noted who pushed. These are the pauses before the record is read again.
const RECORD_PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_millis(500),
];
/// A pull request in which nothing happened for longer has no record that is still to come.
const RECORD_WITHIN: Duration = Duration::from_secs(600);

pub(crate) async fn run(context: Arc<Context>, project: model::ProjectName) {
    let nudged = context.nudges.of_project(&project);
    let mut troubles = 0_u32;
    loop {
        let pause = match look(&context, &project).await {
            Ok(()) => {
                troubles = 0;
                context.settings.poll_interval
            }
            Err(trouble) => {
                troubles += 1;
                tracing::warn!(%project, why = crate::text::chain(&trouble), "could not read the forge");
                // Nudges do not shorten this pause.
                sleep(trouble.rate_pause().unwrap_or_default()).await;
                planner::backoff(troubles)
            }
        };
        tokio::select! {
            () = nudged.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

async fn look(context: &Context, name: &model::ProjectName) -> Result<(), Trouble> {
    let project = context.project(name)?;
    let Some(source) = project.primary() else { return Ok(()) };
    let _using = context.repositories.in_use.read().await;
    let mut troubles = Troubles::default();
    troubles.note(policy(context, project, source).await)?;
    let listed = source.forge.pull_request_list_open(&source.repository).await?;
    let numbers: BTreeSet<u64> = listed.iter().map(|pull| pull.number.0).collect();
    for pull in &listed {
        troubles.note(observe(context, project, source, pull).await)?;
    }
    for row in context.store.pull_request_list(name, true).await? {
        if row.source == source.name && !numbers.contains(&row.number) {
            troubles.note(missing(context, project, source, &row).await)?;
        }
    }
    for row in context.store.environment_list(Some(name), false).await? {
        troubles.note(branches(context, project, source, &row.id).await)?;
    }
    troubles.end()
}

async fn policy(context: &Context, project: &Project, source: &Source) -> Result<(), Trouble> {
    let BranchFact::At(commit) = source.forge.branch(&source.repository, &source.policy_branch).await? else {
        tracing::warn!(project = %project.name, branch = %source.policy_branch, "the policy branch does not exist");
        return Ok(());
    };
    let known = context.heads.get(&project.name);
    if known.as_ref().is_some_and(|head| head.commit == commit) {
        return Ok(());
    }
    let via = format!("refs/heads/{}", source.policy_branch);
    context
        .repositories
        .ensure(&project.name, source, &commit, Some(&via))
        .await?;
    let head = heads::read(context, &project.name, &commit).await?;
    context.heads.put(&project.name, Arc::new(head));
    context.nudges.goldens();
    context.nudges.every_environment();
    Ok(())
}

/// A pull request that is open.
async fn observe(context: &Context, project: &Project, source: &Source, pull: &PullRequest) -> Result<(), Trouble> {
    let known = context
        .store
        .pull_request_get(&project.name, &source.name, pull.number.0)
        .await?;
    let trusted = match &known {
        // Trust was established for this very commit; a new one is asked about anew.
        Some(known) if known.head == pull.head && known.trusted => true,
        _ => {
            let recent = context.now().since(pull.updated) < RECORD_WITHIN;
            let first = known.as_ref().is_none_or(|known| known.head != pull.head);
            is_trusted(source, pull, if first && recent { &RECORD_PAUSES } else { &[] }).await?
        }
    };
    let row = row(context, project, source, pull, trusted, 0);
    if known.as_ref().is_none_or(|known| {
        PullRequestRow {
            observed: row.observed,
            ..known.clone()
        } != row
    }) {
        context.store.pull_request_put(&row).await?;
        context.nudges.announcements();
    }
    if pull.state.is_open() {
        environment_of(context, project, source, pull, trusted).await?;
    }
    Ok(())
}

fn row(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequest,
    trusted: bool,
    closed_reads: u32,
) -> PullRequestRow {
    PullRequestRow {
        project: project.name.clone(),
        source: source.name.clone(),
        number: pull.number.0,
        title: pull.title.to_string(),
        author: pull.author.login.to_string(),
        branch: pull.head_label.to_string(),
        head: pull.head.clone(),
        base: pull.base.as_ref().map_or_else(String::new, ToString::to_string),
        state: match pull.state {
            PullRequestState::Open => store::PullRequestState::Open,
            PullRequestState::Closed => store::PullRequestState::Closed,
            PullRequestState::Merged => store::PullRequestState::Merged,
        },
        fork: !matches!(pull.origin, HeadOrigin::BaseRepository(_)),
        trusted,
        draft: pull.draft,
        labels: pull.labels.iter().map(ToString::to_string).collect(),
        web_url: pull.page.as_ref().map(ToString::to_string),
        observed: context.now(),
        closed_reads,
    }
}

/// A branch of the base repository, pushed by somebody who may push at this moment. Whether there is a record of the push is
/// asked again after each of the pauses.
async fn is_trusted(source: &Source, pull: &PullRequest, pauses: &[Duration]) -> Result<bool, Trouble> {
    let HeadOrigin::BaseRepository(branch) = &pull.origin else {
        return Ok(false);
    };
    let mut pusher = source.forge.pusher(&source.repository, branch, &pull.head).await?;
    for pause in pauses {
        if pusher.is_some() {
            break;
        }
        sleep(*pause).await;
        pusher = source.forge.pusher(&source.repository, branch, &pull.head).await?;
    }
    let Some(pusher) = pusher else { return Ok(false) };
    Ok(source
        .forge
        .permission(&source.repository, pusher.login.as_str())
        .await?
        .may_push())
}

/// A pull request that we know as open and that the list does not have: it counts as closed when two reads say so.
async fn missing(context: &Context, project: &Project, source: &Source, row: &PullRequestRow) -> Result<(), Trouble> {
    let number = PullRequestNumber(row.number);
    for _ in 0..2 {
        match source.forge.pull_request(&source.repository, number).await? {
            PullRequestFact::Present(pull) if pull.state.is_open() => {
                return observe(context, project, source, &pull).await;
            }
            PullRequestFact::Present(_) | PullRequestFact::Absent => sleep(SECOND_READ).await,
        }
    }
    let state = match source.forge.pull_request(&source.repository, number).await? {
        PullRequestFact::Present(pull) if pull.state.is_open() => {
            return observe(context, project, source, &pull).await;
        }
        PullRequestFact::Present(pull) if pull.state == PullRequestState::Merged => store::PullRequestState::Merged,
        PullRequestFact::Present(_) | PullRequestFact::Absent => store::PullRequestState::Closed,
    };
    let closed = PullRequestRow {
        state,
        closed_reads: 2,
        observed: context.now(),
        ..row.clone()
    };
    context.store.pull_request_put(&closed).await?;
    let origin = Origin::PullRequest { number: row.number };
    if let Some(environment) = context.store.environment_find(&project.name, &origin).await? {
        let word = if state == store::PullRequestState::Merged {
            "merged"
        } else {
            "closed"
        };
        end(
            context,
            &environment.id,
            &format!("pull request {} was {word}", row.number),
        )
        .await?;
    }
    context.nudges.announcements();
    Ok(())
}

async fn end(context: &Context, id: &EnvironmentId, reason: &str) -> Result<(), Trouble> {
    let patch = EnvironmentPatch {
        wanted: Some(false),
        reason: Some(reason.to_owned()),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(id, &patch).await?;
    context.nudges.environment(id);
    Ok(())
}

async fn environment_of(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequest,
    trusted: bool,
) -> Result<(), Trouble> {
    let origin = Origin::PullRequest { number: pull.number.0 };
    if trusted {
        context
            .repositories
            .ensure(&project.name, source, &pull.head, Some(&pull.fetch_ref))
            .await?;
    }
    match context.store.environment_find(&project.name, &origin).await? {
        Some(environment) => follow(context, source, &environment, &pull.head, trusted).await,
        None if is_suppressed(context, project, &origin, source, &pull.head).await? => Ok(()),
        None if !is_admitted(context, project, pull) => Ok(()),
        None => {
            let reason = format!("pull request {}", pull.number);
            create(context, project, source, origin, &pull.head, trusted, &reason).await
        }
    }
}

/// Whether the policy wants environments for pull requests like this one. Nothing is made before the policy was read.
fn is_admitted(context: &Context, project: &Project, pull: &PullRequest) -> bool {
    let labels = pull.labels.iter().map(|label| label.as_str());
    context
        .heads
        .get(&project.name)
        .zip(pull.base.as_ref())
        .is_some_and(|(head, base)| head.policy.triggers.admits(pull.draft, base.as_str(), labels))
}

/// Somebody deleted the environment of this very commit: it stays away until the next push.
async fn is_suppressed(
    context: &Context,
    project: &Project,
    origin: &Origin,
    source: &Source,
    head: &CommitId,
) -> Result<bool, Trouble> {
    let rows = context.store.environment_list(Some(&project.name), true).await?;
    let last = rows
        .into_iter()
        .filter(|row| row.origin == *origin)
        .max_by_key(|row| row.created);
    Ok(last.is_some_and(|row| {
        let deleted = row
            .overrides
            .get("deleted")
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false);
        deleted && row.head.get(&source.name) == Some(head)
    }))
}

/// The commit that is wanted now.
async fn follow(
    context: &Context,
    source: &Source,
    environment: &EnvironmentRow,
    head: &CommitId,
    trusted: bool,
) -> Result<(), Trouble> {
    if !environment.wanted {
        return Ok(());
    }
    // A commit that somebody asked for with `deploy` stays until the branch moves on.
    let followed = environment
        .overrides
        .get("followed")
        .and_then(serde_json::Value::as_str);
    let moved = match followed {
        Some(followed) => followed != head.as_str(),
        None => environment.head.get(&source.name) != Some(head),
    };
    let approves = trusted && followed.is_none() && environment.approved_commit.as_ref() != Some(head);
    if !moved && !approves {
        return Ok(());
    }
    let mut commits = environment.head.clone();
    commits.insert(source.name.clone(), head.clone());
    let mut overrides = environment.overrides.clone();
    if let Some(fields) = overrides.as_object_mut() {
        fields.remove("followed");
    }
    let patch = EnvironmentPatch {
        head: Some(commits),
        approved_commit: trusted.then(|| Some(head.clone())),
        overrides: Some(overrides),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(&environment.id, &patch).await?;
    context.nudges.environment(&environment.id);
    context.nudges.announcements();
    Ok(())
}

pub(crate) async fn create(
    context: &Context,
    project: &Project,
    source: &Source,
    origin: Origin,
    head: &CommitId,
    approved: bool,
    reason: &str,
) -> Result<(), Trouble> {
    let row = EnvironmentRow {
        id: id::new_environment_id('e').map_err(Trouble::Randomness)?,
        project: project.name.clone(),
        label: project.label(&origin),
        origin,
        created: context.now(),
        wanted: true,
        reason: reason.to_owned(),
        approved_commit: approved.then(|| head.clone()),
        head: BTreeMap::from([(source.name.clone(), head.clone())]),
        newest: None,
        live: None,
        failed: None,
        power: Power::Running,
        ended: None,
        live_at: None,
        nudged: None,
        overrides: serde_json::json!({}),
    };
    match context.store.environment_create(&row).await {
        Ok(()) => {}
        // Somebody else was faster, or the label is taken by one that is on its way out: the next look decides.
        Err(StoreError::Conflict { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    context
        .store
        .event_add(Some(&row.id), &project.name, row.created, "created", reason)
        .await?;
    context.nudges.environment(&row.id);
    context.nudges.announcements();
    Ok(())
}

/// Branch environments follow their branch and end with it; the baseline follows the base branch.
async fn branches(context: &Context, project: &Project, source: &Source, id: &EnvironmentId) -> Result<(), Trouble> {
    // Read anew before each change: asking the forge takes time in which people may ask for something else.
    let Some(row) = context.store.environment_get(id).await? else {
        return Ok(());
    };
    services(context, project, source, &row).await?;
    let (branch, ends) = match &row.origin {
        Origin::Branch { branch } => (branch.clone(), true),
        Origin::Baseline { branch } => (branch.clone(), false),
        _ => return Ok(()),
    };
    match branch_twice(source, &branch).await? {
        BranchFact::At(commit) => {
            let via = format!("refs/heads/{branch}");
            context
                .repositories
                .ensure(&project.name, source, &commit, Some(&via))
                .await?;
            if let Some(row) = context.store.environment_get(id).await? {
                follow(context, source, &row, &commit, true).await?;
            }
        }
        BranchFact::Absent if ends && row.wanted => {
            end(context, &row.id, &format!("branch {branch} was deleted")).await?;
        }
        BranchFact::Absent => {}
    }
    Ok(())
}

/// Services that are taken from a branch of their own follow it; when it is gone they stay at its last commit.
async fn services(
    context: &Context,
    project: &Project,
    source: &Source,
    environment: &EnvironmentRow,
) -> Result<(), Trouble> {
    let mut found = BTreeMap::new();
    for (service, branch) in service_source::wanted(environment) {
        let Some(own) = service_source::name(&service) else {
            continue;
        };
        if let BranchFact::At(commit) = source.forge.branch(&source.repository, &branch).await? {
            let via = format!("refs/heads/{branch}");
            context
                .repositories
                .ensure(&project.name, source, &commit, Some(&via))
                .await?;
            found.insert(own, commit);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let Some(environment) = context.store.environment_get(&environment.id).await? else {
        return Ok(());
    };
    let mut head = environment.head.clone();
    head.extend(found);
    if head != environment.head {
        let patch = EnvironmentPatch {
            head: Some(head),
            ..EnvironmentPatch::default()
        };
        context.store.environment_update(&environment.id, &patch).await?;
        context.nudges.environment(&environment.id);
    }
    Ok(())
}

async fn branch_twice(source: &Source, branch: &BranchName) -> Result<BranchFact, Trouble> {
    match source.forge.branch(&source.repository, branch).await? {
        BranchFact::Absent => {
            sleep(SECOND_READ).await;
            Ok(source.forge.branch(&source.repository, branch).await?)
        }
        found => Ok(found),
    }
}
