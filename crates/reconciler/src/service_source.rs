//! Single services that are taken from another branch of the same repository.
//!
//! Such a service has a source of its own in the environment, whose name says which service it is for. Its commit is pinned like
//! any other, and follows its branch.

use model::{BranchName, Digest, MountKind, Root, Service, ServiceName, SourceName, slug};
use std::collections::BTreeMap;
use store::EnvironmentRow;

const PREFIX: &str = "service-";
const KEY: &str = "services";

/// The name of the source that a service has when it is taken from another branch.
#[must_use]
pub(crate) fn name(service: &ServiceName) -> Option<SourceName> {
    let plain = format!("{PREFIX}{}", slug(service.as_str()));
    let hashed = || format!("{PREFIX}{}", &Digest::of(service.as_str().as_bytes()).as_str()[..16]);
    if slug(service.as_str()) == service.as_str() && plain.len() <= 30 {
        plain
    } else {
        hashed()
    }
    .parse()
    .ok()
}

/// Whether a source was made by [`name`].
#[must_use]
pub(crate) fn is(source: &SourceName) -> bool {
    source.as_str().starts_with(PREFIX)
}

/// The branches that somebody asked for, by service.
#[must_use]
pub(crate) fn wanted(environment: &EnvironmentRow) -> BTreeMap<ServiceName, BranchName> {
    let given = environment.overrides.get(KEY).cloned().unwrap_or_default();
    serde_json::from_value(given).unwrap_or_default()
}

/// The overrides of an environment with one more service from a branch.
#[must_use]
pub(crate) fn with(environment: &EnvironmentRow, service: &ServiceName, branch: &BranchName) -> serde_json::Value {
    let mut services = wanted(environment);
    services.insert(service.clone(), branch.clone());
    let mut overrides = environment.overrides.clone();
    if let Some(fields) = overrides.as_object_mut() {
        fields.insert(KEY.to_owned(), serde_json::json!(services));
    }
    overrides
}

/// Lets a service build from and mount the files of its own source in place of the files of `instead_of`.
pub(crate) fn remount(service: &mut Service, instead_of: &SourceName, own: &SourceName) {
    if let Root::Build(build) = &mut service.workload.root
        && build.source == *instead_of
    {
        build.source = own.clone();
    }
    for mount in &mut service.workload.mounts {
        if let MountKind::Source { source, .. } = &mut mount.kind
            && source == instead_of
        {
            *source = own.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_name_gets_a_source_of_its_own() {
        let long = "x".repeat(63);
        let names = ["web", "Web", "we_b", "a.b", "a--b", long.as_str()];
        let sources: std::collections::BTreeSet<_> =
            names.iter().map(|n| name(&n.parse().unwrap()).expect(n)).collect();
        assert_eq!(sources.len(), names.len());
        assert!(sources.iter().all(is));
    }
}
