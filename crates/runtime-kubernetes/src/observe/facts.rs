//! From objects of a cluster to facts of the port. No I/O.

use super::{Watches, why};
use crate::{
    build::labels::{self, DIGEST, ENVIRONMENT, INCARNATION, JOB, SERVICE},
    gitops::{Application, Part},
    kubernetes::Mark,
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::ResourceExt;
use model::{
    Digest, DoorFact, EnvironmentId, Generation, JobFact, Observation, ServiceFact, ServiceState, Timestamp, VolumeFact,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The pauses of the kubelet between restarts: the first, and the longest.
const BACKOFF: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// The status of a process that was ended by SIGKILL, for one whose own is not known.
const KILLED: i32 = 137;

/// What is known of one environment.
pub(crate) struct Seen {
    pub(crate) marker: Option<Arc<ConfigMap>>,
    pub(crate) deployments: Vec<Arc<Deployment>>,
    pub(crate) stateful_sets: Vec<Arc<StatefulSet>>,
    pub(crate) jobs: Vec<Arc<Job>>,
    pub(crate) pods: Vec<Arc<Pod>>,
    pub(crate) claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Argo CD's; `None` if it is not who delivers.
    pub(crate) applications: Option<Vec<Arc<Application>>>,
    /// Warnings, if somebody has asked for them.
    pub(crate) events: Vec<Event>,
}

/// Milliseconds since the epoch. Kubernetes counts in seconds.
fn since_epoch(time: &Time) -> Timestamp {
    Timestamp(u64::try_from(time.0.as_millisecond()).unwrap_or(0))
}

fn made(meta: &ObjectMeta) -> Timestamp {
    meta.creation_timestamp.as_ref().map_or(Timestamp(0), since_epoch)
}

/// The name among objects of the service that a template is of.
pub(crate) fn of_service(template: &PodTemplateSpec) -> Option<&str> {
    labels::label(template.metadata.as_ref()?, SERVICE)
}

/// The name among objects of the job that a template is of.
pub(crate) fn of_job(template: &PodTemplateSpec) -> Option<&str> {
    labels::label(template.metadata.as_ref()?, JOB)
}

fn digest(meta: &ObjectMeta) -> Option<Digest> {
    // It is one of ours, or nothing.
    serde_json::from_value(labels::note(meta, DIGEST)?.into()).ok()
}

/// What runs a service.
struct Runner<'a> {
    kind: &'static str,
    meta: &'a ObjectMeta,
    label: &'a str,
    wanted: bool,
    refusal: Option<String>,
    /// How a job ended, which is not started again.
    ended: Option<(i32, Timestamp)>,
}

impl Seen {
    /// What the watches know of an environment; `None` if it has no namespace.
    pub(crate) fn of(watches: &Watches, environment: &EnvironmentId) -> Option<Self> {
        let is = |meta: &ObjectMeta| labels::label(meta, ENVIRONMENT) == Some(environment.as_str());
        watches.namespaces.find(|object| is(&object.metadata))?;
        Some(Self {
            marker: watches.markers.find(|object| is(&object.metadata)),
            deployments: watches.deployments.state_filter(|object| is(&object.metadata)),
            stateful_sets: watches.stateful_sets.state_filter(|object| is(&object.metadata)),
            jobs: watches.jobs.state_filter(|object| is(&object.metadata)),
            pods: watches.pods.state_filter(|object| is(&object.metadata)),
            claims: watches.claims.state_filter(|object| is(&object.metadata)),
            applications: watches
                .has_applications()
                .then(|| watches.applications.state_filter(|object| is(&object.metadata))),
            events: Vec::new(),
        })
    }

    /// What the marker says.
    pub(crate) fn mark(&self) -> Mark {
        self.marker.as_deref().map(Mark::of).unwrap_or_default()
    }

    /// The facts, as of `at`.
    pub(crate) fn observation(&self, environment: &EnvironmentId, at: Timestamp) -> Observation {
        let mark = self.mark();
        let services = self.runners().into_iter().filter_map(|runner| {
            let name = labels::called(runner.meta)?.parse().ok()?;
            Some((name, self.as_delivered(&runner, self.service(&runner)?)))
        });
        Observation {
            environment: environment.clone(),
            at,
            generation: mark.generation,
            envelope: mark.envelope.filter(|_| self.envelope_holds(environment)),
            power: mark.power,
            services: services.collect(),
            jobs: self.job_facts(),
            volumes: self.volumes(),
            door: DoorFact::default(),
        }
    }

    /// Whether what surrounds the services is as it was delivered. Who applies it himself has seen to that.
    fn envelope_holds(&self, environment: &EnvironmentId) -> bool {
        let Some(applications) = &self.applications else {
            return true;
        };
        let folder = format!("/{environment}/{}", Part::Envelope.folder());
        let is = |app: &&Arc<Application>| app.spec.source.path.ends_with(&folder);
        applications.iter().find(is).is_some_and(|app| app.is_live())
    }

    /// The same, unless Argo CD says that what runs is not what was delivered: then it is not ready, whatever its pods say.
    fn as_delivered(&self, runner: &Runner<'_>, fact: ServiceFact) -> ServiceFact {
        let name = runner.meta.name.as_deref().unwrap_or_default();
        let mut all = self.applications.iter().flatten();
        let Some(differs) = all.find_map(|app| app.differs(runner.kind, name)) else {
            return fact;
        };
        let state = match fact.state {
            ServiceState::Ready => ServiceState::Starting,
            other => other,
        };
        ServiceFact {
            state,
            message: fact.message.or(Some(differs)),
            ..fact
        }
    }

    fn runners(&self) -> Vec<Runner<'_>> {
        let mut all = Vec::new();
        for object in &self.deployments {
            let Some((spec, label)) = object.spec.as_ref().and_then(|s| Some((s, of_service(&s.template)?))) else {
                continue;
            };
            let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
            all.push(Runner {
                kind: "Deployment",
                meta: &object.metadata,
                label,
                wanted: spec.replicas != Some(0),
                refusal: conditions.and_then(why::of_conditions),
                ended: None,
            });
        }
        for object in &self.stateful_sets {
            let Some((spec, label)) = object.spec.as_ref().and_then(|s| Some((s, of_service(&s.template)?))) else {
                continue;
            };
            all.push(Runner {
                kind: "StatefulSet",
                meta: &object.metadata,
                label,
                wanted: spec.replicas != Some(0),
                refusal: None,
                ended: None,
            });
        }
        for object in &self.jobs {
            let Some((spec, label)) = object.spec.as_ref().and_then(|s| Some((s, of_service(&s.template)?))) else {
                continue;
            };
            all.push(Runner {
                kind: "Job",
                meta: &object.metadata,
                label,
                wanted: spec.suspend != Some(true),
                refusal: None,
                ended: job_exit(object, &self.pods),
            });
        }
        // Of several objects of one service the newest counts: `apply` removes the others.
        all.sort_by_key(|runner| made(runner.meta));
        all
    }

    /// The pods of a service or job, the newest last. Those that are about to go are none.
    pub(crate) fn pods_of(&self, key: &str, label: &str) -> Vec<&Pod> {
        let is =
            |pod: &&Pod| labels::label(&pod.metadata, key) == Some(label) && pod.metadata.deletion_timestamp.is_none();
        let mut pods: Vec<&Pod> = self.pods.iter().map(AsRef::as_ref).filter(is).collect();
        pods.sort_by_key(|pod| made(&pod.metadata));
        pods
    }

    fn service(&self, runner: &Runner<'_>) -> Option<ServiceFact> {
        let digest = digest(runner.meta)?;
        let fact = |state, since, restarts, message| ServiceFact {
            digest: digest.clone(),
            state,
            since,
            restarts,
            message,
        };
        if let Some((code, at)) = runner.ended {
            let last = self.pods_of(SERVICE, runner.label).into_iter().last();
            return Some(fact(ServiceState::Exited { code }, at, 0, last.and_then(why::of_pod)));
        }
        if !runner.wanted {
            return Some(fact(ServiceState::Stopped, made(runner.meta), 0, None));
        }
        let pods = self.pods_of(SERVICE, runner.label);
        let mut current = pods
            .into_iter()
            .filter(|pod| labels::note(&pod.metadata, DIGEST) == Some(digest.as_str()));
        let Some(pod) = current.next_back() else {
            let name = runner.meta.name.as_deref().unwrap_or_default();
            let message = runner.refusal.clone().or_else(|| why::of_events(&self.events, name));
            return Some(fact(ServiceState::Starting, made(runner.meta), 0, message));
        };
        let (state, since) = state(pod);
        let message = why::of_pod(pod).or_else(|| {
            let ready = state == ServiceState::Ready;
            (!ready)
                .then(|| why::of_events(&self.events, &pod.name_any()))
                .flatten()
        });
        let restarts = why::container(pod).map_or(0, |status| u32::try_from(status.restart_count).unwrap_or(0));
        Some(fact(state, since, restarts, message))
    }

    fn job_facts(&self) -> BTreeMap<model::JobName, JobFact> {
        let mut jobs: Vec<&Arc<Job>> = self.jobs.iter().collect();
        jobs.sort_by_key(|job| made(&job.metadata));
        let facts = jobs.into_iter().filter_map(|job| {
            job.spec.as_ref().and_then(|spec| of_job(&spec.template))?;
            let name = labels::called(&job.metadata)?.parse().ok()?;
            let started = job.status.as_ref().and_then(|status| status.start_time.as_ref());
            let ended = job_exit(job, &self.pods);
            let fact = JobFact {
                digest: digest(&job.metadata)?,
                exit: ended.map(|(code, _)| code),
                started: started.map_or_else(|| made(&job.metadata), since_epoch),
                ended: ended.map(|(_, at)| at),
            };
            Some((name, fact))
        });
        facts.collect()
    }

    fn volumes(&self) -> BTreeMap<model::VolumeName, VolumeFact> {
        let mut claims: Vec<_> = self
            .claims
            .iter()
            .filter(|claim| claim.metadata.deletion_timestamp.is_none())
            .collect();
        claims.sort_by_key(|claim| made(&claim.metadata));
        let facts = claims.into_iter().filter_map(|claim| {
            let name = labels::called(&claim.metadata)?.parse().ok()?;
            let incarnation = labels::note(&claim.metadata, INCARNATION)?.parse().ok()?;
            let fact = VolumeFact {
                incarnation: Generation(incarnation),
                torn: false,
            };
            Some((name, fact))
        });
        facts.collect()
    }
}

