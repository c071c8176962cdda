//! What a user is told when something does not run, or does not end.

use crate::rig::{PORT, Rig, begin, ready, spec, with, workload};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota};
use kube::{
    Api,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use model::{
    EnvironmentSpec, Generation, Job, JobEvent, JobName, MountKind, Root, ServiceState, Stage, Volume, VolumeOrigin,
};
use runtime::{NoSecrets, Runtime, RuntimeError, conformance::Fixture, conformance::Program};
use std::time::{Duration, Instant};

/// Waits until what is said of a service has these words; how long that took.
async fn says(rig: &Rig, spec: &EnvironmentSpec, service: &str, words: &[&str]) -> Duration {
    let from = Instant::now();
    let mut last = None;
    while from.elapsed() < Duration::from_secs(60) {
        let seen = rig.runtime.observe(&spec.environment).await.unwrap().unwrap();
        last = seen.services.get(&service.parse().unwrap()).cloned();
        let message = last.as_ref().and_then(|fact| fact.message.clone()).unwrap_or_default();
        if words.iter().all(|word| message.contains(word)) {
            return from.elapsed();
        }
        rig.pause().await;
    }
    panic!("expected {words:?} of {service}, last seen: {last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_run_says_why() {
    let rig = Rig::new().await;
    let mut spec = spec(&rig);
    let mut absent = workload(&["true"]);
    absent.root = Root::Image {
        reference: "cluster.invalid/absent:1".to_owned(),
        pinned: None,
    };
    with(&mut spec, "absent", absent, &[]);
    with(&mut spec, "deaf", rig.workload(&Program::Idle), &[PORT]);
    let fails = Program::Exit {
        text: "the last words".to_owned(),
        code: 3,
    };
    with(&mut spec, "fails", rig.workload(&fails), &[]);
    with(&mut spec, "missing", rig.workload(&Program::Missing), &[]);
    let mut homeless = workload(&["true"]);
    homeless.mounts.push(model::Mount {
        target: "/data".to_owned(),
        kind: MountKind::Volume {
            volume: "data".parse().unwrap(),
        },
        read_only: false,
    });
    with(&mut spec, "homeless", homeless, &[]);
    if let model::Stack::Services(stack) = &mut spec.stack {
        let volume = Volume {
            origin: VolumeOrigin::Empty,
            incarnation: Generation(1),
            limit_bytes: None,
        };
        stack.volumes.insert("data".parse().unwrap(), volume);
    }
    begin(&rig, &spec).await;
    let took = says(&rig, &spec, "absent", &["cluster.invalid/absent:1", "pull"]).await;
    assert!(
        took < Duration::from_secs(10),
        "an image that is missing was told after {took:?}"
    );
    says(&rig, &spec, "fails", &["ended with status 3", "the last words"]).await;
    says(&rig, &spec, "missing", &["this-command-does-not-exist"]).await;
    says(&rig, &spec, "deaf", &["Readiness probe failed", "8080"]).await;
    says(&rig, &spec, "homeless", &["PersistentVolumeClaim"]).await;
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_exceeded_is_told() {
    let rig = Rig::new().await;
    let mut spec = spec(&rig);
    with(&mut spec, "web", rig.workload(&Program::Idle), &[]);
    rig.runtime.apply(&spec, &Stage::Envelope, &NoSecrets).await.unwrap();
    let api: Api<ResourceQuota> = Api::namespaced(rig.client().await, &rig.namespace(&spec));
    let none = serde_json::json!({"spec": {"hard": {"pods": "0"}}});
    api.patch("quota", &PatchParams::default(), &Patch::Merge(none))
        .await
        .unwrap();
    let in_force = || async {
        api.get("quota")
            .await
            .unwrap()
            .status
            .and_then(|status| status.hard?.remove("pods"))
    };
    while in_force().await.is_none_or(|pods| pods.0 != "0") {
        rig.pause().await;
    }
    let names = [("web").parse().unwrap()].into();
    rig.runtime
        .apply(&spec, &Stage::Services(names), &NoSecrets)
        .await
        .unwrap();
    says(&rig, &spec, "web", &["exceeded quota: quota", "pods=0"]).await;
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_image_is_missing_is_ended_at_once() {
    let rig = Rig::new().await;
    let mut spec = spec(&rig);
    let mut workload = workload(&["true"]);
    workload.root = Root::Image {
        reference: "cluster.invalid/absent:1".to_owned(),
        pinned: None,
    };
    let name: JobName = "migrate".parse().unwrap();
    let job = Job {
        name: name.clone(),
        workload,
        on: JobEvent::Create,
        needs: Vec::new(),
        timeout_ms: 600_000,
        product: None,
        schedule: None,
    };
    if let model::Stack::Services(stack) = &mut spec.stack {
        stack.jobs.insert(name.clone(), job);
    }
    rig.runtime.apply(&spec, &Stage::Envelope, &NoSecrets).await.unwrap();
    let from = Instant::now();
    let error = rig.runtime.job_run(&spec, &name, &NoSecrets).await.unwrap_err();
    let took = from.elapsed();
    assert!(
        error.is_transient() && error.to_string().contains("cluster.invalid/absent:1"),
        "{error}"
    );
    assert!(took < Duration::from_secs(10), "told after {took:?}");
    let seen = rig.runtime.observe(&spec.environment).await.unwrap().unwrap();
    assert!(seen.jobs.is_empty(), "{:?}", seen.jobs);
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_is_found_again_after_a_restart() {
    let rig = Rig::new().await;
    let mut first = spec(&rig);
    let serve = |text: &str| rig.workload(&Program::Serve { text: text.to_owned() });
    with(&mut first, "web", serve("one"), &[PORT]);
    let mut second = first.clone();
    second.generation = first.generation.next();
    begin(&rig, &second).await;

    let rig = rig.again().await;
    let refused = rig.runtime.apply(&first, &Stage::Envelope, &NoSecrets).await;
    assert!(
        matches!(&refused, Err(RuntimeError::Superseded { newest, .. }) if *newest == second.generation),
        "{refused:?}"
    );
    let seen = rig.runtime.observe(&second.environment).await.unwrap().unwrap();
    assert_eq!(
        (seen.generation, seen.envelope),
        (second.generation, Some(second.generation))
    );

    let stages = [Stage::Envelope, Stage::Services(["web".parse().unwrap()].into())];
    let mut ledger: Vec<_> = stages
        .iter()
        .flat_map(|stage| rig.runtime.footprint(&second, stage))
        .collect();
    ledger.sort();
    let mut there = rig.runtime.inventory(Some(&second.environment)).await.unwrap();
    there.sort();
    assert_eq!(
        there, ledger,
        "nothing here is given a secret, so all that was announced is listed"
    );
    rig.runtime
        .remove(&second.environment, second.generation)
        .await
        .unwrap();
    assert_eq!(rig.runtime.inventory(None).await.unwrap(), []);
    assert_eq!(rig.runtime.observe(&second.environment).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_hangs_names_what_holds_it() {
    let rig = Rig::new().await;
    let spec = spec(&rig);
    begin(&rig, &spec).await;
    let api: Api<ConfigMap> = Api::namespaced(rig.client().await, &rig.namespace(&spec));
    let guard = ConfigMap {
        metadata: ObjectMeta {
            name: Some("guard".to_owned()),
            finalizers: Some(vec!["example.com/guard".to_owned()]),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    api.create(&PostParams::default(), &guard).await.unwrap();

    let from = Instant::now();
    let error = rig
        .runtime
        .remove(&spec.environment, spec.generation)
        .await
        .unwrap_err();
    let took = from.elapsed();
    assert!(error.to_string().contains("example.com/guard"), "{error}");
    assert!(
        error.is_transient() && took < Duration::from_secs(60),
        "told after {took:?}"
    );
    let left = rig.runtime.inventory(Some(&spec.environment)).await.unwrap();
    assert!(!left.is_empty(), "a namespace that is still there is no receipt");

    let free = serde_json::json!({"metadata": {"finalizers": null}});
    api.patch("guard", &PatchParams::default(), &Patch::Merge(free))
        .await
        .unwrap();
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
    assert_eq!(rig.runtime.inventory(Some(&spec.environment)).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_somebody_else_is_left_alone() {
    let rig = Rig::new().await;
    let spec = spec(&rig);
    let api: Api<Namespace> = Api::all(rig.client().await);
    let theirs = Namespace {
        metadata: ObjectMeta {
            name: Some(rig.namespace(&spec)),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    api.create(&PostParams::default(), &theirs).await.unwrap();
    let applied = rig.runtime.apply(&spec, &Stage::Envelope, &NoSecrets).await;
    let removed = rig.runtime.remove(&spec.environment, spec.generation).await;
    let after = api.get(&rig.namespace(&spec)).await.unwrap();
    api.delete(&rig.namespace(&spec), &Default::default()).await.unwrap();
    for answer in [applied, removed] {
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("somebody else"), "{error}");
    }
    assert!(after.metadata.deletion_timestamp.is_none(), "{after:?}");
    assert!(
        !after
            .metadata
            .labels
            .unwrap_or_default()
            .contains_key("maquette/instance")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_is_made_sleeps_wakes_and_ends() {
    let rig = Rig::new().await;
    let mut spec = spec(&rig);
    let text = "awake".to_owned();
    with(&mut spec, "web", rig.workload(&Program::Serve { text }), &[PORT]);
    let from = Instant::now();
    begin(&rig, &spec).await;
    let applied = from.elapsed();
    ready(&rig, &spec).await;
    let (all, applied) = (from.elapsed().as_secs_f32(), applied.as_secs_f32());
    eprintln!("a new environment of one service: applied after {applied:.2} s, ready after {all:.2} s");
    let id = &spec.environment;
    rig.runtime
        .power(id, spec.generation, model::Power::Stopped)
        .await
        .unwrap();
    let asleep = rig.runtime.observe(id).await.unwrap().unwrap();
    assert_eq!(asleep.services[&"web".parse().unwrap()].state, ServiceState::Stopped);
    let from = Instant::now();
    rig.runtime
        .power(id, spec.generation, model::Power::Running)
        .await
        .unwrap();
    ready(&rig, &spec).await;
    eprintln!("awake after {:.1} s", from.elapsed().as_secs_f32());
    let from = Instant::now();
    rig.runtime.remove(id, spec.generation).await.unwrap();
    eprintln!("gone after {:.1} s", from.elapsed().as_secs_f32());
}
