//! Sleep and waking: no pods, and again one of each.

use super::{KubernetesRuntime, SEEN, unsupported};
use crate::{
    Kind,
    api::failed,
    build::labels::{self, SERVICE},
    names,
    observe::{has_seen, job_exit, of_service},
};
use k8s_openapi::api::core::v1::Pod;
use model::{EnvironmentId, Generation, Power, ServiceName};
use runtime::{Result, RuntimeError};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

/// How long pods may take to be gone beyond the time that their services have to stop.
const MARGIN: Duration = Duration::from_secs(60);

impl KubernetesRuntime {
    pub(super) async fn change_power(&self, id: &EnvironmentId, generation: Generation, power: Power) -> Result<()> {
        if power == Power::Frozen {
            return Err(unsupported("freezing", "stop it"));
        }
        let namespace = self.namespace(id);
        let _turn = self.turn(id).await;
        self.watches.current().await?;
        let change = |mark: &mut super::Mark| mark.power = power;
        let version = self.marks.accept(&namespace, id, generation, change).await?;
        self.scale(&namespace, None, power == Power::Running).await?;
        let name = crate::build::marker::NAME;
        self.watches
            .until(SEEN, || {
                has_seen(&self.watches.markers, &namespace, name, version.as_deref())
            })
            .await;
        Ok(())
    }

    pub(super) async fn stop(
        &self,
        id: &EnvironmentId,
        generation: Generation,
        services: &[ServiceName],
    ) -> Result<()> {
        let namespace = self.namespace(id);
        let _turn = self.turn(id).await;
        self.watches.current().await?;
        self.accept(id, generation).await?;
        let labels = services.iter().map(|name| names::workload(name.as_str())).collect();
        self.scale(&namespace, Some(&labels), false).await
    }

    /// Gives services one pod or none; all of them if no names are given. Returns when pods that are not wanted are gone.
    pub(super) async fn scale(&self, namespace: &str, only: Option<&BTreeSet<String>>, on: bool) -> Result<()> {
        let runners = self.runners(namespace);
        let is_meant = |label: &str| only.is_none_or(|only| only.contains(label));
        let meant: Vec<_> = runners
            .iter()
            .filter(|(_, runner, _)| is_meant(&runner.label))
            .collect();
        for (kind, runner, _) in &meant {
            // It would run without what it needs. Whoever wants it to run asks again when that is there.
            let is_open = |label: &String| !self.has_completed(namespace, label);
            if on && runner.completed_before.iter().any(is_open) {
                continue;
            }
            let change = match kind {
                // One that has ended ignores that.
                Kind::Job => json!({"spec": {"suspend": !on}}),
                _ => json!({"spec": {"replicas": i32::from(on)}}),
            };
            let changed = self.objects.merge(*kind, namespace, &runner.name, change).await?;
            let version = changed.and_then(|meta| meta.resource_version);
            let version = version.as_deref();
            let seen = || match kind {
                Kind::Deployment => has_seen(&self.watches.deployments, namespace, &runner.name, version),
                Kind::StatefulSet => has_seen(&self.watches.stateful_sets, namespace, &runner.name, version),
                _ => has_seen(&self.watches.jobs, namespace, &runner.name, version),
            };
            self.watches.until(SEEN, seen).await;
        }
        if on {
            return Ok(());
        }
        let running = || -> Vec<_> {
            let is = |pod: &Pod| {
                let label = labels::label(&pod.metadata, SERVICE);
                pod.metadata.namespace.as_deref() == Some(namespace) && label.is_some_and(is_meant) && !has_ended(pod)
            };
            self.watches.pods.state_filter(is)
        };
        // Whoever was about to make one more has seen that none is wanted.
        let idle = || {
            let is = |name: &str| {
                meant
                    .iter()
                    .any(|(kind, runner, _)| *kind == Kind::Deployment && runner.name == name)
            };
            self.watches.deployments.state().iter().all(|object| {
                let meta = &object.metadata;
                let ours = meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref().is_some_and(is);
                let status = object.status.as_ref();
                !ours
                    || status.is_some_and(|s| s.observed_generation >= meta.generation && s.replicas.unwrap_or(0) == 0)
            })
        };
        let graces = running()
            .iter()
            .filter_map(|pod| pod.spec.as_ref()?.termination_grace_period_seconds)
            .max();
        let grace = Duration::from_secs(u64::try_from(graces.unwrap_or(30)).unwrap_or(30));
        if self
            .watches
            .until(grace + MARGIN, || idle() && running().is_empty())
            .await
        {
            return Ok(());
        }
        let left: Vec<String> = running().iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        Err(failed(
            &format!("stopping services in {namespace}"),
            format!(
                "these pods are still there after {:?}: {}",
                grace + MARGIN,
                left.join(", ")
            ),
        ))
    }

    /// Whether a service has run to its end, and well.
    fn has_completed(&self, namespace: &str, label: &str) -> bool {
        let pods = self.watches.pods.state();
        let found = self.watches.jobs.find(|job| {
            let of = job.spec.as_ref().and_then(|spec| of_service(&spec.template));
            let completed = || job_exit(job, &pods).is_some_and(|(code, _)| code == 0);
            job.metadata.namespace.as_deref() == Some(namespace) && of == Some(label) && completed()
        });
        found.is_some()
    }

    /// An environment that somebody asks about.
    pub(super) async fn seen(&self, id: &EnvironmentId) -> Result<crate::observe::Seen> {
        self.watches.current().await?;
        crate::observe::Seen::of(&self.watches, id).ok_or_else(|| RuntimeError::NotFound {
            what: format!("environment {id}"),
        })
    }
}

/// Whether all that ran in a pod has ended for good.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
