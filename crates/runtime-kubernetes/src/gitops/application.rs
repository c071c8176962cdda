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

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    /// As Argo CD writes it, with another state of its roll-out.
    fn application(sync: &str, phase: &str, revision: &str) -> Application {
        let failed = json!([
            {"kind": "Service", "name": "web", "status": "Synced", "message": "service/web serverside-applied"},
            {"kind": "Deployment", "name": "web", "status": "SyncFailed", "message": "admission webhook denied the request"},
        ]);
        let object = json!({
            "metadata": {"name": "n"},
            "spec": {"source": {"repoURL": "u", "path": "previews/e000000007/stack", "targetRevision": COMMIT}},
            "status": {
                "sync": {"status": sync, "revision": revision},
                "health": {"status": "Healthy"},
                "operationState": {
                    "phase": phase,
                    "message": "one or more objects failed to apply",
                    "startedAt": "2026-01-01T00:00:00Z",
                    "operation": {"sync": {"revision": revision}},
                    "syncResult": {"revision": revision, "resources": failed},
                },
                "resources": [
                    {"kind": "Deployment", "name": "web", "status": "OutOfSync"},
                    {"kind": "Deployment", "name": "api", "status": "Synced"},
                ],
            },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn it_is_synced_only_to_the_very_commit_and_when_nothing_is_under_way() {
        let other = COMMIT.replace('0', "a");
        assert!(application("Synced", "Succeeded", COMMIT).is_live());
        assert!(!application("Synced", "Running", COMMIT).is_live());
        assert!(!application("OutOfSync", "Succeeded", COMMIT).is_live());
        assert!(!application("Synced", "Succeeded", &other).is_live());
        let mut going = application("Synced", "Succeeded", COMMIT);
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(!going.is_live());
        assert!(!Application::default().is_live());
    }

    #[test]
    fn a_failure_is_of_one_commit_and_in_the_words_of_what_was_refused() {
        let failed = application("OutOfSync", "Failed", COMMIT);
        let words = failed.failure(COMMIT).map(|failure| failure.words().join("; "));
        assert_eq!(
            words.as_deref(),
            Some("deployment web: admission webhook denied the request")
        );
        assert!(failed.words().unwrap().contains("admission webhook"));
        let earlier = COMMIT.replace('0', "a");
        assert!(application("OutOfSync", "Failed", &earlier).failure(COMMIT).is_none());
        assert!(application("OutOfSync", "Running", COMMIT).failure(COMMIT).is_none());
    }

    #[test]
    fn what_differs_is_told_by_name() {
        let seen = application("OutOfSync", "Succeeded", COMMIT);
        let told = seen.differs("Deployment", "web").unwrap();
        assert!(told.contains("deployment web") && told.contains("01234567"), "{told}");
        assert_eq!(seen.differs("Deployment", "api"), None);
        assert_eq!(seen.differs("StatefulSet", "web"), None);
    }
}
