//! The baseline in real cells: it is seen live and stopped, a visit wakes it, a push is tried and it sleeps again. The program runs
//! as root does, with a cell host, a pool and a gateway of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests, too, fail by panicking"
)]

#[path = "../program/bench.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod bench;
#[path = "../refused/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod rig;

use forge::local::FileChange;
use rig::{COMPOSE, Rig, SETTINGS, Visitor};
use std::{fs, time::Duration};
use tokio::time::sleep;

/// How many processes the environment's services have.
fn processes(id: &str) -> usize {
    let of_it = |entry: &fs::DirEntry| {
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        groups.contains(id)
    };
    fs::read_dir("/proc").unwrap().flatten().filter(of_it).count()
}

/// Waits until it sleeps at this commit and nothing of it runs; returns its id.
async fn asleep(rig: &Rig, commit: &str) -> String {
    let mut view = serde_json::Value::Null;
    for _ in 0..3600 {
        let shown = rig.run(&["--json", "show", "base"]).await;
        view = serde_json::from_str(&shown.out).unwrap_or_default();
        let at = view["commits"]["shop"]["live"] == commit && view["phase"] == "sleeping";
        let id = view["id"].as_str().unwrap_or_default();
        if at && processes(id) == 0 {
            return id.to_owned();
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("it never slept at {commit}: {view:#}\n{}", rig.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sleeps_until_somebody_visits_and_again_after_a_push() {
    let mut rig = Rig::new(&[
        FileChange::write("compose.yaml", COMPOSE),
        FileChange::write("maquette.yaml", SETTINGS.replace("baseline: none", "baseline: asleep")),
        FileChange::write("page.txt", "the page of main\n"),
    ])
    .await;
    rig.start().await;
    let begun = rig
        .push("main", &[FileChange::write("page.txt", "the first page\n")])
        .await;
    let id = asleep(&rig, begun.as_str()).await;
    let listed = rig.ok(&["list"]).await;
    assert!(
        listed.contains("baseline main") && listed.contains("sleeping"),
        "{listed}"
    );

    let visitor = Visitor::new(&rig, "base").await;
    assert_eq!(processes(&id), 0, "signing in wakes nothing");
    assert_eq!(visitor.get("/page.txt").await, (200, "the first page\n".to_owned()));
    assert!(processes(&id) > 0);

    let pushed = rig
        .push("main", &[FileChange::write("page.txt", "another page\n")])
        .await;
    assert_eq!(asleep(&rig, pushed.as_str()).await, id, "the same environment");
    assert_eq!(visitor.get("/page.txt").await, (200, "another page\n".to_owned()));
    rig.ok(&["delete", "base", "--yes", "--watch"]).await;
    assert_eq!(processes(&id), 0);
}

/// A job that asks `web`, and ends with 7 if that answers.
fn asking(name: &str, on: &str) -> String {
    let ask = "import time, urllib.request; time.sleep(1); print('web says', urllib.request.urlopen('http://web:8080/page.txt')\
               .read().decode(), flush=True)";
    let ask = match on {
        "delete" => format!("{ask}; raise SystemExit(7)"),
        _ => ask.to_owned(),
    };
    let ask = serde_json::to_string(&ask).unwrap();
    format!("    {name}: {{ run: [python3, -c, {ask}], on: {on}, needs: [web] }}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_run_before_every_sleep_and_before_the_end() {
    let jobs = format!("  jobs:\n{}{}policy:", asking("halt", "stop"), asking("bye", "delete"));
    let settings = SETTINGS
        .replace("baseline: none", "baseline: asleep")
        .replace("policy:", &jobs);
    let mut rig = Rig::new(&[
        FileChange::write("compose.yaml", COMPOSE),
        FileChange::write("maquette.yaml", settings),
        FileChange::write("page.txt", "the page of main\n"),
    ])
    .await;
    rig.start().await;
    let begun = rig
        .push("main", &[FileChange::write("page.txt", "the first page\n")])
        .await;
    let id = asleep(&rig, begun.as_str()).await;
    rig.says(&["logs", "base", "halt"], &["web says the first page"]).await;
    // The same commit sleeps a second time: so does the job run.
    let before = rig.ok(&["logs", "base", "halt"]).await.matches("web says").count();
    assert_eq!(before, 1);
    let pushed = rig
        .push("main", &[FileChange::write("page.txt", "another page\n")])
        .await;
    assert_eq!(asleep(&rig, pushed.as_str()).await, id);
    rig.says(&["logs", "base", "halt"], &["web says another page"]).await;
    // It is woken for what belongs to its end, and the receipt tells what became of that.
    rig.ok(&["delete", "base", "--yes", "--watch"]).await;
    let receipt = rig.ok(&["receipt", &id]).await;
    assert!(receipt.contains("the job bye failed (status 7)"), "{receipt}");
    assert_eq!(processes(&id), 0);
}
