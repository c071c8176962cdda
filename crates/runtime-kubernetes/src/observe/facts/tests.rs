//! Facts from objects as a cluster writes them.

use super::*;
use serde_json::{Value, json};

const DIGEST: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
const OLDER: &str = "00000000000000000000000000000000000000000000000000000000000000bb";

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn deployment(replicas: u32) -> Arc<Deployment> {
    parsed(json!({
        "metadata": {
            "name": "web",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"maquette/name": "web", "maquette/digest": DIGEST},
        },
        "spec": {
            "replicas": replicas,
            "selector": {},
            "template": {"metadata": {"labels": {"maquette/service": "web"}}},
        },
    }))
}

/// A pod whose container has this status; ready or not since ten seconds after it was made.
fn pod(digest: &str, ready: bool, container: Value) -> Arc<Pod> {
    parsed(json!({
        "metadata": {
            "name": "web-1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"maquette/service": "web"},
            "annotations": {"maquette/digest": digest},
        },
        "status": {
            "conditions": [{
                "type": "Ready",
                "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2026-01-01T00:00:10Z",
            }],
            "containerStatuses": [container],
        },
    }))
}

fn container(restarts: u32, state: Value, last: Value) -> Value {
    json!({
        "name": "main", "image": "i", "imageID": "", "ready": false,
        "restartCount": restarts, "state": state, "lastState": last,
    })
}

fn fact(replicas: u32, pods: Vec<Arc<Pod>>) -> ServiceFact {
    let seen = Seen {
        marker: None,
        deployments: vec![deployment(replicas)],
        stateful_sets: Vec::new(),
        jobs: Vec::new(),
        pods,
        claims: Vec::new(),
        applications: None,
        events: Vec::new(),
    };
    let mut facts = seen.observation(&"e123456789".parse().unwrap(), Timestamp(0));
    facts.services.remove(&"web".parse().unwrap()).unwrap()
}

#[test]
fn only_pods_of_what_is_wanted_count() {
    let running = |digest: &str| {
        let state = json!({"running": {"startedAt": "2026-01-01T00:00:05Z"}});
        pod(digest, true, container(0, state, json!({})))
    };
    assert_eq!(fact(1, vec![running(DIGEST)]).state, ServiceState::Ready);
    assert_eq!(
        fact(1, vec![running(OLDER)]).state,
        ServiceState::Starting,
        "the one before is ready, this one is not there yet"
    );
    assert_eq!(fact(0, vec![]).state, ServiceState::Stopped);
}

#[test]
fn what_was_ready_and_is_not_any_more_is_unhealthy() {
    let of = |started: &str| {
        let state = json!({"running": {"startedAt": started}});
        fact(1, vec![pod(DIGEST, false, container(0, state, json!({})))]).state
    };
    assert_eq!(of("2026-01-01T00:00:05Z"), ServiceState::Unhealthy);
    assert_eq!(
        of("2026-01-01T00:00:12Z"),
        ServiceState::Starting,
        "it was started after that"
    );
}

#[test]
fn what_keeps_ending_is_told_with_its_last_words() {
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}});
    let ended = json!({"terminated": {
        "exitCode": 137, "reason": "OOMKilled", "message": "out of words\n", "finishedAt": "2026-01-01T00:01:00Z",
    }});
    let fact = fact(1, vec![pod(DIGEST, false, container(1, waiting, ended))]);
    let at = Timestamp(1_767_225_660_000);
    let until = at.plus(Duration::from_secs(20));
    assert_eq!(fact.state, ServiceState::BackingOff { code: 137, until });
    assert_eq!((fact.since, fact.restarts), (at, 1));
    let message = fact.message.unwrap();
    assert_eq!(
        message,
        "pod web-1: ended with status 137 (OOMKilled); last words: out of words"
    );
}

#[test]
fn an_image_that_can_not_be_had_is_told() {
    let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "no such image: absent:1"}});
    let pod = pod(DIGEST, false, container(0, waiting, json!({})));
    assert_eq!(
        why::hopeless(&pod).as_deref(),
        Some("pod web-1: ErrImagePull: no such image: absent:1")
    );
    let fact = fact(1, vec![pod]);
    assert_eq!(fact.state, ServiceState::Starting);
    assert!(fact.message.unwrap().contains("absent:1"));
}
