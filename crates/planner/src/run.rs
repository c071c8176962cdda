//! The plan that brings an environment to a generation.

use crate::{Action, Observed, Plan, StepState, end, service::Wanted};
use model::{
    Capabilities, DataFact, DataSet, Digest, EnvironmentSpec, Feature, ImageDigest, JobEvent, Mount, MountKind, Power,
    Root, Service, ServiceName, ServiceStack, ServiceState, SnapshotId, SourceName, Stage, Staging, Timestamp,
    VolumeName, VolumeOrigin, Workload,
};
use std::collections::BTreeSet;

pub(crate) fn plan(
    spec: &EnvironmentSpec,
    power: Power,
    observed: &Observed,
    capabilities: &Capabilities,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let sleeping = observed.runtime.as_ref().is_some_and(|o| o.power != Power::Running);
    let settled = observed.verified == Some(spec.generation);
    // What is frozen runs once more before it is stopped, if a job wants to see that.
    let thaws = observed.runtime.as_ref().is_some_and(|o| o.power == Power::Frozen)
        && power == Power::Stopped
        && end::jobs(spec, JobEvent::Stop).any(|job| !end::is_over(spec, observed, job));
    if sleeping && settled && power != Power::Running && !thaws {
        if observed.runtime.as_ref().is_some_and(|o| o.power != power) {
            plan.push("power", Action::Power(power), Vec::new(), StepState::Ready);
        }
        return plan;
    }
    if capabilities.sources {
        sources(&mut plan, spec, observed);
    }
    if sleeping {
        plan.push("wake", Action::Wake, Vec::new(), StepState::Ready);
    }
    match (spec.services(), capabilities.staging) {
        (Some(stack), Staging::Levels) => Levels {
            spec,
            stack,
            observed,
            now,
            settled,
            brought: capabilities.features.contains(&Feature::BroughtImages),
            sources: capabilities.sources,
        }
        .plan(&mut plan),
        (stack, _) => whole(&mut plan, spec, stack, observed, now, settled),
    }
    verify(&mut plan, spec, observed);
    if power != Power::Running {
        let mut after = vec!["verify".to_owned()];
        if sleeping {
            after.push("wake".to_owned());
        }
        if power == Power::Stopped {
            let jobs = end::push_jobs_on_stop(&mut plan, spec, observed, &after);
            after.extend(jobs);
        }
        plan.push_when_free("power", Action::Power(power), after, StepState::Ready);
    }
    plan
}

fn done_if(done: bool) -> StepState {
    if done { StepState::Done } else { StepState::Ready }
}

fn ids(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.id.clone()).collect()
}

fn sources(plan: &mut Plan, spec: &EnvironmentSpec, observed: &Observed) {
    for source in spec.sources.keys() {
        let state = done_if(observed.sources.contains(source));
        plan.push(source_id(source), Action::Source(source.clone()), Vec::new(), state);
    }
}

fn source_id(source: &SourceName) -> String {
    format!("source:{source}")
}

fn is_source(step: &str) -> bool {
    step.starts_with("source:")
}

/// One stage for everything: the delivery orders data, jobs and workloads itself.
fn whole(
    plan: &mut Plan,
    spec: &EnvironmentSpec,
    stack: Option<&ServiceStack>,
    observed: &Observed,
    now: Timestamp,
    settled: bool,
) {
    let after = ids(plan);
    let applied = observed
        .runtime
        .as_ref()
        .is_some_and(|o| o.generation >= spec.generation && o.envelope == Some(spec.generation));
    plan.push_when_free("roll-out", Action::Apply(Stage::Whole), after, done_if(applied));
    if !applied {
        return;
    }
    let Some(stack) = stack else { return };
    for (name, service) in &stack.services {
        let wanted = Wanted::new(spec, stack, name, service);
        let state = match wanted.state(observed.runtime.as_ref(), settled, false, now) {
            StepState::Ready => StepState::InProgress {
                waiting_for: format!("{name} to appear"),
                until: None,
            },
            state => state,
        };
        let action = Action::Apply(Stage::Services(BTreeSet::from([name.clone()])));
        plan.push(format!("service:{name}"), action, vec!["roll-out".to_owned()], state);
    }
}

