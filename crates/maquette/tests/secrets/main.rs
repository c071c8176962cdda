//! Secrets from the command line to a process in a real cell, through everything that Maquette is; and nowhere else.
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

use bench::{Ended, run};
use forge::local::{FileChange, LocalHead, NewPullRequest};
use rig::{COMPOSE, Rig};
use rustix::process::geteuid;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// What the secrets hold, one after the other.
const API_KEY: [&str; 2] = ["canary-key-one-20c5", "canary-key-two-b81e"];
const PASSWORD: [&str; 2] = ["canary-password-one-77fa", "canary-password-two-3d09"];
const CERTIFICATE: &str = "canary-certificate-line\nsecond line\n";
const CANARIES: [&str; 5] = [
    API_KEY[0],
    API_KEY[1],
    PASSWORD[0],
    PASSWORD[1],
    "canary-certificate-line",
];

const SETTINGS: &str = "stack:\n  services:\n    web: { host: true, public: true }\n    other: { host: true }\n  data:\n    db: { versions: \"13-18\", migrations: db/*.sql }\n\
     policy: { baseline: none, secrets: [API_KEY, DB_PASSWORD, certificate, TOLD] }\n";

fn compose() -> FileChange {
    let web = COMPOSE.replace(
        "    restart:",
        "    environment: { API_KEY: \"${API_KEY:-none}\", PGPASSWORD: \"${DB_PASSWORD:-none}\" }\n    depends_on: [db]\n    restart:",
    );
    let other = "  other:\n    image: python:3\n    command: [\"python3\", \"-m\", \"http.server\", \"8081\"]\n    ports: [\"8081\"]\n    secrets: [{ source: certificate, mode: 0400 }]\n";
    let db = "  db:\n    image: postgres:15\n    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: \"${DB_PASSWORD:-none}\", POSTGRES_DB: shop }\n";
    let text = format!("{web}{other}{db}secrets: {{ certificate: {{ file: ./certificate.pem }} }}\n");
    FileChange::write("compose.yaml", text)
}

fn files() -> Vec<FileChange> {
    vec![
        compose(),
        FileChange::write("maquette.yaml", SETTINGS),
        FileChange::write("db/1.sql", "create table t (n int)"),
        FileChange::write("README", "x"),
    ]
}