/// The state of a pod that is meant to run for ever, and since when.
fn state(pod: &Pod) -> (ServiceState, Timestamp) {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    let changed = ready
        .and_then(|c| c.last_transition_time.as_ref())
        .map_or_else(|| made(&pod.metadata), since_epoch);
    if ready.is_some_and(|condition| condition.status == "True") {
        return (ServiceState::Ready, changed);
    }
    let Some(status) = why::container(pod) else {
        return (ServiceState::Starting, changed);
    };
    let now = status.state.as_ref();
    if let Some(running) = now.and_then(|state| state.running.as_ref()) {
        let started = running.started_at.as_ref().map_or(changed, since_epoch);
        // A pod is not ready from before its container runs; if that changed later, it has been ready meanwhile.
        let state = if changed > started {
            ServiceState::Unhealthy
        } else {
            ServiceState::Starting
        };
        return (state, started.max(changed));
    }
    let waiting = now.and_then(|state| state.waiting.as_ref());
    let between = waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"));
    let ended = now.and_then(|state| state.terminated.as_ref());
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    match ended.or(last.filter(|_| between)) {
        Some(ended) => {
            let at = ended.finished_at.as_ref().map_or(changed, since_epoch);
            let doublings = u32::try_from(status.restart_count).unwrap_or(0).min(10);
            let until = at.plus((BACKOFF * 2u32.pow(doublings)).min(BACKOFF_MAX));
            let code = ended.exit_code;
            (ServiceState::BackingOff { code, until }, at)
        }
        None => (ServiceState::Starting, changed),
    }
}

