//! The port that runtimes implement.
//!
//! A runtime makes environments and observes them. It knows nothing of forges, pull requests or HTTP sessions. It orders
//! nothing: the planner cuts a generation into stages and a runtime applies one stage at a time.
//!
//! What every implementation must keep, and the conformance suite checks:
//!
//! - Every operation is idempotent: doing it again, also after being killed half-way, ends in the same state.
//! - Every mutation carries a generation; an older one than the newest accepted is refused with [`RuntimeError::Superseded`].
//! - Names of all that is made are deterministic, so that [`Runtime::inventory`] finds what a lost store forgot.
//! - `apply` returns when the stage was carried out, not when services are ready; readiness is observed.
//! - What a runtime can not run it refuses by name with [`RuntimeError::Unsupported`] before it makes anything.

pub mod conformance;
mod error;
pub mod reveal;
pub mod simulator;
mod stream;

use async_trait::async_trait;
pub use error::RuntimeError;
use futures::stream::BoxStream;
pub use model::Capabilities;
use model::{
    CommitId, EnvironmentId, EnvironmentSpec, Generation, ImageDigest, JobName, Observation, Power, Resource,
    ServiceName, SnapshotId, SourceName, Stage, VolumeName,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
pub use stream::{Connection, Exec, ExecExit, LogLine, LogQuery, LogStream};
use tokio::sync::broadcast;

/// Shorthand for this port's results.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// The content of one commit of one source, as a runtime keys it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct SourceKey {
    /// The project, so that equal commits of two projects stay apart.
    pub project: model::ProjectName,
    /// Which source.
    pub source: SourceName,
    /// Which commit.
    pub commit: CommitId,
}

/// Writes a commit's files. Implemented by whoever has the repository.
#[async_trait]
pub trait Checkout: Send + Sync {
    /// Writes all files of the commit into an existing, empty directory.
    ///
    /// # Errors
    /// In words, for the person who reads `why`; the directory may then hold a part of the files.
    async fn write(&self, into: &Path) -> std::result::Result<(), String>;
}

/// Secret values, resolved for one call and never kept by a runtime longer than the container needs them.
pub trait Secrets: Send + Sync {
    /// The value of a secret: any bytes.
    fn value(&self, secret: &model::SecretRef) -> Option<&[u8]>;
}

/// No secrets at all.
#[derive(Clone, Copy, Debug)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn value(&self, _secret: &model::SecretRef) -> Option<&[u8]> {
        None
    }
}

/// A generation of an environment for whose sake something is changed that outlives environments. Such a change is a mutation
/// of that environment: it is refused when the runtime has accepted a newer generation, or has removed the environment with one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sake {
    /// The environment. One that the runtime does not have yet, or any more, keeps nothing from being changed.
    pub environment: EnvironmentId,
    /// Its generation.
    pub generation: Generation,
}

/// How much room there is for volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Room {
    /// All of it, in bytes.
    pub total: u64,
    /// What can still be written, in bytes.
    pub free: u64,
    /// What has to stay free for anything new to be made, in bytes.
    pub reserve: u64,
}

impl Room {
    /// Whether so little is left that what nobody needs should go: twice the reserve, at least a tenth of all.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.free < self.wanted_free()
    }

    /// Whether so little is left that nothing should be made that nobody needs yet: it would soon have to go again.
    #[must_use]
    pub fn is_nearly_short(&self) -> bool {
        self.free < self.wanted_free().saturating_add(self.wanted_free() / 4)
    }

    fn wanted_free(&self) -> u64 {
        self.reserve.saturating_mul(2).max(self.total / 10)
    }
}

/// Where in a service a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A TCP port.
    Port(u16),
    /// The engine's own way in for its administrator, which services of the environment do not see.
    Administration,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    /// A file with the layer's archive, compressed or not, that whoever brings it may read.
    pub blob: PathBuf,
    /// The digest of the archive once it is uncompressed: `sha256:` and hexadecimal digits.
    pub diff: String,
}

