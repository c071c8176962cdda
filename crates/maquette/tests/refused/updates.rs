//! Changes that follow each other in real containers: what must be so before a service starts, updates that do not come up, data
//! that is cloned anew, and an environment of a branch.

use crate::rig::{COMPOSE, PATIENCE, Rig, SETTINGS, Visitor};
use forge::{PullRequestNumber, local::FileChange};
use futures::{
    FutureExt as _,
    future::{LocalBoxFuture, join_all},
};
use model::CommitId;
use std::{panic::AssertUnwindSafe, time::Instant};
use tokio::time::sleep;

const ENGINE: &str = "  db:\n    image: postgres:15\n    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: shop, POSTGRES_DB: shop }\n    \
     volumes: [\"data:/var/lib/postgresql/data\"]\n    healthcheck: { test: [CMD, pg_isready, -U, shop] }\nvolumes: { data: }\n";
const DATA: &str = "  data:\n    db: { versions: \"13-18\"";
const PSQL: &str = "psql -q -h db -U shop -d shop -v ON_ERROR_STOP=1";

fn write(path: &str, content: impl Into<Vec<u8>>) -> FileChange {
    FileChange::write(path, content)
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// A stack as a Django developer writes it: the database is healthy, then `migrate` runs to its end, then `web` starts, which would
/// end at once without what `migrate` makes.
fn staged(migrate: &str) -> FileChange {
    let web = format!("{PSQL} -c 'SELECT count(*) FROM note' && exec python3 -m http.server 8080");
    let compose = format!(
        "services:\n  web:\n    image: python:3\n    command: [sh, -c, {web}]\n    working_dir: /app\n    volumes: [\".:/app:ro\"]\n    \
         ports: [\"8080:8080\"]\n    environment: {{ PGPASSWORD: shop }}\n    restart: \"no\"\n    depends_on:\n      \
         migrate: {{ condition: service_completed_successfully }}\n  migrate:\n    image: python:3\n    command: [sh, -c, {migrate}]\n    \
         environment: {{ PGPASSWORD: shop }}\n    restart: \"no\"\n    depends_on: {{ db: {{ condition: service_healthy }} }}\n{ENGINE}",
        web = json(&web),
        migrate = json(migrate),
    );
    write("compose.yaml", compose)
}

async fn live(rig: &Rig, number: PullRequestNumber, commit: &CommitId) {
    rig.comment(number, &[&format!("live** with `{}`", commit.short())])
        .await;
}

async fn page(rig: &Rig, number: PullRequestNumber, text: &str) {
    let visitor = Visitor::new(rig, &format!("pr-{number}")).await;
    assert_eq!(visitor.get("/page.txt").await, (200, text.to_owned()));
}

async fn nothing_starts_before_what_must_have_completed(rig: &Rig) {
    let make =
        format!("echo migrating; sleep 2; {PSQL} -c 'CREATE TABLE IF NOT EXISTS note (text text)'; echo migrated");
    let settings = format!(
        "stack:\n  services:\n    web: {{ host: true, public: true }}\n    migrate: {{ host: true }}\n{DATA} }}\npolicy: {{ baseline: none }}\n"
    );
    let files = [
        staged(&make),
        write("maquette.yaml", settings),
        write("page.txt", "one\n"),
    ];
    let (number, commit) = rig.change("staged", &files).await;
    let label = format!("pr-{number}");
    live(rig, number, &commit).await;
    page(rig, number, "one\n").await;
    let why = rig.ok(&["why", &label]).await;
    assert!(!why.contains("migrate is exited"), "{why}");
    let migrate = rig.json(&["show", &label]).await["services"].clone();
    let migrate = migrate
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["name"] == "migrate")
        .unwrap()
        .clone();
    assert_eq!(
        (&migrate["state"], &migrate["exit"]),
        (&"exited".into(), &0.into()),
        "{migrate}"
    );

    // It sees the files of the commit, so it runs again, and first again.
    let commit = rig.push("staged", &[write("page.txt", "two\n")]).await;
    live(rig, number, &commit).await;
    page(rig, number, "two\n").await;

    let broken = rig
        .push("staged", &[staged("echo there is no such column; exit 5")])
        .await;
    let told = [
        "migrate ended with status 5",
        "web waits for it to complete",
        "there is no such column",
    ];
    rig.comment(number, &[&told[..], &["is live", broken.short()]].concat())
        .await;
    rig.says(&["why", &label], &told).await;
    live_again(rig, number, "two\n").await;
}

