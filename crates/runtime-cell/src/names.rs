//! The deterministic names of everything that the embedded runtime makes.
//!
//! Each holds environment and, where it is visible to the whole machine, instance: everything can be found by listing.

use crate::sandbox::cgroup::builds;
use model::{
    CommitId, Digest, EnvironmentId, EnvironmentSpec, Generation, ImageDigest, InstanceId, Job, JobName, Mount,
    MountKind, Resource, Root, ServiceName, SnapshotId, SourceName, Stage, VolumeName, Workload,
};
use runtime::SourceKey;

/// A container's name within its environment: services and jobs have separate name spaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct UnitName(String);

impl UnitName {
    /// That of a service.
    pub(crate) fn service(name: &ServiceName) -> Self {
        Self(format!("s-{name}"))
    }

    /// That of a job.
    pub(crate) fn job(name: &JobName) -> Self {
        Self(format!("j-{name}"))
    }

    /// That of the build of a service's image.
    pub(crate) fn build(name: &ServiceName) -> Self {
        Self(format!("b-{name}"))
    }

    /// As text: the name of directories and control groups.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The service, if it is one.
    pub(crate) fn as_service(&self) -> Option<ServiceName> {
        self.0.strip_prefix("s-")?.parse().ok()
    }

    /// The job, if it is one.
    pub(crate) fn as_job(&self) -> Option<JobName> {
        self.0.strip_prefix("j-")?.parse().ok()
    }

    /// The service whose image it builds, if it is a build.
    pub(crate) fn as_build(&self) -> Option<ServiceName> {
        self.0.strip_prefix("b-")?.parse().ok()
    }

    /// What its author called it.
    pub(crate) fn plain(&self) -> &str {
        self.0.get(2..).unwrap_or_default()
    }
}

/// The container's id, unique on the machine.
pub(crate) fn container_id(instance: &InstanceId, environment: &EnvironmentId, unit: &UnitName) -> String {
    format!("{instance}-{environment}-{}", unit.as_str())
}

/// The pool has lower-case names only: `_` doubles, a capital becomes `_` and its small letter; long ones end in a digest.
fn pool_name(name: &str) -> String {
    let mut safe = String::new();
    for c in name.chars() {
        match c {
            '_' => safe.push_str("__"),
            c if c.is_ascii_uppercase() => safe.extend(['_', c.to_ascii_lowercase()]),
            c => safe.push(c),
        }
    }
    if safe.len() > 64 {
        let digest = Digest::of(name.as_bytes());
        safe = format!("{}..{}", &safe[..30], &digest.as_str()[..32]);
    }
    safe
}

/// A volume's name in the pool: its incarnation is a part of it, so that a listing tells which one is there.
pub(crate) fn volume(name: &VolumeName, incarnation: Generation) -> String {
    format!("v{incarnation}-{}", pool_name(name.as_str()))
}

/// Whether a name in the pool is some incarnation of this volume, and which.
pub(crate) fn volume_incarnation(in_pool: &str, name: &VolumeName) -> Option<Generation> {
    let (number, rest) = in_pool.strip_prefix('v')?.split_once('-')?;
    (rest == pool_name(name.as_str())).then(|| number.parse().ok().map(Generation))?
}

/// The private writable layer of one container over one commit of one source.
pub(crate) fn layer(unit: &UnitName, source: &SourceName, commit: &CommitId) -> String {
    let digest = Digest::of_parts([source.as_str().as_bytes(), commit.as_str().as_bytes()]);
    format!("c{}{}", &digest.as_str()[..10], layer_suffix(unit))
}

/// The private writable layer of one container over what a build has made.
pub(crate) fn built_layer(unit: &UnitName, product: &SnapshotId) -> String {
    let digest = Digest::of(product.as_str().as_bytes());
    format!("c{}{}", &digest.as_str()[..10], layer_suffix(unit))
}

/// The part of `target` below a mount, if it lies there.
fn below<'a>(mount: &Mount, target: &'a str) -> Option<&'a str> {
    target
        .strip_prefix(mount.target.trim_end_matches('/'))?
        .strip_prefix('/')
}

/// Where in the checkout that a mount shows, from its root, what builds have made is mounted.
pub(crate) fn mount_points<'a>(workload: &'a Workload, mount: &Mount, subpath: &str) -> Vec<(String, &'a MountKind)> {
    let built = workload
        .mounts
        .iter()
        .filter(|m| matches!(m.kind, MountKind::Built { .. }));
    built
        .filter_map(|built| Some((below(mount, &built.target)?, &built.kind)))
        .map(|(rest, kind)| (format!("{subpath}/{rest}").trim_matches('/').to_owned(), kind))
        .collect()
}

