//! Changes that fail in real containers, and what people read about them.

use crate::rig::{CANARY, CANARY_FILE, COMPOSE, Rig, SETTINGS, Visitor};
use forge::{StatusState, local::FileChange};
use futures::{
    FutureExt as _,
    future::{LocalBoxFuture, join_all},
};
use rustix::process::{Signal, kill_process};
use std::{
    fs,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};
use tokio::time::sleep;

const WITH_DATABASE: &str = "stack:\n  services:\n    web: { host: true, public: true }\n  data:\n    db: { versions: \"13-18\", migrations: db/*.sql }\npolicy: { baseline: none }\n";

fn write(path: &str, content: impl Into<Vec<u8>>) -> FileChange {
    FileChange::write(path, content)
}

/// The same application with another command.
fn running(command: &str) -> FileChange {
    let given = "[\"python3\", \"-m\", \"http.server\", \"8080\"]";
    assert!(COMPOSE.contains(given));
    write("compose.yaml", COMPOSE.replace(given, command))
}

async fn main_branch() -> Rig {
    Rig::new(&[
        write("compose.yaml", COMPOSE),
        write("maquette.yaml", SETTINGS),
        write("page.txt", "the page of main\n"),
    ])
    .await
}

/// What a service says before it ends is what its author needs.
async fn a_service_that_ends(rig: &Rig) {
    let command = "[\"python3\", \"-c\", \"print('the flux is missing', flush=True); raise SystemExit(3)\"]";
    let (number, commit) = rig.change("ends", &[running(command)]).await;
    let told = ["failed**", "web ended with status 3", "the flux is missing"];
    rig.comment(number, &told).await;
    rig.says(&["why", &format!("pr-{number}")], &told[1..]).await;
    rig.says(&["show", &format!("pr-{number}")], &told[1..]).await;
    let status = rig.status(&commit, StatusState::Failure).await;
    assert!(status.contains("web ended with status 3"), "{status}");
}

async fn a_command_that_is_not_there(rig: &Rig) {
    let (number, commit) = rig.change("missing", &[running("[\"nosuchprogram\", \"8080\"]")]).await;
    let told = [
        "web: the command",
        "nosuchprogram",
        "is not there",
        "install its package on this machine",
    ];
    rig.comment(number, &told).await;
    rig.says(&["why", &format!("pr-{number}")], &told).await;
    let status = rig.status(&commit, StatusState::Failure).await;
    assert!(status.contains("nosuchprogram"), "{status}");
}

async fn an_engine_that_is_not_installed(rig: &Rig) {
    let compose = format!("{COMPOSE}  db: {{ image: \"postgres:9\", environment: {{ POSTGRES_PASSWORD: x }} }}\n");
    let (number, _) = rig.change("engine", &[write("compose.yaml", compose)]).await;
    let told = ["compose.yaml:", "PostgreSQL 9 is not there", "install the package"];
    rig.comment(number, &told).await;
    rig.says(&["why", &format!("pr-{number}")], &told).await;
}

