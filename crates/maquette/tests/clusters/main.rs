//! The life of a pull request on a real cluster, with the program as an operator starts it: `make test-cluster`. Without `KUBECONFIG` these
//! tests fail; `cargo test` alone leaves them out.
//!
//! The cluster has to fetch images from this machine, as that of `tools/cluster` does when it is told to, and needs an Argo CD whose name for it
//! is `test`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "only tests are here"
)]

#[path = "../program/bench.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod bench;
mod cluster;
#[path = "../refused/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod rig;

use cluster::{Application, TURN, compose, settings};
use forge::{StatusState, local::FileChange};
use rig::{Rig, Visitor};
use rustix::process::geteuid;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// From a pull request to a receipt, with an update in between.
async fn life(application: &Application, clusters: &str) {
    let files = [
        FileChange::write("compose.yaml", compose(application, 1)),
        FileChange::write("maquette.yaml", settings()),
    ];
    let mut rig = Rig::new(&files).await;
    application.configure(&rig, clusters);
    rig.start().await;
    assert!(
        !rig.root.join("cells").exists(),
        "no cell host is needed where all projects are on clusters:\n{}",
        rig.log()
    );
    let (number, first) = rig.change("change", &[FileChange::write("README", "x")]).await;
    rig.status(&first, StatusState::Success).await;
    // What is done otherwise than the policy says is no secret.
    rig.comment(
        number,
        &["the door does not run in a cluster yet: nothing outside is reached"],
    )
    .await;
    let label = format!("pr-{number}");
    let id = rig.json(&["show", &label]).await["id"].as_str().unwrap().to_owned();
    assert_eq!(application.namespaces(&id).await.len(), 1);
    let visitor = Visitor::new(&rig, &label).await;
    assert_eq!(visitor.get("/").await, (200, "one\n".to_owned()), "{}", rig.log());
    let logs = rig.ok(&["logs", &label, "web"]).await;
    assert!(logs.contains("one begins"), "{logs}");
    let said = rig.ok(&["exec", &label, "web", "echo", "from the pod"]).await;
    assert_eq!(said.trim(), "from the pod");

    let second = rig
        .push("change", &[FileChange::write("compose.yaml", compose(application, 2))])
        .await;
    rig.status(&second, StatusState::Success).await;
    let since = Instant::now();
    // A pod that is on its way out may still answer.
    while visitor.get("/").await != (200, "two\n".to_owned()) {
        assert!(since.elapsed() < Duration::from_secs(60), "{}", rig.log());
        sleep(Duration::from_millis(200)).await;
    }

    rig.close(number).await;
    let since = Instant::now();
    let receipt = loop {
        let asked = rig.run(&["--json", "receipt", &id]).await;
        let receipt: serde_json::Value = serde_json::from_str(&asked.out).unwrap_or_default();
        if receipt["complete"] == true {
            break receipt;
        }
        assert!(since.elapsed() < rig::PATIENCE, "no receipt: {asked:?}\n{}", rig.log());
        sleep(Duration::from_millis(100)).await;
    };
    let entries = receipt["entries"].as_array().unwrap();
    assert!(
        entries
            .iter()
            .any(|entry| entry["kind"] == "namespace" || entry["resource"]["kind"] == "namespace"),
        "{receipt:#}"
    );
    assert!(entries.iter().all(|entry| !entry["gone"].is_null()), "{receipt:#}");
    assert_eq!(application.namespaces(&id).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_lives_on_a_cluster() {
    assert!(geteuid().is_root(), "this test needs root");
    let _turn = TURN.lock().await;
    let application = Application::new().await;
    life(&application, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_lives_on_a_cluster_through_gitops() {
    assert!(geteuid().is_root(), "this test needs root");
    let _turn = TURN.lock().await;
    let application = Application::new().await;
    let (_gitea, settings) = application.gitops().await;
    life(&application, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_does_not_have_is_refused_with_its_line() {
    let _turn = TURN.lock().await;
    let application = Application::new().await;
    let files = [
        FileChange::write("compose.yaml", compose(&application, 1)),
        FileChange::write("maquette.yaml", settings()),
    ];
    let mut rig = Rig::new(&files).await;
    application.configure(&rig, "");
    rig.start().await;
    let text = format!(
        "{}    volumes: [\".:/app\"]\n  built:\n    build: .\n",
        compose(&application, 1)
    );
    let change = [
        FileChange::write("compose.yaml", text),
        FileChange::write("Dockerfile", "FROM scratch\n"),
    ];
    let (number, _) = rig.change("change", &change).await;
    let comment = rig.comment(number, &["compose.yaml:"]).await;
    for wanted in [
        "compose.yaml:5:",
        "mounts files of the commit at `/app`, which the runtime `kubernetes` does not have",
        "compose.yaml:7:",
        "`build` of service `built` is not supported by the runtime `kubernetes`",
    ] {
        assert!(comment.contains(wanted), "{wanted}:\n{comment}");
    }
    let id = rig.json(&["show", &format!("pr-{number}")]).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        application.namespaces(&id).await,
        Vec::<String>::new(),
        "nothing is made"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_carries_production_is_refused_unless_the_operator_insists() {
    let _turn = TURN.lock().await;
    let application = Application::new().await;
    let files = [
        FileChange::write("compose.yaml", compose(&application, 1)),
        FileChange::write("maquette.yaml", settings()),
    ];
    let mut rig = Rig::new(&files).await;
    application.configure(&rig, "");
    rig.start().await;
    let production = application.production().await;
    let (number, commit) = rig.change("change", &[FileChange::write("README", "x")]).await;
    let doctor = rig.run(&["doctor", "--config", rig.config().to_str().unwrap()]).await;
    assert_eq!(doctor.code, 1, "{doctor:?}");
    for wanted in [
        "ok    cluster staging: it answers, Kubernetes v1.",
        "ok    cluster staging rights: all that environments need is allowed",
        "FAIL  cluster staging production: the namespace shop-",
    ] {
        assert!(doctor.out.contains(wanted), "{wanted}: {doctor:?}");
    }
    let found = format!(
        "the namespace {} has a workload that is none of previews",
        production.name
    );
    rig.comment(number, &[found.as_str(), "production: insist"]).await;
    rig.status(&commit, StatusState::Failure).await;
    let id = rig.json(&["show", &format!("pr-{number}")]).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        application.namespaces(&id).await,
        Vec::<String>::new(),
        "nothing is made"
    );
    application.configure(&rig, "    production: insist\n");
    rig.stop().await;
    rig.start().await;
    let commit = rig.push("change", &[FileChange::write("README", "y")]).await;
    rig.status(&commit, StatusState::Success).await;
    rig.close(number).await;
    let since = Instant::now();
    while !application.namespaces(&id).await.is_empty() {
        assert!(since.elapsed() < rig::PATIENCE, "{}", rig.log());
        sleep(Duration::from_millis(200)).await;
    }
    production.remove().await;
}
