//! What happens while a forge does not let us read a project, and when it does again.
//!
//! Nothing may be concluded from a forge that does not answer, that refuses our token or that says "not found" to it, so nothing
//! is removed for it. But what nobody can look after any more must not run for ever: after a day its environments stop and their
//! addresses close, and long after that, and never in the same look, they are removed, with a receipt that says why. Both are counted in time in which
//! somebody looked: a machine that was switched off over the weekend has not lost its access.

use crate::{
    context::{Context, Trouble},
    heads, pins,
    project::{Project, Source},
    text,
};
use forge::ForgeError;
use model::{Origin, ProjectName, SourceName};
use std::{sync::Arc, time::Duration};
use store::{EnvironmentPatch, EnvironmentRow, LostAccessRow, Suspension};

/// The longest time between two looks that counts, unless a forge is read less often.
const BETWEEN_MAX: Duration = Duration::from_secs(1200);

/// Takes note of how reading one of a project's sources ended, and hands the result on.
pub(crate) async fn noted<T>(
    context: &Context,
    project: &Project,
    source: &Source,
    result: Result<T, Trouble>,
) -> Result<T, Trouble> {
    match &result {
        Ok(_) => back(context, project, source).await?,
        Err(Trouble::Forge(error)) if error.is_access_lost() => lost(context, project, source, error).await?,
        Err(_) => {}
    }
    result
}

async fn lost(context: &Context, project: &Project, source: &Source, error: &ForgeError) -> Result<(), Trouble> {
    let longest = BETWEEN_MAX.max(context.settings.poll_interval.saturating_mul(2));
    let reason = text::chain(error);
    let now = context.now();
    let row = context
        .store
        .lost_access_note(&project.name, &source.name, &reason, now, longest)
        .await?;
    if row.since == row.last {
        let text = format!("{} can not be read: {reason}", source.name);
        context
            .store
            .event_add(None, &project.name, now, "access-lost", &text)
            .await?;
    }
    let stop_after = context.settings.lost_access.stop_after;
    if row.seen < stop_after {
        return Ok(());
    }
    let remove_after = remove_after(context, project).await;
    for environment in environments(context, project, source).await? {
        if environment.suspension().is_none() {
            suspend(context, &environment, &row).await?;
        } else if row.seen >= remove_after {
            remove(context, &environment, &row).await?;
        }
    }
    Ok(())
}

/// The policy's age of expiry. After a restart, when the policy branch can not be read, that of the policy by which something was
/// made last; where there is none, that of the configuration.
async fn remove_after(context: &Context, project: &Project) -> Duration {
    let limits = &context.settings.lost_access;
    let known = context.heads.get(&project.name).filter(|head| head.readable);
    let known = match known {
        Some(head) => Some(head),
        None => heads::last_readable(context, &project.name)
            .await
            .unwrap_or_default()
            .map(Arc::new),
    };
    let expiry = known.map_or(limits.remove_after, |head| {
        Duration::from_millis(head.policy.expire_after_ms)
    });
    expiry.max(limits.stop_after)
}

/// Since when a source of a project can not be read, if that has been so for as long as its environments wait before they stop.
pub(crate) async fn lost_for_long(context: &Context, project: &ProjectName) -> Result<Option<LostAccessRow>, Trouble> {
    let stop_after = context.settings.lost_access.stop_after;
    let known = context.store.lost_access_list().await?;
    Ok(known
        .into_iter()
        .find(|row| row.project == *project && row.seen >= stop_after))
}

/// Those that somebody wants and that nobody can look after while a source can not be read: without the one that carries the
/// blueprint all of them, without another one those of its own pull requests. A builder of a golden ends by itself, and spares are
/// looked after by their own task.
async fn environments(context: &Context, project: &Project, source: &Source) -> Result<Vec<EnvironmentRow>, Trouble> {
    let mut rows = context.store.environment_list(Some(&project.name), false).await?;
    rows.retain(|row| row.wanted && depends_on(project, row, &source.name));
    Ok(rows)
}

fn depends_on(project: &Project, row: &EnvironmentRow, source: &SourceName) -> bool {
    match &row.origin {
        Origin::Golden | Origin::Spare => false,
        Origin::FurtherPullRequest { source: own, .. } if own == source => true,
        // Nobody can tell whether one of its pull requests is still open.
        Origin::PullRequests { .. } if pins::members(row).keys().eq([source]) => true,
        _ => project.primary().is_some_and(|primary| primary.name == *source),
    }
}

/// Whether another source is still lost, without which an environment is stopped.
fn is_kept(project: &Project, row: &EnvironmentRow, source: &Source, lost: &[LostAccessRow], stop: Duration) -> bool {
    lost.iter().any(|other| {
        other.project == project.name
            && other.source != source.name
            && other.seen >= stop
            && project.source(&other.source).is_some()
            && depends_on(project, row, &other.source)
    })
}

fn why(row: &LostAccessRow) -> String {
    let hours = row.seen.as_secs() / 3600;
    format!(
        "the forge has not let Maquette read {} for {hours} h: {}",
        row.source, row.reason
    )
}

async fn suspend(context: &Context, environment: &EnvironmentRow, row: &LostAccessRow) -> Result<(), Trouble> {
    let now = context.now();
    let suspension = Suspension {
        since: now,
        reason: why(row),
        until: None,
    };
    let text = format!("stopped: {}", suspension.reason);
    let patch = EnvironmentPatch {
        suspended: Some(Some(suspension)),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(&environment.id, &patch).await?;
    context
        .store
        .event_add(Some(&environment.id), &environment.project, now, "suspended", &text)
        .await?;
    context.nudges.environment(&environment.id);
    context.nudges.announcements();
    Ok(())
}

async fn remove(context: &Context, environment: &EnvironmentRow, row: &LostAccessRow) -> Result<(), Trouble> {
    let patch = EnvironmentPatch {
        wanted: Some(false),
        reason: Some(why(row)),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(&environment.id, &patch).await?;
    context.nudges.environment(&environment.id);
    context.nudges.announcements();
    Ok(())
}

/// What was stopped runs again. The note goes last, so that whoever is interrupted here does the rest the next time.
async fn back(context: &Context, project: &Project, source: &Source) -> Result<(), Trouble> {
    let now = context.now();
    let (lost, stop) = (
        context.store.lost_access_list().await?,
        context.settings.lost_access.stop_after,
    );
    for environment in environments(context, project, source).await? {
        let Some(suspension) = environment.suspension() else {
            continue;
        };
        if is_kept(project, &environment, source, &lost, stop) {
            continue;
        }
        let patch = EnvironmentPatch {
            suspended: Some(Some(Suspension {
                until: Some(now),
                ..suspension.clone()
            })),
            ..EnvironmentPatch::default()
        };
        context.store.environment_update(&environment.id, &patch).await?;
        let text = "runs again: the forge can be read";
        context
            .store
            .event_add(Some(&environment.id), &environment.project, now, "resumed", text)
            .await?;
        context.nudges.environment(&environment.id);
    }
    for row in context.store.lost_access_list().await? {
        // A source that has another name now is noted under the old one for ever, if this is not the place to end it.
        let is_over = row.source == source.name || project.source(&row.source).is_none();
        if row.project != project.name || !is_over {
            continue;
        }
        let minutes = now.since(row.since).as_secs() / 60;
        let text = format!("{} can be read again, after {minutes} min", source.name);
        context
            .store
            .event_add(None, &project.name, now, "access-back", &text)
            .await?;
        context.store.lost_access_clear(&project.name, &row.source).await?;
        context.nudges.announcements();
    }
    Ok(())
}