fn verify(plan: &mut Plan, spec: &EnvironmentSpec, observed: &Observed) {
    let after = ids(plan);
    let state = done_if(observed.verified == Some(spec.generation));
    plan.push_when_free("verify", Action::Verify, after, state);
}

/// The plan that stops an environment as it stands. `spec` is what was live there, if anything was.
pub(crate) fn stop(spec: Option<&EnvironmentSpec>, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let Some(runtime) = observed.runtime.as_ref().filter(|o| o.power != Power::Stopped) else {
        return plan;
    };
    let mut after = Vec::new();
    // A job in it would thaw what is frozen: whoever froze it had no use for it.
    if let Some(spec) = spec.filter(|_| runtime.power == Power::Running) {
        after = end::push_jobs_on_stop(&mut plan, spec, observed, &[]);
    }
    plan.push_when_free("power", Action::Power(Power::Stopped), after, StepState::Ready);
    plan
}

/// Planning for runtimes that take one stage at a time.
struct Levels<'a> {
    spec: &'a EnvironmentSpec,
    stack: &'a ServiceStack,
    observed: &'a Observed,
    now: Timestamp,
    settled: bool,
    /// Whether images have to be brought to the runtime.
    brought: bool,
    /// Whether files of commits are.
    sources: bool,
}

/// The id of the step that brings an image.
fn image_step(image: &ImageDigest) -> String {
    format!("image:{}", image.short())
}

