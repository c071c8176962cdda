//! Follows one project on its forge: policy branch, pull requests, branches.
//!
//! Webhooks only nudge this task; it reads what is true. It also reads without being nudged, so that a lost webhook costs
//! minutes and not an environment. Nothing is removed but on a positive answer, read twice.

pub(crate) mod approvals;
pub(crate) mod baseline;
mod branches;
mod pull_requests;
pub(crate) mod siblings;

use crate::{
    context::{Context, Trouble, Troubles},
    heads, id, pins,
    project::{Project, Source},
    secret,
    task::{access, spares},
};
use approvals::Seen;
use forge::BranchFact;
use model::{CommitId, Origin, Power, SourceName};
use siblings::{Found, Sight};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use store::{EnvironmentPatch, EnvironmentRow, StoreError};
use tokio::time::sleep;

/// The pause between two reads that must both say the same.
const SECOND_READ: Duration = Duration::from_millis(50);

/// The key in the overrides of an environment that somebody deleted: it stays away until the next push.
pub(crate) const DELETED: &str = "deleted";
/// The key in the overrides of an environment that ended because the policy covers its pull request no longer.
pub(crate) const UNCOVERED: &str = "uncovered";

pub(crate) async fn run(context: Arc<Context>, project: model::ProjectName) {
    let nudged = context.nudges.of_project(&project);
    let mut troubles = 0_u32;
    let mut seen: BTreeMap<SourceName, Seen> = BTreeMap::new();
    // How many looks in a row have found no record of who pushed something.
    let mut unrecorded = 0_u32;
    loop {
        let pause = match look(&context, &project, &mut seen).await {
            Ok(()) => {
                troubles = 0;
                let awaited = seen.values().any(Seen::awaits_record);
                unrecorded = if awaited { unrecorded.saturating_add(1) } else { 0 };
                let poll = context.settings.poll_interval;
                // No webhook tells of the record.
                if awaited {
                    planner::backoff(unrecorded).min(poll)
                } else {
                    poll
                }
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
            () = nudged.notified() => seen.values_mut().for_each(Seen::read_comments_again),
            () = sleep(pause) => {}
        }
    }
}

async fn look(
    context: &Context,
    name: &model::ProjectName,
    seen: &mut BTreeMap<SourceName, Seen>,
) -> Result<(), Trouble> {
    let project = context.project(name)?;
    let Some(primary) = project.primary() else {
        return Ok(());
    };
    let _using = context.repositories.in_use.read().await;
    let mut sight = Sight::default();
    let mut first = None;
    // A source that can not be read keeps no other from being looked after.
    for source in &project.sources {
        let seen = seen.entry(source.name.clone()).or_default();
        let mut troubles = Troubles::default();
        let looked = async {
            of_source(context, project, source, seen, (&mut sight, &mut troubles)).await?;
            if source.name == primary.name {
                of_branches(context, project, source, (&mut sight, &mut troubles)).await?;
            }
            Ok::<(), Trouble>(())
        };
        if let Err(trouble) = looked.await {
            sight.lose(&source.name, &trouble);
            first.get_or_insert(trouble);
        } else if let Err(trouble) = troubles.end() {
            first.get_or_insert(trouble);
        }
    }
    for row in context.store.environment_list(Some(name), false).await? {
        siblings::look(context, project, &row.id, &mut sight).await?;
    }
    first.map_or(Ok(()), Err)
}

/// The pull requests of one source; of the first one, the policy, too.
async fn of_source(
    context: &Context,
    project: &Project,
    source: &Source,
    seen: &mut Seen,
    (sight, troubles): (&mut Sight, &mut Troubles),
) -> Result<(), Trouble> {
    let is_primary = project.primary().is_some_and(|primary| primary.name == source.name);
    let reading = async {
        // In this order: what was opened after the policy had changed is never judged by the one before.
        let listed = source.forge.pull_request_list_open(&source.repository).await?;
        if is_primary {
            troubles.note(policy(context, project, source).await)?;
        }
        Ok(listed)
    };
    let listed = access::noted(context, project, source, reading.await).await?;
    let numbers: BTreeSet<u64> = listed.iter().map(|pull| pull.number.0).collect();
    seen.keep_only(&numbers);
    for pull in &listed {
        troubles.note(pull_requests::observe(context, project, source, pull, seen, sight).await)?;
    }
    for row in context.store.pull_request_list(&project.name, true).await? {
        if row.source == source.name && !numbers.contains(&row.number) {
            troubles.note(pull_requests::missing(context, project, source, &row, seen, sight).await)?;
        }
    }
    Ok(())
}

/// The environments of branches of the source that carries the blueprint.
async fn of_branches(
    context: &Context,
    project: &Project,
    source: &Source,
    (sight, troubles): (&mut Sight, &mut Troubles),
) -> Result<(), Trouble> {
    troubles.note(baseline::look(context, project, source, sight).await)?;
    for row in context.store.environment_list(Some(&project.name), false).await? {
        troubles.note(branches::look(context, project, source, &row.id).await)?;
    }
    Ok(())
}

async fn policy(context: &Context, project: &Project, source: &Source) -> Result<(), Trouble> {
    let BranchFact::At(commit) = source.forge.branch(&source.repository, &source.policy_branch).await? else {
        tracing::warn!(project = %project.name, branch = %source.policy_branch, "the policy branch does not exist");
        return Ok(());
    };
    let available = secret::available(context, &project.name);
    if context.heads.has_read(&project.name, &commit, &available) {
        return Ok(());
    }
    let via = format!("refs/heads/{}", source.policy_branch);
    context
        .repositories
        .ensure(&project.name, source, &commit, Some(&via))
        .await?;
    let head = heads::read(context, &project.name, &commit).await?;
    let broken = !head.readable;
    if broken && context.heads.get(&project.name).is_none() {
        // What it was made from may be gone from the mirror: then there is nothing to go by.
        let last = heads::last_readable(context, &project.name).await.unwrap_or_default();
        if let Some(last) = last {
            context.heads.put(&project.name, Arc::new(last));
        }
    }
    context.heads.put(&project.name, Arc::new(head));
    if let Some(note) = context.heads.note(&project.name).filter(|_| broken) {
        tracing::warn!(project = %project.name, "{note}");
        context
            .store
            .event_add(None, &project.name, context.now(), "policy-unreadable", &note)
            .await?;
    }
    context.nudges.announcements();
    context.nudges.goldens();
    context.nudges.every_environment();
    Ok(())
}

/// Wants an environment gone. `mark` is a key of its overrides that says for what kind of reason.
async fn end(context: &Context, row: &EnvironmentRow, reason: &str, mark: Option<&str>) -> Result<(), Trouble> {
    let overrides = mark.map(|mark| {
        let mut fields = row.overrides.as_object().cloned().unwrap_or_default();
        fields.insert(mark.to_owned(), serde_json::json!(true));
        serde_json::Value::Object(fields)
    });
    let patch = EnvironmentPatch {
        wanted: Some(false),
        reason: Some(reason.to_owned()),
        overrides,
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(&row.id, &patch).await?;
    context
        .store
        .event_add(Some(&row.id), &row.project, context.now(), "ends", reason)
        .await?;
    context.nudges.environment(&row.id);
    context.nudges.announcements();
    Ok(())
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
            .get(DELETED)
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
        power: baseline::power_after_push(environment).filter(|_| moved),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(&environment.id, &patch).await?;
    context.nudges.environment(&environment.id);
    context.nudges.announcements();
    Ok(())
}

/// A new environment.
pub(crate) struct New<'a> {
    pub(crate) origin: Origin,
    /// The commit of the source that leads; none where no source does.
    pub(crate) head: Option<(&'a SourceName, &'a CommitId)>,
    /// Where the other sources are to be.
    pub(crate) found: BTreeMap<SourceName, Found>,
    /// The commit that may run, if one may.
    pub(crate) approved: Option<&'a CommitId>,
    pub(crate) power: Power,
    pub(crate) reason: &'a str,
    pub(crate) overrides: serde_json::Value,
}

/// The keys of overrides that say how an environment is looked after. All others are part of what it is made from.
pub(crate) const BOOKKEEPING: [&str; 6] = [
    DELETED,
    UNCOVERED,
    baseline::BY_POLICY,
    pins::PINS,
    pins::APPROVED,
    pins::MEMBERS,
];

pub(crate) async fn create(context: &Context, project: &Project, new: New<'_>) -> Result<(), Trouble> {
    let New {
        origin,
        head,
        found,
        approved,
        power,
        reason,
        overrides,
    } = new;
    let (head, overrides) = siblings::begin(&overrides, head, &found);
    let row = EnvironmentRow {
        id: id::new_environment_id('e').map_err(Trouble::Randomness)?,
        project: project.name.clone(),
        label: project.label(&origin),
        origin,
        created: context.now(),
        wanted: true,
        reason: reason.to_owned(),
        approved_commit: approved.cloned(),
        head,
        newest: None,
        live: None,
        failed: None,
        power,
        suspended: None,
        ended: None,
        live_at: None,
        nudged: None,
        overrides,
        cluster: project.cluster.clone(),
    };
    let made = match spares::adopt(context, &row).await {
        Ok(Some(adopted)) => Ok(adopted),
        Ok(None) => context.store.environment_create(&row).await.map(|()| row.id.clone()),
        Err(error) => Err(error),
    };
    let id = match made {
        Ok(id) => id,
        // Somebody else was faster, or the label is taken by one that is on its way out: the next look decides.
        Err(StoreError::Conflict { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    context
        .store
        .event_add(Some(&id), &project.name, row.created, "created", reason)
        .await?;
    context.nudges.environment(&id);
    context.nudges.announcements();
    Ok(())
}
