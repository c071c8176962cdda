//! The end of an environment: each entry of its ledger is seen gone, and the receipt says so.

use crate::context::{Context, Trouble};
use model::{Generation, Job, JobEvent, Receipt, Resource};
use planner::Observed;
use std::{collections::BTreeSet, time::Duration};
use store::{EnvironmentPatch, EnvironmentRow, GenerationRow, StepRow};
use tokio::time::sleep;

/// Compares the ledger with what the runtime lists. What is listed and not in the ledger is entered first: a receipt never
/// omits what it saw. Completes the receipt when nothing is left, and
/// returns whether it did.
pub(crate) async fn complete(
    context: &Context,
    environment: &EnvironmentRow,
    removal: Generation,
    last: Option<&GenerationRow>,
    observed: &Observed,
) -> Result<bool, Trouble> {
    let left: BTreeSet<Resource> = context
        .runtime
        .inventory(Some(&environment.id))
        .await?
        .into_iter()
        .collect();
    let now = context.now();
    if !left.is_empty() {
        let left: Vec<Resource> = left.into_iter().collect();
        context.store.ledger_intend(&left, now).await?;
        context.runtime.remove(&environment.id, removal).await?;
        // Some things go asynchronously (network namespaces, subvolumes): give the kernel a moment before looking again.
        sleep(Duration::from_millis(50)).await;
        return Ok(false);
    }
    let open: Vec<Resource> = context
        .store
        .ledger_list(&environment.id)
        .await?
        .into_iter()
        .filter(|entry| entry.gone.is_none())
        .map(|entry| entry.resource)
        .collect();
    context.store.ledger_gone(&open, now).await?;
    let entries = context.store.ledger_list(&environment.id).await?;
    let steps = context.store.step_list(&environment.id, removal).await?;
    let began = steps.first().map_or(now, |step| step.began);
    let mut reason = environment.reason.clone();
    for told in last
        .into_iter()
        .flat_map(|last| jobs(environment, last, &steps, observed))
    {
        reason.push_str("; ");
        reason.push_str(&told);
    }
    let receipt = Receipt {
        environment: environment.id.clone(),
        reason,
        began,
        completed: now,
        entries,
    };
    context.store.receipt_put(&receipt).await?;
    let text = format!("{} things verified gone", receipt.entries.len());
    context
        .store
        .event_add(Some(&environment.id), &environment.project, now, "ended", &text)
        .await?;
    let patch = EnvironmentPatch {
        ended: Some(Some(now)),
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(&environment.id, &patch).await?;
    context.nudges.announcements();
    context.nudges.project(&environment.project);
    Ok(true)
}

/// What became of the jobs that belong to the end, where that is not what they are for.
fn jobs(environment: &EnvironmentRow, last: &GenerationRow, steps: &[StepRow], observed: &Observed) -> Vec<String> {
    let stack = last.spec.services();
    let ends = |job: &&Job| matches!(job.on, JobEvent::Stop | JobEvent::Delete);
    let tell = |job: &Job| {
        let id = format!("job:{}", job.name);
        match steps.iter().find(|step| step.step == id) {
            Some(step) if step.ok == Some(true) => None,
            Some(_) => {
                let failure = observed.attempts.get(&id)?.failure.clone();
                let named = failure.contains(job.name.as_str());
                Some(if named {
                    failure
                } else {
                    format!("the job {} failed: {failure}", job.name)
                })
            }
            // One on stop has run before its environment stopped.
            None if job.on == JobEvent::Stop => None,
            None => {
                let why = match environment.suspension() {
                    Some(_) => "the environment was kept from running",
                    None => "nothing of the environment had run",
                };
                Some(format!("the job {} was not run: {why}", job.name))
            }
        }
    };
    let all = stack.into_iter().flat_map(|stack| stack.jobs.values());
    all.filter(ends).filter_map(tell).collect()
}
