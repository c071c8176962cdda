//! The route table: which host leads where, made from the store and renewed when that changes.

use crate::{app::App, problem::Answer, view::public_services};
use gateway::{About, Route, RouteKey, RouteState, Step, StepState, Target};
use model::{
    EnvironmentId, Generation, HostLabel, Origin, Phase, Power, ServiceName, ServiceState, Stage, Timestamp,
    service_label,
};
use planner::Action;
use reconciler::{Project, standing};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use store::{EnvironmentRow, GenerationRow, PullRequestRow};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Writes that come this close to each other are looked at together.
const GATHER: Duration = Duration::from_millis(4);
/// The table is not made more often than this.
const PAUSE: Duration = Duration::from_millis(25);
/// What is written on the way of a generation changes no route, but the steps that a waiting visitor sees.
const STEPS: Duration = Duration::from_millis(200);
/// It is made anew this often although nothing was written.
const INTERVAL: Duration = Duration::from_secs(30);
/// And this often while something that was asleep wakes: that it is awake is written nowhere.
const WAKING: Duration = Duration::from_millis(200);
/// How long the reconciler may take to plan; without a plan a start is shown without steps.
const PLAN: Duration = Duration::from_secs(2);
/// The most lines that tell why an environment failed.
const REASON_LINES: usize = 30;

/// All routes, with a number that changes when they do.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) version: u64,
    pub(super) routes: Arc<Vec<(RouteKey, Route)>>,
    /// Where hosts will lead once what is being started is live.
    pub(super) awaited: Arc<Vec<(RouteKey, Target)>>,
}

/// The routes of an environment, and what they were made from.
struct Made {
    row: EnvironmentRow,
    pull: Option<PullRequestRow>,
    routes: Vec<(RouteKey, Route)>,
}

/// What need not be made again: the routes of environments that are live or asleep follow from their row and pull request.
type Settled = BTreeMap<EnvironmentId, Made>;

/// Keeps the table up to date until it is told to end.
pub(super) async fn keep(app: App, table: watch::Sender<Table>, end: CancellationToken) {
    let (mut changes, mut steps) = (app.store.subject_changes(), app.store.changes());
    let mut settled = Settled::new();
    loop {
        changes.mark_unchanged();
        steps.mark_unchanged();
        let mut interval = INTERVAL;
        match look(&app, &mut settled).await {
            Ok((routes, awaited, waking)) => {
                interval = if waking { WAKING } else { INTERVAL };
                table.send_if_modified(|table| {
                    let differs = table.version == 0 || *table.routes != routes || *table.awaited != awaited;
                    if differs {
                        *table = Table {
                            version: table.version + 1,
                            routes: Arc::new(routes),
                            awaited: Arc::new(awaited),
                        };
                    }
                    differs
                });
            }
            Err(problem) => {
                tracing::warn!(why = problem.0.detail, "the routes could not be made");
            }
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = sleep(PAUSE) => {}
        }
        tokio::select! {
            () = end.cancelled() => return,
            _ = changes.changed() => sleep(GATHER).await,
            () = stepped(&mut steps) => {}
            () = sleep(interval) => {}
        }
    }
}

/// Waits for a write, and some time more.
async fn stepped(steps: &mut watch::Receiver<u64>) {
    if steps.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    sleep(STEPS).await;
}

/// Everything that the table is made of, and whether something is about to wake.
async fn look(app: &App, settled: &mut Settled) -> Answer<(Vec<(RouteKey, Route)>, Vec<(RouteKey, Target)>, bool)> {
    let rows = app.store.environment_list(None, false).await?;
    let awaited = awaited(app, &rows).await?;
    let (routes, waking) = routes(app, rows, settled).await?;
    Ok((routes, awaited, waking))
}

/// Where the hosts of generations will lead that are not live yet.
async fn awaited(app: &App, rows: &[EnvironmentRow]) -> Answer<Vec<(RouteKey, Target)>> {
    let mut awaited = Vec::new();
    for row in rows {
        let at_rest = !row.wanted || row.live.is_some() && row.live == row.newest;
        let Some(project) = app
            .project(&row.project)
            .filter(|_| !at_rest && row.origin.is_for_people())
        else {
            continue;
        };
        let newest = app.store.generation_newest(&row.id).await?;
        let coming = newest.as_ref().filter(|row| row.outcome.is_none());
        let stack = coming.and_then(|row| row.spec.services());
        for (index, (service, port)) in stack.map_or_else(Vec::new, public_services).into_iter().enumerate() {
            let key = RouteKey {
                base: project.base.domain.as_str().into(),
                label: label(row, index, service),
            };
            let target = Target {
                environment: row.id.clone(),
                service: service.clone(),
                port,
            };
            awaited.push((key, target));
        }
    }
    Ok(awaited)
}