/// Whether a mount of a source has a private layer: it is written, or something that a build has made is mounted in it.
pub(crate) fn needs_layer(workload: &Workload, mount: &Mount) -> bool {
    !mount.read_only || !mount_points(workload, mount, "").is_empty()
}

/// The private writable layer of one container over its image.
pub(crate) fn image_layer(unit: &UnitName, image: &ImageDigest) -> String {
    format!("r{}{}", &image.hex()[..10], layer_suffix(unit))
}

/// What the names of all layers of a container end in.
pub(crate) fn layer_suffix(unit: &UnitName) -> String {
    format!("-{}", pool_name(unit.as_str()))
}

/// Whether a name in the pool is a layer of this container.
pub(crate) fn is_layer_of(in_pool: &str, unit: &UnitName) -> bool {
    in_pool
        .strip_prefix(['c', 'r'])
        .and_then(|rest| rest.get(10..))
        .is_some_and(|rest| rest == layer_suffix(unit))
}

/// Where a build assembles layers.
pub(crate) fn build_storage(unit: &UnitName) -> String {
    format!("b{}", layer_suffix(unit))
}

/// Where a build works and leaves its result.
pub(crate) fn build_work(unit: &UnitName) -> String {
    format!("o{}", layer_suffix(unit))
}

/// The images that a build starts from.
pub(crate) fn build_bases(unit: &UnitName) -> String {
    format!("i{}", layer_suffix(unit))
}

/// Whether a service is built by approval alone.
pub(crate) fn builds_by_approval(spec: &EnvironmentSpec, service: &ServiceName) -> bool {
    let root = spec.services().and_then(|stack| stack.services.get(service));
    matches!(root.map(|s| &s.workload.root), Some(Root::Build(build)) if build.private_to.is_some())
}

/// The layers that a build of an environment has made, for its next one; those of builds by approval are apart.
pub(crate) fn build_cache(environment: &EnvironmentId, unit: &UnitName, private: bool) -> String {
    let apart: &[u8] = if private { b"private" } else { b"" };
    let parts = [environment.as_str().as_bytes(), unit.as_str().as_bytes(), apart];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    format!(
        "{}{environment}.{}",
        BUILD_CACHE,
        &Digest::of_parts(parts).as_str()[..16]
    )
}

/// What the names of all caches of an environment's builds begin with.
pub(crate) fn build_caches(environment: &EnvironmentId) -> String {
    format!("{BUILD_CACHE}{environment}.")
}

/// What the names of the caches of builds in the pool begin with; no snapshot's id does.
pub(crate) const BUILD_CACHE: &str = "build..";

/// The layers that a build has left for the next one.
pub(crate) fn build_layers(environment: &EnvironmentId, cache: String) -> Resource {
    resource(environment, "build-layers", cache)
}

/// What a build makes.
pub(crate) fn build_footprint(instance: &InstanceId, spec: &EnvironmentSpec, service: &ServiceName) -> Vec<Resource> {
    let environment = &spec.environment;
    let unit = UnitName::build(service);
    let volumes = [build_storage(&unit), build_work(&unit), build_bases(&unit)];
    let mut all = vec![container(environment, container_id(instance, environment, &unit))];
    all.extend(build_groups(environment, &unit));
    all.extend(volumes.iter().map(|name| subvolume(environment, name)));
    all.push(build_layers(
        environment,
        build_cache(environment, &unit, builds_by_approval(spec, service)),
    ));
    all
}

/// The control groups of a build, which lie beside those of what runs.
fn build_groups(environment: &EnvironmentId, unit: &UnitName) -> [Resource; 2] {
    let id = environment.as_str();
    [builds::group(id), builds::group_of(id, unit.as_str())].map(|path| cgroup(environment, path))
}

/// What a job needs.
pub(crate) fn job_footprint(instance: &InstanceId, spec: &EnvironmentSpec, job: &Job) -> Vec<Resource> {
    let unit = UnitName::job(&job.name);
    let mut all = unit_footprint(instance, spec, &unit, &job.workload);
    if job.product.is_some() {
        let beside = cgroup(&spec.environment, group_of(&spec.environment, &unit));
        all.retain(|resource| *resource != beside);
        all.extend(build_groups(&spec.environment, &unit));
    }
    all
}

/// A source's name in the pool.
pub(crate) fn source(key: &SourceKey) -> String {
    let parts = [key.project.as_str(), key.source.as_str(), key.commit.as_str()].map(str::as_bytes);
    Digest::of_parts(parts).as_str()[..40].to_owned()
}

fn resource(environment: &EnvironmentId, kind: &str, name: String) -> Resource {
    Resource {
        environment: environment.clone(),
        kind: kind.to_owned(),
        name,
    }
}

