//! Keeps a spare per project: its engines, started ahead of the next environment, which adopts them.
//!
//! A spare is an environment of its own, with ledger and receipt, whose only generation holds the policy branch's engines; once
//! they are ready it is frozen, so that it costs memory and no CPU. It never changes: when it would be made differently now, when
//! its engines do not run any more, or when memory or the pool is short, it ends. Environments come first: a spare is begun only
//! while none of them is on its way.

mod adopt;

pub(crate) use adopt::adopt;

use crate::{
    context::{Context, Trouble, Troubles},
    heads::PolicyHead,
    id, secret,
    spare::{SpareReport, origin_of_new},
    task::{access, forges::DELETED},
};
use model::{
    Digest, EnvironmentId, EnvironmentSpec, Generation, HostLabel, Origin, Power, ProjectName, ServiceStack,
    ServiceState, Stack, Timestamp, Volume, VolumeOrigin,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::{EnvironmentRow, GenerationRow, Outcome};
use tokio::time::sleep;

/// How often memory and pool are looked at although nothing was written.
const INTERVAL: Duration = Duration::from_secs(5);
/// Writes that come within this time are looked at together.
const GATHER: Duration = Duration::from_millis(300);
/// The pause after a spare had to yield, so that it does not come and go.
const AFTER_PRESSURE: Duration = Duration::from_secs(60);
/// The pause after a spare that could not be started or whose engines ended, doubled each time, and the longest such pause. One that
/// ran for as long as the next pause would be makes good for those before it.
const AFTER_FAILURE: Duration = Duration::from_secs(120);
const AFTER_FAILURE_MAX: Duration = Duration::from_secs(86_400);

/// What the task remembers of each project: only so that people can be told, and pauses be kept.
#[derive(Debug, Default)]
pub(crate) struct Spares(Mutex<BTreeMap<ProjectName, Remembered>>);

#[derive(Clone, Debug, Default)]
struct Remembered {
    why_none: Option<String>,
    /// Why the last one ended.
    ended: Option<String>,
    failures: u32,
    not_before: Option<Timestamp>,
}

impl Spares {
    fn of(&self, project: &ProjectName) -> Remembered {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(project).cloned().unwrap_or_default()
    }

    fn change(&self, project: &ProjectName, change: impl FnOnce(&mut Remembered)) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(table.entry(project.clone()).or_default());
    }
}

pub(crate) async fn run(context: Arc<Context>) {
    let mut changes = context.store.subject_changes();
    loop {
        changes.mark_unchanged();
        if let Err(trouble) = look(&context).await {
            tracing::warn!(why = crate::text::chain(&trouble), "could not look after the spares");
            sleep(Duration::from_secs(1)).await;
        }
        tokio::select! {
            _ = changes.changed() => sleep(GATHER).await,
            () = sleep(INTERVAL.min(context.settings.look_interval)) => {}
        }
    }
}

async fn look(context: &Context) -> Result<(), Trouble> {
    let mut troubles = Troubles::default();
    for project in context.projects.keys() {
        troubles.note(look_at(context, project).await)?;
    }
    for row in context.store.environment_list(None, false).await? {
        if row.origin == Origin::Spare && row.wanted && !context.projects.contains_key(&row.project) {
            troubles.note(end(context, &row, "its project is not configured any more").await)?;
        }
    }
    troubles.end()
}

async fn look_at(context: &Context, project: &ProjectName) -> Result<(), Trouble> {
    let settings = &context.settings.spares;
    let rows = of_project(context, project).await?;
    if rows.is_empty() && settings.per_project == 0 {
        return Ok(());
    }
    let told = match wanted(context, project).await? {
        Wanted::Unknown(why) => Some(why),
        Wanted::None { why, pause } => {
            for row in rows.iter().filter(|row| row.wanted) {
                end(context, row, &why).await?;
                if let Some(pause) = pause {
                    let until = context.now().plus(pause);
                    context.spares.change(project, |known| known.not_before = Some(until));
                }
            }
            Some(why)
        }
        Wanted::This(head, stack) => {
            let inputs = inputs(context, project, &head, &stack);
            let mut there = 0;
            for row in rows.iter().filter(|row| row.wanted) {
                match unfit(context, row, &inputs).await? {
                    Some(why) => end(context, row, &why).await?,
                    None if there == settings.per_project => end(context, row, "fewer spares are wanted").await?,
                    None => there += 1,
                }
            }
            if there < settings.per_project {
                make_if_possible(context, project, &head, stack, inputs).await?
            } else {
                None
            }
        }
    };
    context.spares.change(project, |known| known.why_none = told);
    Ok(())
}

