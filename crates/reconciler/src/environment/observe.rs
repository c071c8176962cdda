//! What is observed of one environment, gathered for the planner.

use crate::context::{Context, Trouble};
use model::{
    Capabilities, EnvironmentId, EnvironmentSpec, Feature, Generation, ImageDigest, ServiceStack, SnapshotId,
    VolumeOrigin,
};
use planner::{Attempt, Observed};
use runtime::SourceKey;
use std::collections::{BTreeMap, BTreeSet};
use store::{GenerationRow, GoldenState, Outcome};

/// Everything that planning this generation needs to know. `running` are the steps that this worker carries out.
pub(crate) async fn observe(
    context: &Context,
    environment: &EnvironmentId,
    generation: Option<&GenerationRow>,
    running: BTreeSet<String>,
) -> Result<Observed, Trouble> {
    let runtime = async { Ok::<_, Trouble>(context.runtime.observe(environment).await?) };
    let Some(row) = generation else {
        return Ok(Observed {
            runtime: runtime.await?,
            running,
            ..Observed::default()
        });
    };
    // Nothing of this depends on anything else of it, and people wait for each look.
    let known = async { Ok(context.store.environment_get(environment).await?) };
    let data = async { Ok(context.store.data_fact_list(environment).await?) };
    let steps = carried_out(context, environment, row.generation);
    let capabilities = context.places.capabilities_at(environment).await?;
    let images = images(context, capabilities, &row.spec);
    let (images, runtime, known, sources, (snapshots, snapshots_failed), data, attempts, steps) = tokio::try_join!(
        images,
        runtime,
        known,
        sources(context, capabilities, &row.spec),
        snapshots(context, &row.spec),
        data,
        attempts_of(context, environment, row.generation),
        steps
    )?;
    Ok(Observed {
        runtime,
        running,
        sources,
        images,
        fetching: context.images.progress(),
        fetching_bases: context.images.progress_of_bases(environment),
        snapshots,
        snapshots_failed,
        data,
        attempts,
        carried_out: steps,
        unused: known.is_some_and(|known| known.live_at.is_none()),
        verified: (row.outcome == Some(Outcome::Live)).then_some(row.generation),
        ..Observed::default()
    })
}

/// The images that were brought to the runtime. A stack without images asks nothing.
async fn images(
    context: &Context,
    capabilities: &Capabilities,
    spec: &EnvironmentSpec,
) -> Result<BTreeSet<ImageDigest>, Trouble> {
    let brought = capabilities.features.contains(&Feature::BroughtImages);
    if !brought || (spec.images().is_empty() && crate::dockerfile::images(spec).is_empty()) {
        return Ok(BTreeSet::new());
    }
    Ok(context.runtime.image_list().await?)
}

async fn sources(
    context: &Context,
    capabilities: &Capabilities,
    spec: &EnvironmentSpec,
) -> Result<BTreeSet<model::SourceName>, Trouble> {
    let mut found = BTreeSet::new();
    if !capabilities.sources {
        return Ok(found);
    }
    for (source, commit) in &spec.sources {
        let key = SourceKey {
            project: spec.project.clone(),
            source: source.clone(),
            commit: commit.clone(),
        };
        if context.runtime.source_exists(&key).await? {
            found.insert(source.clone());
        }
    }
    Ok(found)
}

type Snapshots = (BTreeSet<SnapshotId>, BTreeMap<SnapshotId, String>);

/// The snapshots that exist, and the goldens that could not be made. A stack without volumes and builds asks nothing.
async fn snapshots(context: &Context, spec: &EnvironmentSpec) -> Result<Snapshots, Trouble> {
    let asks = |stack: &&ServiceStack| !stack.volumes.is_empty() || spec.products().next().is_some();
    let Some(stack) = spec.services().filter(asks) else {
        return Ok(Snapshots::default());
    };
    let existing: BTreeSet<SnapshotId> = context.runtime.snapshot_list().await?.into_iter().collect();
    let mut failed = BTreeMap::new();
    for volume in stack.volumes.values() {
        let VolumeOrigin::Snapshot(id) = &volume.origin else {
            continue;
        };
        if existing.contains(id) || !id.is_golden() {
            continue;
        }
        match context.store.golden_get(id).await? {
            Some(golden) if golden.state == GoldenState::Failed => {
                let why = golden
                    .failure
                    .map_or_else(|| "it could not be made".to_owned(), |failure| failure.message);
                failed.insert(id.clone(), format!("the golden could not be made: {why}"));
            }
            _ => context.nudges.goldens(),
        }
    }
    Ok((existing, failed))
}

/// The steps that have succeeded in one generation.
async fn carried_out(
    context: &Context,
    environment: &EnvironmentId,
    generation: Generation,
) -> Result<BTreeSet<String>, Trouble> {
    let steps = context.store.step_list(environment, generation).await?;
    let done = steps.into_iter().filter(|step| step.ok == Some(true));
    Ok(done.map(|step| step.step).collect())
}

/// The failures so far in one generation, by step.
pub(crate) async fn attempts_of(
    context: &Context,
    environment: &EnvironmentId,
    generation: Generation,
) -> Result<BTreeMap<String, Attempt>, Trouble> {
    let rows = context.store.attempt_list(environment, generation).await?;
    let failed = rows
        .into_iter()
        .filter(|(_, attempt)| !attempt.succeeded)
        .map(|(step, attempt)| {
            let failure = attempt.failure.map_or_else(String::new, |failure| failure.message);
            (
                step,
                Attempt {
                    count: attempt.count,
                    next: attempt.next,
                    failure,
                    waits: attempt.waits,
                },
            )
        });
    Ok(failed.collect())
}
