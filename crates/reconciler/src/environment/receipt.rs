//! The end of an environment: each entry of its ledger is seen gone, and the receipt says so.

use crate::context::{Context, Trouble};
use model::{Generation, Receipt, Resource};
use planner::{Action, Observed, Plan};
use std::{collections::BTreeSet, time::Duration};
use store::{EnvironmentPatch, EnvironmentRow};
use tokio::time::sleep;

/// Compares the ledger with what the runtime lists. What is listed and not in the ledger is entered first: a receipt never
/// omits what it saw. Completes the receipt when nothing is left, and
/// returns whether it did.
pub(crate) async fn complete(
    context: &Context,
    environment: &EnvironmentRow,
    removal: Generation,
    plan: &Plan,
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
    let mut reason = environment.reason.clone();
    for step in &plan.steps {
        if let (Action::Job(job), Some(attempt)) = (&step.action, observed.attempts.get(&step.id)) {
            reason.push_str(&format!("; the job {job} failed: {}", attempt.failure));
        }
    }
    let began = context
        .store
        .step_list(&environment.id, removal)
        .await?
        .first()
        .map_or(now, |step| step.began);
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
