//! One generation of one environment: everything that a runtime must know to make it.

use crate::{
    BranchName, Build, CommitId, Condition, DataSet, Egress, EnvironmentId, Generation, ImageDigest, Job, JobName,
    Limits, Mount, MountKind, Network, NetworkName, ProjectName, Root, SecretRef, Service, ServiceName, SnapshotId,
    SourceName, VolumeName, Workload,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// How far [`EnvironmentSpec::service_digest`] follows `restarts_with`; a circle ends there.
const DEPENDENCIES_MAX: usize = 32;

/// A SHA-256 digest in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }

    /// The digest of these parts, each preceded by its length, so that parts can not run into each other.
    #[must_use]
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hex::encode(hash.finalize()))
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an environment exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A pull request of the source that carries the blueprint.
    PullRequest {
        /// Its number on the forge.
        number: u64,
    },
    /// A pull request of a further source.
    FurtherPullRequest {
        /// The source.
        source: SourceName,
        /// Its number on the forge.
        number: u64,
    },
    /// All pull requests of the project whose heads are branches of this name.
    PullRequests {
        /// The branch.
        branch: BranchName,
    },
    /// Somebody asked for an environment of a branch; it ends with the branch.
    Branch {
        /// The branch.
        branch: BranchName,
    },
    /// The base branch: proves the blueprint, is what previews are compared with.
    Baseline {
        /// The base branch.
        branch: BranchName,
    },
    /// Somebody asked for a copy of an environment at the commits that it had.
    Clone {
        /// What it is a copy of.
        of: EnvironmentId,
    },
    /// Maquette makes a golden.
    Golden,
    /// The engines of a project, started ahead of the next environment, which adopts them.
    Spare,
}

impl Origin {
    /// Whether it is there for people: builders of goldens and spares are Maquette's own and have no address.
    #[must_use]
    pub fn is_for_people(&self) -> bool {
        !matches!(self, Self::Golden | Self::Spare)
    }

    /// Whether it is there because of pull requests.
    #[must_use]
    pub fn is_of_pull_requests(&self) -> bool {
        matches!(
            self,
            Self::PullRequest { .. } | Self::FurtherPullRequest { .. } | Self::PullRequests { .. }
        )
    }
}

/// Where the content of a new volume comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeOrigin {
    /// Nothing.
    Empty,
    /// A thin clone of a snapshot.
    Snapshot(SnapshotId),
}

/// A volume of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Where its content comes from when it is made.
    pub origin: VolumeOrigin,
    /// The generation that it is made for. A runtime that has the volume of an older incarnation replaces it; one of the
    /// same incarnation is kept with what is in it.
    pub incarnation: Generation,
    /// Upper bound in bytes beyond what its origin holds; `None` is the runtime's default.
    pub limit_bytes: Option<u64>,
}

/// A stack of services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStack {
    /// What runs for ever.
    pub services: BTreeMap<ServiceName, Service>,
    /// What runs to an end.
    pub jobs: BTreeMap<JobName, Job>,
    /// What is kept on disk.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Databases, by the service that is their engine.
    pub data: BTreeMap<ServiceName, DataSet>,
    /// The networks that services name; empty if all share one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<NetworkName, Network>,
    /// What the Dockerfiles of the stack start from, by name, as it was when they were built. Empty until then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bases: BTreeMap<String, ImageDigest>,
}

/// What turns a stack of objects into manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Renderer {
    /// A Helm chart.
    Helm,
    /// A Kustomize folder.
    Kustomize,
    /// Plain manifests.
    Manifests,
}

/// A stack of Kubernetes objects: a chart is not a list of services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectStack {
    /// The source that holds it.
    pub source: SourceName,
    /// Relative path in the source.
    pub path: String,
    /// What renders it.
    pub renderer: Renderer,
}

/// What an environment runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stack {
    /// Services from a Compose file.
    Services(ServiceStack),
    /// Objects for a Kubernetes cluster.
    Objects(ObjectStack),
}

/// One generation of one environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    /// Whose generation this is.
    pub environment: EnvironmentId,
    /// Which one.
    pub generation: Generation,
    /// The project.
    pub project: ProjectName,
    /// Why it exists.
    pub origin: Origin,
    /// The commit of each source.
    pub sources: BTreeMap<SourceName, CommitId>,
    /// What runs.
    pub stack: Stack,
    /// Bounds for everything in it together.
    pub limits: Limits,
    /// What it may reach outside of itself. No part of the digest of a service: what runs is not started again for it.
    #[serde(default, skip_serializing_if = "Egress::is_empty")]
    pub egress: Egress,
    /// The secrets that its services, jobs and databases are given, each with the version of its value: it changes with the
    /// value and says nothing about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretRef, String>,
}

