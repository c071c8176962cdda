//! Tells the forge: one comment, edited in place, and one commit status per pull request.
//!
//! Level-triggered like everything else: what should be read is rendered from the store and written when it differs from what
//! was written last.

use crate::{
    comment::{self, Address, Report, ShownEnd, ShownFailure, ShownState, ShownStep},
    context::{Context, Trouble, Troubles},
    disk::disk_note,
    pins,
    project::{Project, Source},
    pulls,
    standing::{notes, standing},
    task::forges::{self, approvals},
};
use forge::{CommentId, CommitStatus, Marker, PullRequestNumber, StatusState};
use model::{CommitId, Digest, EnvironmentId, Phase, ProjectName, SourceName};
use planner::{Action, Attempt, Desired, Step, StepState};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use store::{AnnouncementRow, EnvironmentRow, GenerationRow, PullRequestRow};
use tokio::time::sleep;

/// Changes that come within this time are told together.
const GATHER: Duration = Duration::from_millis(150);
const INTERVAL: Duration = Duration::from_secs(60);

pub(crate) async fn run(context: Arc<Context>) {
    let nudged = context.nudges.of_announcements();
    let mut told = Told::new();
    let mut troubles = 0;
    // Until when a project's forge wants to be left alone.
    let mut quiet: BTreeMap<ProjectName, Instant> = BTreeMap::new();
    loop {
        let mut troubled = false;
        for project in context.projects.values() {
            if quiet.get(&project.name).is_some_and(|until| *until > Instant::now()) {
                continue;
            }
            if let Err(trouble) = look(&context, project, &mut told).await {
                tracing::warn!(project = %project.name, why = crate::text::chain(&trouble), "could not tell the forge");
                troubled = true;
                if let Some(pause) = trouble.rate_pause() {
                    quiet.insert(project.name.clone(), Instant::now() + pause);
                }
            }
        }
        troubles = if troubled { troubles + 1 } else { 0 };
        let pause = if troubled { planner::backoff(troubles) } else { INTERVAL };
        tokio::select! {
            () = nudged.notified() => sleep(GATHER).await,
            () = sleep(pause) => {}
        }
    }
}

/// Pull requests that are closed and whose environment has ended and that were told so: nothing is left to be said of them.
type Told = BTreeMap<(ProjectName, SourceName, u64), EnvironmentId>;

async fn look(context: &Context, project: &Project, told: &mut Told) -> Result<(), Trouble> {
    let environments = context.store.environment_list(Some(&project.name), true).await?;
    // What is forgotten is not told again either.
    told.retain(|(of, ..), id| *of != project.name || environments.iter().any(|row| row.id == *id));
    // A source whose forge is away keeps no other from being told.
    let mut away: BTreeMap<SourceName, Trouble> = BTreeMap::new();
    let mut troubles = Troubles::default();
    for pull in context.store.pull_request_list(&project.name, false).await? {
        let newest = environments
            .iter()
            .filter(|row| pulls::is_for(project, row, &pull))
            .max_by_key(|row| (row.ended.is_none(), row.created));
        let (Some(environment), Some(source)) = (newest, project.source(&pull.source)) else {
            continue;
        };
        if away.contains_key(&source.name) {
            continue;
        }
        let key = (project.name.clone(), source.name.clone(), pull.number);
        let over = environment.ended.is_some() && pull.state != store::PullRequestState::Open;
        if over && told.get(&key) == Some(&environment.id) {
            continue;
        }
        let result = announce(context, project, source, &pull, environment).await;
        if over && result.is_ok() {
            told.insert(key, environment.id.clone());
        }
        match troubles.note(result) {
            Err(trouble @ (Trouble::Forge(_) | Trouble::Repository(_))) => {
                away.insert(source.name.clone(), trouble);
            }
            told => told?,
        }
    }
    away.into_values().next().map_or(Ok(()), Err)?;
    troubles.end()
}