/// The network namespace of an environment.
pub(crate) fn network(environment: &EnvironmentId) -> Resource {
    resource(environment, "network-namespace", environment.to_string())
}

/// What the door has of an environment: sockets in its network.
pub(crate) fn door(environment: &EnvironmentId) -> Resource {
    resource(environment, "door", environment.to_string())
}

fn group_of(environment: &EnvironmentId, unit: &UnitName) -> String {
    format!("{environment}/{}", unit.as_str())
}

/// A control group, relative to the instance's.
pub(crate) fn cgroup(environment: &EnvironmentId, path: String) -> Resource {
    resource(environment, "cgroup", path)
}

/// A directory below the run or the state directory.
pub(crate) fn directory(environment: &EnvironmentId, path: String) -> Resource {
    resource(environment, "directory", path)
}

/// A container with its monitor.
pub(crate) fn container(environment: &EnvironmentId, id: String) -> Resource {
    resource(environment, "container", id)
}

/// A subvolume, relative to the pool's environments.
pub(crate) fn subvolume(environment: &EnvironmentId, name: &str) -> Resource {
    resource(environment, "subvolume", format!("{environment}/{name}"))
}

/// A temporary mount, relative to the run directory.
pub(crate) fn mount(environment: &EnvironmentId, path: String) -> Resource {
    resource(environment, "mount", path)
}

/// What applying a stage makes. Mounts only exist while a container is created and are not listed.
pub(crate) fn footprint(instance: &InstanceId, spec: &EnvironmentSpec, stage: &Stage) -> Vec<Resource> {
    let environment = &spec.environment;
    let Some(stack) = spec.services() else {
        return Vec::new();
    };
    match stage {
        Stage::Envelope => {
            let mut all = vec![
                network(environment),
                cgroup(environment, environment.to_string()),
                directory(environment, format!("run/{environment}")),
                directory(environment, format!("state/{environment}")),
                directory(environment, format!("pool/{environment}")),
            ];
            if !spec.egress.is_empty() {
                all.push(door(environment));
            }
            all.extend(
                stack
                    .volumes
                    .iter()
                    .map(|(name, v)| subvolume(environment, &volume(name, v.incarnation))),
            );
            all
        }
        Stage::Services(names) => {
            let found = names.iter().filter_map(|name| Some((name, stack.services.get(name)?)));
            found
                .flat_map(|(name, s)| unit_footprint(instance, spec, &UnitName::service(name), &s.workload))
                .collect()
        }
        Stage::Prune | Stage::Whole => Vec::new(),
    }
}

/// What one container needs.
pub(crate) fn unit_footprint(
    instance: &InstanceId,
    spec: &EnvironmentSpec,
    unit: &UnitName,
    workload: &Workload,
) -> Vec<Resource> {
    let environment = &spec.environment;
    let mut all = vec![
        container(environment, container_id(instance, environment, unit)),
        cgroup(environment, group_of(environment, unit)),
    ];
    all.extend(
        layers(spec, unit, workload)
            .iter()
            .map(|name| subvolume(environment, name)),
    );
    all
}

/// The layers of one container, each once.
pub(crate) fn layers(
    spec: &EnvironmentSpec,
    unit: &UnitName,
    workload: &Workload,
) -> std::collections::BTreeSet<String> {
    let written = workload.mounts.iter().filter_map(|m| match &m.kind {
        MountKind::Source { source, .. } if needs_layer(workload, m) => {
            Some(layer(unit, source, spec.sources.get(source)?))
        }
        MountKind::Built { job, .. } => Some(built_layer(unit, &spec.product(job)?)),
        _ => None,
    });
    let image = workload.root.image().map(|image| image_layer(unit, image));
    written.chain(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_names_are_plain_and_never_meet() {
        let names = [
            "a_b",
            "aB",
            "a__b",
            "A_b",
            "a.b",
            "a-b",
            "AB",
            &"X".repeat(60),
            &"x".repeat(60),
        ];
        let volumes: std::collections::BTreeSet<String> = names
            .iter()
            .map(|n| volume(&n.parse().unwrap(), Generation(7)))
            .collect();
        assert_eq!(volumes.len(), names.len());
        for name in &volumes {
            assert!(
                name.len() <= 96
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)),
                "{name}"
            );
        }
    }

    #[test]
    fn the_incarnation_of_a_volume_can_be_read_from_its_name() {
        let name: VolumeName = "Data_1".parse().unwrap();
        assert_eq!(
            volume_incarnation(&volume(&name, Generation(12)), &name),
            Some(Generation(12))
        );
        assert_eq!(
            volume_incarnation(&volume(&name, Generation(12)), &"other".parse().unwrap()),
            None
        );
    }
}
