//! Makes the newest generation of an environment: commits, blueprint, policy, and where its data comes from.

use super::adopt;
use crate::{
    blueprints,
    context::{Context, Trouble},
    egress,
    golden::is_mended,
    heads::PolicyHead,
    image, pulls,
    secret::{self, Versions},
    spare::origin_of_new,
    task::forges::BOOKKEEPING,
    trust::{self, Trust},
};
use data::{Decision, keep_or_clone};
use model::{
    Capabilities, DataFact, DataSet, Digest, EnvironmentSpec, Generation, Origin, SecretRef, Service, ServiceName,
    ServiceStack, Stack, Volume, VolumeName,
};
use std::collections::BTreeMap;
use store::{EnvironmentPatch, EnvironmentRow, Failure, GenerationRow, Outcome};

/// What the commit of an environment is given.
struct Granted {
    trust: Trust,
    secrets: Versions,
}

/// The generation that is wanted now; a new one if what it is made from has changed. `None` if nothing may run yet: the
/// commit is not approved, or the policy branch has not been read.
pub(crate) async fn newest(context: &Context, environment: &EnvironmentRow) -> Result<Option<GenerationRow>, Trouble> {
    let newest = context.store.generation_newest(&environment.id).await?;
    if !environment.origin.is_for_people() {
        return Ok(newest);
    }
    // Of a project that is not configured any more what there is stays as it is.
    let approved = context
        .projects
        .get(&environment.project)
        .is_some_and(|project| trust::is_approved(project, environment));
    let policy = context.heads.get(&environment.project);
    let Some(policy) = policy.filter(|policy| approved && policy.readable) else {
        // What was made for a spare is not this environment's, although it has adopted the spare.
        return Ok(newest.filter(|newest| newest.spec.origin == environment.origin));
    };
    let project = context.project(&environment.project)?;
    let pulls = pulls::pull_requests(&context.store, project, environment).await?;
    if newest.is_some() && trust::is_outrun(project, environment, &pulls) {
        return Ok(newest.filter(|newest| newest.spec.origin == environment.origin));
    }
    if context.capabilities(environment.cluster.as_ref()).is_err() {
        // What its cluster can do nobody knows now: what there is stays.
        return Ok(newest.filter(|newest| newest.spec.origin == environment.origin));
    }
    let trust = trust::by(context, environment, &pulls).await?;
    let granted = Granted {
        trust,
        secrets: secret::granted(context, &environment.project, &policy, trust),
    };
    let visible = blueprints::visible(context, environment, &pulls, &granted.secrets)?;
    let inputs = inputs(context, environment, &policy, &visible, &granted)?;
    if let Some(known) = newest.as_ref().filter(|newest| newest.inputs == inputs)
        && !is_mended(context, environment, known, &policy).await?
        && !image::has_changed(context, environment, known).await?
    {
        return Ok(newest);
    }
    let _using = context.repositories.in_use.read().await;
    let row = assemble(context, environment, newest.as_ref(), &policy, &granted, inputs).await?;
    context.store.generation_put(&row).await?;
    tell_of_secrets(context, newest.as_ref(), &row).await?;
    if let Some(older) = newest.filter(|older| older.outcome.is_none()) {
        context
            .store
            .generation_outcome(&environment.id, older.generation, Outcome::Superseded, None)
            .await?;
    }
    let failed = (row.outcome == Some(Outcome::Failed)).then_some(Some(row.generation));
    let patch = EnvironmentPatch {
        newest: Some(Some(row.generation)),
        failed,
        ..EnvironmentPatch::default()
    };
    context.store.environment_update(&environment.id, &patch).await?;
    context.nudges.announcements();
    Ok(Some(row))
}

/// Notes what the newest generation has of secrets that the one before had not, and the other way round.
async fn tell_of_secrets(
    context: &Context,
    before: Option<&GenerationRow>,
    row: &GenerationRow,
) -> Result<(), Trouble> {
    let Some(before) = before.filter(|before| before.spec.origin == row.spec.origin) else {
        return Ok(());
    };
    let changes = secret::changes(&before.spec.secrets, &row.spec.secrets);
    if row.outcome.is_none() && !changes.is_empty() {
        let text = changes.join("; ");
        context
            .store
            .event_add(Some(&row.environment), &row.spec.project, row.created, "secrets", &text)
            .await?;
    }
    Ok(())
}