async fn announce(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequestRow,
    environment: &EnvironmentRow,
) -> Result<(), Trouble> {
    let generations = context.store.generation_list(&environment.id).await?;
    let report = report(context, project, source, pull, environment, &generations).await?;
    let known = context
        .store
        .announcement_get(&project.name, &source.name, pull.number)
        .await?;
    let mut row = known.clone().unwrap_or_else(|| AnnouncementRow {
        project: project.name.clone(),
        source: source.name.clone(),
        number: pull.number,
        comment_id: None,
        comment_digest: None,
        status_commit: None,
        status_digest: None,
    });
    let text = comment::comment(&report);
    let digest = Digest::of(text.as_bytes());
    if row.comment_digest.as_ref() != Some(&digest) {
        let marker = Marker::for_project(&context.instance, &project.name);
        let id = row.comment_id.as_deref().and_then(|id| id.parse().ok()).map(CommentId);
        let number = PullRequestNumber(pull.number);
        let comment = source
            .forge
            .comment_put(&source.repository, number, &marker, id, &text)
            .await?;
        row.comment_id = Some(comment.id.to_string());
        row.comment_digest = Some(digest);
        context.store.announcement_put(&row).await?;
    }
    set_status(context, source, pull, &report, &mut row).await
}

async fn set_status(
    context: &Context,
    source: &Source,
    pull: &PullRequestRow,
    report: &Report,
    row: &mut AnnouncementRow,
) -> Result<(), Trouble> {
    let over = matches!(report.phase, Phase::Ending | Phase::Ended);
    // What goes on for others says nothing of a commit that was merged.
    let closed = pull.state != store::PullRequestState::Open;
    if over && report.ended.is_none() || closed && !over {
        return Ok(());
    }
    let status = CommitStatus {
        state: match report.phase {
            // Another commit than the newest one may be live: somebody asked for it, or this one was just pushed.
            Phase::Live | Phase::Sleeping if report.live.as_ref() == Some(&pull.head) => StatusState::Success,
            Phase::Failed | Phase::LiveOlder if report.head == pull.head => StatusState::Failure,
            _ => StatusState::Pending,
        },
        description: comment::status(report),
        target: report
            .addresses
            .first()
            .filter(|_| !over)
            .and_then(|address| address.url.parse().ok()),
    };
    let digest = Digest::of(format!("{:?} {} {:?}", status.state, status.description, status.target).as_bytes());
    if row.status_commit.as_ref() == Some(&pull.head) && row.status_digest.as_ref() == Some(&digest) {
        return Ok(());
    }
    source.forge.status_set(&source.repository, &pull.head, &status).await?;
    row.status_commit = Some(pull.head.clone());
    row.status_digest = Some(digest);
    Ok(context.store.announcement_put(row).await?)
}

async fn report(
    context: &Context,
    project: &Project,
    source: &Source,
    pull: &PullRequestRow,
    environment: &EnvironmentRow,
    generations: &[GenerationRow],
) -> Result<Report, Trouble> {
    let (facts, phase) = standing(environment, generations);
    let newest = generations.iter().rev().find(|row| row.restores.is_none());
    let live = facts
        .live
        .and_then(|live| generations.iter().find(|row| row.generation == live));
    let shown = live.or(newest);
    let commit = |row: &GenerationRow| row.spec.sources.get(&source.name).cloned();
    let tried = newest.and_then(commit);
    let phase = match environment.overrides.get("followed") {
        // Somebody asked for another commit.
        Some(_) => phase,
        None => {
            let approved = is_approved(environment, pull);
            of_head(
                phase,
                &pull.head,
                approved,
                tried.as_ref(),
                live.and_then(commit).as_ref(),
            )
        }
    };
    let has_failed = matches!(phase, Phase::Failed | Phase::LiveOlder);
    let failed = newest.filter(|_| has_failed).and_then(|row| row.failure.clone());
    let mut notes = notes(environment, generations);
    notes.extend(shared_with(context, project, pull, environment).await?);
    if environment.ended.is_none() {
        notes.extend(context.heads.note(&project.name));
    }
    if live.is_some() && environment.ended.is_none() {
        notes.extend(disk_note(context.runtime.as_ref(), &environment.id).await);
    }
    if matches!(phase, Phase::NeedsApproval | Phase::LiveUnapproved) {
        notes.extend(approvals::refused(context, &environment.id, &pull.head).await?);
    }
    Ok(Report {
        phase,
        label: environment.label.to_string(),
        // A failure is told of the commit that failed, also where somebody asked for another one than the newest.
        head: tried.filter(|_| has_failed).unwrap_or_else(|| pull.head.clone()),
        live: live.and_then(commit),
        addresses: shown.map_or_else(Vec::new, |row| addresses(project, environment, row)),
        services: shown.map_or_else(Vec::new, services),
        took_ms: took(context, live).await?,
        steps: steps(context, environment, newest, phase).await?,
        failure: failed.map(|failure| ShownFailure {
            message: failure.message,
            hint: failure.hint,
            log: failure.log,
        }),
        notes,
        ended: ended(environment, pull),
        receipt_entries: context
            .store
            .receipt_get(&environment.id)
            .await?
            .map(|receipt| receipt.entries.len()),
    })
}

