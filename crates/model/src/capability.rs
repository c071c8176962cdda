//! What a runtime can do. The planner cuts stages from it, the blueprint's checks refuse by it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How a generation reaches the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Staging {
    /// A stage per level of `depends_on`: the planner orders.
    Levels,
    /// One stage for the whole generation, jobs included: the delivery orders (GitOps).
    Whole,
}

/// An engine that the runtime can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineOffer {
    /// `postgres`, `redis`, `rabbitmq`.
    pub kind: String,
    /// Major version.
    pub major: u32,
    /// Full version, part of a golden's key.
    pub version: String,
}

/// Something that a stack may ask of a runtime and that not every runtime does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Makes images from Dockerfiles ([`crate::Root::Build`]).
    Builds,
    /// Runs jobs that build in a checkout and keeps what they make ([`crate::MountKind::Built`]).
    NativeBuilds,
    /// Mounts files whose text the stack gives ([`crate::MountKind::Content`]).
    Content,
    /// Keeps the networks of an environment apart ([`crate::Service::networks`]).
    Networks,
    /// [`crate::Options::user`] and [`crate::Options::groups`].
    Users,
    /// [`crate::Options::init`].
    Init,
    /// [`crate::Options::hostname`].
    Hostname,
    /// [`crate::Options::hosts`].
    Hosts,
    /// [`crate::Options::ulimits`].
    Ulimits,
    /// [`crate::Options::sysctls`].
    Sysctls,
    /// [`crate::Options::drop_capabilities`] and [`crate::Options::add_capabilities`].
    DropCapabilities,
    /// [`crate::Options::shm_bytes`].
    SharedMemory,
    /// [`crate::Options::terminal`] and [`crate::Options::stdin_open`].
    Terminal,
    /// Directories inside of volumes ([`crate::MountKind::VolumePath`]).
    VolumePaths,
    /// [`crate::Service::restart_limit`].
    RestartLimit,
    /// [`crate::HealthCheck::start_interval_ms`].
    StartInterval,
    /// Has the layers of images brought to it. A runtime that runs images and lacks this fetches them itself.
    BroughtImages,
    /// Gives containers Maquette's own program ([`crate::MountKind::Program`]), which catches mail.
    Program,
}

/// Whoever says nothing of it is of a version in which every runtime could.
fn yes() -> bool {
    true
}

/// What a runtime can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Its name, for messages: `cell`, `docker`, `kubernetes`, `simulator`.
    pub runtime: String,
    /// How generations are cut.
    pub staging: Staging,
    /// Runs stacks of services.
    pub services: bool,
    /// Runs stacks of objects.
    pub objects: bool,
    /// Runs containers from the host's packages.
    pub host_roots: bool,
    /// Runs containers from images.
    pub images: bool,
    /// Engines; empty with `images` means that engines run from their images.
    pub engines: Vec<EngineOffer>,
    /// Volumes can be snapshotted and cloned.
    pub snapshots: bool,
    /// Environments can be frozen with their memory.
    pub freeze: bool,
    /// The files of commits can be brought to it and mounted ([`crate::MountKind::Source`]).
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub sources: bool,
    /// The databases of engines are prepared, migrated and seeded ([`crate::ServiceStack::data`]).
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub databases: bool,
    /// What else it does for those who ask.
    #[serde(default)]
    pub features: BTreeSet<Feature>,
}