/// The failing file, its line and PostgreSQL's words are told; the older commit comes back with what people wrote into it.
async fn a_migration_that_fails(rig: &Rig) {
    let compose = format!(
        "{COMPOSE}  db:\n    image: postgres:15\n    environment: {{ POSTGRES_USER: shop, POSTGRES_PASSWORD: shop, POSTGRES_DB: shop }}\n    \
         volumes: [\"data:/var/lib/postgresql/data\"]\nvolumes: {{ data: }}\n"
    );
    let files = [
        write("compose.yaml", compose),
        write("maquette.yaml", WITH_DATABASE),
        write("db/1.sql", "CREATE TABLE note (text text);\n"),
    ];
    let (number, _) = rig.change("data", &files).await;
    rig.comment(number, &["live** with"]).await;
    let label = format!("pr-{number}");
    let query = |sql: &'static str| {
        let label = label.clone();
        async move {
            let psql = ["psql", "-h", "127.0.0.1", "-U", "shop", "-d", "shop", "-tAc", sql];
            let exec = ["exec", "-e", "PGPASSWORD=shop", &label, "db"];
            rig.ok(&[&exec[..], &psql[..]].concat()).await
        }
    };
    query("INSERT INTO note VALUES ('written by a reviewer')").await;

    let broken = "ALTER TABLE note ADD COLUMN at int;\n\nUPDATE note SET nowhere = 1;\n";
    let commit = rig.push("data", &[write("db/2.sql", broken)]).await;
    let told = ["db/2.sql:3", "\"nowhere\"", "does not exist", "SQLSTATE 42703"];
    let back = "The data is as it was before the failed update.";
    let body = rig.comment(number, &[&told[..], &["is live", back]].concat()).await;
    assert!(body.contains(commit.short()), "{body}");
    let failed = format!(" is live, {} failed at data:db", commit.short());
    let why = rig.says(&["why", &label], &[&failed]).await;
    assert!(
        told.iter().all(|text| why.contains(text)) && why.contains(back),
        "{why}"
    );
    let status = rig.status(&commit, StatusState::Failure).await;
    assert!(status.contains(commit.short()), "{status}");
    let since = Instant::now();
    let asked = loop {
        let psql = [
            "psql",
            "-h",
            "127.0.0.1",
            "-U",
            "shop",
            "-d",
            "shop",
            "-tAc",
            "SELECT * FROM note",
        ];
        let exec = ["exec", "-e", "PGPASSWORD=shop", &label, "db"];
        let asked = rig.run(&[&exec[..], &psql[..]].concat()).await;
        if asked.code == 0 || since.elapsed() > Duration::from_secs(120) {
            break asked;
        }
        sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(asked.out, "written by a reviewer\n", "{asked:?}");
    let visitor = Visitor::new(rig, &label).await;
    assert_eq!(visitor.get("/page.txt").await, (200, "the page of main\n".to_owned()));
}

/// A service that is killed is started again, each time after a longer pause, and people are told.
async fn a_service_that_is_killed(rig: &Rig) {
    let (number, _) = rig
        .change("killed", &[write("page.txt", "the page of a change\n")])
        .await;
    rig.comment(number, &["live** with"]).await;
    let label = format!("pr-{number}");
    let id = rig.json(&["show", &label]).await["id"].as_str().unwrap().to_owned();
    let visitor = Visitor::new(rig, &label).await;
    let (mut restarts, mut told) = (0, false);
    // The pauses double: the last ones are long enough to be seen by somebody who looks, also on a machine that is busy.
    while restarts < 5 || (!told && restarts < 9) {
        restarts += 1;
        kill_process(rig.process(&id, "http.server"), Signal::KILL).unwrap();
        let since = Instant::now();
        loop {
            let service = rig.json(&["show", &label]).await["services"][0].clone();
            if service["state"] == "ready" && service["restarts"] == restarts {
                break;
            }
            if service["state"] == "backing_off" && !told {
                let why = rig.ok(&["why", &label]).await;
                told = why.contains("web is") && why.contains("137");
            }
            assert!(since.elapsed() < Duration::from_secs(120), "{service}\n{}", rig.log());
            sleep(Duration::from_millis(20)).await;
        }
    }
    assert!(told, "nobody was told of the pause");
    let show = rig.ok(&["show", &label]).await;
    let line = show.lines().find(|line| line.starts_with("web ")).unwrap();
    assert!(line.contains(&restarts.to_string()), "{show}");
    assert_eq!(
        visitor.get("/page.txt").await,
        (200, "the page of a change\n".to_owned())
    );
    let body = rig.comment(number, &["live** with"]).await;
    assert!(!body.contains("failed"), "{body}");
}

