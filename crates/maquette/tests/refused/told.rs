//! What is wrong with a commit is told with its place and a hint: in the comment, the status, `why` and `show`. The runtime is
//! simulated, because nothing of these commits may reach one.

use crate::{
    bench::{Bench, COMPOSE, SETTINGS},
    commits::{POINTER, Put, commit},
};
use forge::{PullRequestNumber, StatusState, local::NewPullRequest};
use model::CommitId;
use runtime::Runtime as _;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Nothing takes longer on a machine that is busy with other tests, too.
const PATIENCE: Duration = Duration::from_secs(120);

async fn open(bench: &Bench, branch: &str, content: &[Put<'_>]) -> (PullRequestNumber, CommitId) {
    let commit = commit(&bench.forge, branch, content).await;
    let new = NewPullRequest::new(branch.parse().unwrap(), "main".parse().unwrap(), "A change");
    (bench.forge.open_pull_request(new).await.unwrap().number, commit)
}

async fn comment(bench: &Bench, number: PullRequestNumber, wanted: &str) -> String {
    let since = Instant::now();
    loop {
        let comments = bench.forge.comments(number).unwrap();
        if let [only] = comments.as_slice()
            && only.body.contains(wanted)
        {
            return only.body.clone();
        }
        assert!(since.elapsed() < PATIENCE, "it never said {wanted:?}: {comments:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn status(bench: &Bench, commit: &CommitId, wanted: StatusState) -> String {
    let since = Instant::now();
    loop {
        let found = bench.forge.status(commit).unwrap();
        if let Some(status) = found.as_ref().filter(|status| status.state == wanted) {
            return status.description.clone();
        }
        assert!(since.elapsed() < PATIENCE, "never {wanted:?}: {found:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Opens a pull request with this commit and expects to be told all of these texts, wherever people look.
async fn refused(bench: &Bench, branch: &str, content: &[Put<'_>], texts: &[&str]) {
    let (number, commit) = open(bench, branch, content).await;
    let body = comment(bench, number, "failed**").await;
    let label = format!("pr-{number}");
    let why = bench.ok(&["why", &label]).await;
    let show = bench.ok(&["show", &label]).await;
    for text in texts {
        for (place, told) in [("comment", &body), ("why", &why), ("show", &show)] {
            assert!(told.contains(text), "{branch}: {place} lacks {text:?}:\n{told}");
        }
    }
    let short = status(bench, &commit, StatusState::Failure).await;
    assert!(short.starts_with("failed: "), "{short}");
    let id = bench.json(&["show", &label]).await["id"].as_str().unwrap().to_owned();
    let made = bench.simulator.inventory(Some(&id.parse().unwrap())).await.unwrap();
    assert!(made.is_empty(), "{branch}: something was made: {made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blueprint_that_can_not_be_used_is_told_with_its_place_and_a_hint() {
    let bench = Bench::new().await;
    let settings = Put::File("maquette.yaml", SETTINGS);
    let table: &[(&str, String, &[&str])] = &[
        (
            "broken",
            COMPOSE.replace("    command:", "   command:"),
            &["compose.yaml:4:"],
        ),
        (
            "unknown",
            COMPOSE.replace("command:", "comand:"),
            &["compose.yaml:4:5", "comand", "did you mean `command`?"],
        ),
        (
            "cycle",
            format!(
                "{COMPOSE}    depends_on: [a]\n  a: {{ image: \"redis:7\", depends_on: [b] }}\n  b: {{ image: \"redis:7\", depends_on: [a] }}\n"
            ),
            &["compose.yaml:", "`a` → `b` → `a`"],
        ),
        (
            "engine",
            format!("{COMPOSE}  db: {{ image: \"postgres:12\", environment: {{ POSTGRES_PASSWORD: x }} }}\n"),
            &["compose.yaml:", "PostgreSQL 12 is not there"],
        ),
        (
            "outside",
            COMPOSE.replace(".:/app:ro", "../../etc:/app:ro"),
            &["compose.yaml:", "../../etc"],
        ),
    ];
    for (branch, compose, texts) in table {
        let content = [Put::File("compose.yaml", compose), Put::File("maquette.yaml", SETTINGS)];
        refused(&bench, branch, &content, texts).await;
    }
    let compose = COMPOSE.replace("node:20", "ghcr.io/team/app:1");
    let content = [
        Put::File("compose.yaml", &compose),
        Put::File("maquette.yaml", "stack: {}\n"),
    ];
    refused(&bench, "foreign", &content, &["service web: ", "ghcr.io/team/app:1"]).await;
    let content = [
        Put::File("compose.yaml", COMPOSE),
        Put::File("maquette.yaml", "stak: {}\n"),
    ];
    refused(
        &bench,
        "settings",
        &content,
        &["maquette.yaml:1:1", "did you mean `stack`?"],
    )
    .await;
    refused(&bench, "nothing", &[settings], &["compose.yaml"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_that_leads_out_is_refused_and_named() {
    let bench = Bench::new().await;
    let (compose, settings) = (Put::File("compose.yaml", COMPOSE), Put::File("maquette.yaml", SETTINGS));
    let content = [compose, settings, Put::Link("assets/secrets", "../../../../etc/shadow")];
    refused(
        &bench,
        "escape",
        &content,
        &["assets/secrets", "leads out of the repository"],
    )
    .await;
    let (compose, settings) = (Put::File("compose.yaml", COMPOSE), Put::File("maquette.yaml", SETTINGS));
    let content = [compose, settings, Put::Link("up", "."), Put::Link("out", "up/../../x")];
    refused(&bench, "through", &content, &["out", "leads out of the repository"]).await;
    let content = [
        Put::Link("compose.yaml", "/etc/passwd"),
        Put::File("maquette.yaml", SETTINGS),
    ];
    refused(&bench, "file", &content, &["compose.yaml"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_and_pointers_of_git_lfs_are_told() {
    let bench = Bench::new().await;
    let content = [
        Put::File("compose.yaml", COMPOSE),
        Put::File("maquette.yaml", SETTINGS),
        Put::File(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n"),
        Put::File("data/big.bin", POINTER),
        Put::Submodule("vendor/library"),
        Put::Link("fine", "data/big.bin"),
    ];
    let (number, commit) = open(&bench, "modules", &content).await;
    let body = comment(&bench, number, "live** with").await;
    status(&bench, &commit, StatusState::Success).await;
    let label = format!("pr-{number}");
    let (why, show) = (bench.ok(&["why", &label]).await, bench.ok(&["show", &label]).await);
    for told in [&body, &why, &show] {
        assert!(told.contains("vendor/library is a submodule"), "{told}");
        assert!(told.contains("data/big.bin is in Git LFS"), "{told}");
        assert!(!told.contains("fine is"), "{told}");
    }
}
