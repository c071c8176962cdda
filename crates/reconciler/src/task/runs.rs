//! Carries out the runs of jobs that people asked for.
//!
//! A run is noted in the store before anything happens. Its number is in the job's environment, so that the runtime tells it
//! from every other run by its digest. One that was under way when Maquette ended is looked for and never begun again: it may
//! have done what it was for.

use crate::{
    context::{Context, Trouble},
    secret,
    text::chain,
};
use model::{EnvironmentId, EnvironmentSpec, JobName, RUN_VARIABLE, Stack, Value};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use store::{JobRunEnd, JobRunRow};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long to wait before looking again at what nobody tells of.
const LOOK: Duration = Duration::from_secs(2);
/// How long the end of a run is looked for when its time is over.
const GRACE_MS: u64 = 10 * 60_000;

/// `before` are those that were under way when Maquette ended.
pub(crate) async fn run(context: Arc<Context>, before: Vec<JobRunRow>) {
    let notify = context.nudges.of_runs();
    let mut followers = JoinSet::new();
    let mut followed: BTreeSet<Key> = before.iter().map(key).collect();
    for row in before {
        followers.spawn(follow(Arc::clone(&context), row, false));
    }
    loop {
        match context.store.job_run_list_open().await {
            Ok(open) => {
                for row in open {
                    if followed.insert(key(&row)) {
                        followers.spawn(follow(Arc::clone(&context), row, true));
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "runs of jobs can not be read");
                sleep(LOOK).await;
                continue;
            }
        }
        tokio::select! {
            () = notify.notified() => {}
            Some(ended) = followers.join_next() => {
                if let Ok(row) = ended {
                    followed.remove(&row);
                }
            }
        }
    }
}

type Key = (EnvironmentId, JobName, u64);

fn key(row: &JobRunRow) -> Key {
    (row.environment.clone(), row.job.clone(), row.number)
}

/// Sees one run to its end, and notes it.
async fn follow(context: Arc<Context>, row: JobRunRow, begin: bool) -> Key {
    let end = loop {
        match ended(&context, &row, begin).await {
            Ok(end) => break end,
            // Only the store is read before the run begins.
            Err(trouble) => {
                tracing::warn!(job = %row.job, trouble = chain(&trouble), "a run of a job can not be looked after");
                sleep(LOOK).await;
            }
        }
    };
    note(&context, &row, &end).await;
    key(&row)
}

async fn note(context: &Context, row: &JobRunRow, end: &JobRunEnd) {
    loop {
        let noted = context
            .store
            .job_run_end(&row.environment, &row.job, row.number, end, context.now())
            .await;
        match noted {
            Ok(()) => return,
            Err(error) => tracing::warn!(job = %row.job, error = chain(&error), "the end of a job can not be noted"),
        }
        sleep(LOOK).await;
    }
}

async fn ended(context: &Context, row: &JobRunRow, begin: bool) -> Result<JobRunEnd, Trouble> {
    let generation = context.store.generation_get(&row.environment, row.generation).await?;
    let Some(spec) = generation.and_then(|generation| spec_of(generation.spec, row)) else {
        return Ok(cut("its generation is forgotten"));
    };
    let why = if begin {
        match begun(context, &spec, row).await {
            Ok(end) => return Ok(end),
            Err(why) => why,
        }
    } else {
        "Maquette was started anew before the job had begun, or the machine was; it was not begun again".to_owned()
    };
    Ok(looked_for(context, &spec, row, &why).await)
}

/// The generation of a run, in which the job has the run's number.
fn spec_of(mut spec: EnvironmentSpec, row: &JobRunRow) -> Option<EnvironmentSpec> {
    let Stack::Services(stack) = &mut spec.stack else {
        return None;
    };
    let job = stack.jobs.get_mut(&row.job)?;
    let number = Value::Plain(row.number.to_string());
    job.workload.environment.insert(RUN_VARIABLE.to_owned(), number);
    Some(spec)
}

/// Runs the job to its end; or why that can not be told, in words.
async fn begun(context: &Context, spec: &EnvironmentSpec, row: &JobRunRow) -> Result<JobRunEnd, String> {
    let resources = context.runtime.job_footprint(spec, &row.job);
    let intended = context.store.ledger_intend(&resources, context.now()).await;
    intended.map_err(|error| chain(&error))?;
    let secrets = secret::values(context, spec).await;
    let secrets = secrets.map_err(|error| error.failure.message)?;
    match context.runtime.job_run(spec, &row.job, &secrets).await {
        Ok(outcome) => Ok(JobRunEnd {
            exit: Some(outcome.exit),
            timed_out: outcome.timed_out,
            message: None,
        }),
        Err(error) => Err(error.to_string()),
    }
}

/// Looks for a run until it has ended. If the runtime has none it is cut, for this reason.
async fn looked_for(context: &Context, spec: &EnvironmentSpec, row: &JobRunRow, why: &str) -> JobRunEnd {
    let digest = spec.job_digest(&row.job);
    let job = spec.services().and_then(|stack| stack.jobs.get(&row.job));
    let limit = job.map_or(0, |job| job.timeout_ms).saturating_add(GRACE_MS);
    let mut changes = context.runtime.changes();
    loop {
        match context.runtime.observe(&row.environment).await {
            Ok(Some(observed)) => {
                let fact = observed
                    .jobs
                    .get(&row.job)
                    .filter(|fact| Some(&fact.digest) == digest.as_ref());
                match fact.map(|fact| fact.exit) {
                    None => return cut(why),
                    Some(Some(exit)) => return told(context, spec, row, exit).await,
                    Some(None) => {}
                }
            }
            Ok(None) => return cut("the environment has ended"),
            Err(error) => tracing::debug!(job = %row.job, %error, "the end of a job can not be looked for"),
        }
        if context.now().since(row.started).as_millis() > u128::from(limit) {
            return cut("nobody could tell how it ended");
        }
        let _ = timeout(LOOK, changes.recv()).await;
    }
}

/// What is known of a run that has ended. Asking again begins nothing, and lets the runtime clear away what the run left.
async fn told(context: &Context, spec: &EnvironmentSpec, row: &JobRunRow, exit: i32) -> JobRunEnd {
    let Ok(secrets) = secret::values(context, spec).await else {
        return JobRunEnd {
            exit: Some(exit),
            ..JobRunEnd::default()
        };
    };
    let outcome = context.runtime.job_run(spec, &row.job, &secrets).await;
    JobRunEnd {
        exit: Some(exit),
        timed_out: outcome.is_ok_and(|outcome| outcome.timed_out),
        message: None,
    }
}

fn cut(why: &str) -> JobRunEnd {
    JobRunEnd {
        message: Some(why.to_owned()),
        ..JobRunEnd::default()
    }
}