/// Everything that a generation is made from. The policy counts by what it says, not by its commit, so that a merge elsewhere
/// does not restart every environment; `visible` is what a stack can see of the pull request or branch.
fn inputs(
    context: &Context,
    environment: &EnvironmentRow,
    policy: &PolicyHead,
    visible: &Digest,
    granted: &Granted,
) -> Result<Digest, Trouble> {
    let secrets = serde_json::to_vec(&granted.secrets).unwrap_or_default();
    let head = serde_json::to_vec(&environment.head).unwrap_or_default();
    let mut overrides = environment.overrides.clone();
    if let Some(fields) = overrides.as_object_mut() {
        fields.retain(|key, _| !BOOKKEEPING.contains(&key.as_str()));
    }
    let overrides = serde_json::to_vec(&overrides).unwrap_or_default();
    let capabilities = serde_json::to_vec(context.capabilities(environment.cluster.as_ref())?).unwrap_or_default();
    let mut parts: Vec<&[u8]> = vec![
        &head,
        policy.digest.as_str().as_bytes(),
        environment.label.as_str().as_bytes(),
        &overrides,
        &capabilities,
        visible.as_str().as_bytes(),
        &secrets,
    ];
    // What the policy gives is in its digest; this commit may not be given all of it.
    if granted.trust == Trust::Approved {
        parts.push(b"approved");
    }
    // Presets are the server's.
    let presets = serde_json::to_vec(&egress::granted(context, granted.trust, policy)).unwrap_or_default();
    if !policy.policy.presets.is_empty() {
        parts.push(&presets);
    }
    Ok(Digest::of_parts(parts))
}

async fn assemble(
    context: &Context,
    environment: &EnvironmentRow,
    newest: Option<&GenerationRow>,
    policy: &PolicyHead,
    granted: &Granted,
    inputs: Digest,
) -> Result<GenerationRow, Trouble> {
    let generation = newest.map_or(Generation(1), |row| row.generation.next());
    let mut row = GenerationRow {
        environment: environment.id.clone(),
        generation,
        inputs,
        spec: EnvironmentSpec {
            environment: environment.id.clone(),
            generation,
            project: environment.project.clone(),
            origin: environment.origin.clone(),
            sources: environment.head.clone(),
            stack: Stack::Services(ServiceStack::default()),
            limits: model::Limits::default(),
            egress: egress::granted(context, granted.trust, policy),
            secrets: BTreeMap::new(),
        },
        policy_commit: Some(policy.commit.clone()),
        restores: None,
        created: context.now(),
        outcome: None,
        failure: None,
        notes: Vec::new(),
    };
    match blueprints::of_environment(context, environment, policy, &granted.secrets).await? {
        Ok(blueprint) => {
            row.spec.limits = granted.trust.limits(blueprint.limits);
            let facts = context.store.data_fact_list(&environment.id).await?;
            let before = newest.and_then(|row| row.spec.services());
            let mut stack = blueprint.stack;
            let capabilities = context.capabilities(environment.cluster.as_ref())?;
            granted.trust.set_apart(&environment.id, &mut stack);
            row.notes = blueprint.notes;
            let (egress, notes) = egress::with_endpoints(row.spec.egress, &blueprint.endpoints, granted.trust);
            row.spec.egress = egress;
            row.notes.extend(notes);
            row.notes.extend(egress::notes(context, granted.trust, policy));
            row.notes.extend(moved_images(newest, &stack));
            row.notes
                .extend(newest.into_iter().flat_map(|newest| moved_bases(context, &newest.spec)));
            match before.filter(|_| newest.is_some_and(|newest| newest.spec.origin == Origin::Spare)) {
                Some(spare) => adopt::volumes(capabilities, &mut stack, generation, spare, &facts, &policy.data),
                None => row.notes.extend(volumes(
                    capabilities,
                    &mut stack,
                    generation,
                    before,
                    &facts,
                    &policy.data,
                )),
            }
            let given = |(name, version): (&SecretRef, &String)| {
                let given = stack.secrets().contains(name);
                given.then(|| (name.clone(), version.clone()))
            };
            row.spec.secrets = granted.secrets.iter().filter_map(given).collect();
            row.spec.stack = Stack::Services(stack);
            // Asked first, so that it is known where the environment is.
            context.places.capabilities_at(&environment.id).await?;
            row.notes.extend(context.runtime.notes(&row.spec));
        }
        Err(problems) => {
            row.outcome = Some(Outcome::Failed);
            row.failure = Some(Failure {
                step: problems.step.unwrap_or_else(|| "blueprint".to_owned()),
                message: problems.message,
                hint: problems.hint,
                log: problems.lines,
            });
        }
    }
    Ok(row)
}