impl ServiceStack {
    /// The services that start only when this one has run to its end. One that has any is expected to end.
    pub fn awaiting_end_of<'a>(&'a self, name: &'a ServiceName) -> impl Iterator<Item = &'a ServiceName> {
        let waits = move |service: &Service| service.depends_on.get(name) == Some(&Condition::Completed);
        let waiting = self.services.iter().filter(move |(_, service)| waits(service));
        waiting.map(|(name, _)| name)
    }

    /// The volumes of what a service depends on, directly or through others.
    fn volumes_below(&self, name: &ServiceName) -> BTreeSet<&VolumeName> {
        let mut seen = BTreeSet::from([name]);
        let mut open = vec![name];
        let mut volumes = BTreeSet::new();
        while let Some(service) = open.pop().and_then(|next| self.services.get(next)) {
            for dependency in service.depends_on.keys().filter(|dependency| seen.insert(dependency)) {
                open.push(dependency);
                let mounts = self.services.get(dependency).map(|other| &other.workload.mounts);
                volumes.extend(mounts.into_iter().flatten().filter_map(Mount::volume));
            }
        }
        volumes
    }

    /// All secrets that are given to anything in it.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<&SecretRef> {
        let services = self.services.values().map(|service| &service.workload);
        let workloads = services.chain(self.jobs.values().map(|job| &job.workload));
        let passwords = self.data.values().flat_map(|set| set.password.secrets());
        workloads.flat_map(Workload::secrets).chain(passwords).collect()
    }
}

impl EnvironmentSpec {
    /// The services, or nothing for a stack of objects.
    #[must_use]
    pub fn services(&self) -> Option<&ServiceStack> {
        match &self.stack {
            Stack::Services(stack) => Some(stack),
            Stack::Objects(_) => None,
        }
    }

    /// The images that its services and jobs are made from, each with a reference that stood for it.
    #[must_use]
    pub fn images(&self) -> BTreeMap<ImageDigest, String> {
        let stack = self.services();
        let services = stack
            .into_iter()
            .flat_map(|stack| stack.services.values().map(|s| &s.workload));
        let jobs = stack
            .into_iter()
            .flat_map(|stack| stack.jobs.values().map(|j| &j.workload));
        let pinned = services.chain(jobs).filter_map(|workload| match &workload.root {
            Root::Image { reference, pinned } => Some((pinned.clone()?, reference.clone())),
            _ => None,
        });
        pinned.collect()
    }

    /// What is built from Dockerfiles, each work once, by the first service that wants it.
    #[must_use]
    pub fn dockerfiles(&self) -> BTreeMap<&ServiceName, &Build> {
        let mut found: BTreeMap<&ServiceName, &Build> = BTreeMap::new();
        for (name, service) in self.services().into_iter().flat_map(|stack| &stack.services) {
            if let Root::Build(build) = &service.workload.root
                && !found.values().any(|other| other.is_same(build))
            {
                found.insert(name, build);
            }
        }
        found
    }

    /// The service for whose sake the root of this workload is built.
    #[must_use]
    pub fn built_for(&self, workload: &Workload) -> Option<&ServiceName> {
        let Root::Build(build) = &workload.root else {
            return None;
        };
        let all = self.dockerfiles();
        all.into_iter()
            .find(|(_, other)| other.is_same(build))
            .map(|(name, _)| name)
    }

    /// The digest of a service as this generation wants it: its own description, the commits of the sources and the
    /// incarnations of the volumes that it mounts; for one whose end others wait for, also of the volumes of what it depends on.
    /// A running container with the same digest is left alone, and one that has ended well.
    #[must_use]
    pub fn service_digest(&self, name: &ServiceName) -> Option<Digest> {
        self.digest_within(name, DEPENDENCIES_MAX)
    }

    fn digest_within(&self, name: &ServiceName, depth: usize) -> Option<Digest> {
        let service = self.services()?.services.get(name)?;
        let text = serde_json::to_vec(service).unwrap_or_default();
        let own = self.digest_with_data_below(name, self.digest_with_mounts(&text, &service.workload));
        if service.restarts_with.is_empty() || depth == 0 {
            return Some(own);
        }
        let others = service
            .restarts_with
            .iter()
            .filter_map(|other| self.digest_within(other, depth - 1));
        let parts: Vec<Digest> = std::iter::once(own).chain(others).collect();
        Some(Digest::of_parts(parts.iter().map(|part| part.as_str().as_bytes())))
    }

