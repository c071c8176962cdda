//! What an operator says of spares: engines that are started ahead of the environment that will need them.

use crate::memory::KernelMemory;
use reconciler::{SpareFor, SpareSettings};
use serde::Deserialize;
use std::sync::Arc;

/// More than this are certainly a mistake.
pub(super) const PER_PROJECT_MAX: usize = 8;

/// Engines that are started ahead of the environment that will need them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparesConfig {
    /// How many each project has; 0 for none.
    #[serde(default = "one")]
    pub per_project: usize,
    /// Which engines are reason enough for one.
    #[serde(default)]
    pub engines: SpareEnginesConfig,
    /// With less memory available, in MiB, spares go; an eighth of all, at most 2048, unless given.
    #[serde(default)]
    pub keep_available_mib: Option<u64>,
}

/// Which engines are reason enough for a spare. It runs the other engines of its project, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpareEnginesConfig {
    /// Those that take seconds to start.
    #[default]
    Slow,
    /// Any.
    Any,
}

fn one() -> usize {
    1
}

impl Default for SparesConfig {
    fn default() -> Self {
        Self {
            per_project: one(),
            engines: SpareEnginesConfig::default(),
            keep_available_mib: None,
        }
    }
}

impl SparesConfig {
    /// The same for the reconciler, with the memory of this machine.
    #[must_use]
    pub fn settings(&self) -> SpareSettings {
        SpareSettings {
            per_project: self.per_project,
            wanted_for: match self.engines {
                SpareEnginesConfig::Slow => SpareFor::SlowEngines,
                SpareEnginesConfig::Any => SpareFor::AnyEngine,
            },
            memory_kept: self.keep_available_mib.map(|mib| mib.saturating_mul(1 << 20)),
            memory: Arc::new(KernelMemory::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::ServerConfig;
    use reconciler::SpareFor;
    use std::path::Path;

    #[test]
    fn one_for_slow_engines_unless_the_operator_says_otherwise() {
        let parse = |text: &str| ServerConfig::parse(text, Path::new("maquette-server.yaml"));
        let settings = parse("{}\n").unwrap().spares.settings();
        assert_eq!(
            (settings.per_project, settings.wanted_for, settings.memory_kept),
            (1, SpareFor::SlowEngines, None)
        );
        let text = "spares: { per_project: 0, engines: any, keep_available_mib: 512 }\n";
        let settings = parse(text).unwrap().spares.settings();
        assert_eq!(
            (settings.per_project, settings.wanted_for, settings.memory_kept),
            (0, SpareFor::AnyEngine, Some(512 << 20))
        );
        let refused = parse("spares: { per_project: 9 }\n").unwrap_err();
        assert!(refused.to_string().contains("per_project"), "{refused}");
    }
}
