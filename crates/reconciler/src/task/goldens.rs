//! Makes goldens: the one of each policy branch ahead of use, others when an environment waits for them.
//!
//! A golden is made by an environment of its own, from the policy branch's files only. That environment is looked after like
//! any other; when it is live its engine is stopped, its volume becomes the golden, and it ends with a receipt.

use crate::{
    context::{Context, Trouble, Troubles},
    golden::{self, engine_version, golden_for},
    heads::{self, PolicyHead},
    id, secret,
    task::collect::collect,
};
use model::{
    DataSet, EnvironmentSpec, Generation, HostLabel, MountKind, Origin, Power, Service, ServiceName, ServiceStack,
    SnapshotId, Stack, Volume, VolumeOrigin,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use store::{EnvironmentPatch, EnvironmentRow, Failure, GenerationRow, GoldenRow, GoldenState, Outcome};
use tokio::time::sleep;

const INTERVAL: Duration = Duration::from_secs(60);
/// The pause while the pool is short of room and what nobody wants is removed piece by piece.
const UNDER_PRESSURE: Duration = Duration::from_secs(5);

/// The pause before a golden that failed is tried again, and the longest such pause.
const RETRY_FIRST: Duration = Duration::from_secs(120);
const RETRY_MAX: Duration = Duration::from_secs(86_400);

/// The key in a builder's overrides that names its golden.
const GOLDEN: &str = "golden";

pub(crate) async fn run(context: Arc<Context>) {
    let nudged = context.nudges.of_goldens();
    let mut troubles = 0_u32;
    loop {
        let looked = look(&context).await;
        troubles = if looked.is_ok() { 0 } else { troubles.saturating_add(1) };
        let pause = match looked {
            Ok(true) => UNDER_PRESSURE,
            Ok(false) => INTERVAL.min(context.settings.look_interval),
            Err(trouble) => {
                tracing::warn!(why = crate::text::chain(&trouble), "could not look after the goldens");
                planner::backoff(troubles)
            }
        };
        tokio::select! {
            () = nudged.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Returns whether the pool is short of room.
async fn look(context: &Context) -> Result<bool, Trouble> {
    if !context.runtime.capabilities().snapshots {
        return Ok(false);
    }
    let mut troubles = Troubles::default();
    harvest(context, &mut troubles).await?;
    let in_cells = context.projects.values().filter(|project| project.cluster.is_none());
    for name in in_cells.map(|project| &project.name) {
        if let Some(head) = context.heads.get(name) {
            for (service, (engine, set)) in &head.data {
                troubles.note(want(context, name, &head, service, engine, set).await)?;
            }
        }
    }
    for row in context.store.environment_list(None, false).await? {
        if row.wanted
            && row.cluster.is_none()
            && row.origin != Origin::Golden
            && context.projects.contains_key(&row.project)
        {
            troubles.note(wanted_by(context, &row).await)?;
        }
    }
    // What could not be looked after is no reason to keep what nobody wants.
    let short = collect(context).await?;
    troubles.end()?;
    Ok(short)
}

/// The goldens that the newest generation of an environment waits for, or failed for want of.
async fn wanted_by(context: &Context, environment: &EnvironmentRow) -> Result<(), Trouble> {
    let Some(newest) = context.store.generation_newest(&environment.id).await? else {
        return Ok(());
    };
    let Some(last) = golden::wanted_last(context, environment, newest).await? else {
        return Ok(());
    };
    let (Some(stack), Some(commit)) = (last.spec.services(), &last.policy_commit) else {
        return Ok(());
    };
    if last.outcome.is_some() && golden::failed_for(&last).is_none() {
        return Ok(());
    }
    let waits = |set: &DataSet| {
        let origin = stack.volumes.get(&set.volume).map(|volume| &volume.origin);
        matches!(origin, Some(VolumeOrigin::Snapshot(id)) if id.is_golden())
    };
    if !stack.data.values().any(waits) {
        return Ok(());
    }
    let head = match context
        .heads
        .get(&environment.project)
        .filter(|head| head.commit == *commit)
    {
        Some(head) => head,
        None => Arc::new(heads::read(context, &environment.project, commit).await?),
    };
    for (service, set) in stack.data.iter().filter(|(_, set)| waits(set)) {
        if let Some((engine, _)) = head.data.get(service) {
            want(context, &environment.project, &head, service, engine, set).await?;
        }
    }
    Ok(())
}

/// Begins to make the golden for `set`, unless it exists, is being made or can not be made.
async fn want(
    context: &Context,
    project: &model::ProjectName,
    head: &PolicyHead,
    service: &ServiceName,
    engine: &Service,
    set: &DataSet,
) -> Result<(), Trouble> {
    let Some(version) = engine_version(context.runtime.capabilities(), engine) else {
        return Ok(());
    };
    let Some((_, policy)) = head.data.get(service) else {
        return Ok(());
    };
    let plan = golden_for(&version, policy, set);
    let exists = context.runtime.snapshot_list().await?.contains(&plan.id);
    match context.store.golden_get(&plan.id).await? {
        Some(row) if row.state == GoldenState::Ready && exists && row.engine == version => return Ok(()),
        Some(row) if row.state == GoldenState::Failed && !exists && !is_due(context, &row).await? => return Ok(()),
        Some(row) if row.state == GoldenState::Making && builder_of(context, &row.id).await?.is_some() => return Ok(()),
        _ => {}
    }
    let row = GoldenRow {
        id: plan.id.clone(),
        project: project.clone(),
        engine: version,
        migrations: plan
            .migrations
            .iter()
            .map(|migration| migration.digest.clone())
            .collect(),
        seeded: !plan.seeds.is_empty(),
        chain: plan
            .migrations
            .iter()
            .map(|m| m.path.clone())
            .chain(plan.seeds.iter().map(|s| s.path.clone()))
            .collect(),
        state: if exists {
            GoldenState::Ready
        } else {
            GoldenState::Making
        },
        failure: None,
        created: context.now(),
        last_used: context.now(),
        private_to: None,
    };
    context.store.golden_put(&row).await?;
    if exists {
        // What waited, or failed for want of it, can go on.
        context.nudges.every_environment();
        Ok(())
    } else {
        // All but what decides the golden's bytes is the policy branch's own, as the engine is: a pull request may call the
        // volume otherwise.
        let set = DataSet {
            database: set.database.clone(),
            user: set.user.clone(),
            migrations: plan.migrations,
            seeds: plan.seeds,
            ..policy.clone()
        };
        build(context, project, head, (service, engine), set, &plan.id).await
    }
}

/// Whether a golden that failed is tried again: what it failed of may be over (a full disk, memory), and every environment of
/// its project needs it. Each failure doubles the pause.
async fn is_due(context: &Context, golden: &GoldenRow) -> Result<bool, Trouble> {
    let rows = context.store.environment_list(Some(&golden.project), true).await?;
    let builders = rows.iter().filter(|row| golden_of(row).as_ref() == Some(&golden.id));
    let doublings = u32::try_from(builders.count().saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = RETRY_FIRST
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(RETRY_MAX);
    // A failure that the clock says is still to come was noted before the clock was set back.
    let now = context.now();
    Ok(now < golden.last_used || now.since(golden.last_used) >= pause)
}

async fn builder_of(context: &Context, golden: &SnapshotId) -> Result<Option<EnvironmentRow>, Trouble> {
    let rows = context.store.environment_list(None, false).await?;
    Ok(rows
        .into_iter()
        .find(|row| row.wanted && golden_of(row).as_ref() == Some(golden)))
}

/// The golden that an environment makes.
pub(crate) fn golden_of(environment: &EnvironmentRow) -> Option<SnapshotId> {
    environment.overrides.get(GOLDEN)?.as_str()?.parse().ok()
}

/// The environment that makes it: the engine alone, without ports to the outside and without any other service.
async fn build(
    context: &Context,
    project: &model::ProjectName,
    head: &PolicyHead,
    (service, engine): (&ServiceName, &Service),
    set: DataSet,
    golden: &SnapshotId,
) -> Result<(), Trouble> {
    let Some(source) = context.project(project)?.primary() else {
        return Ok(());
    };
    let id = id::new_environment_id('g').map_err(Trouble::Randomness)?;
    let label: HostLabel = format!("golden-{id}")
        .parse()
        .map_err(|_| Trouble::NoProject(project.clone()))?;
    let mut engine = Service {
        depends_on: BTreeMap::new(),
        networks: BTreeMap::new(),
        net: model::NetworkMode::default(),
        restarts_with: std::collections::BTreeSet::new(),
        public_port: None,
        ..engine.clone()
    };
    engine
        .workload
        .mounts
        .retain(|mount| matches!(&mount.kind, MountKind::Volume { volume } if *volume == set.volume));
    let volume = Volume {
        origin: VolumeOrigin::Empty,
        incarnation: Generation(1),
        limit_bytes: None,
    };
    let sources = BTreeMap::from([(source.name.clone(), head.commit.clone())]);
    let stack = ServiceStack {
        services: BTreeMap::from([(service.clone(), engine)]),
        jobs: BTreeMap::new(),
        volumes: BTreeMap::from([(set.volume.clone(), volume)]),
        data: BTreeMap::from([(service.clone(), set)]),
        ..ServiceStack::default()
    };
    let spec = EnvironmentSpec {
        environment: id.clone(),
        generation: Generation(1),
        project: project.clone(),
        origin: Origin::Golden,
        sources: sources.clone(),
        secrets: secret::versions(context, project, &stack),
        stack: Stack::Services(stack),
        limits: model::Limits::default(),
        egress: model::Egress::default(),
    };
    let environment = EnvironmentRow {
        id: id.clone(),
        project: project.clone(),
        origin: Origin::Golden,
        label,
        created: context.now(),
        wanted: true,
        reason: format!("makes the golden {golden}"),
        approved_commit: Some(head.commit.clone()),
        head: sources,
        newest: Some(Generation(1)),
        live: None,
        failed: None,
        power: Power::Running,
        suspended: None,
        ended: None,
        live_at: None,
        nudged: None,
        overrides: serde_json::json!({ GOLDEN: golden.as_str() }),
        cluster: None,
    };
    let generation = GenerationRow {
        environment: id.clone(),
        generation: Generation(1),
        inputs: model::Digest::of(golden.as_str().as_bytes()),
        spec,
        policy_commit: Some(head.commit.clone()),
        restores: None,
        created: context.now(),
        outcome: None,
        failure: None,
        notes: Vec::new(),
    };
    context.store.environment_create(&environment).await?;
    context.store.generation_put(&generation).await?;
    context.nudges.environment(&id);
    Ok(())
}

/// Builders that have come to an end: their volume becomes the golden, or the golden has failed.
async fn harvest(context: &Context, troubles: &mut Troubles) -> Result<(), Trouble> {
    for row in context.store.environment_list(None, false).await? {
        if let Some(golden) = golden_of(&row).filter(|_| row.wanted && row.origin == Origin::Golden) {
            troubles.note(harvest_from(context, &row, &golden).await)?;
        }
    }
    Ok(())
}

async fn harvest_from(context: &Context, row: &EnvironmentRow, golden: &SnapshotId) -> Result<(), Trouble> {
    let Some(generation) = context.store.generation_get(&row.id, Generation(1)).await? else {
        // It was interrupted between its row and its generation.
        finish(context, row, golden, GoldenState::Failed, None).await?;
        return Ok(context.store.golden_remove(golden).await?);
    };
    match generation.outcome {
        Some(Outcome::Live) if is_gone_or_torn(context, &generation).await? => {
            finish(context, row, golden, GoldenState::Failed, None).await?;
            Ok(context.store.golden_remove(golden).await?)
        }
        Some(Outcome::Live) => {
            snapshot(context, &generation, golden).await?;
            finish(context, row, golden, GoldenState::Ready, None).await
        }
        Some(_) => finish(context, row, golden, GoldenState::Failed, generation.failure).await,
        None => Ok(()),
    }
}

/// Whether the machine went down between the end of its making and its snapshot, and took with it what was written last. One that
/// is damaged would damage everything that is cloned from it.
async fn is_gone_or_torn(context: &Context, generation: &GenerationRow) -> Result<bool, Trouble> {
    let Some(stack) = generation.spec.services() else {
        return Ok(false);
    };
    let observed = context.runtime.observe(&generation.environment).await?;
    let is_whole = |set: &DataSet| {
        let volume = observed.as_ref().and_then(|observed| observed.volumes.get(&set.volume));
        volume.is_some_and(|volume| !volume.torn)
    };
    Ok(!stack.data.values().all(is_whole))
}

async fn snapshot(context: &Context, generation: &GenerationRow, golden: &SnapshotId) -> Result<(), Trouble> {
    let Some(stack) = generation.spec.services() else {
        return Ok(());
    };
    let names: Vec<ServiceName> = stack.services.keys().cloned().collect();
    for set in stack.data.values() {
        let resources: Vec<_> = golden::resource(golden).into_iter().collect();
        context.store.ledger_intend(&resources, context.now()).await?;
        // An orderly stop writes everything to the data directory: a clone of it starts without recovery.
        context
            .runtime
            .services_stop(&generation.environment, generation.generation, &names)
            .await?;
        context
            .runtime
            .snapshot_create(&generation.environment, generation.generation, &set.volume, golden)
            .await?;
    }
    Ok(())
}

async fn finish(
    context: &Context,
    builder: &EnvironmentRow,
    golden: &SnapshotId,
    state: GoldenState,
    failure: Option<Failure>,
) -> Result<(), Trouble> {
    if let Some(row) = context.store.golden_get(golden).await? {
        context
            .store
            .golden_put(&GoldenRow {
                state,
                failure,
                last_used: context.now(),
                ..row
            })
            .await?;
    }
    let reason = if state == GoldenState::Ready {
        "the golden is made"
    } else {
        "the golden could not be made"
    };
    let patch = EnvironmentPatch {
        wanted: Some(false),
        reason: Some(reason.to_owned()),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(&builder.id, &patch).await?;
    context.nudges.environment(&builder.id);
    context.nudges.every_environment();
    Ok(())
}
