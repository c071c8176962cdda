//! Services from further sources.

use super::Assembly;
use crate::{
    compose::Declared,
    explain::{Explanation, Place},
};
use model::{MountKind, Root, Value};
use std::collections::BTreeMap;

/// The documented value that differs between the services of an environment.
const COMMIT: &str = "MAQUETTE_COMMIT";

impl Assembly<'_> {
    /// A service that names a source must have something of it.
    pub(super) fn check_source(&self, declared: &Declared, root: &Root, explanation: &mut Explanation) {
        let Declared { name, body, .. } = declared;
        let Some(elsewhere) = self.elsewhere.get(name.as_str()) else {
            return;
        };
        let source = &elsewhere.source;
        explanation.set(
            format!("stack.services.{name}.source"),
            source.as_str(),
            Place::at(self.settings, elsewhere.at),
        );
        let of_it = |kind: &MountKind| matches!(kind, MountKind::Source { source: of, .. } if of == source);
        let builds = matches!(root, Root::Build(_));
        if matches!(root, Root::Engine(_)) {
            self.settings.error_hint(
                elsewhere.at,
                format!("service `{name}` is a data engine and is of no source"),
                "remove `source`; migrations and seeds are of the source that carries the blueprint, those of others can be a job",
            );
        } else if !builds && !body.mounts.iter().any(|(_, mount)| of_it(&mount.kind)) {
            self.settings.warn_hint(
                elsewhere.at,
                format!("`source` of service `{name}` has no effect: it builds and mounts nothing of it"),
                "give it a `build`, or mount the repository, in the Compose file",
            );
        }
    }

    /// The commit that a service sees is that of its own source.
    pub(super) fn set_commit(&self, declared: &Declared, environment: &mut BTreeMap<String, Value>) {
        let elsewhere = self.elsewhere.get(declared.name.as_str());
        let commit = elsewhere.and_then(|elsewhere| elsewhere.found?.commit);
        let own = declared.body.environment.contains_key(COMMIT);
        if let Some(commit) = commit.filter(|_| !own && environment.contains_key(COMMIT)) {
            environment.insert(COMMIT.to_owned(), commit.to_string().into());
        }
    }
}
