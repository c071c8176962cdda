//! Profiles: services that run only if somebody wants them.

use super::Scene;
use crate::{
    read,
    yaml::{Key, Node},
};

/// Whether a service runs; if not, that is told.
pub(super) fn chosen(scene: &Scene<'_>, key: &Key, service: &Node) -> bool {
    let Some(node) = service.get("profiles") else {
        return true;
    };
    let profiles = read::texts(scene.report, node, "`profiles`", false).unwrap_or_default();
    let wanted = |profile: &str| scene.profiles.contains(profile) || scene.profiles.contains("*");
    if profiles.is_empty() || profiles.iter().any(|(_, profile)| wanted(profile)) {
        return true;
    }
    let names: Vec<&str> = profiles.iter().map(|(_, profile)| profile.as_str()).collect();
    scene.report.warn_hint(
        key.at,
        format!("service `{}` belongs to a profile and is left out", key.text),
        format!(
            "`stack: {{ profiles: [{}] }}` in maquette.yaml would run it",
            names.first().unwrap_or(&"")
        ),
    );
    false
}
