//! Builds in a checkout, from `build` of `stack.services`: a job that makes something, and what mounts it.

use super::Assembly;
use crate::{
    data,
    escape::quoted,
    explain::{Explanation, Place},
    problem::At,
    settings::Build,
    suggest, tree,
};
use model::{
    Feature, Job, JobEvent, JobName, Limits, Mount, MountKind, Product, Root, Service, ServiceName, ServiceStack,
};
use std::collections::BTreeMap;

/// The most files that a build names: they are part of every generation.
const INPUTS_MAX: usize = 1_000;
/// The most paths that a build makes: each is a mount.
const OUTPUTS_MAX: usize = 20;

impl Assembly<'_> {
    /// Adds the jobs that build, and mounts what they make in the services that want it.
    pub(super) fn native_builds(&self, stack: &mut ServiceStack, explanation: &mut Explanation) {
        let mut made: BTreeMap<ServiceName, (Job, Vec<String>)> = BTreeMap::new();
        for (name, build) in self.builds() {
            if build.of.is_none()
                && let Some(service) = stack.services.get(&name)
                && let Some(built) = self.native_build(&name, build, service)
            {
                self.explain_build(&name, build, &built, explanation);
                made.insert(name, built);
            }
        }
        for (name, build) in self.builds() {
            let of = match &build.of {
                None => Some(name.clone()),
                Some((at, of)) => self.build_of(*at, of, &made),
            };
            let built = of.and_then(|of| made.get(&of));
            if let (Some((job, outputs)), Some(service)) = (built, stack.services.get_mut(&name)) {
                self.mount_built(&name, build.at, service, job, outputs);
            }
        }
        for (job, _) in made.into_values() {
            stack.jobs.insert(job.name.clone(), job);
        }
    }

    fn builds(&self) -> impl Iterator<Item = (ServiceName, &Build)> {
        let services = self.stack.services.iter();
        services.filter_map(|(name, said)| Some((name.parse().ok()?, said.build.as_ref()?)))
    }

    /// The service whose build another one uses.
    fn build_of(&self, at: At, of: &str, made: &BTreeMap<ServiceName, (Job, Vec<String>)>) -> Option<ServiceName> {
        let found = made.keys().find(|name| name.as_str() == of);
        if found.is_none() && !self.settings.has_errors() {
            let names: Vec<&str> = made.keys().map(ServiceName::as_str).collect();
            let message = format!("no service {} has a build of its own", quoted(of));
            self.settings.error_hint(at, message, suggest::hint(of, &names));
        }
        found.cloned()
    }

    fn native_build(&self, name: &ServiceName, build: &Build, service: &Service) -> Option<(Job, Vec<String>)> {
        let error = |at: At, message: String, hint: &str| self.settings.error_hint(at, message, hint);
        if matches!(service.workload.root, Root::Engine(_)) {
            error(
                build.at,
                format!("service `{name}` is a data engine and builds nothing"),
                "remove `build`",
            );
            return None;
        }
        if !self.capabilities.features.contains(&Feature::NativeBuilds) {
            let runtime = &self.capabilities.runtime;
            error(
                build.at,
                format!("the runtime `{runtime}` builds nothing in a checkout, as service `{name}` wants"),
                "build an image with a Dockerfile",
            );
            return None;
        }
        let mut mounts: Vec<Mount> = self.checkouts(name, service).cloned().collect();
        if mounts.is_empty() {
            error(
                build.at,
                format!("service `{name}` has a build and mounts nothing of the repository"),
                "mount it where the program expects it: `volumes: [\".:/app\"]` and `working_dir: /app` in the Compose file",
            );
            return None;
        }
        for mount in &mut mounts {
            mount.read_only = false;
        }
        let inputs = match &build.inputs {
            Some(patterns) => self.inputs(name, patterns)?,
            None => None,
        };
        let outputs = self.outputs(build)?;
        if inputs.is_some() && outputs.is_empty() {
            error(
                build.at,
                format!("the build of service `{name}` has `inputs` and no `outputs`"),
                "name what it makes of them: `outputs: [node_modules]`",
            );
            return None;
        }
        let job = format!("build-{name}");
        let is_taken = self.body_of(&job).is_some() || self.stack.jobs.iter().any(|other| other.name.as_str() == job);
        let job: JobName = match job.parse() {
            Ok(job) if !is_taken => job,
            _ => {
                let message = format!("the build of service `{name}` can not be called `{job}`");
                let hint = "rename the service, or the job or service of that name";
                error(build.at, message, hint);
                return None;
            }
        };
        let mut workload = service.workload.clone();
        workload.entrypoint = Some(build.run.clone());
        workload.command = None;
        // Only what the build says of itself: the variables of the service differ from environment to environment.
        workload.environment = self.environment(&job, build.at, &build.environment, false);
        workload.limits = Limits::default();
        workload.mounts = mounts;
        let product = Product {
            source: self.source_of(name).clone(),
            inputs,
            private_to: None,
        };
        let job = Job {
            name: job,
            workload,
            on: JobEvent::Build,
            needs: Vec::new(),
            timeout_ms: build.timeout_ms,
            product: Some(product),
            schedule: None,
        };
        Some((job, outputs))
    }

    /// The mounts of a service that show the repository.
    fn checkouts<'a>(&'a self, name: &ServiceName, service: &'a Service) -> impl Iterator<Item = &'a Mount> {
        let own = self.source_of(name);
        let ours = move |mount: &&Mount| matches!(&mount.kind, MountKind::Source { source, .. } if source == own);
        service.workload.mounts.iter().filter(ours)
    }

    /// The files that patterns name, with an id of each one's content; none where they are not looked at.
    #[allow(
        clippy::option_option,
        reason = "problems, and files that are not here, are different things"
    )]
    fn inputs(&self, name: &ServiceName, patterns: &[(At, String)]) -> Option<Option<BTreeMap<String, String>>> {
        let mut found = BTreeMap::new();
        let other = self.elsewhere.get(name.as_str());
        let (tree, listed) = match other.map(|elsewhere| elsewhere.found) {
            None => (self.tree, None),
            Some(Some(further)) => (further.tree, Some(self.listed(further.tree))),
            Some(None) => return Some(None),
        };
        let all = listed.as_deref().unwrap_or_else(|| self.paths());
        for (at, pattern) in patterns {
            // A folder stands for all that is in it.
            let folder = tree::join("", pattern).ok();
            let folder = folder.filter(|path| tree::resolve(tree, path) == Ok(tree::Kind::Directory));
            let paths = match folder {
                Some(folder) => data::matching(self, all, *at, format!("{folder}/**").trim_start_matches('/'))?,
                None => data::matching(self, all, *at, pattern)?,
            };
            for path in paths {
                let Some(id) = tree.content_id(&path) else {
                    let message = format!("{} is no file of the repository", quoted(&path));
                    self.settings.error(*at, message);
                    return None;
                };
                found.insert(path, id);
            }
            if found.len() > INPUTS_MAX {
                self.settings.error_hint(
                    *at,
                    format!("the build has more than {INPUTS_MAX} inputs"),
                    "without `inputs` it sees the whole commit, and runs for each commit",
                );
                return None;
            }
        }
        Some(Some(found))
    }

    /// What a build says that it makes, as paths from the root of the repository.
    fn outputs(&self, build: &Build) -> Option<Vec<String>> {
        if build.outputs.len() > OUTPUTS_MAX {
            let message = format!("the build has more than {OUTPUTS_MAX} outputs");
            self.settings
                .error_hint(build.at, message, "name the folders that they lie in");
            return None;
        }
        let mut outputs = Vec::new();
        for (at, path) in &build.outputs {
            match tree::join("", path) {
                Ok(path) if !path.is_empty() => outputs.push(path),
                Ok(_) => {
                    let message = "the whole repository can not be an output";
                    self.settings
                        .error_hint(*at, message, "leave out `outputs` and `inputs` to keep all of it");
                    return None;
                }
                Err(error) => {
                    self.settings.error(*at, format!("{} {error}", quoted(path)));
                    return None;
                }
            }
        }
        Some(outputs)
    }

    /// Mounts what a job makes where a service expects it.
    fn mount_built(&self, name: &ServiceName, at: At, service: &mut Service, job: &Job, outputs: &[String]) {
        let of_other = |product: &Product| product.source != *self.source_of(name);
        if job.product.as_ref().is_some_and(of_other) {
            let message = format!("service `{name}` uses the build of a service that is from another source");
            self.settings
                .error_hint(at, message, "give it a `build` of its own, or the same `source`");
            return;
        }
        let mut built = Vec::new();
        let mut used = vec![false; outputs.len()];
        for mount in self.checkouts(name, service) {
            let MountKind::Source { subpath, .. } = &mount.kind else {
                continue;
            };
            if outputs.is_empty() {
                built.push(of(job, mount.target.clone(), subpath.clone(), mount.read_only));
            }
            for (output, used) in outputs.iter().zip(&mut used) {
                if let Some(rest) = inside(output, subpath) {
                    *used = true;
                    let target = format!("{}/{rest}", mount.target.trim_end_matches('/'));
                    let target = target.trim_end_matches('/').to_owned();
                    built.push(of(job, target, output.clone(), mount.read_only && rest.is_empty()));
                }
            }
        }
        if let Some(place) = used.iter().position(|used| !used) {
            self.settings.error_hint(
                at,
                format!(
                    "service `{name}` mounts nothing in which {} lies",
                    quoted(&outputs[place])
                ),
                "outputs start from the root of the repository, and must lie in a folder that the service mounts",
            );
        }
        let mounts = &mut service.workload.mounts;
        mounts.retain(|mount| built.iter().all(|other: &Mount| other.target != mount.target));
        mounts.extend(built);
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
    }

    fn explain_build(
        &self,
        name: &ServiceName,
        build: &Build,
        (job, outputs): &(Job, Vec<String>),
        explanation: &mut Explanation,
    ) {
        let inputs = job.product.as_ref().and_then(|product| product.inputs.as_ref());
        let of = inputs.map_or_else(
            || "the commit".to_owned(),
            |inputs| match inputs.len() {
                1 => "1 file".to_owned(),
                count => format!("{count} files"),
            },
        );
        let makes = if outputs.is_empty() {
            "all of it is kept".to_owned()
        } else {
            format!("makes {}", outputs.join(", "))
        };
        let value = format!("`{}` with {of}, {makes}", build.run.join(" "));
        explanation.set(
            format!("stack.services.{name}.build"),
            crate::escape::tame(&value, 200),
            Place::at(self.settings, build.at),
        );
    }
}

fn of(job: &Job, target: String, subpath: String, read_only: bool) -> Mount {
    Mount {
        target,
        kind: MountKind::Built {
            job: job.name.clone(),
            subpath,
        },
        read_only,
    }
}

/// The rest of a path inside of a folder; empty if it is the folder.
fn inside<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    if folder.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(folder)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}
