//! What a generation came to: live, failed, or an older one brought back.

use crate::context::{Context, Trouble};
use model::{EnvironmentId, EnvironmentSpec, Generation, Origin, Stack, VolumeOrigin};
use planner::{Action, Step, StepState, kept_snapshot};
use std::collections::BTreeSet;
use store::{EnvironmentPatch, EnvironmentRow, Failure, GenerationRow, Outcome};

/// The generation was verified to be live.
pub(crate) async fn live(context: &Context, id: &EnvironmentId, generation: Generation) -> Result<(), Trouble> {
    let Some(row) = context.store.generation_get(id, generation).await? else {
        return Ok(());
    };
    if row.outcome == Some(Outcome::Live) {
        return Ok(());
    }
    let now = context.now();
    context
        .store
        .generation_outcome(id, generation, Outcome::Live, None)
        .await?;
    let patch = EnvironmentPatch {
        live: Some(Some(row.restores.unwrap_or(generation))),
        live_at: Some(Some(now)),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(id, &patch).await?;
    let commits: Vec<&str> = row.spec.sources.values().map(model::CommitId::short).collect();
    let text = match row.restores {
        Some(older) => format!("generation {older} is back"),
        None => format!("generation {generation} is live ({})", commits.join(", ")),
    };
    context
        .store
        .event_add(Some(id), &row.spec.project, now, "live", &text)
        .await?;
    context.nudges.announcements();
    if row.spec.origin == Origin::Golden {
        context.nudges.goldens();
    }
    drop_kept(context, &row.spec).await
}

/// Snapshots that were kept in case this generation failed are of no use once it is live.
async fn drop_kept(context: &Context, spec: &EnvironmentSpec) -> Result<(), Trouble> {
    for set in spec.services().into_iter().flat_map(|stack| stack.data.values()) {
        context
            .runtime
            .snapshot_remove(&kept_snapshot(spec, &set.volume))
            .await?;
    }
    Ok(())
}

/// The generation failed for good at this step.
pub(crate) async fn failed(
    context: &Context,
    environment: &EnvironmentRow,
    generation: &GenerationRow,
    step: &Step,
) -> Result<(), Trouble> {
    let attempts = context
        .store
        .attempt_list(&environment.id, generation.generation)
        .await?;
    let recorded = attempts.get(&step.id).and_then(|attempt| attempt.failure.clone());
    let failure = match recorded {
        Some(failure) => failure,
        None => describe(context, &environment.id, step).await,
    };
    record(context, environment, generation, &failure).await
}

async fn describe(context: &Context, id: &EnvironmentId, step: &Step) -> Failure {
    let message = match &step.state {
        StepState::Failed { failure } => failure.clone(),
        _ => step.title(),
    };
    let mut log = Vec::new();
    if let Action::Apply(model::Stage::Services(names)) = &step.action {
        for name in names {
            log.extend(super::execute::log_tail(context, id, name.as_str()).await);
        }
    }
    Failure {
        step: step.id.clone(),
        message,
        hint: None,
        log,
    }
}

async fn record(
    context: &Context,
    environment: &EnvironmentRow,
    generation: &GenerationRow,
    failure: &Failure,
) -> Result<(), Trouble> {
    let n = generation.generation;
    context
        .store
        .generation_outcome(&environment.id, n, Outcome::Failed, Some(failure))
        .await?;
    if generation.restores.is_none() {
        let patch = EnvironmentPatch {
            failed: Some(Some(n)),
            ..EnvironmentPatch::default()
        };
        context.store.environment_update(&environment.id, &patch).await?;
    }
    let text = format!("generation {n} failed: {}", failure.message);
    context
        .store
        .event_add(
            Some(&environment.id),
            &environment.project,
            context.now(),
            "failed",
            &text,
        )
        .await?;
    context.nudges.announcements();
    if environment.origin == Origin::Golden {
        context.nudges.goldens();
    }
    Ok(())
}

/// After the newest generation failed: makes a generation that brings the live one back, unless that was tried already or
/// nothing was live. Returns whether there is something new to do.
pub(crate) async fn bring_back(
    context: &Context,
    environment: &EnvironmentRow,
    failed: &GenerationRow,
) -> Result<bool, Trouble> {
    let (Some(live), None) = (environment.live, failed.restores) else {
        return Ok(false);
    };
    if live >= failed.generation {
        return Ok(false);
    }
    let Some(older) = context.store.generation_get(&environment.id, live).await? else {
        return Ok(false);
    };
    let snapshots: BTreeSet<_> = context.runtime.snapshot_list().await?.into_iter().collect();
    let mut spec = older.spec.clone();
    spec.generation = failed.generation.next();
    let mut notes = Vec::new();
    if let Stack::Services(stack) = &mut spec.stack {
        for set in stack.data.values() {
            let kept = kept_snapshot(&failed.spec, &set.volume);
            let Some(volume) = stack.volumes.get_mut(&set.volume) else {
                continue;
            };
            if snapshots.contains(&kept) {
                volume.origin = VolumeOrigin::Snapshot(kept);
                volume.incarnation = spec.generation;
                notes.push("The data is as it was before the failed update.".to_owned());
            }
        }
    }
    let row = GenerationRow {
        environment: environment.id.clone(),
        generation: spec.generation,
        inputs: failed.inputs.clone(),
        spec,
        policy_commit: older.policy_commit.clone(),
        restores: Some(live),
        created: context.now(),
        outcome: None,
        failure: None,
        notes,
    };
    context.store.generation_put(&row).await?;
    Ok(true)
}
