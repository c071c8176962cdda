//! Forgets what is of no use any more, so that the store and the mirrors stay bounded: old generations of environments, those that
//! ended long ago, receipts, events, closed pull requests, mirrors of repositories that nothing names any more.
//!
//! What stays: what is live and what it would be brought back to, what `why` tells, and what keeps an environment that somebody
//! deleted from coming back.

use crate::{
    context::{Context, Trouble},
    task::forges::DELETED,
};
use model::{Generation, Origin, ProjectName, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use store::{EnvironmentRow, GenerationRow, Outcome, PullRequestState};

pub(crate) async fn forget(context: &Context) -> Result<(), Trouble> {
    let keep = &context.settings.keep;
    let rows = context.store.environment_list(None, true).await?;
    for row in rows.iter().filter(|row| row.ended.is_none()) {
        let generations = context.store.generation_list(&row.id).await?;
        let old = forgettable(row, &generations, keep.generations);
        if !old.is_empty() {
            context.store.generation_forget(&row.id, &old).await?;
        }
    }
    for row in ended(context, &rows).await? {
        context.store.environment_forget(&row.id).await?;
    }
    let store = &context.store;
    store
        .receipt_prune(before(context, keep.receipt_age), keep.receipts)
        .await?;
    store.event_prune(before(context, keep.event_age)).await?;
    store
        .pull_request_prune(before(context, keep.pull_request_age), keep.pull_requests)
        .await?;
    mirrors(context, &rows).await;
    Ok(())
}

fn before(context: &Context, age: Duration) -> Timestamp {
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    Timestamp(context.now().0.saturating_sub(age))
}

/// The generations, given oldest first, that are beyond the bound and that nobody needs.
fn forgettable(row: &EnvironmentRow, generations: &[GenerationRow], most: usize) -> Vec<Generation> {
    let settled = generations
        .iter()
        .rposition(|generation| generation.outcome == Some(Outcome::Live));
    // Without one that was live all of them may hold what comes next.
    let old = settled.unwrap_or(0).min(generations.len().saturating_sub(most));
    let needed: BTreeSet<Generation> = generations[old..]
        .iter()
        .filter_map(|generation| generation.restores)
        .chain(row.live)
        .chain(row.failed)
        .collect();
    generations[..old]
        .iter()
        .map(|generation| generation.generation)
        .filter(|generation| !needed.contains(generation))
        .collect()
}

/// Environments that ended long ago, and the oldest of a project with too many. The last one of a pull request that is open says
/// whether somebody deleted it, and stays; so does a baseline or a spare that somebody deleted.
async fn ended<'a>(context: &Context, rows: &'a [EnvironmentRow]) -> Result<Vec<&'a EnvironmentRow>, Trouble> {
    let keep = &context.settings.keep;
    let mut open: BTreeSet<(ProjectName, u64)> = BTreeSet::new();
    for project in context.projects.keys() {
        let pulls = context.store.pull_request_list(project, true).await?;
        let pulls = pulls.into_iter().filter(|pull| pull.state == PullRequestState::Open);
        open.extend(pulls.map(|pull| (project.clone(), pull.number)));
    }
    let mut of_project: BTreeMap<&ProjectName, Vec<(Timestamp, &EnvironmentRow)>> = BTreeMap::new();
    for row in rows {
        if let Some(at) = row.ended {
            of_project.entry(&row.project).or_default().push((at, row));
        }
    }
    let limit = before(context, keep.ended_age);
    let mut gone = Vec::new();
    for rows in of_project.values_mut() {
        rows.sort_by_key(|(at, row)| (*at, row.created));
        let beyond = rows.len().saturating_sub(keep.ended);
        for (index, (at, row)) in rows.iter().enumerate() {
            let last = !rows[index + 1..].iter().any(|(_, later)| later.origin == row.origin);
            let is_open =
                matches!(row.origin, Origin::PullRequest { number } if open.contains(&(row.project.clone(), number)));
            let deleted = row.overrides.get(DELETED).and_then(serde_json::Value::as_bool) == Some(true);
            let stays_away = deleted && matches!(row.origin, Origin::Baseline { .. } | Origin::Spare);
            if (*at < limit || index < beyond) && !(last && (is_open || stays_away)) {
                gone.push(*row);
            }
        }
    }
    Ok(gone)
}

/// Mirrors are copies of what a forge has; those of projects that have an environment stay nevertheless.
async fn mirrors(context: &Context, rows: &[EnvironmentRow]) {
    let (directory, mut names) = context.repositories.places();
    let live = rows.iter().filter(|row| row.ended.is_none());
    names.extend(live.map(|row| format!("{}--", row.project)));
    let age = context.settings.keep.mirror_age;
    let removed = tokio::task::spawn_blocking(move || mirrors_remove(&directory, &names, age)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "mirrors that nothing names could not be removed");
    }
}

/// Removes mirrors with none of these beginnings that nothing was fetched into for so long.
fn mirrors_remove(directory: &Path, names: &BTreeSet<String>, age: Duration) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = name.ends_with(".git") && name.contains("--") && path.is_dir();
        if !ours || names.iter().any(|known| name.starts_with(known.as_str())) {
            continue;
        }
        let quiet = SystemTime::now().duration_since(newest(&path)?).unwrap_or_default();
        if quiet >= age {
            tracing::info!(mirror = %path.display(), "removing a mirror that nothing names any more");
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// When something directly in a directory changed last.
fn newest(directory: &Path) -> io::Result<SystemTime> {
    let mut newest = fs::metadata(directory)?.modified()?;
    let paths: Vec<PathBuf> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    for path in paths {
        newest = newest.max(fs::symlink_metadata(path)?.modified()?);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests;
