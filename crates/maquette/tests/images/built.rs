//! Builds from Dockerfiles through the whole of Maquette: superseded by a push, from another repository, from a tag that moves.

use crate::{dockerfile, live, page, rig::Rig, started, started_beside};
use forge::local::{FileChange, LocalForge};
use model::BranchName;
use rustix::process::geteuid;
use serde_json::json;
use std::{
    fs,
    time::{Duration, Instant},
};
use test_support::{
    image::{Entry, Image, base, layer},
    registry::Registry,
};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(240);

async fn push_base(registry: &Registry, says: &str) {
    let config = json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] });
    let own = layer(&[Entry::file("base", says)]).unwrap();
    let image = Image::new(vec![base().unwrap(), own], &config);
    image.push(&registry.name(), "team/base", "1").await.unwrap();
}

async fn until_log(rig: &Rig, label: &str, wanted: &str) {
    rig.says(&["logs", label, "build:web"], &[wanted]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_ends_the_build_that_it_supersedes_and_a_base_image_that_moves_is_built_from() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let registry = Registry::start().unwrap();
    let name = registry.name();
    push_base(&registry, "the first base\n").await;
    let mut rig = started(&registry).await;

    // This one would take a quarter of an hour.
    let mut files = dockerfile(&name, "never seen");
    let slow = format!("FROM {name}/team/base:1\nRUN echo begun; sleep 900\n");
    files.push(FileChange::write("site/Dockerfile", slow));
    let (number, superseded) = rig.change("topic", &files).await;
    let label = format!("pr-{number}");
    until_log(&rig, &label, "begun").await;
    let since = Instant::now();
    let quick = format!(
        "FROM {name}/team/base:1\nCOPY page /page\nRUN mkdir -p /srv; cat /page /base > /srv/index.html\n\
         CMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/srv\"]\n"
    );
    let files = [
        FileChange::write("site/page", "the page on "),
        FileChange::write("site/Dockerfile", quick),
    ];
    let commit = rig.push("topic", &files).await;
    let body = live(&rig, number, &commit).await;
    assert!(since.elapsed() < PATIENCE, "{body}");
    page(&rig, &label, "the page on the first base").await;
    let ever = rig.json(&["list", "--ended"]).await;
    let rows = ever["environments"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_ne!(superseded, commit);

    // Nobody pushes to the repository: somebody pushes what it is built from.
    push_base(&registry, "the second base\n").await;
    page(&rig, &label, "the page on the second base").await;
    rig.says(&["why", &label], &["team/base:1 has moved"]).await;
    let receipt = rig.json(&["delete", "--yes", "--watch", &label]).await;
    let entries = receipt["entries"].as_array().unwrap();
    let gone = |entry: &serde_json::Value| entry["gone"].is_u64();
    assert!(!entries.is_empty() && entries.iter().all(gone), "{receipt:#}");
    rig.stop().await;
}

/// A service that is built from the second repository.
const COMPOSE: &str = "services:\n  web:\n    build: .\n    ports: [\"8080:80\"]\n";
const SETTINGS: &str = "stack:\n  services:\n    web: { source: api, public: true }\npolicy: { baseline: none }\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_another_repository_is_built_from_that_ones_dockerfile_and_follows_its_branch() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let registry = Registry::start().unwrap();
    push_base(&registry, "").await;
    let files = [
        FileChange::write("compose.yaml", COMPOSE),
        FileChange::write("maquette.yaml", SETTINGS),
        // Of the wrong repository.
        FileChange::write("Dockerfile", "FROM scratch\nCOPY not-there /\n"),
    ];
    let rig = Rig::new(&files).await;
    let place = rig.root.join("api");
    fs::create_dir(&place).unwrap();
    let main: BranchName = "main".parse().unwrap();
    let api = LocalForge::open(&place, &"local/api".parse().unwrap(), &main)
        .await
        .unwrap();
    let dockerfile = format!(
        "FROM {}/team/base:1\nCOPY page /srv/index.html\nCMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/srv\"]\n",
        registry.name()
    );
    let own = [
        FileChange::write("Dockerfile", dockerfile),
        FileChange::write("page", "the api of main"),
    ];
    api.commit(&main, None, &own, "Begin").await.unwrap();
    rig.give_all(&place);
    let source = format!(
        "      - name: api\n        forge: {{ kind: local, path: {} }}\n",
        place.display()
    );
    let mut rig = started_beside(&registry, rig, &source).await;

    let (number, commit) = rig.change("topic", &[FileChange::write("words", "more")]).await;
    let label = format!("pr-{number}");
    live(&rig, number, &commit).await;
    page(&rig, &label, "the api of main").await;

    let page_of_topic = [FileChange::write("page", "the api of the topic")];
    let topic: BranchName = "topic".parse().unwrap();
    api.commit(&topic, Some(&main), &page_of_topic, "Change").await.unwrap();
    rig.give_all(&place);
    page(&rig, &label, "the api of the topic").await;

    rig.close(number).await;
    let since = Instant::now();
    while !rig.ok(&["list", "--ended"]).await.contains("ended") {
        assert!(since.elapsed() < PATIENCE, "{}", rig.log());
        sleep(Duration::from_millis(100)).await;
    }
    rig.stop().await;
}
