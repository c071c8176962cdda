//! Environments.

use super::failure;
use crate::{app::App, problem::Answer};
use api::{AddressView, CommitView, EnvironmentView, OriginView, PullRequestView, ServiceStateView, ServiceView};
use model::{
    Observation, Origin, Phase, ProjectName, ServiceFact, ServiceName, ServiceStack, ServiceState, SourceName,
};
use reconciler::{Project, standing};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use store::{EnvironmentRow, GenerationRow, Outcome, PullRequestRow};
use tokio::time::timeout;

/// How long the runtime is waited for. What it says is an addition; the rest is shown without it.
const OBSERVE: Duration = Duration::from_secs(2);

/// The public services of a stack with their ports, the main one first: `web`, else the first by name.
pub(crate) fn public_services(stack: &ServiceStack) -> Vec<(&ServiceName, u16)> {
    let mut public: Vec<(&ServiceName, u16)> = stack
        .services
        .iter()
        .filter_map(|(name, service)| Some((name, service.public_port?)))
        .collect();
    if let Some(main) = public.iter().position(|(name, _)| name.as_str() == "web") {
        let main = public.remove(main);
        public.insert(0, main);
    }
    public
}

/// All environments, without the states of their services.
pub(crate) async fn environment_list(
    app: &App,
    project: Option<&ProjectName>,
    ended: bool,
) -> Answer<Vec<EnvironmentView>> {
    let mut views = Vec::new();
    for row in app.store.environment_list(project, ended).await? {
        if row.origin != Origin::Golden {
            views.push(view(app, &row, None).await?);
        }
    }
    Ok(views)
}

/// One environment.
pub(crate) async fn environment(app: &App, row: &EnvironmentRow) -> Answer<EnvironmentView> {
    let observed = match timeout(OBSERVE, app.runtime.observe(&row.id)).await {
        Ok(Ok(observed)) => observed,
        Ok(Err(error)) => {
            tracing::debug!(environment = %row.id, %error, "could not be observed for a view");
            None
        }
        Err(_) => None,
    };
    let mut view = view(app, row, observed.as_ref()).await?;
    if observed.is_some()
        && let Ok(note) = timeout(OBSERVE, reconciler::disk_note(app.runtime.as_ref(), &row.id)).await
    {
        view.notes.extend(note);
    }
    if let Some(observed) = &observed {
        view.door = super::door::door(&observed.door, may_reach(app, row).await?);
    }
    if row.ended.is_some() {
        view.services.clear();
        view.door = api::DoorView::default();
    }
    Ok(view)
}

async fn view(app: &App, row: &EnvironmentRow, observed: Option<&Observation>) -> Answer<EnvironmentView> {
    let generations = app.store.generation_list(&row.id).await?;
    let (facts, phase) = standing(row, &generations);
    let newest = generations
        .iter()
        .rev()
        .find(|generation| generation.restores.is_none());
    let live = facts
        .live
        .and_then(|live| generations.iter().find(|row| row.generation == live));
    let stack = live.or(newest).and_then(|row| row.spec.services());
    let project = app.project(&row.project);
    let addresses = match (project, stack) {
        (Some(project), Some(stack)) if !matches!(phase, Phase::Ending | Phase::Ended) => {
            addresses(project, row, stack)
        }
        _ => Vec::new(),
    };
    let pull_requests = pull_requests(app, project, row).await?;
    let failed = newest
        .filter(|row| row.outcome == Some(Outcome::Failed))
        .and_then(|row| row.failure.as_ref());
    Ok(EnvironmentView {
        id: row.id.clone(),
        project: row.project.clone(),
        origin: OriginView::from(&row.origin),
        label: row.label.clone(),
        address: addresses.first().map(|address| address.url.clone()),
        phase,
        status: told(app, row, phase, live),
        power: row.power_now(),
        pull_request: pull_requests.first().cloned(),
        pull_requests: if matches!(row.origin, Origin::PullRequests { .. }) {
            pull_requests
        } else {
            Vec::new()
        },
        commits: commits(row, live),
        newest: facts.newest,
        live: facts.live,
        failed: facts.failed,
        failure: failed.map(failure),
        notes: reconciler::notes(row, &generations)
            .into_iter()
            .chain(policy_note(app, row))
            .collect(),
        reason: row.reason.clone(),
        created: row.created,
        live_at: row.live_at,
        ended: row.ended,
        services: stack.map_or_else(Vec::new, |stack| services(stack, observed, &addresses)),
        jobs: match stack.filter(|_| row.ended.is_none()) {
            Some(stack) => super::job::of_stack(app, row, stack).await?,
            None => Vec::new(),
        },
        addresses,
        door: api::DoorView::default(),
    })
}