/// The spares of a project that have not ended, the oldest first.
async fn of_project(context: &Context, project: &ProjectName) -> Result<Vec<EnvironmentRow>, Trouble> {
    let mut rows = context.store.environment_list(Some(project), false).await?;
    rows.retain(|row| row.origin == Origin::Spare);
    Ok(rows)
}

enum Wanted {
    /// It can not be told yet.
    Unknown(String),
    /// None, and those that there are should go.
    None {
        why: String,
        /// How long none is made then.
        pause: Option<Duration>,
    },
    This(Arc<PolicyHead>, ServiceStack),
}

async fn wanted(context: &Context, project: &ProjectName) -> Result<Wanted, Trouble> {
    let settings = &context.settings.spares;
    let none = |why: &str| Wanted::None {
        why: why.to_owned(),
        pause: None,
    };
    if settings.per_project == 0 {
        return Ok(none("the server's configuration wants none"));
    }
    if context.project(project)?.cluster.is_some() {
        return Ok(none(
            "its environments are on a cluster, where nothing is started ahead",
        ));
    }
    let Some(head) = context.heads.get(project) else {
        return Ok(Wanted::Unknown("the policy branch has not been read yet".to_owned()));
    };
    if !head.readable {
        return Ok(Wanted::Unknown(
            "the policy branch's settings can not be used".to_owned(),
        ));
    }
    let Some(stack) = head.stack.as_ref() else {
        return Ok(none("the policy branch's stack can not be used"));
    };
    let Some(part) = settings.of_stack(stack) else {
        return Ok(none("no engine of the policy branch's stack takes long to start"));
    };
    let short = |why: String| Wanted::None {
        why,
        pause: Some(AFTER_PRESSURE),
    };
    if let Some(lost) = access::lost_for_long(context, project).await? {
        return Ok(short(format!("{} can not be read at present", lost.source)));
    }
    if let Some(why) = settings.pressure(false) {
        return Ok(short(why));
    }
    if context.runtime.room().await?.is_some_and(|room| room.is_short()) {
        return Ok(short("the storage pool is short of room".to_owned()));
    }
    Ok(Wanted::This(head, part))
}

/// All that a spare is made from. The commit does not count: most of them change nothing of the engines.
fn inputs(context: &Context, project: &ProjectName, head: &PolicyHead, stack: &ServiceStack) -> Digest {
    let secrets = secret::versions(context, project, stack);
    let secrets = serde_json::to_vec(&secrets.into_iter().collect::<Vec<_>>()).unwrap_or_default();
    let stack = serde_json::to_vec(stack).unwrap_or_default();
    let limits = serde_json::to_vec(&head.policy.limits).unwrap_or_default();
    let capabilities = serde_json::to_vec(context.runtime.capabilities()).unwrap_or_default();
    Digest::of_parts([stack.as_slice(), &limits, &capabilities, &secrets])
}

/// Why a spare has to go, if it has.
async fn unfit(context: &Context, row: &EnvironmentRow, inputs: &Digest) -> Result<Option<String>, Trouble> {
    let why = match context.store.generation_newest(&row.id).await? {
        None => Some("its making was interrupted".to_owned()),
        Some(newest) if newest.inputs != *inputs => {
            Some("the policy branch wants its engines, or their data, otherwise now".to_owned())
        }
        Some(newest) if newest.outcome == Some(Outcome::Failed) => {
            failed(context, &row.project);
            let message = newest.failure.map_or_else(String::new, |failure| failure.message);
            Some(format!("it could not be started: {message}"))
        }
        Some(newest) if newest.outcome == Some(Outcome::Live) => {
            let runs = runs(context, row, &newest).await?;
            let pause = pause(context.spares.of(&row.project).failures);
            if !runs {
                failed(context, &row.project);
            } else if row.live_at.is_some_and(|live| context.now().since(live) >= pause) {
                context.spares.change(&row.project, |known| known.failures = 0);
            }
            (!runs).then(|| "its engines do not run any more".to_owned())
        }
        Some(_) => None,
    };
    Ok(why)
}

