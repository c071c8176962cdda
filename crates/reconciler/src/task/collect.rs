//! Removes goldens that nobody wants any more: some time after somebody wanted them last, earlier when the pool is short of room.
//!
//! What is wanted is worked out anew each time: what each policy branch says now, what environments were made from and would
//! be made from if they were made anew, what is being made. Before a project's policy branch was read, and while
//! it can not be used, nothing of it goes.

use crate::{
    context::{Context, Trouble},
    golden::{self, engine_version, golden_for, goldens_of},
    heads::PolicyHead,
    task::{goldens::golden_of, sweep::used_snapshots},
};
use model::{ProjectName, Receipt, SnapshotId, Timestamp};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use store::{GoldenRow, GoldenState};

/// A golden that is wanted is noted as used this often.
const USE_NOTED: Duration = Duration::from_secs(3600);

/// What there is of a golden, and why it should go.
struct Candidate {
    row: GoldenRow,
    reason: String,
}

/// Returns whether there is pressure, so that the caller soon looks again.
pub(crate) async fn collect(context: &Context) -> Result<bool, Trouble> {
    // An environment that is just being assembled has not yet written down what it wants: the next look will do.
    let Some(_alone) = context.repositories.alone().await else {
        return Ok(false);
    };
    let existing: BTreeSet<SnapshotId> = context
        .runtime
        .snapshot_list()
        .await?
        .into_iter()
        .filter(SnapshotId::is_golden)
        .collect();
    adopt(context, &existing).await?;
    let short = context.runtime.room().await?.is_some_and(|room| room.is_short());
    let wanted = wanted(context).await?;
    let now = context.now();
    let mut idle = Vec::new();
    for row in context.store.golden_list_all().await? {
        if wanted.contains(&row.id) || !is_known(context, &row.project) {
            // A use that the clock says is still to come was noted before the clock was set back. Of one that failed this time is
            // that of the failure, from which the pause before the next try is counted.
            let noted = now >= row.last_used && now.since(row.last_used) < USE_NOTED;
            if !noted && row.state != GoldenState::Failed {
                context.store.golden_used(&row.id, now).await?;
            }
        } else if existing.contains(&row.id) {
            idle.push(row);
        } else if row.state != GoldenState::Failed || now.since(row.last_used) >= context.settings.keep.golden_age {
            context.store.golden_remove(&row.id).await?;
        }
    }
    for candidate in overdue(context, idle, now, short) {
        remove(context, &candidate).await?;
    }
    Ok(short)
}

/// Goldens that a lost store forgot are entered again; nobody knows when they were used last.
async fn adopt(context: &Context, existing: &BTreeSet<SnapshotId>) -> Result<(), Trouble> {
    let known: BTreeSet<SnapshotId> = context
        .store
        .golden_list_all()
        .await?
        .into_iter()
        .map(|row| row.id)
        .collect();
    let Some(project) = context.projects.keys().next() else {
        return Ok(());
    };
    for id in existing.difference(&known) {
        let now = context.now();
        context
            .store
            .ledger_intend(&golden::resource(id).into_iter().collect::<Vec<_>>(), now)
            .await?;
        let row = GoldenRow {
            id: id.clone(),
            project: project.clone(),
            engine: "unknown".to_owned(),
            migrations: Vec::new(),
            seeded: false,
            chain: Vec::new(),
            state: GoldenState::Ready,
            failure: None,
            created: now,
            last_used: now,
            private_to: None,
        };
        context.store.golden_put(&row).await?;
    }
    Ok(())
}

/// Whether all that a project wants is known. One that is not configured any more wants nothing but what its environments do.
fn is_known(context: &Context, project: &ProjectName) -> bool {
    let whole = |head: Arc<PolicyHead>| head.readable && head.stack.is_some();
    !context.projects.contains_key(project) || context.heads.get(project).is_some_and(whole)
}

/// Every golden that somebody wants, or would want if he were made anew.
async fn wanted(context: &Context) -> Result<BTreeSet<SnapshotId>, Trouble> {
    let capabilities = context.runtime.capabilities();
    let mut wanted = BTreeSet::new();
    let in_cells = context.projects.values().filter(|project| project.cluster.is_none());
    for head in in_cells.filter_map(|project| context.heads.get(&project.name)) {
        for (engine, set) in head.data.values() {
            wanted.extend(engine_version(capabilities, engine).map(|version| golden_for(&version, set, set).id));
        }
    }
    for row in context.store.environment_list(None, false).await? {
        wanted.extend(golden_of(&row));
        let generations = context.store.generation_list(&row.id).await?;
        wanted.extend(used_snapshots(&row, &generations));
        let stack = generations.last().and_then(|generation| generation.spec.services());
        let head = context.heads.get(&row.project).filter(|_| row.cluster.is_none());
        if let (Some(stack), Some(head)) = (stack, head) {
            wanted.extend(goldens_of(capabilities, stack, &head));
        }
    }
    Ok(wanted)
}

/// Those that go now, of goldens that nobody wants.
fn overdue(context: &Context, mut idle: Vec<GoldenRow>, now: Timestamp, short: bool) -> Vec<Candidate> {
    let keep = &context.settings.keep;
    idle.sort_by_key(|row| row.last_used);
    let beyond = idle.len().saturating_sub(keep.goldens);
    let mut gone = Vec::new();
    for (index, row) in idle.into_iter().enumerate() {
        let unused = now.since(row.last_used);
        let reason = if unused >= keep.golden_age {
            format!("no environment has wanted it for {} h", unused.as_secs() / 3600)
        } else if index < beyond {
            format!("there are more than {} goldens that no environment wants", keep.goldens)
        } else if short && gone.is_empty() {
            // One at a time: the room that it takes is free a moment later only.
            "the pool is short of room and no environment wants it".to_owned()
        } else {
            continue;
        };
        gone.push(Candidate { row, reason });
    }
    gone
}

/// Removes a golden, sees it gone and says so in a receipt.
async fn remove(context: &Context, candidate: &Candidate) -> Result<(), Trouble> {
    let Candidate { row, reason } = candidate;
    let (Some(keeper), Some(resource)) = (golden::keeper(&row.id), golden::resource(&row.id)) else {
        return Ok(());
    };
    let (began, resources) = (context.now(), [resource]);
    context.store.ledger_intend(&resources, row.created).await?;
    context.runtime.snapshot_remove(None, &row.id).await?;
    if context.runtime.snapshot_list().await?.contains(&row.id) {
        return Ok(());
    }
    let completed = context.now();
    context.store.ledger_gone(&resources, completed).await?;
    let entries = context.store.ledger_list(&keeper).await?;
    let receipt = Receipt {
        environment: keeper,
        reason: format!("golden {}: {reason}", row.id),
        began,
        completed,
        entries,
    };
    context.store.receipt_put(&receipt).await?;
    context.store.golden_remove(&row.id).await?;
    let text = format!("the golden {} ({}) was removed: {reason}", row.id, row.engine);
    tracing::info!(golden = %row.id, project = %row.project, reason, "removed a golden");
    Ok(context
        .store
        .event_add(None, &row.project, completed, "golden-removed", &text)
        .await?)
}
