//! Jobs: made once, awaited, and told how they ended.

use super::{KubernetesRuntime, SEEN, stages::refused};
use crate::{
    Kind,
    api::failed,
    build::{self, labels},
    names,
    observe::{has_seen, hopeless, job_exit, job_timed_out, of_job},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::ResourceExt;
use model::{EnvironmentSpec, JobEvent, JobName};
use runtime::{JobOutcome, Result, RuntimeError, Secrets};
use std::{sync::Arc, time::Duration};

/// How long a job may take beyond its own time: to get a node, an image and a pod.
const MARGIN: Duration = Duration::from_secs(300);

/// How long a run that is no longer wanted may take to be gone.
const GONE: Duration = Duration::from_secs(90);

impl KubernetesRuntime {
    pub(super) async fn run_job(
        &self,
        spec: &EnvironmentSpec,
        name: &JobName,
        secrets: &dyn Secrets,
    ) -> Result<JobOutcome> {
        let job = spec
            .services()
            .and_then(|stack| stack.jobs.get(name))
            .ok_or_else(|| RuntimeError::NotFound {
                what: format!("job {name}"),
            })?;
        let objects = build::job(&self.cluster, spec, secrets, name).map_err(refused)?;
        let namespace = self.namespace(&spec.environment);
        let uid = {
            let _turn = self.turn(&spec.environment).await;
            self.watches.current().await?;
            self.accept(&spec.environment, spec.generation).await?;
            self.begin(spec, name, job.on, &namespace, &objects).await?
        };
        let limit = Duration::from_millis(job.timeout_ms) + MARGIN;
        self.outcome(&namespace, name, &uid, limit).await
    }

    /// Makes a job unless one for the same runs or has run, and returns the id of its object.
    async fn begin(
        &self,
        spec: &EnvironmentSpec,
        name: &JobName,
        on: JobEvent,
        namespace: &str,
        objects: &[build::Object],
    ) -> Result<String> {
        let digest = spec.job_digest(name);
        for run in self.runs(namespace, name) {
            let same = labels::note(&run.metadata, labels::DIGEST) == digest.as_ref().map(model::Digest::as_str);
            let ended = job_exit(&run, &self.watches.pods.state()).map(|(code, _)| code);
            // By hand it is asked for again under another digest.
            let stands = same && (matches!(ended, None | Some(0)) || on == JobEvent::Hand);
            if stands && run.metadata.deletion_timestamp.is_none() {
                return Ok(run.uid().unwrap_or_default());
            }
            self.end_run(namespace, &run).await?;
        }
        let mut uid = None;
        for object in objects {
            let made = self.objects.apply(namespace, object).await?;
            if object.kind() == Kind::Job {
                let version = made.resource_version.as_deref();
                let seen = || has_seen(&self.watches.jobs, namespace, object.name(), version);
                self.watches.until(SEEN, seen).await;
                uid = made.uid;
            }
        }
        uid.ok_or_else(|| failed(&format!("running the job {name}"), "the cluster has made nothing of it"))
    }

    /// All runs of a job.
    fn runs(&self, namespace: &str, name: &JobName) -> Vec<Arc<Job>> {
        let label = names::workload(name.as_str());
        self.watches.jobs.state_filter(|job| {
            let of = job.spec.as_ref().and_then(|spec| of_job(&spec.template));
            job.metadata.namespace.as_deref() == Some(namespace) && of == Some(label.as_str())
        })
    }

    /// Removes a run and its pods, so that their log is not taken for that of the next.
    pub(super) async fn end_run(&self, namespace: &str, run: &Job) -> Result<()> {
        let (name, uid) = (run.name_any(), run.uid());
        self.objects.delete(Kind::Job, namespace, &name, uid.clone()).await?;
        let gone = || {
            let job = self.watches.jobs.find(|job| job.uid() == uid);
            job.is_none() && self.pods_owned_by(uid.as_deref()).is_empty()
        };
        if self.watches.until(GONE, gone).await {
            return Ok(());
        }
        Err(failed(
            &format!("removing job {name} in {namespace}"),
            format!("it is still there after {GONE:?}"),
        ))
    }

    fn pods_owned_by(&self, uid: Option<&str>) -> Vec<Arc<Pod>> {
        let owned = |pod: &Pod| {
            pod.owner_references()
                .iter()
                .any(|owner| Some(owner.uid.as_str()) == uid)
        };
        self.watches.pods.state_filter(owned)
    }

    /// Waits for the end of a run.
    async fn outcome(&self, namespace: &str, name: &JobName, uid: &str, limit: Duration) -> Result<JobOutcome> {
        let action = format!("running the job {name} in {namespace}");
        let run = || self.watches.jobs.find(|job| job.metadata.uid.as_deref() == Some(uid));
        let ended = |job: &Job| job_exit(job, &self.pods_owned_by(Some(uid)));
        let stuck = || self.pods_owned_by(Some(uid)).iter().find_map(|pod| hopeless(pod));
        let decided = || run().is_none_or(|job| ended(&job).is_some()) || stuck().is_some();
        if !self.watches.until(limit, decided).await {
            return Err(failed(&action, format!("it has not ended after {limit:?}")));
        }
        let job = run().ok_or_else(|| failed(&action, "it was removed meanwhile"))?;
        if ended(&job).is_none() {
            let reason = stuck().unwrap_or_default();
            self.end_run(namespace, &job).await?;
            return Err(failed(&action, reason));
        }
        let timed_out = job_timed_out(&job);
        // The end of the job may be seen before that of its pod, which has the status.
        let told = || timed_out || self.pods_owned_by(Some(uid)).iter().all(|pod| is_told(pod));
        self.watches.until(SEEN, told).await;
        let (exit, _) = ended(&job).unwrap_or_default();
        Ok(JobOutcome { exit, timed_out })
    }
}

fn is_told(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