/// Waits until the older commit answers again.
async fn live_again(rig: &Rig, number: PullRequestNumber, text: &str) {
    let since = Instant::now();
    let visitor = Visitor::new(rig, &format!("pr-{number}")).await;
    loop {
        let answer = visitor.get("/page.txt").await;
        if answer == (200, text.to_owned()) {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{answer:?}\n{}", rig.log());
        sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// An update that does not come up is told with what it said, and what was live before is live.
async fn an_update_that_does_not_come_up(rig: &Rig, branch: &str, program: &str, told: &[&str]) {
    let (number, _) = rig.change(branch, &[write("page.txt", "before\n")]).await;
    rig.comment(number, &["live** with"]).await;
    page(rig, number, "before\n").await;
    let given = "[\"python3\", \"-m\", \"http.server\", \"8080\"]";
    let compose = COMPOSE.replace(given, &format!("[sh, -c, {}]", json(program)));
    let commit = rig.push(branch, &[write("compose.yaml", compose)]).await;
    let failed = format!("`{}` failed", commit.short());
    rig.comment(number, &[told, &["is live", &failed]].concat()).await;
    rig.says(&["why", &format!("pr-{number}")], told).await;
    live_again(rig, number, "before\n").await;
}

/// One that only waits is given up after the usual time; what it said until then is told.
pub(crate) async fn an_update_that_never_gets_ready(rig: &Rig) {
    let (number, _) = rig.change("waits", &[write("page.txt", "before\n")]).await;
    rig.comment(number, &["live** with"]).await;
    let given = "[\"python3\", \"-m\", \"http.server\", \"8080\"]";
    let program = json("echo the flux is on its way; exec sleep 1000");
    let compose = COMPOSE.replace(given, &format!("[sh, -c, {program}]"));
    let commit = rig.push("waits", &[write("compose.yaml", compose)]).await;
    let label = format!("pr-{number}");
    rig.says(&["why", &label], &["web to be ready"]).await;
    let told = ["web was not ready 120 s after its start", "the flux is on its way"];
    rig.says(&["why", &label], &told).await;
    let failed = format!("`{}` failed", commit.short());
    rig.comment(number, &[&told[..], &["is live", &failed]].concat()).await;
    live_again(rig, number, "before\n").await;
}

/// A migration that was applied is another one after a push: what it did can not be undone, so the data begins anew.
async fn a_migration_that_changes_after_it_was_applied(rig: &Rig) {
    let settings = format!(
        "stack:\n  services:\n    web: {{ host: true, public: true }}\n{DATA}, migrations: db/*.sql }}\npolicy: {{ baseline: none }}\n"
    );
    let files = [
        write("compose.yaml", format!("{COMPOSE}{ENGINE}")),
        write("maquette.yaml", settings),
        write("db/1.sql", "CREATE TABLE note (text text);\n"),
    ];
    let (number, _) = rig.change("anew", &files).await;
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
    let changed = [write("db/1.sql", "CREATE TABLE note (text text, at int);\n")];
    let commit = rig.push("anew", &changed).await;
    let body = rig
        .comment(
            number,
            &[
                &format!("live** with `{}`", commit.short()),
                "The data of db was cloned anew:",
            ],
        )
        .await;
    assert!(body.contains("1.sql"), "{body}");
    assert_eq!(query("SELECT count(*), count(at) FROM note").await, "0|0\n");
}

/// It follows its branch and ends with it.
async fn an_environment_of_a_branch(rig: &Rig) {
    rig.push("topic", &[write("page.txt", "topic\n")]).await;
    let made = rig.json(&["create", "--branch", "topic", "--watch"]).await;
    let label = made["label"].as_str().unwrap().to_owned();
    let visitor = Visitor::new(rig, &label).await;
    assert_eq!(visitor.get("/page.txt").await, (200, "topic\n".to_owned()));
    let commit = rig.push("topic", &[write("page.txt", "more of the topic\n")]).await;
    let since = Instant::now();
    loop {
        let view = rig.json(&["show", &label]).await;
        if view["phase"] == "live" && view["commits"]["shop"]["live"] == commit.as_str() {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{view:#}\n{}", rig.log());
        sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(visitor.get("/page.txt").await, (200, "more of the topic\n".to_owned()));
    rig.forge.delete_branch(&"topic".parse().unwrap()).await.unwrap();
    rig.give();
    rig.says(
        &["receipt", made["id"].as_str().unwrap()],
        &["branch topic was deleted", "seen to be gone"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_in_cells_is_as_it_was_asked_for() {
    let mut rig = Rig::new(&[
        write("compose.yaml", COMPOSE),
        write("maquette.yaml", SETTINGS),
        write("page.txt", "the page of main\n"),
    ])
    .await;
    rig.start().await;
    let crashes = ["web ended with status 4", "times in a row", "the flux is gone"];
    let cases: [(&str, LocalBoxFuture<'_, ()>); 4] = [
        (
            "completed first",
            nothing_starts_before_what_must_have_completed(&rig).boxed_local(),
        ),
        (
            "crashes",
            an_update_that_does_not_come_up(&rig, "crashes", "echo the flux is gone; exit 4", &crashes).boxed_local(),
        ),
        (
            "a changed migration",
            a_migration_that_changes_after_it_was_applied(&rig).boxed_local(),
        ),
        ("a branch", an_environment_of_a_branch(&rig).boxed_local()),
    ];
    let ends = cases.map(|(name, case)| async move { (name, AssertUnwindSafe(case).catch_unwind().await.is_ok()) });
    let ended = join_all(ends).await;
    let failed: Vec<&str> = ended.into_iter().filter(|(_, ok)| !ok).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{failed:?}, as told above");
}