/// What people should know of names of images that stand for something else than in the generation before.
fn moved_images(newest: Option<&GenerationRow>, stack: &ServiceStack) -> Vec<String> {
    let Some(before) = newest.map(|newest| image::names(&newest.spec)) else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    for (name, (pinned, _)) in image::names_of(stack) {
        let was = before.get(&name).and_then(|(was, _)| was.clone());
        if let (Some(was), Some(now)) = (was, pinned)
            && was != now
        {
            notes.push(format!(
                "The image {name} has moved: it was {}, it is {}.",
                was.short(),
                now.short()
            ));
        }
    }
    notes
}

/// The same of names in Dockerfiles, which are read again only when they are built.
fn moved_bases(context: &Context, before: &EnvironmentSpec) -> Vec<String> {
    let moved = image::moved(context, before);
    let bases = before.services().map(|stack| &stack.bases);
    moved
        .filter(|(name, ..)| bases.is_some_and(|bases| bases.contains_key(name)))
        .map(|(name, was, now)| {
            format!(
                "The image {name}, which a Dockerfile names, has moved: it was {}, it is {}.",
                was.short(),
                now.short()
            )
        })
        .collect()
}

/// Decides for every volume whether what is in it stays. Returns what people should know.
fn volumes(
    capabilities: &Capabilities,
    stack: &mut ServiceStack,
    generation: Generation,
    before: Option<&ServiceStack>,
    facts: &BTreeMap<ServiceName, DataFact>,
    policy: &BTreeMap<ServiceName, (Service, DataSet)>,
) -> Vec<String> {
    let mut notes = Vec::new();
    let owners: BTreeMap<VolumeName, ServiceName> = stack
        .data
        .iter()
        .map(|(service, set)| (set.volume.clone(), service.clone()))
        .collect();
    for (name, volume) in &mut stack.volumes {
        let before = before.and_then(|stack| stack.volumes.get(name));
        let Some((service, set)) = owners
            .get(name)
            .and_then(|service| Some((service, stack.data.get(service)?)))
        else {
            volume.incarnation = before.map_or(generation, |before| before.incarnation);
            continue;
        };
        let decision = match (before, facts.get(service)) {
            (Some(before), Some(fact)) if fact.incarnation == before.incarnation => {
                (before, keep_or_clone(&fact.applied, set))
            }
            // It was made and never filled, so nothing is lost with it.
            _ => {
                clone_anew(capabilities, volume, generation, &stack.services, service, set, policy);
                continue;
            }
        };
        match decision {
            (before, Decision::Keep { .. }) => volume.clone_from(before),
            (_, Decision::CloneAnew { why }) => {
                clone_anew(capabilities, volume, generation, &stack.services, service, set, policy);
                notes.push(format!("The data of {service} was cloned anew: {why}."));
            }
        }
    }
    notes
}

fn clone_anew(
    capabilities: &Capabilities,
    volume: &mut Volume,
    generation: Generation,
    services: &BTreeMap<ServiceName, Service>,
    service: &ServiceName,
    set: &DataSet,
    policy: &BTreeMap<ServiceName, (Service, DataSet)>,
) {
    volume.incarnation = generation;
    volume.origin = origin_of_new(capabilities, services.get(service), policy.get(service), set);
}