/// What else an environment is for that pull requests share.
async fn shared_with(
    context: &Context,
    project: &Project,
    pull: &PullRequestRow,
    environment: &EnvironmentRow,
) -> Result<Option<String>, Trouble> {
    let mut all = pulls::pull_requests(&context.store, project, environment).await?;
    let is_this = |other: &PullRequestRow| (&other.source, other.number) == (&pull.source, pull.number);
    all.retain(|other| !is_this(other) && other.state == store::PullRequestState::Open);
    if all.is_empty() || !environment.wanted {
        return Ok(None);
    }
    let shown = |other: &PullRequestRow| match &other.web_url {
        Some(url) => url.clone(),
        None => format!("pull request {} of {}", other.number, other.source),
    };
    let with: Vec<String> = all.iter().map(shown).collect();
    let with = with.join(", ");
    Ok(Some(if pull.state == store::PullRequestState::Open {
        format!("The environment is shared with {with}.")
    } else {
        format!("This pull request is closed; the environment goes on for {with}.")
    }))
}

/// Whether the newest commit of the pull request may run.
fn is_approved(environment: &EnvironmentRow, pull: &PullRequestRow) -> bool {
    let shared = pins::approved(environment).get(&pull.source) == Some(&pull.head);
    pull.trusted || shared || environment.approved_commit.as_ref() == Some(&pull.head)
}

/// The phase of the environment as the newest commit of the pull request has it, which the environment may not have followed
/// yet. `tried` is the commit of the newest generation, `live` that of the live one.
fn of_head(phase: Phase, head: &CommitId, approved: bool, tried: Option<&CommitId>, live: Option<&CommitId>) -> Phase {
    let is_other = |commit: Option<&CommitId>| commit.is_some_and(|commit| commit != head);
    let behind = match phase {
        Phase::Suspended | Phase::Ending | Phase::Ended => false,
        Phase::Failed | Phase::LiveOlder => is_other(tried),
        _ => is_other(live),
    };
    match phase {
        _ if !behind => phase,
        Phase::Failed if approved => Phase::Starting,
        Phase::Failed => Phase::NeedsApproval,
        _ if !approved => Phase::LiveUnapproved,
        Phase::Live | Phase::LiveOlder => Phase::Updating,
        phase => phase,
    }
}

/// Why an environment ended for a while although its pull request is open. One that is on its way anew says so itself.
fn ended(environment: &EnvironmentRow, pull: &PullRequestRow) -> Option<ShownEnd> {
    if environment.wanted || pull.state != store::PullRequestState::Open {
        return None;
    }
    let is = |key| environment.overrides.get(key).and_then(serde_json::Value::as_bool) == Some(true);
    let again = if is(forges::DELETED) {
        "The next push makes a new one."
    } else if is(forges::UNCOVERED) {
        "A new one is made as soon as that changes."
    } else {
        return None;
    };
    Some(ShownEnd {
        reason: environment.reason.clone(),
        again,
    })
}

