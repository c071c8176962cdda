//! A spare of real cells: made, shown, adopted with its engines untouched, and gone with a receipt.
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
#[path = "../refused/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod rig;

use forge::local::FileChange;
use rig::{COMPOSE, Rig};
use rustix::process::geteuid;
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};
use tokio::time::sleep;

const ENGINES: &str = "  db:\n    image: postgres:15\n    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: shop, POSTGRES_DB: shop }\n  cache:\n    image: redis:7\n";
const SETTINGS: &str = "stack:\n  services:\n    web: { host: true, public: true }\n  data:\n    db: { versions: \"13-18\", migrations: db/*.sql }\npolicy: { baseline: none }\n";

fn compose() -> FileChange {
    FileChange::write(
        "compose.yaml",
        format!("{COMPOSE}    depends_on: [db, cache]\n{ENGINES}"),
    )
}

/// Waits for a spare that is ready, and is not this one; its id.
async fn spare(rig: &Rig, but: Option<&str>) -> String {
    let since = Instant::now();
    loop {
        let list = rig.json(&["list"]).await;
        let rows = list["environments"].as_array().unwrap();
        let ready = rows
            .iter()
            .find(|row| row["origin"]["kind"] == "spare" && row["status"] == "ready" && row["id"].as_str() != but);
        if let Some(row) = ready {
            return row["id"].as_str().unwrap().to_owned();
        }
        assert!(
            since.elapsed() < Duration::from_secs(240),
            "there is no spare: {list:#}\n{}",
            rig.log()
        );
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the engines of an environment get no CPU any more.
async fn is_frozen(rig: &Rig, id: &str) {
    let ticks = || {
        let pid = rig.process(id, "redis-server").as_raw_nonzero();
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
        text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let since = Instant::now();
    loop {
        let before = ticks();
        sleep(Duration::from_millis(500)).await;
        if ticks() == before {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(240), "{id} goes on using the CPU");
    }
}

fn left_over(rig: &Rig, id: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let group = fs::read_to_string(entry.path().join("cgroup")).ok()?;
        group.contains(id).then(|| entry.path().display().to_string())
    });
    let names = |directory: std::path::PathBuf| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let found = entries.filter(|entry| entry.file_name().to_string_lossy().contains(id));
        found
            .map(|entry| entry.path().display().to_string())
            .collect::<Vec<_>>()
    };
    let mut left: Vec<String> = processes.collect();
    for below in ["cells", "cells/environments", "cells/pool/environments"] {
        left.extend(names(rig.root.join(below)));
    }
    left.extend(names(rig.run_dir.clone()));
    left
}

async fn is_gone(rig: &Rig, id: &str, receipt: &Value) {
    let entries = receipt["entries"].as_array().unwrap();
    assert!(
        !entries.is_empty() && entries.iter().all(|entry| entry["gone"].is_u64()),
        "{receipt:#}"
    );
    let since = Instant::now();
    while !left_over(rig, id).is_empty() {
        assert!(since.elapsed() < Duration::from_secs(240), "{:?}", left_over(rig, id));
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_goes_on_with_the_engines_of_the_spare() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let mut rig = Rig::new(&[
        compose(),
        FileChange::write("maquette.yaml", SETTINGS),
        FileChange::write("db/1.sql", "CREATE TABLE visit (at integer);\n"),
    ])
    .await;
    let config = rig.config();
    let text =
        fs::read_to_string(&config).unwrap() + "spares: { per_project: 1, engines: any, keep_available_mib: 64 }\n";
    fs::write(&config, text).unwrap();
    rig.start().await;

    let id = spare(&rig, None).await;
    let label = format!("spare-{id}");
    let list = rig.ok(&["list"]).await;
    assert!(list.contains("There are no environments.\n\nSPARE"), "{list}");
    is_frozen(&rig, &id).await;
    let shown = rig.ok(&["show", &label]).await;
    assert!(shown.contains("waits for the next environment"), "{shown}");
    let refused = rig.run(&["open", &label]).await;
    assert!(
        refused.code == 6 && refused.err.contains("no environment for people"),
        "{refused:?}"
    );
    let doctor = ["doctor", "--config", config.to_str().unwrap()];
    let ready = format!("spares of shop: {label} is ready");
    rig.says(&doctor, &[&ready, "MiB of memory"]).await;

    let (db, cache) = (rig.process(&id, "postgres"), rig.process(&id, "redis-server"));
    let more = FileChange::write("db/2.sql", "ALTER TABLE visit ADD COLUMN page text;\n");
    let (number, commit) = rig.change("topic", &[more]).await;
    let body = rig
        .comment(number, &[&format!("live** with `{}`\n", commit.short())])
        .await;
    assert!(!body.contains("cloned anew"), "{body}");
    let shown = rig.json(&["show", &format!("pr-{number}")]).await;
    assert_eq!(shown["id"], id.as_str(), "the spare was not adopted");
    assert_eq!(rig.process(&id, "redis-server"), cache, "Redis was started again");
    assert!(
        fs::exists(format!("/proc/{}", db.as_raw_nonzero())).unwrap(),
        "PostgreSQL was started again"
    );

    let next = spare(&rig, Some(&id)).await;
    let receipt = rig.json(&["delete", "--yes", "--watch", &format!("pr-{number}")]).await;
    is_gone(&rig, &id, &receipt).await;
    let receipt = rig
        .json(&["delete", "--yes", "--watch", &format!("spare-{next}")])
        .await;
    is_gone(&rig, &next, &receipt).await;
    // Why there is none is thought about some time after it has gone.
    rig.says(&doctor, &["none; somebody deleted it"]).await;
}
