//! Images end to end: a real registry, the three processes, real cells, a visitor.
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
mod built;
mod official;
#[path = "../refused/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod rig;

use forge::{PullRequestNumber, local::FileChange};
use model::CommitId;
use rig::{Rig, Visitor};
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

/// As official images have it: root furnishes the place, another user serves on port 80.
const ENTRYPOINT: &str = "#!/bin/sh\nset -e\nmkdir -p /var/cache/web\nchown -R 101:102 /var/cache/web /var/www\n\
                          exec su web -s /bin/sh -c \"exec $*\"\n";

fn web(page: &str) -> Image {
    let entries = [
        Entry::program("docker-entrypoint.sh", ENTRYPOINT),
        Entry::file("var/www/index.html", page),
    ];
    let config = json!({
        "Entrypoint": ["/docker-entrypoint.sh"],
        "Cmd": ["httpd", "-f", "-p", "80", "-h", "."],
        "WorkingDir": "/var/www",
        "Env": ["PATH=/bin"],
        "ExposedPorts": { "80/tcp": {} },
        "StopSignal": "SIGINT",
        "Healthcheck": { "Test": ["CMD-SHELL", "wget -q -O- http://127.0.0.1/"], "Interval": 200_000_000 },
    });
    Image::new(vec![base().unwrap(), layer(&entries).unwrap()], &config)
}

/// By a name, with a working directory of its own, and nothing in the Compose file that says so.
fn worker() -> Image {
    let config = json!({
        "User": "node",
        "Cmd": ["sh", "-c", "id; pwd; exec sleep 100000"],
        "WorkingDir": "/srv/worker",
        "Env": ["PATH=/bin", "NODE_ENV=production"],
        "ExposedPorts": { "9999/tcp": {} },
    });
    Image::new(vec![base().unwrap()], &config)
}

fn compose(registry: &str, tag: &str) -> FileChange {
    FileChange::write(
        "compose.yaml",
        format!(
            "services:\n  web:\n    image: {registry}/team/web:{tag}\n    ports: [\"8080:80\"]\n    depends_on: [worker]\n  \
             worker:\n    image: {registry}/team/worker\n"
        ),
    )
}

async fn started(registry: &Registry) -> Rig {
    let files = [
        compose(&registry.name(), "1"),
        FileChange::write("maquette.yaml", "policy: { baseline: none }\n"),
    ];
    started_with(registry, &files).await
}

/// With these files on the base branch.
async fn started_with(registry: &Registry, files: &[FileChange]) -> Rig {
    started_beside(registry, Rig::new(files).await, "").await
}

/// With a further source, as the configuration has it.
async fn started_beside(registry: &Registry, mut rig: Rig, source: &str) -> Rig {
    let config = rig.config();
    let text = fs::read_to_string(&config).unwrap() + source;
    let images = format!(
        "images: {{ poll_seconds: 1, registries: {{ \"{}\": {{ private: true, insecure: true }} }} }}\nspares: {{ per_project: 0 }}\n",
        registry.name()
    );
    fs::write(&config, text + &images).unwrap();
    rig.start().await;
    rig
}

/// Waits until a page of the environment says this.
async fn page(rig: &Rig, label: &str, wanted: &str) {
    let since = Instant::now();
    let visitor = Visitor::new(rig, label).await;
    loop {
        let (status, text) = visitor.get("/").await;
        if status == 200 && text.contains(wanted) {
            return;
        }
        assert!(
            since.elapsed() < Duration::from_secs(240),
            "never `{wanted}`: {status} {text}\n{}",
            rig.log()
        );
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_of_images_is_live_follows_its_tags_and_is_told_what_is_missing() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let mut registry = Registry::start().unwrap();
    let name = registry.name();
    web("the first page").push(&name, "team/web", "1").await.unwrap();
    worker().push(&name, "team/worker", "latest").await.unwrap();
    let mut rig = started(&registry).await;

    let (number, commit) = rig.change("topic", &[FileChange::write("x", "y")]).await;
    let label = format!("pr-{number}");
    live(&rig, number, &commit).await;
    page(&rig, &label, "the first page").await;
    // Nothing but its start is waited for before the rest is live, so what it prints may come later.
    rig.says(&["logs", &label, "worker"], &["uid=1000(node)", "/srv/worker"])
        .await;
    let steps = rig.json(&["why", &label]).await;
    let titles = steps.to_string();
    assert!(
        titles.contains(&format!("Fetch the image {name}/team/web:1")),
        "{titles}"
    );

    // A tag that moves is noticed without a push, and rolled out like one. What was kept of a layer that both images have is damaged
    // by then: it is fetched once more.
    let second = web("the second page");
    let digest = test_support::image::digest(&second.layers[0]);
    let kept = rig
        .state()
        .join("images/sha256")
        .join(digest.trim_start_matches("sha256:"));
    let mut bytes = fs::read(&kept).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&kept, bytes).unwrap();
    second.push(&name, "team/web", "1").await.unwrap();
    page(&rig, &label, "the second page").await;
    assert_eq!(test_support::image::digest(&fs::read(&kept).unwrap()), digest);
    let said = rig.says(&["why", &label], &["has moved"]).await;
    assert!(said.contains("team/web:1"), "{said}");

    // What does not exist is told with the service and what helps; the live one stays.
    let missing = rig.push("topic", &[compose(&name, "2")]).await;
    rig.says(
        &["why", &label],
        &["service web: ", "team/web:2 does not exist at", "was the image pushed?"],
    )
    .await;
    page(&rig, &label, "the second page").await;
    // Pushed later, it is taken by itself.
    web("the third page").push(&name, "team/web", "2").await.unwrap();
    page(&rig, &label, "the third page").await;
    live(&rig, number, &missing).await;

    // A registry that is away holds up nothing that is known.
    registry.pause();
    let since = Instant::now();
    for count in 0.. {
        let more = rig.push("topic", &[FileChange::write("x", format!("z{count}"))]).await;
        // What was answered a moment before is believed and not asked for again: then nothing is known yet of the registry.
        let body = live(&rig, number, &more).await;
        if body.contains("is taken as it was before") {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(240), "{body}\n{}", rig.log());
    }
    registry.resume().unwrap();

    let doctor = rig.run(&["doctor", "--config", rig.config().to_str().unwrap()]).await;
    assert!(
        doctor.out.contains("images") && doctor.out.contains("team/web:2, "),
        "{doctor:?}"
    );

    let receipt = rig.json(&["delete", "--yes", "--watch", &label]).await;
    let entries = receipt["entries"].as_array().unwrap();
    assert!(
        !entries.is_empty() && entries.iter().all(|entry| entry["gone"].is_u64()),
        "{receipt:#}"
    );
    rig.stop().await;
}

