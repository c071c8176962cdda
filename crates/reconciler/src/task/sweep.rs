//! Compares what exists with what the store knows: nothing is left over, and nothing is lost with the store.

use crate::{
    context::{Context, Trouble},
    environment::outcome,
    task::{forget::forget, recover},
};
use model::{CommitId, SnapshotId, SourceName, VolumeOrigin};
use runtime::SourceKey;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use store::{EnvironmentRow, GenerationRow, Outcome};
use tokio::time::sleep;

/// The pause after a sweep that left something out, as the first one of a server often does: everything is fetched then.
const SOON: Duration = Duration::from_secs(5);

pub(crate) async fn run(context: Arc<Context>) {
    loop {
        let done = sweep(&context).await.unwrap_or_else(|trouble| {
            tracing::warn!(why = crate::text::chain(&trouble), "could not look for left-overs");
            false
        });
        let interval = context.settings.sweep_interval;
        sleep(if done { interval } else { interval.min(SOON) }).await;
    }
}

/// Returns whether nothing was left out because somebody else was busy.
pub(crate) async fn sweep(context: &Context) -> Result<bool, Trouble> {
    recover::strays(context).await?;
    let done = unused(context).await?;
    // One that left something out is soon followed by another.
    if done {
        forget(context).await?;
    }
    Ok(done)
}

/// The snapshots that an environment may still be made from: what was kept since it was live last, and what the generation
/// that is live and those after it begin with and mount.
pub(crate) fn used_snapshots(row: &EnvironmentRow, generations: &[GenerationRow]) -> BTreeSet<SnapshotId> {
    let settled = generations
        .iter()
        .rev()
        .find(|generation| generation.outcome == Some(Outcome::Live))
        .map(|generation| generation.generation);
    let mut used = BTreeSet::new();
    for generation in generations {
        let n = generation.generation;
        if row.live != Some(n) && settled.is_some_and(|settled| n < settled) {
            continue;
        }
        used.extend(generation.spec.products());
        for (volume, wanted) in generation.spec.services().into_iter().flat_map(|stack| &stack.volumes) {
            used.extend(outcome::kept_since_live(generations, volume));
            if let VolumeOrigin::Snapshot(id) = &wanted.origin {
                used.insert(id.clone());
            }
        }
    }
    used
}

/// Sources and kept snapshots that no environment uses any more. Returns whether it was possible to look.
async fn unused(context: &Context) -> Result<bool, Trouble> {
    // Somebody who is busy fetching is not ended for it: the next sweep will do.
    let Some(_alone) = context.repositories.alone().await else {
        return Ok(false);
    };
    let mut commits: BTreeMap<(model::ProjectName, SourceName), BTreeSet<CommitId>> = BTreeMap::new();
    let mut snapshots: BTreeSet<SnapshotId> = BTreeSet::new();
    for row in context.store.environment_list(None, false).await? {
        let generations = context.store.generation_list(&row.id).await?;
        snapshots.extend(used_snapshots(&row, &generations));
        for generation in generations {
            let primary = context.projects.get(&row.project).and_then(|project| project.primary());
            if let (Some(source), Some(commit)) = (primary, &generation.policy_commit) {
                commits
                    .entry((row.project.clone(), source.name.clone()))
                    .or_default()
                    .insert(commit.clone());
            }
            for (source, commit) in &generation.spec.sources {
                commits
                    .entry((row.project.clone(), source.clone()))
                    .or_default()
                    .insert(commit.clone());
            }
        }
        for (source, commit) in row.head {
            commits.entry((row.project.clone(), source)).or_default().insert(commit);
        }
    }
    for project in context.projects.values() {
        if let (Some(head), Some(source)) = (context.heads.get(&project.name), project.primary()) {
            commits
                .entry((project.name.clone(), source.name.clone()))
                .or_default()
                .insert(head.commit.clone());
        }
    }
    for key in context.runtime.source_list().await? {
        let SourceKey {
            project,
            source,
            commit,
        } = &key;
        if !commits
            .get(&(project.clone(), source.clone()))
            .is_some_and(|used| used.contains(commit))
        {
            context.runtime.source_remove(&key).await?;
        }
    }
    for snapshot in context.runtime.snapshot_list().await? {
        // Goldens are collected by last use (`collect`); what was kept for an update is of no use after it.
        if !snapshot.is_golden() && !snapshots.contains(&snapshot) {
            context.runtime.snapshot_remove(None, &snapshot).await?;
        }
    }
    let mut held: BTreeMap<_, BTreeSet<CommitId>> = BTreeMap::new();
    for ((project, source), used) in commits {
        let repository = context.repositories.repository_of(&project, &source).clone();
        held.entry((project, repository)).or_default().extend(used);
    }
    for ((project, source), used) in &held {
        // Before its policy branch was read, not all that a project uses is known.
        if context.heads.get(project).is_some() {
            context.repositories.retain(project, source, used).await?;
        }
    }
    Ok(true)
}