/// An image that a build starts from or copies files of, as it lies on the disk of whoever brings it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// How Dockerfiles of this build call it.
    pub names: BTreeSet<String>,
    /// Its manifest.
    pub manifest: Vec<u8>,
    /// What the manifest names, by digest: its configuration and its layers.
    pub blobs: BTreeMap<String, PathBuf>,
}

/// An image that a build has made. The runtime has it, as if it had been brought with [`Runtime::image_put`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BuiltImage {
    /// Which.
    pub image: ImageDigest,
    /// Its configuration, as JSON of unknown content: what the Dockerfile says.
    pub config: String,
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildOutcome {
    /// With an image.
    Built(BuiltImage),
    /// With an error of the Dockerfile's, or because a limit was reached. Its log tells more.
    Failed {
        /// Exit status; 128 + n after signal n.
        exit: i32,
        /// In words, if more is known than the status.
        message: Option<String>,
    },
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct JobOutcome {
    /// Exit status; 128 + n after signal n.
    pub exit: i32,
    /// Whether it was ended because its time was over.
    pub timed_out: bool,
}

/// A place where environments run.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// What it can do. Constant while the process runs.
    fn capabilities(&self) -> &Capabilities;

    /// Environments in which something changed since the last call. A receiver that lags must look at everything.
    fn changes(&self) -> broadcast::Receiver<EnvironmentId>;

    /// Whether a commit's files are there.
    async fn source_exists(&self, key: &SourceKey) -> Result<bool>;

    /// Brings a commit's files to the runtime, unless they are there. Read-only from then on.
    async fn source_put(&self, sake: &Sake, key: &SourceKey, checkout: &dyn Checkout) -> Result<()>;

    /// The sources that the runtime holds.
    async fn source_list(&self) -> Result<Vec<SourceKey>>;

    /// Removes a source that no environment uses; nothing happens if it is not there.
    async fn source_remove(&self, key: &SourceKey) -> Result<()>;

    /// Brings an image to a runtime with [`model::Feature::BroughtImages`], unless it is there: its layers, the lowest first. From
    /// then on it is read-only; what an interrupted call left is no image. [`RuntimeError::Invalid`] if the layers can not be one.
    async fn image_put(&self, sake: &Sake, image: &ImageDigest, layers: &[ImageLayer]) -> Result<()>;

    /// The images that were brought to the runtime.
    async fn image_list(&self) -> Result<BTreeSet<ImageDigest>>;

    /// Removes an image that no environment's generation names; nothing happens if it is not there. What runs from it goes on.
    async fn image_remove(&self, image: &ImageDigest) -> Result<()>;

    /// All that [`Self::apply`] of this stage would make, by its deterministic names. Pure: written to the ledger first.
    fn footprint(&self, spec: &EnvironmentSpec, stage: &Stage) -> Vec<Resource>;

    /// What tells the place where environments are from every other one, if it is not this machine: it stays as long as they do.
    async fn identity(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// What this runtime does otherwise than a generation says, in sentences for the people who made it. Pure. What it can not do at all
    /// is refused by [`Self::apply`].
    fn notes(&self, spec: &EnvironmentSpec) -> Vec<String> {
        let _ = spec;
        Vec::new()
    }

    /// Carries out one stage of a generation. Sources must have been put, snapshots must exist.
    async fn apply(&self, spec: &EnvironmentSpec, stage: &Stage, secrets: &dyn Secrets) -> Result<()>;

    /// Says that these services of a generation will be applied, in this order, as soon as what they wait for is so. A runtime may
    /// make beforehand what takes its time; one that has nothing to gain ignores it. Nothing of it runs or is observed, and what
    /// is not applied in the end goes with the next generation, or with the environment. Names are those of
    /// [`Self::footprint`] for these services.
    async fn prepare(&self, spec: &EnvironmentSpec, services: &[ServiceName], secrets: &dyn Secrets) -> Result<()> {
        let _ = (spec, services, secrets);
        Ok(())
    }

    /// What there is of an environment; `None` if there is nothing.
    async fn observe(&self, environment: &EnvironmentId) -> Result<Option<Observation>>;

    /// The resources that [`Self::job_run`] of this job would make.
    fn job_footprint(&self, spec: &EnvironmentSpec, job: &JobName) -> Vec<Resource>;

    /// Runs a job to its end and returns how it ended. A job of the same digest that runs already is awaited, one that has
    /// succeeded is not run again, nor is one on [`model::JobEvent::Hand`] that has ended in any way. What a job with a [`model::Product`] leaves in its checkout when it has succeeded is kept as
    /// the snapshot [`EnvironmentSpec::product`]; where that is there already, nothing runs and the job has succeeded. Its log is read like that of a service.
    async fn job_run(&self, spec: &EnvironmentSpec, job: &JobName, secrets: &dyn Secrets) -> Result<JobOutcome>;

    /// The resources that [`Self::build_run`] for this service would make.
    fn build_footprint(&self, spec: &EnvironmentSpec, service: &ServiceName) -> Vec<Resource>;

    /// Builds the image of a service whose root is a [`model::Root::Build`], to its end. A build of the same digest that runs already
    /// is awaited; one of another digest is ended first. Its log is that of `build:` and the name of the service. Needs
    /// [`model::Feature::Builds`].
    async fn build_run(
        &self,
        spec: &EnvironmentSpec,
        service: &ServiceName,
        bases: &[BaseImage],
        secrets: &dyn Secrets,
    ) -> Result<BuildOutcome>;

    /// Freezes, stops or runs the services of an environment. Stopping honours each service's signal and grace.
    async fn power(&self, environment: &EnvironmentId, generation: Generation, power: Power) -> Result<()>;

    /// Stops these services and waits until their processes are gone; what they wrote stays.
    async fn services_stop(
        &self,
        environment: &EnvironmentId,
        generation: Generation,
        services: &[ServiceName],
    ) -> Result<()>;

    /// Makes a read-only snapshot of a volume whose services are stopped. Nothing happens if the snapshot exists.
    async fn snapshot_create(
        &self,
        environment: &EnvironmentId,
        generation: Generation,
        volume: &VolumeName,
        snapshot: &SnapshotId,
    ) -> Result<()>;

    /// The snapshots that exist.
    async fn snapshot_list(&self) -> Result<Vec<SnapshotId>>;

    /// Removes a snapshot; nothing happens if it does not exist. `None` is for whoever has seen that no environment can want it.
    async fn snapshot_remove(&self, sake: Option<&Sake>, snapshot: &SnapshotId) -> Result<()>;

    /// How much room there is; `None` if the runtime can not tell.
    async fn room(&self) -> Result<Option<Room>>;

    /// Bytes of memory that an environment keeps from others; `None` if the runtime can not tell, or there is no such environment.
    async fn memory(&self, environment: &EnvironmentId) -> Result<Option<u64>>;

    /// How much room an environment has of its own; `None` if it has no bound, or if the runtime can not tell.
    async fn room_of(&self, environment: &EnvironmentId) -> Result<Option<Room>>;

    /// Connects to a service.
    async fn dial(&self, environment: &EnvironmentId, service: &ServiceName, target: Target) -> Result<Connection>;

    /// Lines that a service or job printed.
    async fn logs(
        &self,
        environment: &EnvironmentId,
        name: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogLine>>;

    /// Runs a command in a service's container.
    async fn exec(
        &self,
        environment: &EnvironmentId,
        service: &ServiceName,
        argv: &[String],
        variables: &BTreeMap<String, String>,
    ) -> Result<Exec>;

    /// Removes everything of an environment and returns when it was seen to be gone. Also finishes a removal that was
    /// interrupted, and removes what has no environment any more.
    async fn remove(&self, environment: &EnvironmentId, generation: Generation) -> Result<()>;

    /// The newest generation whose envelope the runtime was asked to make, as it was asked: what an environment was meant to be, for
    /// whoever has lost that. `None` if there is no such environment, or if the runtime does not remember; it never guesses.
    async fn recall(&self, environment: &EnvironmentId) -> Result<Option<EnvironmentSpec>> {
        let _ = environment;
        Ok(None)
    }

    /// All that exists of one environment, or of every environment of this instance.
    async fn inventory(&self, environment: Option<&EnvironmentId>) -> Result<Vec<Resource>>;
}
