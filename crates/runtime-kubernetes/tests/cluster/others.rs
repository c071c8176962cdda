//! Others on the same cluster: who refuses what we apply, who changes it by hand, and a second one of us.

use crate::rig::{PORT, Rig, begin, ready, spec, with};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::Deployment,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use model::{Generation, Stage};
use runtime::{NoSecrets, Runtime, RuntimeError, conformance::Fixture, conformance::Program};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn who_refuses_an_object_is_quoted() {
    let rig = Rig::new().await;
    let mut spec = spec(&rig);
    with(&mut spec, "web", rig.workload(&Program::Idle), &[]);
    rig.runtime.apply(&spec, &Stage::Envelope, &NoSecrets).await.unwrap();
    let name = format!("test-{}.example.com", rig.id());
    let policy = json!({
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"maquette/environment": spec.environment.as_str()}},
                "resourceRules": [{
                    "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"],
                }],
            },
            "validations": [{"expression": "false", "message": "ask the platform team first"}],
        },
    });
    let binding = json!({
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(rig.client().await);
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(rig.client().await);
    let how = PostParams::default();
    policies
        .create(&how, &serde_json::from_value(policy).unwrap())
        .await
        .unwrap();
    bindings
        .create(&how, &serde_json::from_value(binding).unwrap())
        .await
        .unwrap();

    // The API server takes a moment to hear of it; what was made until then goes with the next environment's end.
    let deployments: Api<Deployment> = Api::namespaced(rig.client().await, &rig.namespace(&spec));
    let services = Stage::Services(["web".parse().unwrap()].into());
    let mut answer = Ok(());
    for _ in 0..100 {
        answer = rig.runtime.apply(&spec, &services, &NoSecrets).await;
        if answer.is_err() {
            break;
        }
        deployments.delete("web", &DeleteParams::default()).await.unwrap();
        while deployments.get_opt("web").await.unwrap().is_some() {
            rig.pause().await;
        }
    }
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
    let error = answer.unwrap_err();
    assert!(
        matches!(&error, RuntimeError::Invalid { .. }) && error.to_string().contains("ask the platform team first"),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_changed_by_hand_is_put_right_when_it_is_applied_again() {
    let rig = Rig::new().await;
    let mut spec = spec(&rig);
    let text = "ours".to_owned();
    with(&mut spec, "web", rig.workload(&Program::Serve { text }), &[PORT]);
    begin(&rig, &spec).await;
    ready(&rig, &spec).await;
    let api: Api<Deployment> = Api::namespaced(rig.client().await, &rig.namespace(&spec));
    let theirs = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "main", "image": "cluster.invalid/theirs:1"}]}}},
    });
    let how = PatchParams::apply("somebody-else").force();
    api.patch("web", &how, &Patch::Apply(theirs)).await.unwrap();
    begin(&rig, &spec).await;
    let after = api.get("web").await.unwrap().spec.unwrap();
    let image = after.template.spec.unwrap().containers.remove(0).image;
    assert_eq!((after.replicas, image.as_deref()), (Some(1), Some(crate::rig::IMAGE)));
    ready(&rig, &spec).await;
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_of_us_at_once_the_newer_generation_wins() {
    let one = Rig::new().await;
    let two = one.again().await;
    let first = spec(&one);
    one.runtime.apply(&first, &Stage::Envelope, &NoSecrets).await.unwrap();
    let of = |number: u64| {
        let mut spec = first.clone();
        spec.generation = Generation(number);
        spec
    };
    for round in 0..10 {
        let (older, newer) = (of(round * 2 + 2), of(round * 2 + 3));
        let (lost, won) = futures::join!(
            one.runtime.apply(&older, &Stage::Envelope, &NoSecrets),
            two.runtime.apply(&newer, &Stage::Envelope, &NoSecrets),
        );
        won.unwrap();
        // It may have been through before the other one began.
        assert!(
            matches!(lost, Ok(()) | Err(RuntimeError::Superseded { .. })),
            "{lost:?}"
        );
        let seen = two.runtime.observe(&first.environment).await.unwrap().unwrap();
        assert_eq!(seen.generation, newer.generation);
        assert_eq!(seen.envelope, Some(newer.generation));
    }
    one.runtime.remove(&first.environment, Generation(1000)).await.unwrap();
}