impl Levels<'_> {
    fn plan(&self, plan: &mut Plan) {
        self.snapshots(plan);
        self.keep_and_release(plan);
        self.envelope(plan);
        self.images(plan);
        self.dockerfiles(plan);
        self.builds(plan);
        for name in self.order() {
            self.service(plan, &name);
            self.data(plan, &name);
            self.jobs(plan);
        }
        self.prune(plan);
    }

    /// Services so that each comes after those that it depends on. The blueprint has refused cycles; should one get here, its
    /// members come last in the order of their names and block each other visibly.
    fn order(&self) -> Vec<ServiceName> {
        let mut order: Vec<ServiceName> = Vec::new();
        let mut left: BTreeSet<&ServiceName> = self.stack.services.keys().collect();
        while !left.is_empty() {
            let free: Vec<&ServiceName> = left
                .iter()
                .copied()
                .filter(|name| self.stack.services[*name].depends_on.keys().all(|d| !left.contains(d)))
                .collect();
            let next = if free.is_empty() {
                left.iter().copied().collect()
            } else {
                free
            };
            for name in next {
                left.remove(name);
                order.push(name.clone());
            }
        }
        order
    }

    fn snapshots(&self, plan: &mut Plan) {
        let wanted: BTreeSet<&SnapshotId> = self
            .stack
            .volumes
            .iter()
            .filter(|(name, _)| self.volume_is_missing(name))
            .filter_map(|(_, volume)| match &volume.origin {
                VolumeOrigin::Snapshot(id) => Some(id),
                VolumeOrigin::Empty => None,
            })
            .collect();
        for id in wanted {
            let state = if self.observed.snapshots.contains(id) {
                StepState::Done
            } else if let Some(failure) = self.observed.snapshots_failed.get(id) {
                StepState::Failed {
                    failure: failure.clone(),
                }
            } else {
                StepState::InProgress {
                    waiting_for: format!("the golden {id}"),
                    until: None,
                }
            };
            plan.push(
                format!("snapshot:{id}"),
                Action::AwaitSnapshot(id.clone()),
                Vec::new(),
                state,
            );
        }
    }

    fn volume_is_missing(&self, name: &VolumeName) -> bool {
        let wanted = self.stack.volumes.get(name).map(|volume| volume.incarnation);
        let found = self
            .observed
            .runtime
            .as_ref()
            .and_then(|o| o.volumes.get(name))
            .map(|fact| fact.incarnation);
        wanted != found
    }

    /// Before what people did is migrated or replaced a copy is kept, so that it can come back if the generation fails;
    /// before a volume is replaced its services stop. So does what hangs since an older generation, to be started anew.
    fn keep_and_release(&self, plan: &mut Plan) {
        let after = ids(plan);
        for (service, set) in &self.stack.data {
            let Some(fact) = self.observed.data.get(service) else {
                continue;
            };
            let changes = self.is_replaced(&set.volume) || self.migrations_pending(set, fact);
            if !fact.prepared || !changes || self.observed.unused {
                continue;
            }
            let snapshot = kept_snapshot(self.spec, &set.volume);
            let action = Action::Keep {
                service: service.clone(),
                volume: set.volume.clone(),
                snapshot: snapshot.clone(),
            };
            let state = done_if(self.observed.snapshots.contains(&snapshot));
            plan.push_when_free(format!("keep:{service}"), action, after.clone(), state);
        }
        let release = self.services_to_release();
        if !release.is_empty() {
            plan.push_when_free("release", Action::Release(release), after, StepState::Ready);
        }
    }

    fn is_replaced(&self, volume: &VolumeName) -> bool {
        let exists = self
            .observed
            .runtime
            .as_ref()
            .is_some_and(|o| o.volumes.contains_key(volume));
        exists && self.volume_is_missing(volume)
    }

    fn migrations_pending(&self, set: &DataSet, fact: &DataFact) -> bool {
        !self.volume_is_missing(&set.volume)
            && fact.applied.len() < set.migrations.len()
            && set.migrations.starts_with(&fact.applied)
    }

    fn services_to_release(&self) -> Vec<ServiceName> {
        let Some(runtime) = &self.observed.runtime else {
            return Vec::new();
        };
        self.stack
            .services
            .iter()
            .filter(|(name, _)| {
                // What has ended holds no volume, and stays ended however often it is stopped.
                let over = |state: &ServiceState| matches!(state, ServiceState::Stopped | ServiceState::Exited { .. });
                runtime.services.get(*name).is_some_and(|f| !over(&f.state))
            })
            .filter(|(name, service)| {
                let replaced =
                    |mount: &Mount| matches!(&mount.kind, MountKind::Volume { volume } if self.is_replaced(volume));
                service.workload.mounts.iter().any(replaced) || self.hangs(name, service)
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Whether an older generation has started a service, exactly as this one wants it, and it never got ready.
    fn hangs(&self, name: &ServiceName, service: &Service) -> bool {
        let fact = self.observed.runtime.as_ref().and_then(|o| o.services.get(name));
        fact.is_some_and(|fact| self.is_inherited(name) && self.wanted(name, service).is_stuck(fact, self.now))
    }

    /// Whether this generation has not started a service itself.
    fn is_inherited(&self, name: &ServiceName) -> bool {
        !self.settled && !self.observed.carried_out.contains(&format!("service:{name}"))
    }

    /// Nothing in it comes from a source. But what people use is not touched before the commit's files are there: they may be
    /// refused.
    fn envelope(&self, plan: &mut Plan) {
        let mut after = ids(plan);
        after.retain(|id| !self.observed.unused || !is_source(id));
        let complete = self.observed.runtime.as_ref().and_then(|o| o.envelope) == Some(self.spec.generation);
        plan.push_when_free("envelope", Action::Apply(Stage::Envelope), after, done_if(complete));
    }

    /// Images come while network and engines are made; what runs from one waits for it.
    fn images(&self, plan: &mut Plan) {
        if !self.brought {
            return;
        }
        for (image, reference) in self.spec.images() {
            let id = image_step(&image);
            let state = match self.observed.fetching.get(&image) {
                _ if self.observed.images.contains(&image) => StepState::Done,
                Some(progress) => StepState::InProgress {
                    waiting_for: progress.clone(),
                    until: None,
                },
                None => StepState::Ready,
            };
            plan.push(id, Action::Image { image, reference }, Vec::new(), state);
        }
    }

    /// What is built from Dockerfiles, unless it was and is still there.
    fn dockerfiles(&self, plan: &mut Plan) {
        for (service, build) in self.spec.dockerfiles() {
            let there = build
                .made
                .as_ref()
                .is_some_and(|made| self.observed.images.contains(made));
            let action = Action::Dockerfile(service.clone());
            // It reads the checkout.
            let checkout = self.spec.sources.get_key_value(&build.source);
            let after = ["envelope".to_owned()].into_iter();
            let after = after.chain(checkout.map(|(source, _)| source_id(source))).collect();
            let state = match self.observed.fetching_bases.get(service) {
                Some(progress) if !there => StepState::InProgress {
                    waiting_for: progress.clone(),
                    until: None,
                },
                _ => done_if(there),
            };
            plan.push_when_free(format!("build:{service}"), action, after, state);
        }
    }

    /// The step that a container has to wait for before it can be made.
    fn image_of(&self, workload: &Workload) -> Option<String> {
        if let Some(service) = self.spec.built_for(workload) {
            return Some(format!("build:{service}"));
        }
        workload.root.image().filter(|_| self.brought).map(image_step)
    }

    fn wanted<'n>(&'n self, name: &'n ServiceName, service: &'n Service) -> Wanted<'n> {
        Wanted::new(self.spec, self.stack, name, service)
    }

    fn service(&self, plan: &mut Plan, name: &ServiceName) {
        let service = &self.stack.services[name];
        let mut state = self.wanted(name, service).state(
            self.observed.runtime.as_ref(),
            self.settled,
            self.is_inherited(name),
            self.now,
        );
        let mut after = self.service_after(name);
        if self.hangs(name, service) {
            after.push("release".to_owned());
        }
        let mut by: Vec<String> = Vec::new();
        for id in &after {
            let free = plan.is_step_done(id) || self.is_met_dependency(service, id);
            if !free {
                by.push(id.clone());
            }
        }
        if state == StepState::Ready && !by.is_empty() {
            state = StepState::Blocked { by };
        }
        let action = Action::Apply(Stage::Services(BTreeSet::from([name.clone()])));
        plan.push(format!("service:{name}"), action, after, state);
    }

    /// Whether this is the step of a service that is as far as this one needs it to be. `condition: service_started` is satisfied as
    /// soon as the container of the wanted generation exists; one that others wait for to complete may be ready long before.
    fn is_met_dependency(&self, service: &Service, id: &str) -> bool {
        let Some(name) = id.strip_prefix("service:") else {
            return false;
        };
        let named = |name: &str| self.stack.services.iter().find(|(other, _)| other.as_str() == name);
        service.depends_on.iter().any(|(dependency, condition)| {
            dependency.as_str() == name
                && named(name).is_some_and(|(dependency, other)| {
                    self.wanted(dependency, other)
                        .meets(*condition, self.observed.runtime.as_ref())
                })
        })
    }

    fn service_after(&self, name: &ServiceName) -> Vec<String> {
        let mut after = vec!["envelope".to_owned()];
        after.extend(self.image_of(&self.stack.services[name].workload));
        after.extend(self.files_of(&self.stack.services[name].workload));
        for dependency in self.stack.services[name].depends_on.keys() {
            after.push(format!("service:{dependency}"));
            if self.stack.data.contains_key(dependency) {
                after.push(format!("data:{dependency}"));
            }
        }
        after.extend(builds_of(&self.stack.services[name].workload));
        if !self.is_needed_by_jobs(name) {
            after.extend(self.jobs_before_services().map(|job| format!("job:{}", job.name)));
        }
        after
    }

    /// What is made in a checkout, unless somebody has made the same.
    fn builds(&self, plan: &mut Plan) {
        for job in self.stack.jobs.values().filter(|job| job.on == JobEvent::Build) {
            let there = |product| self.observed.snapshots.contains(&product);
            let state = done_if(self.spec.product(&job.name).is_none_or(there));
            let mut after = vec!["envelope".to_owned()];
            after.extend(self.image_of(&job.workload));
            after.extend(self.files_of(&job.workload));
            plan.push_when_free(
                format!("job:{}", job.name),
                Action::Build(job.name.clone()),
                after,
                state,
            );
        }
    }

    /// The sources that must be there first. Engines run from what the machine has, and need none.
    fn files_of(&self, workload: &Workload) -> Vec<String> {
        let mounted = |mount: &Mount| matches!(mount.kind, MountKind::Source { .. });
        if !self.sources || matches!(workload.root, Root::Engine(_)) && !workload.mounts.iter().any(mounted) {
            return Vec::new();
        }
        self.spec.sources.keys().map(source_id).collect()
    }

    fn jobs_before_services(&self) -> impl Iterator<Item = &model::Job> {
        self.stack
            .jobs
            .values()
            .filter(|job| matches!(job.on, JobEvent::Create | JobEvent::Start))
    }

    /// Engines, and whatever a job needs directly or through others, start before the jobs; everything else after them.
    fn is_needed_by_jobs(&self, name: &ServiceName) -> bool {
        if matches!(self.stack.services[name].workload.root, Root::Engine(_)) {
            return true;
        }
        let mut seen: BTreeSet<&ServiceName> = BTreeSet::new();
        let mut open: Vec<&ServiceName> = self.jobs_before_services().flat_map(|job| &job.needs).collect();
        while let Some(next) = open.pop() {
            if next == name {
                return true;
            }
            if seen.insert(next) {
                open.extend(
                    self.stack
                        .services
                        .get(next)
                        .into_iter()
                        .flat_map(|s| s.depends_on.keys()),
                );
            }
        }
        false
    }

    fn data(&self, plan: &mut Plan, name: &ServiceName) {
        let Some(set) = self.stack.data.get(name) else { return };
        let complete = !self.volume_is_missing(&set.volume)
            && self.observed.data.get(name).is_some_and(|fact| {
                fact.prepared
                    && fact.password.as_ref() == Some(&self.spec.password_digest(set))
                    && fact.seeded
                    && fact.applied == set.migrations
                    && self.incarnation(set) == Some(fact.incarnation)
            });
        let after = vec!["envelope".to_owned(), format!("service:{name}")];
        plan.push_when_free(
            format!("data:{name}"),
            Action::Data(name.clone()),
            after,
            done_if(complete),
        );
    }

    fn incarnation(&self, set: &DataSet) -> Option<model::Generation> {
        self.stack.volumes.get(&set.volume).map(|volume| volume.incarnation)
    }

    /// Jobs whose needs have all been planned and that are not in the plan yet.
    fn jobs(&self, plan: &mut Plan) {
        for job in self.jobs_before_services() {
            let id = format!("job:{}", job.name);
            let planned = |name: &ServiceName| plan.steps.iter().any(|step| step.id == format!("service:{name}"));
            if plan.steps.iter().any(|step| step.id == id) || !job.needs.iter().all(planned) {
                continue;
            }
            let mut after = vec!["envelope".to_owned()];
            after.extend(self.image_of(&job.workload));
            after.extend(self.files_of(&job.workload));
            for need in &job.needs {
                after.push(format!("service:{need}"));
                if self.stack.data.contains_key(need) {
                    after.push(format!("data:{need}"));
                }
            }
            after.extend(builds_of(&job.workload));
            let state = self.job_state(job);
            plan.push_when_free(id, Action::Job(job.name.clone()), after, state);
        }
    }

    fn job_state(&self, job: &model::Job) -> StepState {
        let fact = self.observed.runtime.as_ref().and_then(|o| o.jobs.get(&job.name));
        let succeeded = fact.is_some_and(|fact| fact.exit == Some(0));
        let current = fact.map(|fact| &fact.digest) == self.spec.job_digest(&job.name).as_ref();
        done_if(succeeded && (job.on == JobEvent::Create || current))
    }

    fn prune(&self, plan: &mut Plan) {
        let after = ids(plan);
        let clean = self.observed.runtime.as_ref().is_some_and(|o| {
            o.services.keys().all(|name| self.stack.services.contains_key(name))
                && o.volumes.keys().all(|name| self.stack.volumes.contains_key(name))
        });
        plan.push_when_free("prune", Action::Apply(Stage::Prune), after, done_if(clean));
    }
}

/// The steps that make what a workload mounts.
fn builds_of(workload: &model::Workload) -> impl Iterator<Item = String> {
    workload.mounts.iter().filter_map(|mount| match &mount.kind {
        model::MountKind::Built { job, .. } => Some(format!("job:{job}")),
        _ => None,
    })
}

/// The id of the snapshot that is kept before this generation migrates a volume.
#[must_use]
pub fn kept_snapshot(spec: &EnvironmentSpec, volume: &VolumeName) -> SnapshotId {
    let generation = spec.generation.0.to_be_bytes();
    let digest = Digest::of_parts([
        spec.environment.as_str().as_bytes(),
        &generation[..],
        volume.as_str().as_bytes(),
    ]);
    SnapshotId::kept(&digest)
}