/// Whether what the policy allows holds for the commit of an environment: that of a pull request may be a stranger's.
async fn may_reach(app: &App, row: &EnvironmentRow) -> Answer<bool> {
    let Some(project) = app.project(&row.project).filter(|_| row.origin.is_of_pull_requests()) else {
        return Ok(true);
    };
    let known = reconciler::pull_requests(&app.store, project, row).await?;
    Ok(known
        .iter()
        .filter(|pull| pull.state == store::PullRequestState::Open || known.len() == 1)
        .all(|pull| pull.trusted))
}

fn policy_note(app: &App, row: &EnvironmentRow) -> Option<String> {
    app.reconciler.policy_note(&row.project).filter(|_| row.ended.is_none())
}

/// How it stands, in the words of the comment: where two commits are in play, which of them is live and what became of the other.
fn told(app: &App, row: &EnvironmentRow, phase: Phase, live: Option<&GenerationRow>) -> String {
    if row.origin == Origin::Spare && matches!(phase, Phase::Live | Phase::Sleeping) {
        return "ready".to_owned();
    }
    let leading = app
        .project(&row.project)
        .and_then(|project| project.leading(&row.origin));
    let Some(source) = leading else {
        return phase.word().to_owned();
    };
    let live = live.and_then(|live| live.spec.sources.get(&source.name));
    phase.told(live, row.head.get(&source.name))
}

fn addresses(project: &Project, row: &EnvironmentRow, stack: &ServiceStack) -> Vec<AddressView> {
    let address = |(index, (name, _)): (usize, (&ServiceName, u16))| AddressView {
        service: name.clone(),
        url: project.address(&row.label, name, index == 0),
    };
    public_services(stack).into_iter().enumerate().map(address).collect()
}

async fn pull_requests(app: &App, project: Option<&Project>, row: &EnvironmentRow) -> Answer<Vec<PullRequestView>> {
    let Some(project) = project else {
        return Ok(Vec::new());
    };
    let known = reconciler::pull_requests(&app.store, project, row).await?;
    let view = |pull: PullRequestRow| PullRequestView {
        source: pull.source,
        number: pull.number,
        title: pull.title,
        author: pull.author,
        branch: pull.branch,
        base: pull.base,
        state: match pull.state {
            store::PullRequestState::Open => "open",
            store::PullRequestState::Closed => "closed",
            store::PullRequestState::Merged => "merged",
        }
        .to_owned(),
        fork: pull.fork,
        web_url: pull.web_url,
    };
    Ok(known.into_iter().map(view).collect())
}

fn commits(row: &EnvironmentRow, live: Option<&GenerationRow>) -> BTreeMap<SourceName, CommitView> {
    let lives = live.map(|live| &live.spec.sources);
    let pins = reconciler::pins(row);
    let names: BTreeSet<&SourceName> = row
        .head
        .keys()
        .chain(lives.into_iter().flat_map(BTreeMap::keys))
        .chain(pins.keys())
        .collect();
    let commit = |name: &SourceName| {
        let pin = pins.get(name);
        CommitView {
            wanted: row.head.get(name).cloned(),
            live: lives.and_then(|lives| lives.get(name)).cloned(),
            branch: pin.and_then(|pin| pin.branch.as_ref()).map(ToString::to_string),
            trouble: pin.and_then(|pin| pin.trouble.clone()),
        }
    };
    names.into_iter().map(|name| (name.clone(), commit(name))).collect()
}

fn services(stack: &ServiceStack, observed: Option<&Observation>, addresses: &[AddressView]) -> Vec<ServiceView> {
    let service = |name: &ServiceName| {
        let fact = observed.and_then(|observed| observed.services.get(name));
        ServiceView {
            name: name.clone(),
            state: fact.map_or(ServiceStateView::Waiting, |fact| state(&fact.state)),
            since: fact.map(|fact| fact.since),
            restarts: fact.map_or(0, |fact| fact.restarts),
            exit: fact.and_then(exit),
            message: fact.and_then(|fact| fact.message.clone()),
            url: addresses
                .iter()
                .find(|address| address.service == *name)
                .map(|address| address.url.clone()),
        }
    };
    stack.services.keys().map(service).collect()
}

fn state(state: &ServiceState) -> ServiceStateView {
    match state {
        ServiceState::Starting => ServiceStateView::Starting,
        ServiceState::Ready => ServiceStateView::Ready,
        ServiceState::Unhealthy => ServiceStateView::Unhealthy,
        ServiceState::Exited { .. } => ServiceStateView::Exited,
        ServiceState::BackingOff { .. } => ServiceStateView::BackingOff,
        ServiceState::Stopped => ServiceStateView::Stopped,
    }
}

fn exit(fact: &ServiceFact) -> Option<i32> {
    match fact.state {
        ServiceState::Exited { code } | ServiceState::BackingOff { code, .. } => Some(code),
        _ => None,
    }
}