/// Nothing of Maquette's own environment and state is in a container or in what people see.
async fn nothing_of_ours_leaks(rig: &Rig) {
    let leak = COMPOSE.replace(
        "    restart:",
        "    environment:\n      LEAK: \"${MAQUETTE_CANARY:-nothing}\"\n      HOME_LEAK: \"${HOME:-nothing}\"\n    restart:",
    );
    let (number, _) = rig.change("leak", &[write("compose.yaml", leak.clone())]).await;
    let body = rig.comment(number, &["live** with"]).await;
    let label = format!("pr-{number}");
    let env = rig.ok(&["exec", &label, "web", "env"]).await;
    assert!(
        env.contains("LEAK=nothing") && env.contains("HOME_LEAK=nothing"),
        "{env}"
    );
    let search = [
        "grep",
        "-ras",
        "canary-of-",
        "/etc",
        "/run",
        "/tmp",
        "/app",
        "/root",
        "/var",
    ];
    let found = rig.run(&[&["exec", &label, "web"], &search[..]].concat()).await;
    assert!(found.code == 1 && found.out.is_empty(), "{found:?}");
    let state = rig.state().join("canary");
    let opened = rig.run(&["exec", &label, "web", "cat", state.to_str().unwrap()]).await;
    assert_ne!(opened.code, 0, "{opened:?}");
    let visitor = Visitor::new(rig, &label).await;
    let everything = [
        rig.ok(&["exec", &label, "web", "cat", "/proc/1/environ"]).await,
        rig.ok(&["exec", &label, "web", "cat", "/proc/self/mountinfo"]).await,
        plan_of(&leak),
        visitor.get("/").await.1,
        visitor.get("/.maquette/sign-in").await.1,
        rig.ok(&["logs", &label, "web"]).await,
        rig.ok(&["show", &label]).await,
        rig.ok(&["why", &label]).await,
        rig.ok(&["--json", "why", &label]).await,
        rig.ok(&["list"]).await,
        rig.log(),
        body,
        env,
    ];
    for text in &everything {
        assert!(!text.contains(CANARY) && !text.contains(CANARY_FILE), "{text}");
    }
}

/// What `maquette plan` prints of a directory, with a canary in its own environment.
fn plan_of(compose: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("compose.yaml"), compose).unwrap();
    fs::write(directory.path().join("maquette.yaml"), SETTINGS).unwrap();
    let mut text = String::new();
    for form in [&["plan"][..], &["--json", "plan"], &["check", "--explain"]] {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_maquette"))
            .args(form)
            .arg(directory.path())
            .env("MAQUETTE_CANARY", CANARY)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        text += &String::from_utf8(done.stdout).unwrap();
        text += &String::from_utf8(done.stderr).unwrap();
    }
    assert!(text.contains("LEAK"), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_in_cells_is_told_and_nothing_is_lost() {
    let mut rig = main_branch().await;
    fs::write(rig.state().join("canary"), CANARY_FILE).unwrap();
    rig.start().await;
    // Side by side: no environment is troubled by what happens in another.
    let cases: [(&str, LocalBoxFuture<'_, ()>); 9] = [
        ("a service that ends", a_service_that_ends(&rig).boxed_local()),
        ("a missing command", a_command_that_is_not_there(&rig).boxed_local()),
        ("a missing engine", an_engine_that_is_not_installed(&rig).boxed_local()),
        ("a failing migration", a_migration_that_fails(&rig).boxed_local()),
        ("a killed service", a_service_that_is_killed(&rig).boxed_local()),
        // The longest one stands here, beside the most others and while further tests run.
        (
            "a service that never gets ready",
            crate::updates::an_update_that_never_gets_ready(&rig).boxed_local(),
        ),
        ("canaries", nothing_of_ours_leaks(&rig).boxed_local()),
        (
            "sockets",
            crate::sockets::nobody_else_is_listened_to(&rig).boxed_local(),
        ),
        (
            "hostile names",
            crate::hostile::names_titles_and_labels(&rig).boxed_local(),
        ),
    ];
    let ends = cases.map(|(name, case)| async move { (name, AssertUnwindSafe(case).catch_unwind().await.is_ok()) });
    let failed: Vec<&str> = join_all(ends)
        .await
        .into_iter()
        .filter(|(_, ok)| !ok)
        .map(|(name, _)| name)
        .collect();
    assert!(failed.is_empty(), "{failed:?}, as told above");
}