/// Takes note of a spare that did not start, or whose engines ended: the next one is made after a pause.
fn failed(context: &Context, project: &ProjectName) {
    let until = context.now().plus(pause(context.spares.of(project).failures));
    context.spares.change(project, |known| {
        known.failures = known.failures.saturating_add(1);
        known.not_before = Some(until);
    });
}

/// The pause after so many failures and one more.
fn pause(failures: u32) -> Duration {
    AFTER_FAILURE
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(AFTER_FAILURE_MAX)
}

/// Whether everything that a generation of a spare wants is ready.
async fn runs(context: &Context, row: &EnvironmentRow, newest: &GenerationRow) -> Result<bool, Trouble> {
    let Some(observed) = context.runtime.observe(&row.id).await? else {
        return Ok(false);
    };
    let is_ready = |name| {
        let fact = observed.services.get(name);
        fact.is_some_and(|fact| {
            fact.state == ServiceState::Ready && Some(&fact.digest) == newest.spec.service_digest(name).as_ref()
        })
    };
    Ok(observed.power != Power::Stopped
        && newest
            .spec
            .services()
            .is_some_and(|stack| stack.services.keys().all(is_ready)))
}

async fn end(context: &Context, row: &EnvironmentRow, why: &str) -> Result<(), Trouble> {
    if context.store.spare_end(&row.id, why, None).await? {
        tracing::info!(project = %row.project, spare = %row.id, why, "a spare ends");
        context
            .spares
            .change(&row.project, |known| known.ended = Some(why.to_owned()));
        note(context, &row.id, &row.project, "ends", why).await?;
        context.nudges.environment(&row.id);
    }
    Ok(())
}

async fn note(
    context: &Context,
    id: &EnvironmentId,
    project: &ProjectName,
    kind: &str,
    text: &str,
) -> Result<(), Trouble> {
    Ok(context
        .store
        .event_add(Some(id), project, context.now(), kind, text)
        .await?)
}

/// Makes a spare, or says why not now.
async fn make_if_possible(
    context: &Context,
    project: &ProjectName,
    head: &PolicyHead,
    stack: ServiceStack,
    inputs: Digest,
) -> Result<Option<String>, Trouble> {
    if let Some(why) = context.settings.spares.pressure(true) {
        return Ok(Some(why));
    }
    if context.runtime.room().await?.is_some_and(|room| room.is_nearly_short()) {
        return Ok(Some("the storage pool has little room left".to_owned()));
    }
    let known = context.spares.of(project);
    let now = context.now();
    // A pause that is longer than any was noted before the clock was set back.
    let paused = |until: &Timestamp| *until > now && until.since(now) <= AFTER_FAILURE_MAX;
    if known.not_before.as_ref().is_some_and(paused) {
        let ended = known.ended.unwrap_or_else(|| "it ended".to_owned());
        return Ok(Some(format!("of the last one: {ended}; another is made later")));
    }
    let all = context.store.environment_list(Some(project), true).await?;
    if is_unwanted(&all, head) {
        let why =
            "somebody deleted it; the next one is made after the next environment, or when the policy branch moves";
        return Ok(Some(why.to_owned()));
    }
    if let Some(row) = context
        .store
        .environment_list(None, false)
        .await?
        .iter()
        .find(|row| is_busy(row) && context.projects.contains_key(&row.project))
    {
        return Ok(Some(format!("{} is on its way, which comes first", row.label)));
    }
    make(context, project, head, stack, inputs).await?;
    Ok(None)
}

