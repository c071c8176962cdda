//! Which golden an environment should be cloned from.

pub(crate) use data::{GoldenPlan, golden_for};

use model::{Capabilities, Root, Service};

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
