//! Which golden an environment should be cloned from, and what became of it.

pub(crate) use data::golden_for;

use crate::{
    context::{Context, Trouble},
    heads::PolicyHead,
};
use model::{Capabilities, EnvironmentId, Resource, Root, Service, ServiceStack, SnapshotId};
use std::collections::BTreeSet;
use store::{EnvironmentRow, GenerationRow, GoldenState, Outcome};

/// What stands before the id of a snapshot in the id of the step that waits for it.
const STEP: &str = "snapshot:";

/// The engine that the runtime would run for this service, by name and full version; `None` if it is no engine or there is none.
pub(crate) fn engine_version(capabilities: &Capabilities, service: &Service) -> Option<String> {
    let Root::Engine(engine) = &service.workload.root else {
        return None;
    };
    capabilities
        .engines
        .iter()
        .filter(|offer| offer.kind == engine.kind && engine.versions.contains(offer.major))
        .max_by_key(|offer| offer.major)
        .map(|offer| format!("{} {}", offer.kind, offer.version))
}

/// The goldens that an environment with this stack would be cloned from if it were made now.
pub(crate) fn goldens_of(
    capabilities: &Capabilities,
    stack: &ServiceStack,
    policy: &PolicyHead,
) -> BTreeSet<SnapshotId> {
    let mut found = BTreeSet::new();
    for (name, set) in &stack.data {
        let version = stack
            .services
            .get(name)
            .and_then(|service| engine_version(capabilities, service));
        if let (Some(version), Some((_, policy))) = (version, policy.data.get(name)) {
            found.insert(golden_for(&version, policy, set).id);
        }
    }
    found
}

/// The golden for want of which a generation failed.
pub(crate) fn failed_for(generation: &GenerationRow) -> Option<SnapshotId> {
    let failure = generation.failure.as_ref()?;
    let id = failure.step.strip_prefix(STEP)?.parse().ok();
    id.filter(|_| generation.outcome == Some(Outcome::Failed))
}

/// The newest generation that brings none back: what somebody wanted last. `newest` is the newest of all.
pub(crate) async fn wanted_last(
    context: &Context,
    environment: &EnvironmentRow,
    newest: GenerationRow,
) -> Result<Option<GenerationRow>, Trouble> {
    if newest.restores.is_none() {
        return Ok(Some(newest));
    }
    let Some(failed) = environment.failed.filter(|n| *n < newest.generation) else {
        return Ok(None);
    };
    Ok(context.store.generation_get(&environment.id, failed).await?)
}

/// Whether the environment failed for want of a golden that is there now, or would be made from another one today.
pub(crate) async fn is_mended(
    context: &Context,
    environment: &EnvironmentRow,
    newest: &GenerationRow,
    policy: &PolicyHead,
) -> Result<bool, Trouble> {
    let (Some(_), Some(wanted)) = (
        environment.failed,
        wanted_last(context, environment, newest.clone()).await?,
    ) else {
        return Ok(false);
    };
    let Some(failed) = failed_for(&wanted) else {
        return Ok(false);
    };
    let Some(stack) = wanted.spec.services() else {
        return Ok(false);
    };
    for id in goldens_of(context.capabilities(environment.cluster.as_ref())?, stack, policy) {
        let state = context.store.golden_get(&id).await?.map(|golden| golden.state);
        let usable = match state {
            Some(GoldenState::Ready) => true,
            Some(GoldenState::Failed) => false,
            // Another one than the one that failed may be worth waiting for.
            Some(GoldenState::Making) | None => id != failed,
        };
        if !usable {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the ledger and the receipt of a golden are kept under: goldens outlive the environments that made them.
#[must_use]
pub fn keeper(golden: &SnapshotId) -> Option<EnvironmentId> {
    let id: String = golden.as_str().chars().take(10).collect();
    id.parse().ok()
}

/// The golden as the ledger has it.
pub(crate) fn resource(golden: &SnapshotId) -> Option<Resource> {
    Some(Resource {
        environment: keeper(golden)?,
        kind: "snapshot".to_owned(),
        name: golden.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Digest;

    #[test]
    fn each_golden_has_a_ledger_of_its_own() {
        let goldens = [
            SnapshotId::golden(&Digest::of(b"a")),
            SnapshotId::golden(&Digest::of(b"b")),
        ];
        let keepers = goldens.map(|id| keeper(&id).unwrap());
        assert_ne!(keepers[0], keepers[1]);
        let kept = SnapshotId::kept(&Digest::of(b"a"));
        assert!(keeper(&kept).is_none(), "what was kept belongs to its environment");
    }
}
