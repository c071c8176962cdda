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
