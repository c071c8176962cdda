//! Steps, events, and why an environment is as it is.

use super::{environment, failure};
use crate::{app::App, problem::Answer};
use api::{
    EnvironmentView, EventView, FailureView, GenerationView, ServiceStateView, StepStateView, StepView, StepsView,
    WhyView,
};
use model::{EnvironmentId, Generation, HostLabel, Origin, Phase, ProjectName, Timestamp};
use planner::{Plan, StepState};
use std::{collections::BTreeMap, time::Duration};
use store::{AttemptRow, EnvironmentRow, EventRow, Outcome, StepRow};
use tokio::time::timeout;

/// How long the reconciler may take to plan for a view; without it the store's facts are shown.
const PLAN: Duration = Duration::from_secs(3);
/// How many events `why` shows.
const EVENTS: u32 = 10;

/// What happened, the newest first.
pub(crate) async fn events(app: &App, row: &EnvironmentRow, limit: u32) -> Answer<Vec<EventView>> {
    let events = app.store.event_list(&row.id, limit).await?;
    Ok(events.into_iter().map(|event| shown(event, None)).collect())
}

/// What happened to a project and to all its environments, the newest first.
pub(crate) async fn events_of_project(app: &App, project: &ProjectName, limit: u32) -> Answer<Vec<EventView>> {
    let events = app.store.event_list_project(project, limit).await?;
    let rows = app.store.environment_list(Some(project), true).await?;
    let labels: BTreeMap<EnvironmentId, HostLabel> = rows.into_iter().map(|row| (row.id, row.label)).collect();
    let of = |event: EventRow| {
        let environment = event.environment.clone();
        let label = environment.as_ref().and_then(|id| labels.get(id)).cloned();
        EventView {
            environment,
            ..shown(event, label)
        }
    };
    Ok(events.into_iter().map(of).collect())
}

fn shown(event: EventRow, label: Option<HostLabel>) -> EventView {
    EventView {
        environment: None,
        label,
        at: event.at,
        kind: event.kind,
        text: event.text,
    }
}

/// All generations with the times of their steps, and the steps of the end.
pub(crate) async fn steps(app: &App, row: &EnvironmentRow) -> Answer<StepsView> {
    let mut generations = Vec::new();
    let known = app.store.generation_list(&row.id).await?;
    // A removal is noted under the number that the next generation would have.
    let removal = known.last().map_or(Generation(1), |last| last.generation.next());
    for generation in known {
        generations.push(GenerationView {
            generation: generation.generation,
            created: generation.created,
            outcome: generation.outcome.map(|outcome| word(outcome).to_owned()),
            failure: generation.failure.as_ref().map(failure),
            restores: generation.restores,
            steps: timed(app, &row.id, generation.generation).await?,
            notes: generation.notes,
        });
    }
    let mut removal = if row.wanted {
        Vec::new()
    } else {
        timed(app, &row.id, removal).await?
    };
    // Nobody waits for the last step when all is seen gone.
    if let Some(ended) = row.ended {
        for step in removal.iter_mut().filter(|step| step.ended.is_none()) {
            step.state = StepStateView::Done;
            step.ended = Some(ended);
            step.took_ms = step.began.map(|began| millis(ended.since(began)));
        }
    }
    Ok(StepsView {
        environment: row.id.clone(),
        generations,
        removal,
    })
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Live => "live",
        Outcome::Failed => "failed",
        Outcome::Superseded => "superseded",
    }
}

/// The steps of a generation from what the store remembers.
async fn timed(app: &App, environment: &EnvironmentId, generation: Generation) -> Answer<Vec<StepView>> {
    let rows = app.store.step_list(environment, generation).await?;
    let attempts = app.store.attempt_list(environment, generation).await?;
    Ok(rows
        .iter()
        .map(|row| remembered(row, attempts.get(&row.step)))
        .collect())
}