/// Whether a job was ended because its time was over.
pub(crate) fn job_timed_out(job: &Job) -> bool {
    condition(job, "Failed").is_some_and(|(reason, _)| reason == "DeadlineExceeded")
}

/// How a job ended, and when; `None` while it runs.
pub(crate) fn job_exit(job: &Job, pods: &[Arc<Pod>]) -> Option<(i32, Timestamp)> {
    if let Some((_, at)) = condition(job, "Complete") {
        return Some((0, at));
    }
    let (_, at) = condition(job, "Failed")?;
    let uid = job.metadata.uid.as_deref()?;
    let own = |pod: &&Arc<Pod>| pod.owner_references().iter().any(|owner| owner.uid == uid);
    let last = pods.iter().filter(own).max_by_key(|pod| made(&pod.metadata));
    let status = last.and_then(|pod| {
        why::container(pod)?
            .state
            .as_ref()?
            .terminated
            .as_ref()
            .map(|ended| ended.exit_code)
    });
    Some((status.filter(|code| *code != 0).unwrap_or(KILLED), at))
}

fn condition<'a>(job: &'a Job, kind: &str) -> Option<(&'a str, Timestamp)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|c| c.type_ == kind && c.status == "True")?;
    let at = condition
        .last_transition_time
        .as_ref()
        .map_or(Timestamp(0), since_epoch);
    Some((condition.reason.as_deref().unwrap_or_default(), at))
}

#[cfg(test)]
mod tests;
