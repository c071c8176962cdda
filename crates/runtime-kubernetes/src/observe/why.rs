//! Why something does not run, in the cluster's own words: pods, their conditions, and what refuses to make them.

use crate::api::shortened;
use k8s_openapi::api::{
    apps::v1::DeploymentCondition,
    core::v1::{ContainerStatus, Event, Pod},
};

/// Reasons to wait that pass by themselves.
const ORDINARY: &[&str] = &["ContainerCreating", "PodInitializing"];

/// Reasons to wait that nothing but another generation, or somebody else, ends.
const HOPELESS: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// The first container of a pod, which is the only one that we make.
pub(super) fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// What went wrong last with a pod.
pub(super) fn of_pod(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let told = container(pod).and_then(of_container);
    let told = told.or_else(|| {
        let conditions = status.conditions.iter().flatten();
        let mut unscheduled = conditions.filter(|c| c.type_ == "PodScheduled" && c.status == "False");
        let condition = unscheduled.next()?;
        Some(format!(
            "it has no node: {}",
            condition.message.as_deref().unwrap_or("unknown")
        ))
    });
    // The kubelet itself refuses or evicts a pod.
    let told = told.or_else(|| {
        let reason = status.reason.as_deref()?;
        Some(format!("{reason}: {}", status.message.as_deref().unwrap_or_default()))
    })?;
    Some(shortened(&format!("pod {name}: {told}")))
}

fn of_container(status: &ContainerStatus) -> Option<String> {
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    if let Some(waiting) = waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if !ORDINARY.contains(&reason) && reason != "CrashLoopBackOff" {
            return Some(format!("{reason}: {}", waiting.message.as_deref().unwrap_or_default()));
        }
    }
    let ended = |state: &k8s_openapi::api::core::v1::ContainerState| state.terminated.clone();
    let now = status.state.as_ref().and_then(ended);
    let ended = now.or_else(|| status.last_state.as_ref().and_then(ended))?;
    if ended.exit_code == 0 {
        return None;
    }
    let reason = match ended.reason.as_deref() {
        // An error that ended it says no more than its status.
        Some("Error") | None => String::new(),
        Some(reason) => format!(" ({reason})"),
    };
    let words = ended.message.as_deref().unwrap_or_default().trim();
    let words = if words.is_empty() {
        String::new()
    } else {
        format!("; last words: {words}")
    };
    Some(format!("ended with status {}{reason}{words}", ended.exit_code))
}

/// Why a pod will not run as it is: what nobody waits for.
pub(crate) fn hopeless(pod: &Pod) -> Option<String> {
    let waiting = container(pod)?.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    HOPELESS.contains(&reason).then(|| of_pod(pod)).flatten()
}

/// Why a deployment makes no pods: quota, pod security, a webhook.
pub(super) fn of_conditions(conditions: &[DeploymentCondition]) -> Option<String> {
    let refused = conditions
        .iter()
        .find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    Some(shortened(refused.message.as_deref()?))
}

/// The last warning of these events about an object: a probe that fails, a job whose pod is refused.
pub(super) fn of_events<'a>(events: impl IntoIterator<Item = &'a Event>, name: &str) -> Option<String> {
    let about = |event: &&Event| event.involved_object.name.as_deref() == Some(name);
    let last = events
        .into_iter()
        .filter(about)
        .max_by_key(|event| event.last_timestamp.clone())?;
    let kind = last
        .involved_object
        .kind
        .as_deref()
        .unwrap_or("object")
        .to_ascii_lowercase();
    let reason = last.reason.as_deref().unwrap_or_default();
    Some(shortened(&format!(
        "{kind} {name}: {reason}: {}",
        last.message.as_deref().unwrap_or_default()
    )))
}
