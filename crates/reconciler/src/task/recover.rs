//! What exists and the store does not know. It is there when the store was lost, or when something was left over after an end.
//!
//! Somebody works in an environment, so it is taken up again with its data wherever the runtime can tell what it was meant to be:
//! the forge then decides, as for any other, whether it follows a push or ends. The rest is removed, with a receipt.

use super::forges::baseline;
use crate::{
    context::{Context, Trouble},
    service_source,
};
use model::{
    DataFact, Digest, EnvironmentId, EnvironmentSpec, Generation, HostLabel, Origin, Power, Receipt, Resource,
    VolumeOrigin,
};
use runtime::RuntimeError;
use std::{collections::BTreeMap, time::Duration};
use store::{EnvironmentRow, GenerationRow, PullRequestRow, PullRequestState, StoreError};
use tokio::time::sleep;

/// The pause between two looks that must both say the same.
const SECOND_LOOK: Duration = Duration::from_millis(50);
/// How often a runtime that does not answer is asked before a server that knows nothing gives up.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Before anything else is done with a store that knows no environment: it may be new because the one before was lost, and
/// whoever looks at the forge first would make everything a second time.
///
/// # Errors
/// When what exists can not be listed.
pub(crate) async fn after_loss(context: &Context) -> Result<(), Trouble> {
    if !context.store.environment_list(None, true).await?.is_empty() {
        return Ok(());
    }
    let mut tries = 1;
    loop {
        match take_up_all(context).await {
            Err(Trouble::Runtime(error)) if error.is_transient() && tries < TRIES => {
                tracing::warn!(why = crate::text::chain(&error), "could not list what exists");
                tries += 1;
                sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

async fn take_up_all(context: &Context) -> Result<(), Trouble> {
    for (id, resources) in listed(context).await? {
        if context.store.environment_get(&id).await?.is_none() {
            take_up(context, &id, &resources).await?;
        }
    }
    Ok(())
}

/// All that exists, by environment.
async fn listed(context: &Context) -> Result<BTreeMap<EnvironmentId, Vec<Resource>>, Trouble> {
    let mut found: BTreeMap<EnvironmentId, Vec<Resource>> = BTreeMap::new();
    for resource in context.runtime.inventory(None).await? {
        found.entry(resource.environment.clone()).or_default().push(resource);
    }
    Ok(found)
}

/// Takes up what can be, and removes the rest and what is left of environments that have ended.
pub(crate) async fn strays(context: &Context) -> Result<(), Trouble> {
    for (id, resources) in listed(context).await? {
        match context.store.environment_get(&id).await? {
            Some(row) if row.ended.is_none() => {}
            None if take_up(context, &id, &resources).await? => {}
            None if !context.places.may_remove(&id, context.now()) => {}
            known => remove(context, &id, &resources, known.as_ref()).await?,
        }
    }
    Ok(())
}

/// Makes the rows of an environment from what the runtime was asked for last. Returns whether the store knows it now.
async fn take_up(context: &Context, id: &EnvironmentId, resources: &[Resource]) -> Result<bool, Trouble> {
    let Some(spec) = recall(context, id).await? else {
        return Ok(false);
    };
    let observed = context.runtime.observe(id).await?;
    let accepted = observed.as_ref().map(|observed| observed.generation);
    let power = observed.map_or(Power::Running, |observed| observed.power);
    // What was accepted later, and made nothing, counts too: the runtime refuses what is older.
    let generation = accepted.map_or(spec.generation, |accepted| accepted.max(spec.generation));
    let spec = EnvironmentSpec { generation, ..spec };
    let now = context.now();
    context.store.ledger_intend(resources, now).await?;
    let facts = facts(&spec);
    for (service, fact) in &facts {
        context.store.data_fact_put(id, service, fact).await?;
    }
    if let Some(pull) = pull_request(context, &spec)
        && context
            .store
            .pull_request_get(&pull.project, &pull.source, pull.number)
            .await?
            .is_none()
    {
        context.store.pull_request_put(&pull).await?;
    }
    let row = row(context, &spec, power);
    let generation = GenerationRow {
        environment: id.clone(),
        generation,
        // Nothing has this digest, so that the next look at the forge makes a generation with all that belongs to it.
        inputs: Digest::of(b"recalled"),
        spec,
        policy_commit: None,
        restores: None,
        created: now,
        outcome: None,
        failure: None,
        notes: Vec::new(),
    };
    match context.store.environment_take_up(&row, &generation).await {
        Ok(()) => {}
        // There is another for the same pull request or branch.
        Err(StoreError::Conflict { .. }) => {
            for service in facts.keys() {
                context.store.data_fact_remove(id, service).await?;
            }
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    }
    let text = if row.wanted {
        "found on the machine and taken up again: the store did not have it. What somebody had asked for beyond its pull request or \
         branch is not known any more"
    } else {
        "found on the machine: the store did not have it, and nobody can want it any more"
    };
    tracing::warn!(environment = %id, "{text}");
    context
        .store
        .event_add(Some(id), &row.project, now, "found", text)
        .await?;
    context.nudges.environment(id);
    context.nudges.announcements();
    Ok(true)
}

/// What it was meant to be. Only a runtime that says so twice does not know.
async fn recall(context: &Context, id: &EnvironmentId) -> Result<Option<EnvironmentSpec>, Trouble> {
    for pause in [SECOND_LOOK, Duration::ZERO] {
        match context.runtime.recall(id).await {
            Ok(Some(spec)) => return Ok(Some(spec)),
            Ok(None) => sleep(pause).await,
            // It is of an earlier version and remembers nothing.
            Err(RuntimeError::Invalid { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn row(context: &Context, spec: &EnvironmentSpec, power: Power) -> EnvironmentRow {
    let wanted = spec.origin.is_for_people();
    let project = context.projects.get(&spec.project).filter(|_| wanted);
    // An id is a label, too.
    let own: Option<HostLabel> = spec.environment.as_str().parse().ok();
    let label = match (project, own) {
        (None, Some(own)) => own,
        (Some(project), _) => project.label(&spec.origin),
        (None, None) => model::environment_label(&spec.origin, Some(&spec.project)),
    };
    let mut head = spec.sources.clone();
    // That somebody wanted a service from another branch is forgotten.
    head.retain(|source, _| !service_source::is(source));
    EnvironmentRow {
        id: spec.environment.clone(),
        project: spec.project.clone(),
        origin: spec.origin.clone(),
        label,
        created: context.now(),
        wanted,
        reason: match wanted {
            true => "found again after the store was lost".to_owned(),
            false => "its purpose was lost with the store".to_owned(),
        },
        approved_commit: None,
        head,
        newest: Some(spec.generation),
        live: None,
        failed: None,
        power,
        suspended: None,
        ended: None,
        // It may well have been: a copy is kept before what people did in it is changed.
        live_at: Some(context.now()),
        nudged: None,
        overrides: match &spec.origin {
            Origin::Baseline { .. } => serde_json::json!({ baseline::BY_POLICY: baseline::FOUND }),
            _ => serde_json::json!({}),
        },
        // Clusters do not remember what they were asked for.
        cluster: None,
    }
}

/// The pull request as far as it is known, for whoever looks at the forge: one that was closed meanwhile is not in the forge's list.
fn pull_request(context: &Context, spec: &EnvironmentSpec) -> Option<PullRequestRow> {
    let project = context.projects.get(&spec.project)?;
    let (source, number) = project.pull_request_of(&spec.origin)?;
    Some(PullRequestRow {
        project: project.name.clone(),
        source: source.name.clone(),
        number,
        title: String::new(),
        author: String::new(),
        branch: String::new(),
        head: spec.sources.get(&source.name)?.clone(),
        base: String::new(),
        state: PullRequestState::Open,
        fork: false,
        trusted: false,
        draft: false,
        labels: Vec::new(),
        web_url: None,
        observed: context.now(),
        closed_reads: 0,
    })
}

/// What may be in its databases: all that was to be. The step that fills them reads back what is there.
fn facts(spec: &EnvironmentSpec) -> BTreeMap<model::ServiceName, DataFact> {
    let Some(stack) = spec.services() else {
        return BTreeMap::new();
    };
    let fact = |(service, set): (&model::ServiceName, &model::DataSet)| {
        let volume = stack.volumes.get(&set.volume)?;
        let fact = DataFact {
            incarnation: volume.incarnation,
            golden: match &volume.origin {
                VolumeOrigin::Snapshot(id) => Some(id.clone()),
                VolumeOrigin::Empty => None,
            },
            prepared: true,
            password: None,
            applied: set.migrations.clone(),
            seeded: false,
        };
        Some((service.clone(), fact))
    };
    stack.data.iter().filter_map(fact).collect()
}

/// Removes something that belongs to no environment of the store. Everything that is listed belongs to this instance.
async fn remove(
    context: &Context,
    id: &EnvironmentId,
    resources: &[Resource],
    known: Option<&EnvironmentRow>,
) -> Result<(), Trouble> {
    tracing::warn!(environment = %id, "removing what is left of an environment that the store does not have");
    let began = context.now();
    context.store.ledger_intend(resources, began).await?;
    if let Err(error) = context.runtime.remove(id, Generation(u64::MAX)).await {
        tracing::warn!(environment = %id, why = crate::text::chain(&error), "could not remove it; the next look tries again");
        return Ok(());
    }
    let left = context.runtime.inventory(Some(id)).await?;
    if !left.is_empty() {
        return Ok(context.store.ledger_intend(&left, context.now()).await?);
    }
    let completed = context.now();
    let entries = context.store.ledger_list(id).await?;
    let open: Vec<Resource> = entries
        .into_iter()
        .filter(|entry| entry.gone.is_none())
        .map(|entry| entry.resource)
        .collect();
    context.store.ledger_gone(&open, completed).await?;
    let before = context.store.receipt_get(id).await?;
    let receipt = Receipt {
        environment: id.clone(),
        reason: before.as_ref().map_or_else(
            || "it was found on the machine, and the store did not have it".to_owned(),
            |receipt| receipt.reason.clone(),
        ),
        began: before.map_or(began, |receipt| receipt.began),
        completed,
        entries: context.store.ledger_list(id).await?,
    };
    context.store.receipt_put(&receipt).await?;
    if let Some(row) = known {
        let text = "left-overs were found after the receipt and removed";
        context
            .store
            .event_add(Some(id), &row.project, completed, "swept", text)
            .await?;
    }
    Ok(())
}