/// The first public service is found at the environment's own label.
fn label(row: &EnvironmentRow, index: usize, service: &ServiceName) -> HostLabel {
    if index == 0 {
        row.label.clone()
    } else {
        service_label(service, &row.label)
    }
}

/// All routes, and whether one of them is about to wake.
async fn routes(app: &App, rows: Vec<EnvironmentRow>, settled: &mut Settled) -> Answer<(Vec<(RouteKey, Route)>, bool)> {
    let (mut routes, mut waking) = (BTreeMap::new(), false);
    let mut before = std::mem::take(settled);
    for row in rows {
        let Some(project) = app.project(&row.project).filter(|_| row.origin.is_for_people()) else {
            continue;
        };
        let pull = pull_request(app, project, &row).await?;
        if let Some(made) = before
            .remove(&row.id)
            .filter(|made| made.row == row && made.pull == pull)
        {
            routes.extend(made.routes.iter().cloned());
            settled.insert(row.id.clone(), made);
            continue;
        }
        let (made, wakes) = environment(app, project, &row, pull.as_ref()).await?;
        waking |= wakes;
        routes.extend(made.iter().cloned());
        let rests = |route: &Route| matches!(route.state, RouteState::Live | RouteState::Sleeping);
        if made.iter().all(|(_, route)| rests(route)) {
            settled.insert(
                row.id.clone(),
                Made {
                    row,
                    pull,
                    routes: made,
                },
            );
        }
    }
    Ok((routes.into_iter().collect(), waking))
}

async fn pull_request(app: &App, project: &Project, row: &EnvironmentRow) -> Answer<Option<PullRequestRow>> {
    let known = reconciler::pull_requests(&app.store, project, row).await?;
    Ok(known.into_iter().next())
}

async fn environment(
    app: &App,
    project: &Project,
    row: &EnvironmentRow,
    pull: Option<&PullRequestRow>,
) -> Answer<(Vec<(RouteKey, Route)>, bool)> {
    let generations = app.store.generation_list(&row.id).await?;
    let (facts, phase) = standing(row, &generations);
    let live = facts
        .live
        .and_then(|live| generations.iter().find(|row| row.generation == live));
    let newest = generations.iter().rev().find(|row| row.restores.is_none());
    let shown = live.or(newest);
    let about = about(project, row, pull, shown);
    let stack = shown.and_then(|row| row.spec.services());
    let public = stack.map_or_else(Vec::new, public_services);
    let waking = phase == Phase::Live && is_waking(app, row, &public).await;
    let state = match phase {
        _ if waking => RouteState::Starting {
            steps: steps(app, row, newest).await,
        },
        phase => state(app, row, phase, newest).await,
    };
    let route = |service: ServiceName, port: u16| Route {
        target: Target {
            environment: row.id.clone(),
            service,
            port,
        },
        project: row.project.clone(),
        state: state.clone(),
        // Connections to an older generation's processes are not used again.
        epoch: facts.live.unwrap_or_default().0,
        about: about.clone(),
    };
    let key = |label| RouteKey {
        base: project.base.domain.as_str().into(),
        label,
    };
    let mut routes = Vec::new();
    for (index, (service, port)) in public.iter().enumerate() {
        routes.push((key(label(row, index, service)), route((*service).clone(), *port)));
    }
    if public.is_empty()
        && let Ok(nothing) = "nothing".parse()
    {
        // There is a host from the beginning, so that whoever follows the link early sees the progress.
        routes.push((key(row.label.clone()), route(nothing, 0)));
    }
    Ok((routes, waking))
}

/// Whether an environment that was asleep is wanted again and does not answer yet. Only the baseline sleeps so far, and nobody else
/// is made to wait for the runtime's answer.
async fn is_waking(app: &App, row: &EnvironmentRow, public: &[(&ServiceName, u16)]) -> bool {
    if !matches!(row.origin, Origin::Baseline { .. }) {
        return false;
    }
    let Ok(Ok(Some(observed))) = timeout(PLAN, app.runtime.observe(&row.id)).await else {
        return false;
    };
    let asleep = |state: &ServiceState| matches!(state, ServiceState::Stopped | ServiceState::Starting);
    observed.power != Power::Running
        || public.iter().any(|(name, _)| {
            let fact = observed.services.get(*name);
            fact.is_none_or(|fact| asleep(&fact.state))
        })
}