/// Waits until this commit is live, and none is on its way.
async fn live(rig: &Rig, number: PullRequestNumber, commit: &CommitId) -> String {
    rig.comment(number, &[&format!("live** with `{}`\n", commit.short())])
        .await
}

fn dockerfile(registry: &str, page: &str) -> Vec<FileChange> {
    let compose = "services:\n  web:\n    build: { context: site, args: { COLOUR: blue } }\n    ports: [\"8080:80\"]\n";
    let text = format!(
        "ARG TAG=1\nFROM {registry}/team/base:${{TAG}} AS made\nARG COLOUR\nCOPY page /page\nRUN echo \"$(cat /page) in $COLOUR\" > /made\n\
         FROM {registry}/team/base:1\nCOPY --from=made --chown=101:102 /made /var/www/index.html\nUSER web\n\
         CMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/var/www\"]\n"
    );
    vec![
        FileChange::write("compose.yaml", compose),
        FileChange::write("site/Dockerfile", text),
        FileChange::write("site/page", page),
        FileChange::write("site/.dockerignore", "notes\n"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_built_from_its_dockerfile_and_a_build_that_fails_shows_its_lines() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let registry = Registry::start().unwrap();
    let name = registry.name();
    let config = json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] });
    let image = Image::new(vec![base().unwrap()], &config);
    image.push(&name, "team/base", "1").await.unwrap();
    let mut rig = started(&registry).await;

    let (number, commit) = rig.change("built", &dockerfile(&name, "a page")).await;
    let label = format!("pr-{number}");
    live(&rig, number, &commit).await;
    page(&rig, &label, "a page in blue").await;
    let steps = rig.json(&["why", &label]).await.to_string();
    assert!(steps.contains("Build the image of web"), "{steps}");
    let log = rig.ok(&["logs", &label, "build:web"]).await;
    assert!(log.contains("COPY page /page"), "{log}");

    // A commit that changes nothing of the context builds nothing; the service goes on.
    let commit = rig.push("built", &[FileChange::write("README.md", "words")]).await;
    live(&rig, number, &commit).await;
    let again = rig.ok(&["logs", &label, "build:web"]).await;
    assert_eq!(again, log);

    // Nor does one that changes only what the context leaves out; what it leaves out may change the result.
    let commit = rig.push("built", &[FileChange::write("site/notes", "words")]).await;
    live(&rig, number, &commit).await;
    let again = rig.ok(&["logs", &label, "build:web"]).await;
    assert_eq!(again, log);
    let ignore = FileChange::write("site/.dockerignore", "notes\n*.md\n");
    let commit = rig.push("built", &[ignore]).await;
    live(&rig, number, &commit).await;
    let again = rig.ok(&["logs", &label, "build:web"]).await;
    assert_ne!(again, log);

    // What the policy does not allow is not there, and is told.
    let away = format!("FROM {name}/team/base:1\nRUN wget -q -O- http://packages.example.com/\n");
    let commit = rig.push("built", &[FileChange::write("site/Dockerfile", away)]).await;
    rig.comment(number, &[commit.short(), "the build of service web failed"])
        .await;
    rig.says(&["why", &label], &["refused at the door: packages.example.com"])
        .await;

    let broken = "FROM scratch\nCOPY page /page\nCOPY missing-file /there\n";
    let commit = rig.push("built", &[FileChange::write("site/Dockerfile", broken)]).await;
    let said = rig
        .comment(number, &[commit.short(), "the build of service web failed"])
        .await;
    assert!(said.contains("missing-file"), "{said}");
    page(&rig, &label, "a page in blue").await;
    let receipt = rig.json(&["delete", "--yes", "--watch", &label]).await;
    let entries = receipt["entries"].as_array().unwrap();
    let gone = |entry: &serde_json::Value| entry["gone"].is_u64();
    assert!(!entries.is_empty() && entries.iter().all(gone), "{receipt:#}");
    rig.stop().await;
}
