//! The words of Maquette as types.
//!
//! This crate does no I/O, reads no clock and knows no runtime, forge or database. Whatever crosses a
//! crate boundary elsewhere is defined here, so that every crate means the same thing by the same word.

mod address;
mod build;
mod capability;
mod commit;
mod data;
mod egress;
mod endpoint;
mod fact;
mod host;
mod id;
mod image;
mod ledger;
mod name;
mod options;
mod phase;
mod service;
mod spec;
mod stage;
mod sysctl;
mod time;
mod value;

pub use address::is_public;
pub use build::{Build, BuildContext, BuildSecret, Dockerfile};
pub use capability::{Capabilities, EngineOffer, Feature, Staging};
pub use commit::{CommitId, InvalidCommitId};
pub use data::{DataFact, DataSet, Migration, SeedFile};
pub use egress::{EGRESS_PORT, Egress, HostName, HostPattern, InvalidHost, Reachable};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use fact::{DoorFact, JobFact, Observation, PassedFact, Power, RefusedFact, ServiceFact, ServiceState, VolumeFact};
pub use host::{HostLabel, InvalidHostLabel, environment_label, service_label, slug};
pub use id::{EnvironmentId, Generation, InstanceId, InvalidId, SnapshotId};
pub use image::{ImageDigest, ImageFacts, InvalidImageDigest};
pub use ledger::{LedgerEntry, Receipt, Resource};
pub use name::{
    BranchName, ClusterName, InvalidName, JobName, NetworkName, ProjectName, ServiceName, SourceName, VolumeName,
};
pub use options::{Options, Pull, Ulimit};
pub use phase::{Phase, Standing, phase};
pub use service::{
    Condition, Engine, HealthCheck, HealthTest, Job, JobEvent, Limits, Mount, MountKind, Network, NetworkMode, Product,
    RUN_VARIABLE, Restart, Root, Service, VersionRange, Workload,
};
pub use spec::{Digest, EnvironmentSpec, ObjectStack, Origin, Renderer, ServiceStack, Stack, Volume, VolumeOrigin};
pub use stage::Stage;
pub use sysctl::{SYSCTLS, is_harmless_sysctl};
pub use time::Timestamp;
pub use value::{SecretRef, Value};
