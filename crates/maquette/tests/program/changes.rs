//! Commands that change an environment, and logs as they come.

use crate::bench::{Bench, COMPOSE};
use forge::local::FileChange;
use model::{BranchName, CommitId};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(90);

fn branch(name: &str) -> BranchName {
    name.parse().unwrap()
}

/// A commit of `name` whose service prints `text`.
async fn push(bench: &Bench, name: &str, text: &str) -> CommitId {
    let files = [FileChange::write("compose.yaml", COMPOSE.replace("hello", text))];
    let from = branch("main");
    let (name, from) = (branch(name), Some(&from));
    bench.forge.commit(&name, from, &files, "Change").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_an_environment_of_its_own_at_the_same_commit() {
    let bench = Bench::new().await;
    bench.ok(&["create", "--branch", "change", "--watch"]).await;
    let first = bench.json(&["show", "br-change"]).await;
    let id = first["id"].as_str().unwrap();
    let made = bench.ok(&["clone", "br-change", "--watch"]).await;
    assert_eq!(made, format!("copy-{id} is live  http://copy-{id}.localhost:8080\n"));
    let copy = bench.json(&["show", &format!("copy-{id}")]).await;
    assert_ne!(copy["id"], first["id"]);
    assert_eq!(copy["commits"], first["commits"]);
    // It stays where it was, and outlives what it is a copy of.
    let pushed = push(&bench, "change", "pushed").await;
    bench
        .ok(&["deploy", "br-change", "--commit", pushed.as_str(), "--watch"])
        .await;
    bench.ok(&["delete", "br-change", "--yes", "--watch"]).await;
    let copy = bench.json(&["show", &format!("copy-{id}")]).await;
    assert_eq!((&copy["phase"], &copy["commits"]), (&"live".into(), &first["commits"]));
    let none = bench.run(&["clone", "nothing"]).await;
    assert_eq!(none.code, 3, "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recreate_makes_everything_anew_in_the_same_environment() {
    let bench = Bench::new().await;
    bench.ok(&["create", "--branch", "change", "--watch"]).await;
    let before = bench.json(&["show", "br-change"]).await;
    let asked = bench.json(&["recreate", "br-change"]).await;
    assert_eq!(asked["id"], before["id"]);
    let mut now = asked;
    for _ in 0..1800 {
        now = bench.json(&["show", "br-change"]).await;
        if now["phase"] == "live" && now["newest"].as_u64() > before["newest"].as_u64() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((&now["phase"], &now["id"]), (&"live".into(), &before["id"]), "{now:#}");
    assert!(now["newest"].as_u64() > before["newest"].as_u64(), "{now:#}");
    let none = bench.run(&["recreate", "nothing"]).await;
    assert_eq!(none.code, 3, "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_service_is_taken_from_another_branch_and_that_is_said() {
    let bench = Bench::new().await;
    bench.ok(&["create", "--branch", "change", "--watch"]).await;
    let other = push(&bench, "other", "from elsewhere").await;
    let updated = bench
        .ok(&[
            "update",
            "br-change",
            "--service",
            "web",
            "--branch",
            "other",
            "--watch",
        ])
        .await;
    assert_eq!(updated, "br-change is live  http://br-change.localhost:8080\n");
    let shown = bench.json(&["show", "br-change"]).await;
    let commits = shown["commits"].as_object().unwrap();
    assert!(
        commits.values().any(|commit| commit["live"] == other.as_str()),
        "{shown:#}"
    );
    let why = bench.ok(&["why", "br-change"]).await;
    assert!(why.contains("web") && why.contains("other"), "{why}");
    for (service, of, says) in [
        ("nobody", "other", "there is no service nobody"),
        ("web", "nowhere", "nowhere"),
    ] {
        let arguments = ["update", "br-change", "--service", service, "--branch", of];
        let refused = bench.run(&arguments).await;
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.err.contains(says), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deploy_waits_until_that_very_commit_is_live() {
    let bench = Bench::new().await;
    bench.ok(&["create", "--branch", "change", "--watch"]).await;
    let older = push(&bench, "candidate", "older").await;
    push(&bench, "candidate", "newer").await;
    let deployed = bench
        .ok(&["deploy", "br-change", "--commit", older.as_str(), "--watch"])
        .await;
    assert_eq!(deployed, "br-change is live  http://br-change.localhost:8080\n");
    let shown = bench.json(&["show", "br-change"]).await;
    let commits: Vec<_> = shown["commits"].as_object().unwrap().values().collect();
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0]["live"], older.as_str(), "{shown:#}");
    let none = bench.run(&["deploy", "br-change", "--commit", &"0".repeat(40)]).await;
    assert_ne!(none.code, 0, "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_go_on_until_somebody_has_enough() {
    let bench = Bench::new().await;
    bench.ok(&["create", "--branch", "change", "--watch"]).await;
    let shown = bench.json(&["show", "br-change"]).await;
    let id = shown["id"].as_str().unwrap().parse().unwrap();
    bench.simulator.print(&id, "web", "printed before");
    let mut child = bench.command(&["logs", "-f", "br-change", "web"]);
    let mut child = child.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = async |wanted: &str| loop {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        if line.expect("the log goes on").ends_with(&format!("| {wanted}")) {
            return;
        }
    };
    until("printed before").await;
    bench.simulator.print(&id, "web", "printed while somebody looks");
    until("printed while somebody looks").await;
    bench.simulator.print(&id, "web", "and again");
    until("and again").await;
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    child.kill().await.unwrap();
}