async fn state(app: &App, row: &EnvironmentRow, phase: Phase, newest: Option<&GenerationRow>) -> RouteState {
    match phase {
        // It was stopped after its last update, or is stopped after this one: a visit wakes it first.
        Phase::Updating | Phase::LiveOlder | Phase::LiveUnapproved if row.power != Power::Running => {
            RouteState::Sleeping
        }
        Phase::Live | Phase::Updating | Phase::LiveOlder | Phase::LiveUnapproved => RouteState::Live,
        Phase::Starting => RouteState::Starting {
            steps: steps(app, row, newest).await,
        },
        Phase::Suspended => {
            let why = row.suspension().map(|suspension| suspension.reason.clone());
            let told = "It is stopped and runs again by itself when the reason is gone.".to_owned();
            RouteState::Held {
                reason: why.into_iter().chain([told]).collect(),
            }
        }
        Phase::Sleeping => RouteState::Sleeping,
        Phase::Ending | Phase::Ended => RouteState::Gone,
        Phase::NeedsApproval => {
            let reason = "Nothing runs until somebody who may push to the repository approves the commit.".to_owned();
            RouteState::Held { reason: vec![reason] }
        }
        Phase::Failed => {
            let failure = newest.and_then(|row| row.failure.clone());
            let mut reason = vec!["It could not be started.".to_owned()];
            if let Some(failure) = failure {
                reason = vec![format!("{}: {}", failure.step, failure.message)];
                reason.extend(failure.hint);
                reason.extend(failure.log.into_iter().take(REASON_LINES));
            }
            RouteState::Failed { reason }
        }
    }
}

async fn steps(app: &App, row: &EnvironmentRow, newest: Option<&GenerationRow>) -> Vec<Step> {
    let Some(newest) = newest else { return Vec::new() };
    let Ok(Ok(plan)) = timeout(PLAN, app.reconciler.plan(&row.id)).await else {
        return Vec::new();
    };
    let began: BTreeMap<String, Timestamp> = match app.store.step_list(&row.id, newest.generation).await {
        Ok(rows) => rows
            .into_iter()
            .map(|row| (row.step, row.ended.unwrap_or(row.began)))
            .collect(),
        Err(_) => BTreeMap::new(),
    };
    // Who waits for a start has nothing to do with what an older one has left.
    let matters = |step: &&planner::Step| step.action != Action::Apply(Stage::Prune);
    let steps = plan.steps.iter().filter(matters);
    steps.map(|step| shown(step, &began)).collect()
}

/// A step as visitors see it. `began` has when each was begun or has ended.
fn shown(step: &planner::Step, began: &BTreeMap<String, Timestamp>) -> Step {
    use planner::StepState::{BackingOff, Blocked, Done, Failed, InProgress, Ready};
    let (state, detail) = match &step.state {
        Done => (StepState::Done, String::new()),
        Ready if began.contains_key(&step.id) => (StepState::Running, String::new()),
        Ready | Blocked { .. } => (StepState::Waiting, String::new()),
        InProgress { waiting_for, .. } => (StepState::Running, format!("waiting for {waiting_for}")),
        BackingOff { failure, .. } | Failed { failure } => (StepState::Failed, failure.clone()),
    };
    let since = began
        .get(&step.id)
        .map(|at| SystemTime::UNIX_EPOCH + Duration::from_millis(at.0));
    Step {
        name: step.title(),
        state,
        detail,
        since,
    }
}

fn about(
    project: &Project,
    row: &EnvironmentRow,
    pull: Option<&PullRequestRow>,
    shown: Option<&GenerationRow>,
) -> About {
    let commits = shown.map_or(&row.head, |row| &row.spec.sources);
    let commit = project
        .leading(&row.origin)
        .and_then(|source| commits.get(&source.name))
        .map_or_else(String::new, ToString::to_string);
    let (title, pull_request) = match &row.origin {
        Origin::PullRequest { number } | Origin::FurtherPullRequest { number, .. } => {
            (pull.map_or_else(String::new, |pull| pull.title.clone()), Some(*number))
        }
        Origin::PullRequests { branch } => match pull {
            Some(pull) => (pull.title.clone(), Some(pull.number)),
            None => (branch.to_string(), None),
        },
        Origin::Branch { branch } | Origin::Baseline { branch } => (branch.to_string(), None),
        _ => (row.label.to_string(), None),
    };
    About {
        title,
        pull_request,
        commit,
        link: pull.and_then(|pull| pull.web_url.clone()),
    }
}

/// The hosts that an environment may have, without port.
pub(super) async fn hosts(app: &App, row: &EnvironmentRow) -> Answer<Vec<String>> {
    let Some(project) = app.project(&row.project) else {
        return Ok(Vec::new());
    };
    let newest = row.newest.max(row.live).unwrap_or(Generation(0));
    let generation = app.store.generation_get(&row.id, newest).await?;
    let stack = generation.as_ref().and_then(|row| row.spec.services());
    let further = stack.map_or_else(Vec::new, |stack| {
        stack
            .services
            .keys()
            .map(|service| service_label(service, &row.label))
            .collect()
    });
    let name = |label: &model::HostLabel| format!("{label}.{}", project.base.domain);
    Ok([&row.label].into_iter().chain(&further).map(name).collect())
}

#[cfg(test)]
mod tests;
