//! Services that are left out because one outside does in their place.

use crate::bench::{Bench, PATIENCE, branch};
use forge::local::FileChange;
use model::{Phase, ServiceName};
use reconciler::{Intent, Scope};
use std::{collections::BTreeSet, time::Duration};
use store::{EnvironmentRow, GenerationRow};
use tokio::time::{sleep, timeout};

const COMPOSE: &str = "services:\n  web:\n    image: node:20\n    command: [\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\nx\"]\n    \
    ports: [\"8080:8080\"]\n    volumes: [\".:/app:ro\"]\n    depends_on: [search]\n  search:\n    image: redis:7\n";

fn settings(stack: &str, policy: &str) -> FileChange {
    let text = format!(
        "stack:\n  services:\n    web: {{ host: true, public: true }}\n{stack}policy: {{ baseline: none, {policy} }}\n"
    );
    FileChange::write("maquette.yaml", text)
}

fn search() -> ServiceName {
    "search".parse().unwrap()
}

fn at(endpoint: &str) -> Scope {
    Scope {
        endpoints: [(search(), endpoint.parse().unwrap())].into(),
        ..Scope::default()
    }
}

async fn wished(bench: &Bench, row: &EnvironmentRow, wish: &Scope) -> Result<(), Intent> {
    bench.handle.as_ref().unwrap().update_scope(&row.id, wish).await
}

/// Waits until a generation is live in which `search` is found there, or runs.
async fn live_with(bench: &Bench, row: &EnvironmentRow, endpoint: Option<&str>) -> GenerationRow {
    let wait = async {
        loop {
            let environment = bench.store.environment_get(&row.id).await.unwrap().unwrap();
            let all = bench.store.generation_list(&row.id).await.unwrap();
            let live = all.into_iter().find(|row| Some(row.generation) == environment.live);
            if let Some(live) = live {
                let found = live.spec.egress.endpoints.values().next().map(ToString::to_string);
                let runs = live.spec.services().unwrap().services.contains_key(&search());
                if found.as_deref() == endpoint && runs == endpoint.is_none() {
                    return live;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("never so")
}

async fn begun(stack: &str, policy: &str) -> (Bench, EnvironmentRow) {
    let bench = Bench::new().await;
    let main = branch("main");
    let files = [settings("", policy), FileChange::write("compose.yaml", COMPOSE)];
    bench.forge.commit(&main, None, &files, "Begin").await.unwrap();
    let files = [settings(stack, policy), FileChange::write("README", "x")];
    let head = branch("feature");
    bench.forge.commit(&head, Some(&main), &files, "Change").await.unwrap();
    let new = forge::local::NewPullRequest::new(head, main, "A change");
    let number = bench.forge.open_pull_request(new).await.unwrap().number;
    let row = bench.reaches(number, Phase::Live, None).await;
    (bench, row)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_found_elsewhere_and_taken_in_again() {
    let (bench, row) = begun(
        "",
        "egress: [\"search.example.com:9200\"], private: { db: \"10.0.0.5:5432\" }",
    )
    .await;
    // The list may have been read a moment before it was changed.
    let allowed = async {
        while let Err(refused) = wished(&bench, &row, &at("search.example.com:9200")).await {
            assert!(matches!(refused, Intent::NotAllowed { .. }), "{refused:?}");
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, allowed).await.expect("never allowed");
    let live = live_with(&bench, &row, Some("search.example.com:9200")).await;
    let note = "Left out: search (found at search.example.com:9200).";
    assert!(live.notes.iter().any(|told| told == note), "{:?}", live.notes);
    wished(&bench, &row, &at("10.0.0.5:5432")).await.unwrap();
    live_with(&bench, &row, Some("10.0.0.5:5432")).await;
    let with = Scope {
        with: BTreeSet::from([search()]),
        ..Scope::default()
    };
    wished(&bench, &row, &with).await.unwrap();
    live_with(&bench, &row, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_policy_does_not_allow_is_refused_with_the_line_that_would() {
    let (bench, row) = begun("", "egress: [\"search.example.com:9200\"]").await;
    for (endpoint, line) in [
        ("search.example.com:9300", "egress: [\"search.example.com:9300\"]"),
        ("other.example.com:443", "egress: [other.example.com]"),
        ("10.0.0.5:9200", "private: { search: \"10.0.0.5:9200\" }"),
    ] {
        match wished(&bench, &row, &at(endpoint)).await {
            Err(Intent::NotAllowed { hint, .. }) => assert!(hint.ends_with(line), "{hint}"),
            other => panic!("{endpoint}: {other:?}"),
        }
    }
    live_with(&bench, &row, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stack_may_say_it_too_and_opens_nothing_by_it() {
    let stack = "  endpoints: { search: \"search.example.com:9200\" }\n";
    let (bench, row) = begun(stack, "egress: [\"search.example.com:9200\"]").await;
    live_with(&bench, &row, Some("search.example.com:9200")).await;
    let files = [settings(
        "  endpoints: { search: \"elsewhere.example.com:9200\" }\n",
        "egress: []",
    )];
    let commit = bench.forge.commit(&branch("feature"), None, &files, "Elsewhere").await;
    commit.unwrap();
    let origin = match row.origin {
        model::Origin::PullRequest { number } => forge::PullRequestNumber(number),
        ref other => panic!("{other:?}"),
    };
    bench.nudge();
    let body = bench
        .comment_says(origin, "the policy does not allow elsewhere.example.com:9200")
        .await;
    assert!(body.contains("egress:"), "{body}");
}