async fn secret(rig: &Rig, arguments: &[&str], value: &str) -> Ended {
    let state = rig.state();
    let all: Vec<&str> = ["--state-dir", state.to_str().unwrap(), "secret"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    run(&all, value).await
}

async fn set(rig: &Rig, arguments: &[&str], value: &str) -> String {
    let ended = secret(rig, arguments, value).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.out
}

/// What a command in a service prints.
async fn sees(rig: &Rig, environment: &str, service: &str, argv: &[&str]) -> String {
    let all: Vec<&str> = ["exec", environment, service]
        .into_iter()
        .chain(argv.iter().copied())
        .collect();
    rig.ok(&all).await
}

async fn becomes(rig: &Rig, environment: &str, argv: &[&str], wanted: &str) {
    let since = Instant::now();
    loop {
        let all: Vec<&str> = ["exec", environment, "web"]
            .into_iter()
            .chain(argv.iter().copied())
            .collect();
        let ended = rig.run(&all).await;
        if ended.out.trim_end() == wanted {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(240), "{ended:?}\n{}", rig.log());
        sleep(Duration::from_millis(100)).await;
    }
}

/// Asks the database with the password that the service has been given.
const QUERY: [&str; 9] = [
    "psql",
    "-h",
    "db",
    "-U",
    "shop",
    "-d",
    "shop",
    "-Atc",
    "select count(*) from t",
];

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    const TMPFS: rustix::fs::FsWord = 0x0102_1994;
    let Ok(at) = rustix::fs::statfs(directory) else { return };
    // The run directory is in memory as a whole here: of it, what containers are given is left out.
    if at.f_type == TMPFS && directory.ends_with("cells") {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_below(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// The files below a directory that hold a secret. Several are read at a time: a database has a thousand.
fn on_disk(directory: &Path) -> Vec<String> {
    let mut files = Vec::new();
    files_below(directory, &mut files);
    assert!(!files.is_empty(), "{} is not looked into", directory.display());
    let holding = files.chunks(200).map(|some| {
        let mut grep = Command::new("grep");
        grep.arg("-alsF");
        for canary in CANARIES {
            grep.args(["-e", canary]);
        }
        let answer = grep.arg("--").args(some).output().unwrap();
        // 2 stands for a file that has gone meanwhile.
        assert!(matches!(answer.status.code(), Some(0..=2)), "{answer:?}");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    });
    holding.collect::<String>().lines().map(str::to_owned).collect()
}

fn assert_clean(what: &str, text: &str) {
    for canary in CANARIES {
        assert!(!text.contains(canary), "{what} holds {canary}:\n{text}");
    }
}

/// Neither on a disk (the store, the vault, the ledger, records, logs, the pool with the database), nor in an argument of any
/// process, nor in what people are shown.
async fn is_nowhere_else(rig: &Rig, environment: &str, pull: forge::PullRequestNumber) {
    rustix::fs::sync();
    // Whoever looks would find it.
    let decoy = rig.state().join("decoy");
    fs::write(&decoy, CERTIFICATE).unwrap();
    assert_eq!(on_disk(&rig.root), [decoy.display().to_string()]);
    fs::remove_file(decoy).unwrap();
    assert_eq!(on_disk(&rig.root), Vec::<String>::new());
    assert_eq!(on_disk(&rig.run_dir), Vec::<String>::new());
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert_clean("a command line", &String::from_utf8_lossy(&line).replace('\0', " "));
    }
    // What is in the environment of a process may only be where it was put.
    for name in ["maquette", "conmon"] {
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            if comm.trim() == name {
                assert_clean(name, &String::from_utf8_lossy(&environment));
            }
        }
    }
    for command in [
        &["why", environment][..],
        &["--json", "why", environment],
        &["--json", "show", environment],
        &["--json", "list"],
        &["--json", "secret", "list"],
        &["logs", environment],
        &["receipt", environment],
    ] {
        assert_clean(&command.join(" "), &rig.ok(command).await);
    }
    assert_clean("the log", &rig.log());
    for comment in rig.forge.comments(pull).unwrap() {
        assert_clean("a comment", &comment.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_command_line_to_the_process_and_nowhere_else() {
    if !geteuid().is_root() {
        panic!("this test makes containers: it needs root");
    }
    let mut rig = Rig::new(&files()).await;
    rig.start().await;
    refusals(&rig).await;
    set(&rig, &["set", "API_KEY"], &format!("{}\n", API_KEY[0])).await;
    set(&rig, &["set", "DB_PASSWORD"], PASSWORD[0]).await;
    // Every byte of a file.
    let file = Path::new("/dev/shm").join(format!("maquette-secret-{}", std::process::id()));
    fs::write(&file, CERTIFICATE).unwrap();
    let out = set(&rig, &["set", "certificate", "--from-file", file.to_str().unwrap()], "").await;
    fs::remove_file(&file).unwrap();
    assert_eq!(out, "certificate is set\n");

    let (number, _) = rig.change("one", &[FileChange::write("README", "one")]).await;
    rig.comment(number, &["live** with"]).await;
    let label = format!("pr-{number}");
    assert_eq!(
        sees(&rig, &label, "web", &["printenv", "API_KEY"]).await,
        format!("{}\n", API_KEY[0])
    );
    assert_eq!(sees(&rig, &label, "web", &QUERY).await, "0\n");
    assert_eq!(
        sees(&rig, &label, "other", &["cat", "/run/secrets/certificate"]).await,
        CERTIFICATE
    );
    assert_eq!(
        sees(
            &rig,
            &label,
            "other",
            &["stat", "-c", "%a %u", "/run/secrets/certificate"]
        )
        .await,
        "400 0\n"
    );
    let other = rig.run(&["exec", &label, "other", "printenv", "API_KEY"]).await;
    assert_eq!(
        (other.code, other.out.as_str()),
        (1, ""),
        "it is given to those that ask for it"
    );
    is_nowhere_else(&rig, &label, number).await;

    rotation(&rig, &label).await;
    is_nowhere_else(&rig, &label, number).await;
    // The server forgets nothing, and nothing is made anew because it was started again.
    let id = rig.json(&["show", &label]).await;
    let web = rig.process(id["id"].as_str().unwrap(), "8080");
    rig.stop().await;
    rig.start().await;
    rig.says(&["show", &label], &["live"]).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.process(id["id"].as_str().unwrap(), "8080"), web);
    assert_eq!(
        sees(&rig, &label, "web", &["printenv", "API_KEY"]).await,
        format!("{}\n", API_KEY[1])
    );

    fork(&rig).await;
    removal(&rig, &label).await;
    is_nowhere_else(&rig, &label, number).await;
    printed(&rig).await;
}

async fn refusals(rig: &Rig) {
    let typed = secret(rig, &["set", "KEY=value"], "").await;
    assert_eq!(typed.code, 2, "{typed:?}");
    assert!(typed.err.contains("a value is no argument"), "{typed:?}");
    let live = secret(rig, &["set", "STRIPE"], &format!("sk_{}_{}", "live", API_KEY[0])).await;
    assert_eq!(live.code, 6, "{live:?}");
    assert!(
        live.err.contains("begins with") && live.err.contains("--insist"),
        "{live:?}"
    );
    assert_clean("the refusal", &live.err);
    let unknown = secret(rig, &["rotate", "API_KEY"], API_KEY[0]).await;
    assert_eq!(unknown.code, 3, "{unknown:?}");
    let list = rig.ok(&["secret", "list"]).await;
    assert_eq!(list, "There are no secrets.\n");
    // Nothing is known of what the policy grants before it was read for the first time.
    let since = Instant::now();
    loop {
        let told = set(rig, &["set", "NOT_GRANTED"], "value").await;
        if told.contains("policy: { secrets: [NOT_GRANTED] }") {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(240), "{told}\n{}", rig.log());
        sleep(Duration::from_millis(100)).await;
    }
    set(rig, &["remove", "NOT_GRANTED"], "").await;
}

/// A new value restarts those that are given it; the database takes its password over and keeps what is in it.
async fn rotation(rig: &Rig, label: &str) {
    let id = rig.json(&["show", label]).await["id"].as_str().unwrap().to_owned();
    let before = (rig.process(&id, "8080"), rig.process(&id, "8081"));
    let rows = sees(
        rig,
        label,
        "web",
        &[
            "psql",
            "-h",
            "db",
            "-U",
            "shop",
            "-d",
            "shop",
            "-Atc",
            "insert into t values (1), (2)",
        ],
    );
    assert_eq!(rows.await, "INSERT 0 2\n");
    let told = set(rig, &["rotate", "API_KEY"], API_KEY[1]).await;
    assert_eq!(told, format!("API_KEY is set; it is given anew to {label} (web)\n"));
    becomes(rig, label, &["printenv", "API_KEY"], API_KEY[1]).await;
    let after = (rig.process(&id, "8080"), rig.process(&id, "8081"));
    assert_ne!(after.0, before.0, "what is given it is started again");
    assert_eq!(after.1, before.1, "nothing else is");

    set(rig, &["rotate", "DB_PASSWORD"], PASSWORD[1]).await;
    becomes(rig, label, &["printenv", "PGPASSWORD"], PASSWORD[1]).await;
    becomes(rig, label, &QUERY, "2").await;
    assert_eq!(rig.process(&id, "8081"), before.1, "nothing else is");
    let why = rig.ok(&["why", label]).await;
    assert!(why.contains("the secret DB_PASSWORD has another value"), "{why}");
    let list = rig.ok(&["secret", "list"]).await;
    assert!(list.contains(&format!("{label} (db, web)")), "{list}");
}

/// A fork that somebody approves runs, and is given none.
async fn fork(rig: &Rig) {
    let commit = rig.forge.commit_create(None, &files(), "From a fork").await.unwrap();
    let new = NewPullRequest {
        head: LocalHead::Fork(commit.clone()),
        ..NewPullRequest::new("x".parse().unwrap(), "main".parse().unwrap(), "Fork")
    };
    let number = rig.forge_open(new).await;
    let label = format!("pr-{number}");
    rig.comment(number, &["approve"]).await;
    rig.ok(&["approve", &label, "--commit", commit.as_str()]).await;
    // Its file can not be made from nothing.
    let body = rig.comment(number, &["certificate", "failed"]).await;
    assert!(body.contains("may not push"), "{body}");
    let without = compose_without_file();
    let commit = rig
        .forge
        .commit_create(Some(&commit), &[without], "Without")
        .await
        .unwrap();
    rig.forge.push_fork(number, &commit).await.unwrap();
    rig.give();
    rig.comment(number, &[commit.as_str()]).await;
    rig.ok(&["approve", &label, "--commit", commit.as_str()]).await;
    rig.comment(number, &[&format!("live** with `{}`\n", commit.short())])
        .await;
    for name in ["API_KEY", "PGPASSWORD"] {
        assert_eq!(sees(rig, &label, "web", &["printenv", name]).await, "none\n");
    }
    let why = rig.ok(&["why", &label]).await;
    assert!(why.contains("may not push"), "{why}");
    rig.close(number).await;
}

fn compose_without_file() -> FileChange {
    let text = String::from_utf8(compose().content.unwrap()).unwrap();
    let text = text
        .replace("    secrets: [{ source: certificate, mode: 0400 }]\n", "")
        .replace("secrets: { certificate: { file: ./certificate.pem } }\n", "");
    FileChange::write("compose.yaml", text)
}

async fn removal(rig: &Rig, label: &str) {
    let kept = secret(rig, &["remove", "API_KEY"], "").await;
    assert_eq!(kept.code, 6, "{kept:?}");
    assert!(
        kept.err.contains(&format!("API_KEY is given to {label} (web)")),
        "{kept:?}"
    );
    set(rig, &["remove", "API_KEY", "--yes"], "").await;
    becomes(rig, label, &["printenv", "API_KEY"], "none").await;
    rig.says(&["why", label], &["The secret API_KEY of web has no value"])
        .await;
}

/// What a job prints is its own; in what people are told of its failure the value is masked.
async fn printed(rig: &Rig) {
    const TOLD: &str = "canary-that-a-job-prints-66aa";
    set(rig, &["set", "TOLD"], TOLD).await;
    let job = "  jobs:\n    tell: { service: web, on: start, run: [python3, -c, \"import os, sys; print('got', os.environ['TOLD']); sys.exit(3)\"] }\npolicy:";
    let text = String::from_utf8(compose_without_file().content.unwrap()).unwrap();
    let text = text.replace("API_KEY: \"${API_KEY:-none}\"", "TOLD:");
    let (number, _) = rig
        .change(
            "told",
            &[
                FileChange::write("compose.yaml", text),
                FileChange::write("maquette.yaml", SETTINGS.replace("policy:", job)),
            ],
        )
        .await;
    let body = rig.comment(number, &["the job tell failed"]).await;
    assert!(body.contains("got ***") && !body.contains(TOLD), "{body}");
    let why = rig.ok(&["--json", "why", &format!("pr-{number}")]).await;
    assert!(why.contains("got ***") && !why.contains(TOLD), "{why}");
    assert!(!rig.log().contains(TOLD));
}
