//! Jobs that people run.

use crate::{app::App, problem::Answer};
use api::{JobRunView, JobView};
use model::{JobEvent, ServiceStack};
use std::collections::BTreeMap;
use store::{EnvironmentRow, JobRunRow};

/// Those of the generation that is live, else of the newest one.
pub(crate) async fn jobs(app: &App, row: &EnvironmentRow) -> Answer<Vec<JobView>> {
    let generations = app.store.generation_list(&row.id).await?;
    let live = row
        .live
        .and_then(|live| generations.iter().find(|row| row.generation == live));
    let stack = live.or(generations.last()).and_then(|row| row.spec.services());
    let Some(stack) = stack.filter(|_| row.ended.is_none()) else {
        return Ok(Vec::new());
    };
    of_stack(app, row, stack).await
}

/// Those of a stack.
pub(crate) async fn of_stack(app: &App, row: &EnvironmentRow, stack: &ServiceStack) -> Answer<Vec<JobView>> {
    let by_hand: Vec<_> = stack.jobs.values().filter(|job| job.on == JobEvent::Hand).collect();
    if by_hand.is_empty() {
        return Ok(Vec::new());
    }
    let mut runs: BTreeMap<_, Vec<JobRunView>> = BTreeMap::new();
    for run in app.store.job_run_list(&row.id).await? {
        runs.entry(run.job.clone()).or_default().push(job_run(run));
    }
    let view = by_hand.into_iter().map(|job| JobView {
        name: job.name.clone(),
        command: job.workload.command.clone().unwrap_or_default(),
        schedule: job.schedule.clone(),
        timeout_ms: job.timeout_ms,
        runs: runs.remove(&job.name).unwrap_or_default(),
    });
    Ok(view.collect())
}

/// One run.
pub(crate) fn job_run(row: JobRunRow) -> JobRunView {
    JobRunView {
        job: row.job,
        number: row.number,
        generation: row.generation,
        asked_by: row.asked_by,
        started: row.started,
        ended: row.ended,
        exit: row.exit,
        timed_out: row.timed_out,
        message: row.message,
    }
}
