//! A delivery by commits when others are at work, too, or somebody is not there.

use crate::{
    repository::{Team, start},
    rig::{PORT, Rig, begin, ready, spec, with},
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Namespace};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use model::{EnvironmentSpec, Generation, SecretRef, ServiceState, Stage, Value};
use runtime::{
    NoSecrets, Runtime, RuntimeError, Secrets,
    conformance::{Fixture, Program},
};
use serde_json::json;
use std::time::Duration;

fn server(rig: &Rig, spec: &mut EnvironmentSpec, text: &str) {
    with(
        spec,
        "web",
        rig.workload(&Program::Serve { text: text.to_owned() }),
        &[PORT],
    );
}

/// The first line that the service `web` sends.
async fn greeting(rig: &Rig, spec: &EnvironmentSpec) -> String {
    use tokio::io::AsyncReadExt as _;
    let web = "web".parse().unwrap();
    let target = runtime::Target::Port(PORT);
    let mut connection = rig.runtime.dial(&spec.environment, &web, target).await.unwrap();
    let mut line = Vec::new();
    while let Ok(byte) = connection.read_u8().await {
        if byte == b'\n' {
            break;
        }
        line.push(byte);
    }
    String::from_utf8(line).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_object_that_somebody_edits_is_told_and_healed() {
    let rig = Rig::gitops(|_| {}).await;
    let mut spec = spec(&rig);
    server(&rig, &mut spec, "one");
    begin(&rig, &spec).await;
    ready(&rig, &spec).await;
    let api: Api<Deployment> = Api::namespaced(rig.client().await, &rig.namespace(&spec));
    let absent = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "cluster.invalid/absent:1"}]);
    let patch = Patch::<Deployment>::Json(serde_json::from_value(absent).unwrap());
    api.patch("web", &PatchParams::default(), &patch).await.unwrap();
    let web = "web".parse().unwrap();
    let mut told = Vec::new();
    for _ in 0..6000 {
        let seen = rig.runtime.observe(&spec.environment).await.unwrap().unwrap();
        let fact = &seen.services[&web];
        let message = fact.message.clone().unwrap_or_default();
        if fact.state != ServiceState::Ready && told.last() != Some(&message) {
            told.push(message);
        }
        let image = api
            .get("web")
            .await
            .unwrap()
            .spec
            .unwrap()
            .template
            .spec
            .unwrap()
            .containers
            .remove(0)
            .image;
        if image.as_deref() == Some(crate::rig::IMAGE) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        told.iter().any(|message| message.contains("Argo CD: deployment web")),
        "{told:?}"
    );
    ready(&rig, &spec).await;
    assert_eq!(greeting(&rig, &spec).await, "one");
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_push_neither_stops_a_delivery_nor_reaches_an_environment() {
    let rig = Rig::gitops(|_| {}).await;
    let team = rig.team.as_ref().unwrap().checkout();
    let mut spec = spec(&rig);
    server(&rig, &mut spec, "one");
    begin(&rig, &spec).await;
    let id = spec.environment.to_string();
    let pull = || team.git(&["pull", "--quiet", "--rebase", "origin", "main"]).unwrap();
    pull();
    let file = format!("previews/{id}/stack/deployment-web.yaml");
    let text = std::fs::read_to_string(team.file(&file)).unwrap();
    assert!(text.contains("kind: Deployment"), "{text}");
    team.commit(&file, &text.replace("one", "theirs"), "by hand").unwrap();
    team.commit("theirs", "theirs", "something else").unwrap();
    team.git(&["push", "--quiet", "origin", "HEAD:main"]).unwrap();
    for number in 2..5 {
        let mut next = spec.clone();
        next.generation = Generation(number);
        with(
            &mut next,
            "api",
            rig.workload(&Program::Serve {
                text: format!("{number}"),
            }),
            &[PORT],
        );
        rig.runtime.apply(&next, &Stage::Envelope, &NoSecrets).await.unwrap();
        let api = [("api").parse().unwrap()].into();
        rig.runtime
            .apply(&next, &Stage::Services(api), &NoSecrets)
            .await
            .unwrap();
        ready(&rig, &next).await;
        assert_eq!(
            greeting(&rig, &spec).await,
            "one",
            "web is not what somebody else has made of its file"
        );
    }
    pull();
    assert!(team.file("theirs").is_file());
    assert_eq!(std::fs::read_to_string(team.file(&file)).unwrap(), text);
    rig.runtime.remove(&spec.environment, Generation(9)).await.unwrap();
    pull();
    assert!(team.file("theirs").is_file() && !team.file(&format!("previews/{id}")).exists());
}

/// Knows one secret.
struct One;