/// The public addresses of a generation, the main one first.
#[must_use]
pub(crate) fn addresses(project: &Project, environment: &EnvironmentRow, row: &GenerationRow) -> Vec<Address> {
    let Some(stack) = row.spec.services() else {
        return Vec::new();
    };
    let public: Vec<_> = stack
        .services
        .iter()
        .filter(|(_, service)| service.public_port.is_some())
        .collect();
    let main = public
        .iter()
        .find(|(name, _)| name.as_str() == "web")
        .or(public.first())
        .map(|(name, _)| *name);
    let mut addresses: Vec<Address> = public
        .iter()
        .map(|(name, _)| Address {
            service: name.to_string(),
            url: project.address(&environment.label, name, main == Some(*name)),
        })
        .collect();
    addresses.sort_by_key(|address| main.is_none_or(|main| address.service != main.as_str()));
    addresses
}

fn services(row: &GenerationRow) -> Vec<String> {
    row.spec.services().map_or_else(Vec::new, |stack| {
        stack.services.keys().map(ToString::to_string).collect()
    })
}

/// From the making of a generation to its last step's end, in milliseconds.
async fn took(context: &Context, live: Option<&GenerationRow>) -> Result<Option<u64>, Trouble> {
    let Some(row) = live else { return Ok(None) };
    let steps = context.store.step_list(&row.environment, row.generation).await?;
    let end = steps
        .iter()
        .find(|step| step.step == "verify" && step.ok == Some(true))
        .and_then(|step| step.ended);
    Ok(end.map(|end| u64::try_from(end.since(row.created).as_millis()).unwrap_or(u64::MAX)))
}

/// What a step waits for that is tried until it is there, room, a registry or a gateway: also at the moment at which it is tried once more. Anything
/// else that is awaited is over soon.
fn awaited(step: &Step, attempts: &BTreeMap<String, Attempt>) -> Option<&'static str> {
    let attempt = attempts.get(&step.id).filter(|attempt| attempt.waits)?;
    (step.state != StepState::Done).then(|| planner::waits_for(&step.id, &attempt.failure))
}

/// The real steps, while there is something to wait for.
async fn steps(
    context: &Context,
    environment: &EnvironmentRow,
    newest: Option<&GenerationRow>,
    phase: Phase,
) -> Result<Vec<ShownStep>, Trouble> {
    let Some(row) = newest.filter(|_| matches!(phase, Phase::Starting | Phase::Updating)) else {
        return Ok(Vec::new());
    };
    let observed = crate::environment::observe::observe(context, &environment.id, Some(row), BTreeSet::new()).await?;
    let desired = Desired::Present {
        spec: &row.spec,
        power: environment.power_now(),
    };
    let plan = planner::plan(
        &desired,
        &observed,
        context.capabilities(environment.cluster.as_ref())?,
        context.now(),
    );
    let shown = plan.steps.iter().filter_map(|step| {
        let awaited = awaited(step, &observed.attempts);
        let is_shown = !matches!(step.action, Action::Source(_) | Action::AwaitSnapshot(_)) || awaited.is_some();
        is_shown.then_some((step, awaited))
    });
    let shown = shown.map(|(step, awaited)| ShownStep {
        title: match awaited {
            Some(what) => format!("{}: waits for {what}, and goes on by itself", step.title()),
            None => step.title(),
        },
        state: match step.state {
            StepState::Done => ShownState::Done,
            StepState::Ready | StepState::InProgress { .. } => ShownState::Running,
            StepState::Blocked { .. } | StepState::BackingOff { .. } => ShownState::Waiting,
            StepState::Failed { .. } => ShownState::Failed,
        },
    });
    Ok(shown.collect())
}

#[cfg(test)]
mod tests;
