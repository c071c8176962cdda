//! The end of an environment: its namespace goes, and with it everything in it, and it is seen to be gone. One that hangs is never
//! forced: what holds it is named.

use super::{KubernetesRuntime, mark::has_namespace};
use crate::{
    Kind,
    api::{failed, shortened},
    observe::Seen,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{ResourceExt, api::DynamicObject};
use model::{EnvironmentId, Generation};
use runtime::{Result, RuntimeError};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// After this time it is told what holds a namespace. Asking again goes on.
const PATIENCE: Duration = Duration::from_secs(45);

/// How long pods may take to stop; after that the namespace ends them.
const STOPPED: Duration = Duration::from_secs(10);

/// How many objects are deleted at once.
const AT_ONCE: usize = 8;

/// How long our own watches may take to see that everything is gone.
const FORGOTTEN: Duration = Duration::from_secs(30);

impl KubernetesRuntime {
    pub(super) async fn end(&self, id: &EnvironmentId, generation: Generation) -> Result<()> {
        let namespace = self.namespace(id);
        let _turn = self.turn(id).await;
        if let Some(uid) = has_namespace(&self.objects, &namespace, self.cluster.instance.as_str()).await? {
            match self.accept(id, generation).await {
                // One that was only begun, or whose marker went first.
                Ok(()) | Err(RuntimeError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
            if let Some(engine) = &self.gitops {
                self.take_away(engine, id, generation).await?;
            }
            self.objects
                .delete(Kind::Namespace, &namespace, &namespace, Some(uid))
                .await?;
            self.stop_writers(&namespace).await?;
            self.gone(&namespace).await?;
        } else if let Some(engine) = &self.gitops {
            self.take_away(engine, id, generation).await?;
        }
        let forgotten = || Seen::of(&self.watches, id).is_none();
        if self.watches.until(FORGOTTEN, forgotten).await {
            return Ok(());
        }
        Err(failed(
            &format!("removing environment {id}"),
            "its namespace is gone, and the watch has not seen it",
        ))
    }

    /// Removes what makes pods, and waits until they are gone. A namespace that is to go would do that too, but begins only after five
    /// seconds, and where pods take their time to stop it looks again much later. What does not end here is left to it.
    async fn stop_writers(&self, namespace: &str) -> Result<()> {
        if self.watches.current().await.is_err() {
            return Ok(());
        }
        let is = |meta: &ObjectMeta| meta.namespace.as_deref() == Some(namespace);
        let jobs = self.watches.jobs.state_filter(|job| is(&job.metadata));
        let jobs = jobs.iter().map(|job| (Kind::Job, job.name_any()));
        let runners = self.runners(namespace);
        let runners = runners.into_iter().map(|(kind, runner, _)| (kind, runner.name));
        let all: BTreeSet<(Kind, String)> = runners.chain(jobs).collect();
        stream::iter(all)
            .map(|(kind, name)| async move { self.objects.delete(kind, namespace, &name, None).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<bool>>()
            .await?;
        let stopped = || self.watches.pods.find(|pod| is(&pod.metadata)).is_none();
        self.watches.until(STOPPED, stopped).await;
        Ok(())
    }

    /// Waits until a namespace is gone.
    async fn gone(&self, namespace: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(50);
        loop {
            let Some(found) = self.objects.get(Kind::Namespace, namespace, namespace).await? else {
                return Ok(());
            };
            if Instant::now() > until {
                return Err(failed(&format!("removing namespace {namespace}"), blocker(&found)));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}

/// What keeps a namespace from going, in the cluster's own words.
pub(super) fn blocker(found: &DynamicObject) -> String {
    let own = found.metadata.finalizers.clone().unwrap_or_default();
    let namespace = found.clone().try_parse::<Namespace>().ok();
    let conditions = namespace
        .and_then(|namespace| namespace.status?.conditions)
        .unwrap_or_default();
    let holds = conditions.iter().filter(|condition| condition.status == "True");
    let mut words: Vec<String> = holds.filter_map(|condition| condition.message.clone()).collect();
    if !own.is_empty() {
        words.push(format!("the namespace itself waits for {}", own.join(", ")));
    }
    if words.is_empty() {
        words.push("the cluster does not say what it waits for".to_owned());
    }
    shortened(&format!("it is still there after {PATIENCE:?}: {}", words.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_hangs_names_what_holds_it() {
        let message =
            "Some content in the namespace has finalizers remaining: example.com/guard in 1 resource instances";
        let found = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "n", "finalizers": ["example.com/own"]},
            "status": {"phase": "Terminating", "conditions": [
                {"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "All resources successfully discovered"},
                {"type": "NamespaceFinalizersRemaining", "status": "True", "message": message},
            ]},
        });
        let told = blocker(&serde_json::from_value(found).unwrap());
        assert!(
            told.contains("example.com/guard") && told.contains("example.com/own"),
            "{told}"
        );
        assert!(!told.contains("successfully"), "{told}");
    }
}
