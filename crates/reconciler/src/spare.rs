//! Spares: what of a stack can be started ahead of the environment that will need it, and when the machine has memory for it.

use crate::golden::{engine_version, golden_for};
use model::{
    Capabilities, DataSet, MountKind, ProjectName, Root, Service, ServiceName, ServiceStack, VolumeName, VolumeOrigin,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};
use store::EnvironmentRow;

/// Engines whose start takes seconds. The others start in the shadow of what an environment does anyway.
const SLOW: [&str; 1] = ["rabbitmq"];

/// What the engines of a spare take at most in the beginning, as far as anybody can know before; below this none is begun.
const ROOM_FOR_ONE: u64 = 384 << 20;

/// A spare is removed when tasks waited for memory for this share of the last ten seconds, in percent.
const STALLED_MAX: f64 = 10.0;

/// A look at the machine's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemoryReading {
    /// All of it, in bytes.
    pub total: u64,
    /// What can be had without anything being swapped, in bytes.
    pub available: u64,
    /// The share of the last ten seconds in which some task waited for memory, in percent; `None` if the kernel does not say.
    pub stalled_percent: Option<f64>,
}

/// Looks at the memory of the machine that environments run on.
pub trait Memory: fmt::Debug + Send + Sync {
    /// What there is now; `None` if that can not be told.
    fn read(&self) -> Option<MemoryReading>;
}

/// Memory of which nothing is known. It is never short.
#[derive(Clone, Copy, Debug)]
pub struct UnknownMemory;

impl Memory for UnknownMemory {
    fn read(&self) -> Option<MemoryReading> {
        None
    }
}

/// Which projects have spares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpareFor {
    /// Those with an engine that takes seconds to start.
    #[default]
    SlowEngines,
    /// All with an engine.
    AnyEngine,
}

/// What an operator says of spares.
#[derive(Clone, Debug)]
pub struct SpareSettings {
    /// How many each project has; 0 for none.
    pub per_project: usize,
    /// Which projects have them.
    pub wanted_for: SpareFor,
    /// Bytes of memory that stay available; with less, spares go. `None` is an eighth of all, at most 2 GiB.
    pub memory_kept: Option<u64>,
    /// Looks at the memory.
    pub memory: Arc<dyn Memory>,
}

impl Default for SpareSettings {
    fn default() -> Self {
        Self {
            per_project: 0,
            wanted_for: SpareFor::default(),
            memory_kept: None,
            memory: Arc::new(UnknownMemory),
        }
    }
}

/// The spares of a project.
#[derive(Clone, Debug, PartialEq)]
pub struct SpareReport {
    /// The project.
    pub project: ProjectName,
    /// How many the operator wants.
    pub wanted: usize,
    /// Those that there are, ready or on their way.
    pub spares: Vec<EnvironmentRow>,
    /// Why there are fewer than are wanted.
    pub why_fewer: Option<String>,
}

impl SpareSettings {
    /// Why spares have to go, or why none is begun (`for_new`), if so.
    #[must_use]
    pub(crate) fn pressure(&self, for_new: bool) -> Option<String> {
        let reading = self.memory.read()?;
        let kept = self.memory_kept.unwrap_or((reading.total / 8).min(2 << 30));
        let wanted = if for_new {
            kept.saturating_add(ROOM_FOR_ONE)
        } else {
            kept
        };
        if reading.available < wanted {
            let mib = |bytes: u64| bytes >> 20;
            return Some(format!(
                "memory is short: {} MiB are available, {} are wanted",
                mib(reading.available),
                mib(wanted)
            ));
        }
        let stalled = reading.stalled_percent.unwrap_or_default();
        let most = if for_new { STALLED_MAX / 2.0 } else { STALLED_MAX };
        (stalled >= most).then(|| format!("memory is short: something waited for it {stalled:.0} % of the time"))
    }

    /// The part of a stack that a spare of it runs, and `None` if it is not worth one.
    #[must_use]
    pub(crate) fn of_stack(&self, stack: &ServiceStack) -> Option<ServiceStack> {
        let part = engines(stack);
        let starts = |service: &Service| match &service.workload.root {
            Root::Engine(engine) => self.wanted_for == SpareFor::AnyEngine || SLOW.contains(&engine.kind.as_str()),
            _ => false,
        };
        part.services.values().any(starts).then_some(part)
    }
}

/// The engines of a stack that need nothing of a commit and of no other service, with their volumes, databases and networks, each
/// described exactly as in the whole stack: only then does the environment that adopts them leave them alone.
fn engines(stack: &ServiceStack) -> ServiceStack {
    let mut services: BTreeMap<ServiceName, Service> = stack.services.clone();
    services.retain(|_, service| {
        let from_commit = |mount: &model::Mount| matches!(mount.kind, MountKind::Source { .. });
        matches!(service.workload.root, Root::Engine(_))
            && service.public_port.is_none()
            && !service.workload.mounts.iter().any(from_commit)
    });
    loop {
        let names: BTreeSet<ServiceName> = services.keys().cloned().collect();
        services.retain(|_, service| {
            let mut needed = service.depends_on.keys().chain(&service.restarts_with);
            needed.all(|name| names.contains(name))
        });
        if services.len() == names.len() {
            break;
        }
    }
    let mounted: BTreeSet<VolumeName> = services.values().flat_map(volumes_of).cloned().collect();
    let networks: BTreeSet<_> = services.values().flat_map(|service| service.networks.keys()).collect();
    ServiceStack {
        jobs: BTreeMap::new(),
        volumes: of_keys(&stack.volumes, |name| mounted.contains(name)),
        data: of_keys(&stack.data, |name| services.contains_key(name)),
        networks: of_keys(&stack.networks, |name| networks.contains(name)),
        bases: BTreeMap::new(),
        services,
    }
}

fn of_keys<K: Ord + Clone, V: Clone>(map: &BTreeMap<K, V>, wanted: impl Fn(&K) -> bool) -> BTreeMap<K, V> {
    let of = map.iter().filter(|(key, _)| wanted(key));
    of.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn volumes_of(service: &Service) -> impl Iterator<Item = &VolumeName> {
    service.workload.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume { volume } | MountKind::VolumePath { volume, .. } => Some(volume),
        _ => None,
    })
}

/// Where a new volume of a database comes from: the golden that its data set leads to, where there are goldens.
#[must_use]
pub(crate) fn origin_of_new(
    capabilities: &Capabilities,
    service: Option<&Service>,
    policy: Option<&(Service, DataSet)>,
    set: &DataSet,
) -> VolumeOrigin {
    let version = service.and_then(|service| engine_version(capabilities, service));
    match (version, policy) {
        (Some(version), Some((_, policy))) if capabilities.snapshots => {
            VolumeOrigin::Snapshot(golden_for(&version, policy, set).id)
        }
        _ => VolumeOrigin::Empty,
    }
}

/// Whether what a spare's engines have written to a volume is what the environment that adopts it would find in a new one: the
/// same services mount it, described in the same way. Nobody but they has been there.
#[must_use]
pub(crate) fn is_untouched(volume: &VolumeName, spare: &ServiceStack, wanted: &ServiceStack) -> bool {
    let mut users = spare
        .services
        .iter()
        .filter(|(_, service)| volumes_of(service).any(|mounted| mounted == volume));
    users.all(|(name, service)| wanted.services.get(name) == Some(service))
}

#[cfg(test)]
pub(crate) mod tests;