impl Secrets for One {
    fn value(&self, _secret: &SecretRef) -> Option<&[u8]> {
        Some(b"canary-of-the-secret")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_ever_in_the_repository() {
    let rig = Rig::gitops(|cluster| {
        cluster.pull_secret = Some(runtime_kubernetes::Sensitive::new(
            b"{\"auths\":{\"canary\":{}}}".to_vec(),
        ));
    })
    .await;
    let mut spec = spec(&rig);
    let mut workload = rig.workload(&Program::Serve { text: "one".to_owned() });
    let known = Value::Secret(SecretRef("known".to_owned()));
    workload.environment.insert("PASSWORD".to_owned(), known);
    with(&mut spec, "web", workload, &[PORT]);
    rig.runtime.apply(&spec, &Stage::Envelope, &One).await.unwrap();
    let names = [("web").parse().unwrap()].into();
    rig.runtime.apply(&spec, &Stage::Services(names), &One).await.unwrap();
    ready(&rig, &spec).await;
    let team = rig.team.as_ref().unwrap().checkout();
    let log = team.git(&["log", "--all", "--patch", "--format=%B"]).unwrap();
    assert!(
        log.contains("kind: Deployment") && log.contains("web--service"),
        "{log}"
    );
    for never in ["canary", "Y2FuYXJ5", "kind: Secret"] {
        assert!(!log.contains(never), "{never} is in the repository:\n{log}");
    }
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_went_away_is_told_and_tried_again() {
    let mut gitea = start().await;
    let team = Team::on(&gitea).await;
    let rig = Rig::with_team(team, |_| {}).await;
    let mut spec = spec(&rig);
    server(&rig, &mut spec, "one");
    begin(&rig, &spec).await;
    ready(&rig, &spec).await;
    gitea.pause();
    spec.generation = Generation(2);
    server(&rig, &mut spec, "two");
    let told = rig
        .runtime
        .apply(&spec, &Stage::Envelope, &NoSecrets)
        .await
        .unwrap_err();
    assert!(matches!(told, RuntimeError::Unreachable { .. }), "{told:?}");
    assert!(told.to_string().contains("the GitOps repository http://"), "{told}");
    assert_eq!(greeting(&rig, &spec).await, "one", "what runs goes on");
    gitea.resume().await.unwrap();
    begin(&rig, &spec).await;
    ready(&rig, &spec).await;
    assert_eq!(greeting(&rig, &spec).await, "two");
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_argo_cd_can_not_read_is_told_in_its_words() {
    let mut team = Team::new().await;
    team.seen_at = team.seen_at.replace(".git", "-elsewhere.git");
    let rig = Rig::with_team(team, |_| {}).await;
    let spec = spec(&rig);
    let told = rig
        .runtime
        .apply(&spec, &Stage::Envelope, &NoSecrets)
        .await
        .unwrap_err();
    assert!(
        told.is_transient() && told.to_string().contains("ComparisonError"),
        "{told}"
    );
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argo_cd_that_is_down_is_told() {
    let client = kube::Client::try_default().await.unwrap();
    let mut team = Team::new().await;
    // Applications of which nobody takes notice.
    team.argo = format!("nobody-{}", team.number);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = json!({"metadata": {"name": team.argo}});
    let namespace = serde_json::from_value(namespace).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let argo = team.argo.clone();
    let rig = Rig::with_team(team, |_| {}).await;
    let spec = spec(&rig);
    let told = rig
        .runtime
        .apply(&spec, &Stage::Envelope, &NoSecrets)
        .await
        .unwrap_err();
    let words = "is its application controller running?";
    assert!(told.is_transient() && told.to_string().contains(words), "{told}");
    let seen = rig.runtime.observe(&spec.environment).await.unwrap().unwrap();
    assert_eq!(seen.envelope, None);
    let told = rig
        .runtime
        .remove(&spec.environment, spec.generation)
        .await
        .unwrap_err();
    assert!(told.is_transient() && told.to_string().contains(words), "{told}");
    // As somebody does who has taken Argo CD out of the cluster.
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application"));
    let applications: Api<DynamicObject> = Api::namespaced_with(client, &argo, &kind);
    for application in applications.list(&Default::default()).await.unwrap() {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let name = application.metadata.name.unwrap();
        applications
            .patch(&name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
    rig.runtime.remove(&spec.environment, spec.generation).await.unwrap();
    namespaces.delete(&argo, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sleep_is_not_argo_cds_to_end() {
    let rig = Rig::gitops(|_| {}).await;
    let mut spec = spec(&rig);
    server(&rig, &mut spec, "one");
    begin(&rig, &spec).await;
    ready(&rig, &spec).await;
    let (id, generation) = (&spec.environment, spec.generation);
    rig.runtime.power(id, generation, model::Power::Stopped).await.unwrap();
    let api: Api<Deployment> = Api::namespaced(rig.client().await, &rig.namespace(&spec));
    // It looks at what changed at once, and begins after a second or two.
    for _ in 0..80 {
        let replicas = api.get("web").await.unwrap().spec.unwrap().replicas;
        assert_eq!(replicas, Some(0));
        rig.pause().await;
    }
    rig.runtime.power(id, generation, model::Power::Running).await.unwrap();
    ready(&rig, &spec).await;
    rig.runtime.remove(id, generation).await.unwrap();
}
