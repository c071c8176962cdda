//! Argo CD's `Application`: what we ask of it, and what it says.

use super::ArgoCd;
use crate::{
    api::shortened,
    build::labels::{ENVIRONMENT, INSTANCE},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use model::{CommitId, EnvironmentId, InstanceId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;

/// How often Argo CD tries by itself what has failed, and its pauses. More than that is asked for anew.
const RETRIES: u32 = 3;

/// What is looked at of an application.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Application {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: Spec,
    pub(crate) status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) source: Source,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Source {
    #[serde(rename = "repoURL")]
    pub(crate) repo_url: String,
    pub(crate) path: String,
    pub(crate) target_revision: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) sync: Sync,
    pub(crate) health: Health,
    pub(crate) operation_state: Option<Operation>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) reconciled_at: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Sync {
    pub(crate) status: String,
    pub(crate) revision: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Health {
    pub(crate) status: String,
    pub(crate) message: String,
}

/// A roll-out, under way or the last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Operation {
    pub(crate) phase: String,
    pub(crate) message: String,
    pub(crate) started_at: String,
    pub(crate) sync_result: Option<SyncResult>,
    pub(crate) operation: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SyncResult {
    pub(crate) revision: String,
    pub(crate) resources: Vec<Resource>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Resource {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) message: String,
    /// Only where Argo CD is told to keep it here.
    pub(crate) health: Option<Health>,
}

impl kube::Resource for Application {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(&(): &()) -> Cow<'_, str> {
        "Application".into()
    }

    fn group(&(): &()) -> Cow<'_, str> {
        "argoproj.io".into()
    }

    fn version(&(): &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural(&(): &()) -> Cow<'_, str> {
        "applications".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is asked of Argo CD: to bring one folder of one commit to a cluster, and to hold it there.
pub(super) fn object(
    argo: &ArgoCd,
    instance: &InstanceId,
    environment: &EnvironmentId,
    namespace: &str,
    name: &str,
    source: &Source,
    project: &str,
) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {
            "name": name,
            "namespace": argo.namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "maquette",
                INSTANCE: instance.as_str(),
                ENVIRONMENT: environment.as_str(),
            },
            // What it has brought goes with it.
            "finalizers": ["resources-finalizer.argocd.argoproj.io"],
        },
        "spec": {
            "project": project,
            "source": source,
            "destination": {"name": argo.cluster, "namespace": namespace},
            "revisionHistoryLimit": 2,
            "ignoreDifferences": [
                // Sleep is ours: without this Argo CD wakes what sleeps.
                {"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]},
                {"group": "apps", "kind": "StatefulSet", "jsonPointers": ["/spec/replicas"]},
            ],
            "syncPolicy": {
                "automated": {"prune": true, "selfHeal": true, "allowEmpty": true},
                "syncOptions": sync_options(),
                "retry": retry(),
            },
        },
    })
}

fn sync_options() -> Value {
    json!([
        "ServerSideApply=true",
        "RespectIgnoreDifferences=true",
        "CreateNamespace=false"
    ])
}

fn retry() -> Value {
    // With a new commit waiting, the old one is not tried on.
    json!({"limit": RETRIES, "refresh": true, "backoff": {"duration": "1s", "factor": 2, "maxDuration": "10s"}})
}

/// Asks for a roll-out that Argo CD does not begin by itself: of a commit with which it has failed.
pub(super) fn again(commit: &CommitId) -> Value {
    json!({
        "operation": {
            "initiatedBy": {"username": "maquette"},
            "sync": {"revision": commit.as_str(), "prune": true, "syncOptions": sync_options()},
            "retry": retry(),
        },
    })
}

impl Application {
    /// Whether it is at this commit, and all that the commit has is in the cluster as it says.
    pub(crate) fn is_synced_to(&self, commit: &str) -> bool {
        let busy = self.status.operation_state.as_ref().is_some_and(Operation::is_running);
        self.spec.source.target_revision == commit
            && self.status.sync.revision == commit
            && self.status.sync.status == "Synced"
            && self.metadata.deletion_timestamp.is_none()
            && !busy
    }

    /// Whether it is synced to the commit that it was given last, and healthy.
    pub(crate) fn is_live(&self) -> bool {
        self.is_synced_to(&self.spec.source.target_revision) && self.status.health.status == "Healthy"
    }

    /// The roll-out of a commit that has failed.
    pub(crate) fn failure(&self, commit: &str) -> Option<&Operation> {
        let operation = self.status.operation_state.as_ref()?;
        let of = operation.sync_result.as_ref().map_or_else(
            || operation.operation.pointer("/sync/revision").and_then(Value::as_str),
            |result| Some(result.revision.as_str()),
        );
        let failed = matches!(operation.phase.as_str(), "Failed" | "Error");
        (failed && of == Some(commit)).then_some(operation)
    }

    /// What is wrong with it, in Argo CD's words.
    pub(crate) fn words(&self) -> Option<String> {
        let conditions = self
            .status
            .conditions
            .iter()
            .filter(|condition| condition.kind.ends_with("Error"));
        let mut words: Vec<String> = conditions
            .map(|condition| format!("{}: {}", condition.kind, condition.message))
            .collect();
        if let Some(operation) = &self.status.operation_state
            && operation.phase != "Succeeded"
        {
            words.extend(operation.words());
        }
        (!words.is_empty()).then(|| shortened(&words.join("; ")))
    }

    /// What Argo CD says of an object that is not as its commit has it, or not healthy.
    pub(crate) fn differs(&self, kind: &str, name: &str) -> Option<String> {
        let mut resources = self.status.resources.iter();
        let found = resources.find(|resource| resource.kind == kind && resource.name == name)?;
        let called = format!("{} {name}", kind.to_ascii_lowercase());
        let commit: String = self.status.sync.revision.chars().take(8).collect();
        if found.status == "OutOfSync" {
            return Some(format!(
                "Argo CD: {called} is not as commit {commit} has it (OutOfSync)"
            ));
        }
        let health = found.health.as_ref().filter(|health| !health.status.is_empty())?;
        (health.status != "Healthy")
            .then(|| shortened(&format!("Argo CD: {called} is {}: {}", health.status, health.message)))
    }
}

impl Operation {
    fn is_running(&self) -> bool {
        matches!(self.phase.as_str(), "Running" | "Terminating")
    }

    /// What the objects say that could not be applied, or else what the operation says.
    pub(crate) fn words(&self) -> Vec<String> {
        let results = self.sync_result.iter().flat_map(|result| &result.resources);
        let failed = results.filter(|resource| resource.status == "SyncFailed");
        let words: Vec<String> = failed
            .map(|resource| {
                format!(
                    "{} {}: {}",
                    resource.kind.to_ascii_lowercase(),
                    resource.name,
                    resource.message
                )
            })
            .collect();
        if words.is_empty() && !self.message.is_empty() {
            return vec![self.message.clone()];
        }
        words
    }
}
