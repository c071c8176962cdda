//! What a generation came to: live, failed, or an older one brought back.

use crate::{
    context::{Context, Trouble},
    egress, secret,
    trust::Trust,
};
use model::{EnvironmentId, EnvironmentSpec, Generation, Origin, SnapshotId, Stack, VolumeName, VolumeOrigin};
use planner::{Action, Step, StepState, kept_snapshot};
use runtime::{RuntimeError, Sake};
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
    let sake = Sake {
        environment: spec.environment.clone(),
        generation: spec.generation,
    };
    for set in spec.services().into_iter().flat_map(|stack| stack.data.values()) {
        let kept = kept_snapshot(spec, &set.volume);
        match context.runtime.snapshot_remove(Some(&sake), &kept).await {
            // A newer generation is on its way: the sweep decides what it may still want.
            Err(RuntimeError::Superseded { .. }) => {}
            other => other?,
        }
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
        None => {
            let mut failure = describe(context, &environment.id, step).await;
            secret::mask(context, &generation.spec, &mut failure).await;
            failure
        }
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
    let ended = GenerationRow {
        outcome: Some(Outcome::Failed),
        ..generation.clone()
    };
    agree(context, environment, &ended).await?;
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

/// Sees to it that the environment's row says what its newest generation came to. They are written one after the other, and
/// whoever writes them may be ended in between.
pub(crate) async fn agree(
    context: &Context,
    environment: &EnvironmentRow,
    newest: &GenerationRow,
) -> Result<(), Trouble> {
    let n = newest.generation;
    let mut patch = match (newest.outcome, newest.restores) {
        (Some(Outcome::Live), older) if environment.live != Some(older.unwrap_or(n)) => EnvironmentPatch {
            live: Some(Some(older.unwrap_or(n))),
            live_at: Some(Some(context.now())),
            ..EnvironmentPatch::default()
        },
        (Some(Outcome::Failed), None) if environment.failed != Some(n) => EnvironmentPatch {
            failed: Some(Some(n)),
            ..EnvironmentPatch::default()
        },
        // What was live could not be brought back.
        (Some(Outcome::Failed), Some(_)) if environment.live.is_some() => EnvironmentPatch {
            live: Some(None),
            ..EnvironmentPatch::default()
        },
        _ => EnvironmentPatch::default(),
    };
    if newest.restores.is_none() && environment.newest != Some(n) {
        patch.newest = Some(Some(n));
    }
    if patch == EnvironmentPatch::default() {
        return Ok(());
    }
    context.store.environment_update(&environment.id, &patch).await?;
    context.nudges.announcements();
    Ok(())
}

/// The snapshots of a volume that were kept since a generation was live last, the oldest first. `generations` are all of the
/// environment, oldest first. Updates may follow each other before any of them is live: what the first of them kept is what
/// people had, later ones may have kept what the earlier ones had changed.
pub(crate) fn kept_since_live<'a>(
    generations: &'a [GenerationRow],
    volume: &'a VolumeName,
) -> impl Iterator<Item = SnapshotId> + 'a {
    let live = generations.iter().rposition(|row| row.outcome == Some(Outcome::Live));
    generations[live.map_or(0, |live| live + 1)..]
        .iter()
        .map(|row| kept_snapshot(&row.spec, volume))
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
    let generations = context.store.generation_list(&environment.id).await?;
    let mut spec = older.spec.clone();
    spec.generation = failed.generation.next();
    if !spec.egress.is_empty() {
        // What was live was trusted; what it may reach is what the policy says now.
        let head = context.heads.get(&environment.project);
        let endpoints = std::mem::take(&mut spec.egress.endpoints);
        spec.egress = head
            .map(|head| egress::granted(context, Trust::Full, &head))
            .unwrap_or_default();
        spec.egress.endpoints = endpoints;
    }
    spec.secrets = still_granted(context, &spec);
    let mut notes = Vec::new();
    if let Stack::Services(stack) = &mut spec.stack {
        for set in stack.data.values() {
            let kept = kept_since_live(&generations, &set.volume).find(|kept| snapshots.contains(kept));
            let Some(volume) = stack.volumes.get_mut(&set.volume) else {
                continue;
            };
            if let Some(kept) = kept {
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

/// The versions that the secrets of an older generation have now, as far as the policy still grants them.
fn still_granted(context: &Context, spec: &EnvironmentSpec) -> secret::Versions {
    let head = context.heads.get(&spec.project);
    let granted = head.map(|head| head.policy.secrets.clone()).unwrap_or_default();
    let mut versions = spec
        .services()
        .map(|stack| secret::versions(context, &spec.project, stack))
        .unwrap_or_default();
    versions.retain(|name, _| granted.contains(&name.0) && spec.secrets.contains_key(name));
    versions
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Digest, Limits, ServiceStack, Timestamp};

    fn row(n: u64, outcome: Option<Outcome>) -> GenerationRow {
        let environment: EnvironmentId = crate::new_environment_id('e').unwrap();
        GenerationRow {
            environment: environment.clone(),
            generation: Generation(n),
            inputs: Digest::of(b""),
            spec: EnvironmentSpec {
                environment,
                generation: Generation(n),
                project: "shop".parse().unwrap(),
                origin: Origin::PullRequest { number: 1 },
                sources: std::collections::BTreeMap::new(),
                stack: Stack::Services(ServiceStack::default()),
                limits: Limits::default(),
                egress: model::Egress::default(),
                secrets: std::collections::BTreeMap::new(),
            },
            policy_commit: None,
            restores: None,
            created: Timestamp(0),
            outcome,
            failure: None,
            notes: Vec::new(),
        }
    }

    #[test]
    fn what_the_first_update_since_live_kept_comes_back() {
        let volume: VolumeName = "data".parse().unwrap();
        let rows = [
            row(1, Some(Outcome::Live)),
            row(2, Some(Outcome::Failed)),
            row(3, Some(Outcome::Live)),
            row(4, Some(Outcome::Superseded)),
            row(5, Some(Outcome::Failed)),
        ];
        let kept: Vec<_> = kept_since_live(&rows, &volume).collect();
        let wanted: Vec<_> = rows[3..].iter().map(|row| kept_snapshot(&row.spec, &volume)).collect();
        assert_eq!(kept, wanted);
    }
}