    /// The digest of a job, as [`Self::service_digest`]. A job with the same digest that has succeeded is not run again.
    #[must_use]
    pub fn job_digest(&self, name: &JobName) -> Option<Digest> {
        let job = self.services()?.jobs.get(name)?;
        let text = serde_json::to_vec(job).unwrap_or_default();
        Some(self.digest_with_mounts(&text, &job.workload))
    }

    /// The snapshot of what a job on [`crate::JobEvent::Build`] makes; `None` if it makes nothing. It is the same for all
    /// environments of the project in which the job would see the same.
    #[must_use]
    pub fn product(&self, name: &JobName) -> Option<SnapshotId> {
        let job = self.services()?.jobs.get(name)?;
        let product = job.product.as_ref()?;
        let seen = serde_json::to_vec(&(&self.project, &job.workload, product)).unwrap_or_default();
        let digest = match &product.inputs {
            Some(_) => Digest::of(&seen),
            None => self.digest_with_mounts(&seen, &job.workload),
        };
        Some(SnapshotId::built(&digest))
    }

    /// The snapshots of builds that services and jobs mount.
    pub fn products(&self) -> impl Iterator<Item = SnapshotId> {
        let jobs = self.services().into_iter().flat_map(|stack| stack.jobs.keys());
        jobs.filter_map(|job| self.product(job))
    }

    /// What a service has done that runs to its end is in the data of others: where that is made anew, it is to run anew.
    fn digest_with_data_below(&self, name: &ServiceName, own: Digest) -> Digest {
        let Some(stack) = self
            .services()
            .filter(|stack| stack.awaiting_end_of(name).next().is_some())
        else {
            return own;
        };
        let volumes = stack.volumes_below(name).into_iter();
        let incarnations: Vec<[u8; 8]> = volumes
            .map(|volume| stack.volumes.get(volume).map_or(0, |v| v.incarnation.0).to_be_bytes())
            .collect();
        let parts = std::iter::once(own.as_str().as_bytes()).chain(incarnations.iter().map(<[u8; 8]>::as_slice));
        Digest::of_parts(parts)
    }

    fn digest_with_mounts(&self, text: &[u8], workload: &Workload) -> Digest {
        let mut parts = vec![text.to_vec()];
        // Once it is built, what it was built to tells more than what it was built from.
        if let Root::Build(build) = &workload.root
            && build.made.is_none()
        {
            let commit = self.sources.get(&build.source);
            parts.push(commit.map_or_else(Vec::new, |commit| commit.as_str().as_bytes().to_vec()));
        }
        for mount in &workload.mounts {
            match &mount.kind {
                MountKind::Source { source, .. } => {
                    parts.push(
                        self.sources
                            .get(source)
                            .map_or_else(Vec::new, |c| c.as_str().as_bytes().to_vec()),
                    );
                }
                MountKind::Volume { volume } | MountKind::VolumePath { volume, .. } => {
                    let volume = self.services().and_then(|s| s.volumes.get(volume));
                    parts.push(volume.map_or(0, |v| v.incarnation.0).to_be_bytes().to_vec());
                }
                MountKind::Built { job, .. } => {
                    let product = self.product(job);
                    parts.push(product.map_or_else(Vec::new, |id| id.as_str().as_bytes().to_vec()));
                }
                MountKind::Tmpfs { .. } | MountKind::Content { .. } | MountKind::Program => {}
            }
        }
        for name in workload.secrets() {
            parts.push(self.secret_part(name));
        }
        Digest::of_parts(parts.iter().map(Vec::as_slice))
    }

    fn secret_part(&self, name: &SecretRef) -> Vec<u8> {
        let version = self.secrets.get(name).map_or("", String::as_str);
        format!("{}\0{version}", name.0).into_bytes()
    }

    /// Tells one password of a database's role from the next, without saying anything about one that is a secret.
    #[must_use]
    pub fn password_digest(&self, set: &crate::DataSet) -> Digest {
        let mut parts = vec![serde_json::to_vec(&set.password).unwrap_or_default()];
        parts.extend(set.password.secrets().into_iter().map(|name| self.secret_part(name)));
        Digest::of_parts(parts.iter().map(Vec::as_slice))
    }
}