/// Whether somebody deleted the last spare, and nothing has happened since that wants a new one.
fn is_unwanted(rows: &[EnvironmentRow], head: &PolicyHead) -> bool {
    let last = rows
        .iter()
        .filter(|row| row.origin == Origin::Spare)
        .max_by_key(|row| row.created);
    last.is_some_and(|last| {
        let deleted = last.overrides.get(DELETED).and_then(serde_json::Value::as_bool);
        let moved = last.head.values().all(|commit| *commit != head.commit);
        let needed = rows
            .iter()
            .any(|row| row.origin.is_for_people() && row.created > last.created);
        deleted == Some(true) && !moved && !needed
    })
}

/// Whether an environment, or what makes a golden, or another spare, is on its way.
fn is_busy(row: &EnvironmentRow) -> bool {
    let settled = match row.newest {
        Some(newest) => row.live >= Some(newest) || row.failed >= Some(newest),
        None => row.approved_commit.is_none(),
    };
    row.wanted && !settled && (row.power_now() == Power::Running || row.origin == Origin::Spare)
}

async fn make(
    context: &Context,
    project: &ProjectName,
    head: &PolicyHead,
    stack: ServiceStack,
    inputs: Digest,
) -> Result<(), Trouble> {
    let Some(source) = context.project(project)?.primary() else {
        return Ok(());
    };
    let id = id::new_environment_id('s').map_err(Trouble::Randomness)?;
    let label: HostLabel = format!("spare-{id}")
        .parse()
        .map_err(|_| Trouble::NoProject(project.clone()))?;
    let sources = BTreeMap::from([(source.name.clone(), head.commit.clone())]);
    let capabilities = context.runtime.capabilities();
    let row = EnvironmentRow {
        id: id.clone(),
        project: project.clone(),
        origin: Origin::Spare,
        label,
        created: context.now(),
        wanted: true,
        reason: "waits for the next environment".to_owned(),
        approved_commit: Some(head.commit.clone()),
        head: sources.clone(),
        newest: Some(Generation(1)),
        live: None,
        failed: None,
        // Once its engines are ready nothing in it needs to run.
        power: if capabilities.freeze {
            Power::Frozen
        } else {
            Power::Running
        },
        suspended: None,
        ended: None,
        live_at: None,
        nudged: None,
        overrides: serde_json::json!({}),
        cluster: None,
    };
    let generation = GenerationRow {
        environment: id.clone(),
        generation: Generation(1),
        inputs,
        spec: EnvironmentSpec {
            environment: id.clone(),
            generation: Generation(1),
            project: project.clone(),
            origin: Origin::Spare,
            sources,
            secrets: secret::versions(context, project, &stack),
            stack: Stack::Services(with_new_volumes(context, head, stack)),
            limits: head.policy.limits,
            egress: model::Egress::default(),
        },
        policy_commit: Some(head.commit.clone()),
        restores: None,
        created: context.now(),
        outcome: None,
        failure: None,
        notes: Vec::new(),
    };
    context.store.environment_create(&row).await?;
    context.store.generation_put(&generation).await?;
    note(context, &id, project, "created", "a spare for the next environment").await?;
    context.nudges.environment(&id);
    Ok(())
}

fn with_new_volumes(context: &Context, head: &PolicyHead, mut stack: ServiceStack) -> ServiceStack {
    for volume in stack.volumes.values_mut() {
        *volume = Volume {
            origin: VolumeOrigin::Empty,
            incarnation: Generation(1),
            limit_bytes: volume.limit_bytes,
        };
    }
    for (name, set) in &stack.data {
        let (engine, policy) = (stack.services.get(name), head.data.get(name));
        if let Some(volume) = stack.volumes.get_mut(&set.volume) {
            volume.origin = origin_of_new(context.runtime.capabilities(), engine, policy, set);
        }
    }
    stack
}

/// How the spares of each project stand.
pub(crate) async fn report(context: &Context) -> Result<Vec<SpareReport>, Trouble> {
    let mut reports = Vec::new();
    for project in context.projects.keys() {
        let mut spares = of_project(context, project).await?;
        spares.retain(|row| row.wanted);
        let known = context.spares.of(project);
        reports.push(SpareReport {
            project: project.clone(),
            wanted: context.settings.spares.per_project,
            why_fewer: known.why_none,
            spares,
        });
    }
    Ok(reports)
}