fn remembered(row: &StepRow, attempt: Option<&AttemptRow>) -> StepView {
    let failed = attempt.filter(|attempt| !attempt.succeeded);
    StepView {
        id: row.step.clone(),
        title: row.step.clone(),
        state: match (row.ok, failed.map(|attempt| attempt.next)) {
            (None, _) => StepStateView::Running,
            (Some(true), _) => StepStateView::Done,
            (Some(false), Some(None)) => StepStateView::Failed,
            (Some(false), _) => StepStateView::Retrying,
        },
        began: Some(row.began),
        ended: row.ended,
        took_ms: row.ended.map(|ended| millis(ended.since(row.began))),
        attempts: attempt.map_or(1, |attempt| {
            attempt.count + u32::from(row.ok == Some(true) && !attempt.succeeded)
        }),
        next_try: failed
            .filter(|_| row.ok == Some(false))
            .and_then(|attempt| attempt.next),
        waiting_for: None,
        failure: failed
            .filter(|_| row.ok != Some(true))
            .and_then(|attempt| attempt.failure.as_ref())
            .map(failure),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The steps of the plan as it stands, with what the store remembers of each.
fn planned(plan: &Plan, known: Vec<StepView>) -> Vec<StepView> {
    let mut known: BTreeMap<String, StepView> = known.into_iter().map(|step| (step.id.clone(), step)).collect();
    let titles: BTreeMap<&str, String> = plan.steps.iter().map(|step| (step.id.as_str(), step.title())).collect();
    let mut steps = Vec::new();
    for step in &plan.steps {
        let mut view = known.remove(&step.id).unwrap_or_else(|| StepView {
            id: step.id.clone(),
            title: String::new(),
            state: StepStateView::Waiting,
            began: None,
            ended: None,
            took_ms: None,
            attempts: 0,
            next_try: None,
            waiting_for: None,
            failure: None,
        });
        view.title = step.title();
        apply(&mut view, &step.state, &titles);
        steps.push(view);
    }
    steps
}

fn apply(view: &mut StepView, state: &StepState, titles: &BTreeMap<&str, String>) {
    match state {
        StepState::Done => view.state = StepStateView::Done,
        // It is ready until the reconciler has taken it up; what it has taken up it has noted as begun.
        StepState::Ready => {
            view.state = if view.began.is_some() {
                view.state
            } else {
                StepStateView::Waiting
            }
        }
        StepState::InProgress { waiting_for, .. } => {
            view.state = StepStateView::Running;
            view.waiting_for = Some(waiting_for.clone());
        }
        StepState::Blocked { by } => {
            view.state = StepStateView::Waiting;
            let names: Vec<&str> = by
                .iter()
                .map(|id| titles.get(id.as_str()).map_or(id.as_str(), String::as_str))
                .collect();
            view.waiting_for = Some(names.join(", "));
        }
        StepState::BackingOff { count, until, failure } => {
            view.state = StepStateView::Retrying;
            view.attempts = *count;
            view.next_try = Some(*until);
            view.failure.get_or_insert_with(|| told(&view.id, failure));
        }
        StepState::Failed { failure } => {
            view.state = StepStateView::Failed;
            view.failure.get_or_insert_with(|| told(&view.id, failure));
        }
    }
}

fn told(step: &str, message: &str) -> FailureView {
    FailureView {
        step: step.to_owned(),
        message: message.to_owned(),
        hint: None,
        log: Vec::new(),
    }
}

/// Why an environment is as it is.
pub(crate) async fn why(app: &App, row: &EnvironmentRow, now: Timestamp) -> Answer<WhyView> {
    let view = environment(app, row).await?;
    let newest = app.store.generation_list(&row.id).await?.pop();
    let known = match &newest {
        Some(newest) => timed(app, &row.id, newest.generation).await?,
        None => Vec::new(),
    };
    let steps = match timeout(PLAN, app.reconciler.plan(&row.id)).await {
        Ok(Ok(plan)) if !plan.steps.is_empty() => planned(&plan, known),
        _ => known,
    };
    let step = matters_most(&steps).cloned();
    let failed = view
        .failure
        .clone()
        .or_else(|| step.as_ref().and_then(|step| step.failure.clone()));
    let mut waiting_for: Vec<String> = steps
        .iter()
        .filter(|step| step.state == StepStateView::Running)
        .filter_map(|step| step.waiting_for.clone())
        .collect();
    if matches!(view.phase, Phase::NeedsApproval | Phase::LiveUnapproved) {
        waiting_for.push(approval(app, row).await?);
    }
    Ok(WhyView {
        environment: row.id.clone(),
        label: row.label.clone(),
        phase: view.phase,
        summary: summary(&view, step.as_ref(), failed.as_ref(), now),
        reason: row.reason.clone(),
        failure: failed,
        waiting_for,
        attempts: step.as_ref().map_or(0, |step| step.attempts),
        next_try: step.as_ref().and_then(|step| step.next_try),
        step,
        services: troubled(&view).into_iter().chain(runs(&view)).collect(),
        door: view.door,
        notes: view.notes,
        steps,
        events: events(app, row, EVENTS).await?,
    })
}

/// Jobs by hand that run, or whose last run was no success.
fn runs(view: &EnvironmentView) -> impl Iterator<Item = String> {
    let last = view.jobs.iter().filter_map(|job| job.runs.first());
    last.filter(|run| run.exit != Some(0) || run.timed_out)
        .map(|run| format!("the job {}, run {}, {}", run.job, run.number, run.status()))
}

/// What has to be done for an approval. Of several pull requests that share an environment, the first that waits for one is told.
async fn approval(app: &App, row: &EnvironmentRow) -> Answer<String> {
    let who = "somebody who may push to approve the commit";
    let Some(project) = app.project(&row.project) else {
        return Ok(who.to_owned());
    };
    let pulls = reconciler::pull_requests(&app.store, project, row).await?;
    let shared = matches!(row.origin, Origin::PullRequests { .. });
    let waits = pulls.iter().find(|pull| shared && !pull.trusted).map(|pull| &pull.head);
    let leading = project.leading(&row.origin);
    let commit = waits.or_else(|| row.head.get(&leading?.name));
    Ok(match commit {
        Some(commit) => format!("{who}: `maquette approve {} --commit {commit}`", row.label),
        None => who.to_owned(),
    })
}

/// What failed, else what is tried again, else what runs.
fn matters_most(steps: &[StepView]) -> Option<&StepView> {
    let first = |state| steps.iter().find(|step| step.state == state);
    first(StepStateView::Failed)
        .or_else(|| first(StepStateView::Retrying))
        .or_else(|| first(StepStateView::Running))
}

fn troubled(view: &EnvironmentView) -> Vec<String> {
    let in_trouble = |service: &api::ServiceView| {
        use ServiceStateView::{BackingOff, Exited, Unhealthy};
        // What nobody visits may run to its end, and others may wait for that.
        let done = service.state == Exited && service.exit == Some(0) && service.url.is_none();
        matches!(service.state, BackingOff | Exited | Unhealthy) && !done
    };
    let sentence = |service: &api::ServiceView| {
        let exit = service
            .exit
            .map_or_else(String::new, |code| format!(" after exit status {code}"));
        let message = service
            .message
            .as_ref()
            .map_or_else(String::new, |message| format!(": {message}"));
        let restarts = if service.restarts == 0 {
            String::new()
        } else {
            format!(", {} restarts", service.restarts)
        };
        format!("{} is {}{exit}{restarts}{message}", service.name, service.state.word())
    };
    view.services
        .iter()
        .filter(|service| in_trouble(service))
        .map(sentence)
        .collect()
}

/// One sentence.
fn summary(view: &EnvironmentView, step: Option<&StepView>, failed: Option<&FailureView>, now: Timestamp) -> String {
    let subject = format!("{} is {}", view.label, view.status);
    let message = |failed: &FailureView| format!("{}: {}", failed.step, failed.message);
    match (view.phase, failed, step) {
        (Phase::Failed, Some(failed), _) => format!("{} failed at {}", view.label, message(failed)),
        (Phase::LiveOlder, Some(failed), _) => format!("{}: {} at {}", view.label, view.status, message(failed)),
        (Phase::LiveOlder, None, _) => format!("{}: {}", view.label, view.status),
        (Phase::NeedsApproval, ..) => {
            format!("{subject}: nothing runs until somebody who may push approves the commit")
        }
        (Phase::LiveUnapproved, ..) => format!(
            "{}: {}; nothing of it runs until somebody who may push approves it",
            view.label, view.status
        ),
        (Phase::Suspended, ..) => match view.notes.first() {
            Some(note) => format!("{subject}: {note}"),
            None => subject,
        },
        (Phase::Ended, ..) => format!("{} has ended: {}", view.label, view.reason),
        (Phase::Ending, None, _) => format!("{} is being removed: {}", view.label, view.reason),
        (_, Some(failed), Some(step)) if step.waiting_for.as_deref() == Some(planner::ROOM) => {
            format!(
                "{subject}; it waits for room and goes on by itself: {}",
                message(failed)
            )
        }
        (_, Some(failed), Some(step)) if step.waiting_for.as_deref() == Some(planner::GATEWAY) => {
            format!(
                "{subject}; it waits for the gateway and goes on by itself: {}",
                message(failed)
            )
        }
        (_, Some(failed), Some(step)) if step.state == StepStateView::Retrying => {
            let next = step
                .next_try
                .map_or_else(String::new, |next| format!(" in {} s", next.since(now).as_secs()));
            format!("{subject}; {} is tried again{next}", message(failed))
        }
        (_, _, Some(step)) => {
            let waits = step
                .waiting_for
                .as_ref()
                .map_or_else(String::new, |what| format!(", waiting for {what}"));
            format!("{subject}: {}{waits}", step.title)
        }
        _ => subject,
    }
}
