//! Stages: the envelope, services, and what is no longer wanted.

use super::{KubernetesRuntime, SEEN, mark::has_namespace, unsupported};
use crate::{
    Decision, Kind, Severity,
    api::failed,
    build::{self, Built, Object, Refused, labels, quota_is_enforced},
    gitops::{Engine, Part, folder::is_in_git},
    names,
    observe::{Seen, has_seen, job_exit, of_job, of_service},
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{api::core::v1::ResourceQuota, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use model::{EnvironmentSpec, SecretRef, ServiceName, Stage};
use runtime::{Result, RuntimeError, Secrets};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How long the cluster may take to count against a quota.
const QUOTA: Duration = Duration::from_secs(30);

/// What runs services.
const RUNNERS: &[Kind] = &[Kind::Deployment, Kind::StatefulSet, Kind::Job];

/// How many services are applied at once.
const AT_ONCE: usize = 8;

/// Stands for values that nobody has given yet: what a generation is made of does not depend on them.
pub(super) struct AnyValue;

impl Secrets for AnyValue {
    fn value(&self, _secret: &SecretRef) -> Option<&[u8]> {
        Some(b"any")
    }
}

/// A refusal of the builder's as an error of the port. A value is its author's mistake; all else is beyond a cluster.
pub(super) fn refused(refused: Refused) -> RuntimeError {
    let all: Vec<_> = refused
        .0
        .into_iter()
        .filter(|f| f.decision.severity() == Severity::Refused)
        .collect();
    let Some(first) = all.first() else {
        return unsupported("the generation", "say it in another way");
    };
    if first.decision == Decision::Value {
        return RuntimeError::Invalid {
            what: first.place.to_string(),
            reason: first.detail.clone(),
        };
    }
    let each = all
        .iter()
        .map(|finding| format!("`{}` of {}", finding.decision.key(), finding.place));
    let what = each.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    let reasons = all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    unsupported(what, reasons)
}

impl KubernetesRuntime {
    pub(super) async fn stage(&self, spec: &EnvironmentSpec, stage: &Stage, secrets: &dyn Secrets) -> Result<()> {
        // Before anything is made.
        let built = build::environment(&self.cluster, spec, &AnyValue).map_err(refused)?;
        match stage {
            Stage::Envelope => self.envelope(spec, &built).await,
            Stage::Services(names) => self.services(spec, names, secrets).await,
            Stage::Prune => self.prune(spec, &built).await,
            Stage::Whole => Err(unsupported(
                "a whole generation at once",
                "this delivery is given a generation level by level",
            )),
        }
    }

    async fn envelope(&self, spec: &EnvironmentSpec, built: &Built) -> Result<()> {
        let (id, generation) = (&spec.environment, spec.generation);
        let namespace = self.namespace(id);
        let _turn = self.turn(id).await;
        let mut objects = built.envelope.iter();
        // The marker lives in the namespace, so that one is made before anything is accepted, and changed afterwards.
        let first = objects
            .next()
            .ok_or_else(|| failed("applying the envelope", "it has no objects"))?;
        if has_namespace(&self.objects, &namespace, self.cluster.instance.as_str())
            .await?
            .is_none()
        {
            self.may_begin().await?;
            self.objects.apply(&namespace, first).await?;
        }
        if let Some(Object::Marker(marker)) = built.stack.last() {
            self.marks.begin(&namespace, marker).await?;
        }
        self.accept(id, generation).await?;
        let commit = match &self.gitops {
            None => {
                self.objects.apply(&namespace, first).await?;
                for object in objects {
                    self.objects.apply(&namespace, object).await?;
                }
                None
            }
            Some(engine) => {
                let replaced = self.replaced_volumes(&namespace, built).await?;
                let replaced: Vec<String> = replaced.into_iter().map(|(name, _)| name).collect();
                let commit = self.commit_envelope(engine, spec, built, &replaced).await?;
                self.roll_out(engine, id, Part::Envelope, &commit).await?;
                Some((engine, commit))
            }
        };
        for object in &built.envelope {
            if let Object::ResourceQuota(quota) = object {
                self.quota_in_force(&namespace, quota).await?;
            }
        }
        let ground = built.stack.iter().filter(|object| is_ground(object));
        for object in ground.filter(|object| commit.is_none() || !is_in_git(object)) {
            self.objects.apply(&namespace, object).await?;
        }
        match commit {
            None => self.replace_volumes(&namespace, built).await?,
            Some((engine, commit)) => self.roll_out(engine, id, Part::Stack, &commit).await?,
        }
        let complete = |mark: &mut super::Mark| mark.envelope = Some(generation);
        let version = self.marks.accept(&namespace, id, generation, complete).await?;
        let seen = || {
            has_seen(
                &self.watches.markers,
                &namespace,
                build::marker::NAME,
                version.as_deref(),
            )
        };
        // There is nothing of an environment for whoever observes it before its namespace is seen.
        let known = || Seen::of(&self.watches, id).is_some();
        self.watches.until(SEEN, || seen() && known()).await;
        Ok(())
    }

    /// Waits until the cluster counts against a quota. Until it does, pods get in without bound.
    async fn quota_in_force(&self, namespace: &str, wanted: &ResourceQuota) -> Result<()> {
        let name = wanted.metadata.name.as_deref().unwrap_or_default();
        let action = format!("waiting for the quota of {namespace}");
        let until = Instant::now() + QUOTA;
        let mut pause = Duration::from_millis(20);
        loop {
            let found = self.objects.get(Kind::ResourceQuota, namespace, name).await?;
            let found = found.and_then(|object| object.try_parse::<ResourceQuota>().ok());
            if found.is_some_and(|quota| quota_is_enforced(wanted, &quota)) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(failed(
                    &action,
                    format!("the cluster does not count against it after {QUOTA:?}"),
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Removes volumes of which the generation wants another incarnation. Their services were stopped before.
    async fn replace_volumes(&self, namespace: &str, built: &Built) -> Result<()> {
        for (name, uid) in self.replaced_volumes(namespace, built).await? {
            self.objects
                .delete(Kind::PersistentVolumeClaim, namespace, &name, uid)
                .await?;
        }
        Ok(())
    }

    /// The claims in whose place a generation wants others.
    async fn replaced_volumes(&self, namespace: &str, built: &Built) -> Result<Vec<(String, Option<String>)>> {
        let wanted: Vec<_> = built
            .stack
            .iter()
            .filter(|object| object.kind() == Kind::PersistentVolumeClaim)
            .collect();
        let claims = self
            .objects
            .list(Kind::PersistentVolumeClaim, Some(namespace), &self.ours())
            .await?;
        let replaced = claims.into_iter().filter_map(|claim| {
            let name = claim.name.clone().unwrap_or_default();
            let called = labels::called(&claim);
            let replaced = wanted.iter().any(|object| labels::called(object.metadata()) == called)
                && !wanted.iter().any(|object| object.name() == name);
            replaced.then_some((name, claim.uid))
        });
        Ok(replaced.collect())
    }

    async fn services(
        &self,
        spec: &EnvironmentSpec,
        names: &BTreeSet<ServiceName>,
        secrets: &dyn Secrets,
    ) -> Result<()> {
        let mut all = Vec::new();
        for name in names {
            let objects = build::service(&self.cluster, spec, secrets, name).map_err(refused)?;
            if objects.is_empty() {
                return Err(RuntimeError::NotFound {
                    what: format!("service {name}"),
                });
            }
            all.push((name.clone(), objects));
        }
        let namespace = self.namespace(&spec.environment);
        let _turn = self.turn(&spec.environment).await;
        self.accept(&spec.environment, spec.generation).await?;
        let namespace = namespace.as_str();
        if let Some(engine) = &self.gitops {
            return self.services_by_commit(engine, spec, namespace, &all).await;
        }
        stream::iter(all)
            .map(|(name, objects)| async move { self.service(namespace, &name, &objects, RUNNERS).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// What a commit can not bring is applied: secrets before it, what runs to its end after it.
    async fn services_by_commit(
        &self,
        engine: &Engine,
        spec: &EnvironmentSpec,
        namespace: &str,
        all: &[(ServiceName, Vec<Object>)],
    ) -> Result<()> {
        for object in all.iter().flat_map(|(_, objects)| objects) {
            if object.kind() == Kind::Secret {
                self.objects.apply(namespace, object).await?;
            }
        }
        self.deliver_services(engine, spec, all).await?;
        // Replicas are not Argo CD's to change, so what was stopped is started here.
        let meant = all.iter().map(|(name, _)| names::workload(name.as_str())).collect();
        self.scale(namespace, Some(&meant), true).await?;
        for (name, objects) in all {
            let runs: Vec<Object> = objects
                .iter()
                .filter(|object| object.kind() == Kind::Job)
                .cloned()
                .collect();
            self.service(namespace, name, &runs, &[Kind::Job]).await?;
        }
        Ok(())
    }

    /// Applies objects of a service, and removes what else of these kinds runs it.
    async fn service(&self, namespace: &str, name: &ServiceName, objects: &[Object], kinds: &[Kind]) -> Result<()> {
        self.remove_other_runners(namespace, name, objects, kinds).await?;
        for object in objects {
            if object.kind() == Kind::Job && self.goes_on(namespace, object.name()).await? {
                continue;
            }
            let made = self.objects.apply(namespace, object).await?;
            let version = made.resource_version.as_deref();
            let seen = || match object.kind() {
                Kind::Deployment => has_seen(&self.watches.deployments, namespace, object.name(), version),
                Kind::StatefulSet => has_seen(&self.watches.stateful_sets, namespace, object.name(), version),
                Kind::Job => has_seen(&self.watches.jobs, namespace, object.name(), version),
                _ => true,
            };
            self.watches.until(SEEN, seen).await;
        }
        Ok(())
    }

    /// Lets what runs to its end go on, if it is there. Its object can not be changed, and its name says what it was made for. A run
    /// that has failed is removed, to be made again.
    async fn goes_on(&self, namespace: &str, name: &str) -> Result<bool> {
        let found = self.watches.jobs.find(|job| {
            job.metadata.name.as_deref() == Some(name) && job.metadata.namespace.as_deref() == Some(namespace)
        });
        let Some(run) = found else {
            return Ok(false);
        };
        if job_exit(&run, &self.watches.pods.state()).is_some_and(|(code, _)| code != 0) {
            self.end_run(namespace, &run).await?;
            return Ok(false);
        }
        let running = serde_json::json!({"spec": {"suspend": false}});
        Ok(self.objects.merge(Kind::Job, namespace, name, running).await?.is_some())
    }

    /// Removes what ran a service in another way: as an object of another kind, or a run that was made for something else.
    async fn remove_other_runners(
        &self,
        namespace: &str,
        name: &ServiceName,
        wanted: &[Object],
        kinds: &[Kind],
    ) -> Result<()> {
        let label = names::workload(name.as_str());
        for (kind, found, uid) in self.runners(namespace) {
            let is_wanted = wanted
                .iter()
                .any(|object| object.kind() == kind && object.name() == found.name);
            if found.label == label && !is_wanted && kinds.contains(&kind) {
                self.objects.delete(kind, namespace, &found.name, uid).await?;
            }
        }
        Ok(())
    }

    /// All objects that run services in a namespace.
    pub(super) fn runners(&self, namespace: &str) -> Vec<(Kind, Runner, Option<String>)> {
        let mut all = Vec::new();
        let mut add = |kind, meta: &ObjectMeta, label: Option<&str>| {
            if let (Some(name), Some(label), Some(in_namespace)) = (&meta.name, label, &meta.namespace)
                && in_namespace == namespace
            {
                let completed = labels::note(meta, labels::COMPLETED).unwrap_or_default();
                let runner = Runner {
                    name: name.clone(),
                    label: label.to_owned(),
                    completed_before: completed.split_terminator(',').map(str::to_owned).collect(),
                };
                all.push((kind, runner, meta.uid.clone()));
            }
        };
        for object in self.watches.deployments.state() {
            let label = object.spec.as_ref().and_then(|spec| of_service(&spec.template));
            add(Kind::Deployment, &object.metadata, label);
        }
        for object in self.watches.stateful_sets.state() {
            let label = object.spec.as_ref().and_then(|spec| of_service(&spec.template));
            add(Kind::StatefulSet, &object.metadata, label);
        }
        for object in self.watches.jobs.state() {
            let label = object.spec.as_ref().and_then(|spec| of_service(&spec.template));
            add(Kind::Job, &object.metadata, label);
        }
        all
    }

    /// Removes what the generation does not have: only what bears our labels, and never a kind that an environment always has.
    async fn prune(&self, spec: &EnvironmentSpec, built: &Built) -> Result<()> {
        const KINDS: &[Kind] = &[
            Kind::Deployment,
            Kind::StatefulSet,
            Kind::Job,
            Kind::Service,
            Kind::ConfigMap,
            Kind::PersistentVolumeClaim,
            Kind::NetworkPolicy,
        ];
        let namespace = self.namespace(&spec.environment);
        let _turn = self.turn(&spec.environment).await;
        self.accept(&spec.environment, spec.generation).await?;
        let mut wanted: BTreeSet<(Kind, String)> = BTreeSet::new();
        wanted.extend(built.envelope.iter().chain(&built.stack).map(key));
        let stack = spec.services().cloned().unwrap_or_default();
        for name in stack.jobs.keys() {
            let objects = build::job(&self.cluster, spec, &AnyValue, name).map_err(refused)?;
            wanted.extend(objects.iter().map(key));
        }
        let mut gone = Vec::new();
        for &kind in KINDS {
            for meta in self.objects.list(kind, Some(&namespace), &self.ours()).await? {
                let name = meta.name.clone().unwrap_or_default();
                // A run of a job that is still wanted may bear the name of an earlier generation.
                let is_run = kind == Kind::Job && self.is_run_of(&namespace, &name, &stack);
                if !is_run && !wanted.contains(&(kind, name.clone())) {
                    gone.push((kind, name, meta.uid.clone(), labels::called(&meta).map(str::to_owned)));
                }
            }
        }
        if let Some(engine) = &self.gitops {
            self.commit_prune(engine, spec, built).await?;
        }
        for (kind, name, uid, _) in &gone {
            // Also what a commit should have taken away: that is gone by now.
            self.objects.delete(*kind, &namespace, name, uid.clone()).await?;
        }
        self.prune_secrets(&namespace, &gone, &wanted).await?;
        let left = || {
            let of = |meta: &ObjectMeta| gone.iter().any(|(_, _, uid, _)| uid.is_some() && meta.uid == *uid);
            self.watches.deployments.find(|o| of(&o.metadata)).is_some()
                || self.watches.stateful_sets.find(|o| of(&o.metadata)).is_some()
                || self.watches.jobs.find(|o| of(&o.metadata)).is_some()
        };
        self.watches.until(SEEN, || !left()).await;
        Ok(())
    }

    /// Whether a job's object is a run of a job that the stack has.
    fn is_run_of(&self, namespace: &str, name: &str, stack: &model::ServiceStack) -> bool {
        let found = self.watches.jobs.find(|job| {
            job.metadata.name.as_deref() == Some(name) && job.metadata.namespace.as_deref() == Some(namespace)
        });
        found.is_some_and(|job| {
            let is_job = job.spec.as_ref().is_some_and(|spec| of_job(&spec.template).is_some());
            let called = labels::called(&job.metadata).unwrap_or_default();
            is_job && stack.jobs.keys().any(|job| job.as_str() == called)
        })
    }

    /// Removes what pruned services and jobs were given. Secrets are not listed: nobody needs the right to read them all.
    async fn prune_secrets(
        &self,
        namespace: &str,
        gone: &[(Kind, String, Option<String>, Option<String>)],
        wanted: &BTreeSet<(Kind, String)>,
    ) -> Result<()> {
        let called: BTreeSet<&str> = gone.iter().filter_map(|(_, _, _, called)| called.as_deref()).collect();
        for name in called {
            for kind in ["service", "job"] {
                let secret = names::object(&[name, kind]);
                if !wanted.contains(&(Kind::Secret, secret.clone())) {
                    self.objects.delete(Kind::Secret, namespace, &secret, None).await?;
                }
            }
        }
        Ok(())
    }

    /// Selects what is ours.
    pub(super) fn ours(&self) -> String {
        format!("{}={}", labels::INSTANCE, self.cluster.instance)
    }
}

/// What runs a service.
pub(super) struct Runner {
    /// The name of the object.
    pub(super) name: String,
    /// The name of the service among objects.
    pub(super) label: String,
    /// The names, among objects, of services that must have completed before it.
    pub(super) completed_before: Vec<String>,
}

fn key(object: &Object) -> (Kind, String) {
    (object.kind(), object.name().to_owned())
}

/// Whether an object belongs to the ground on which services stand, though the builder counts it to the stack: volumes, and what
/// fetches images.
pub(super) fn is_ground(object: &Object) -> bool {
    match object.kind() {
        Kind::PersistentVolumeClaim => true,
        Kind::Secret => object.name() == build::PULL,
        _ => false,
    }
}
