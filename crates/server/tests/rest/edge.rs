//! What the gateway's process asks: routes, sign-in, waking.

use crate::bench::{Bench, PATIENCE};
use gateway::{AuthState, RouteKey, RouteState, RouteTable, Routes, Secret, Wake};
use http::Method;
use serde_json::json;
use server::EdgeClient;
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

fn key(label: &str) -> RouteKey {
    RouteKey {
        base: "preview.test".into(),
        label: label.parse().unwrap(),
    }
}

async fn route(table: &RouteTable, label: &str, state: impl Fn(Option<&RouteState>) -> bool) {
    let mut changes = table.changes();
    let wait = async {
        while !state(table.route(&key(label)).as_deref().map(|route| &route.state)) {
            changes.changed().await.unwrap();
        }
    };
    let found = timeout(PATIENCE, wait).await;
    assert!(found.is_ok(), "{:?}", table.route(&key(label)));
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_follow_the_life_of_an_environment() {
    let bench = Bench::new().await;
    let client = EdgeClient::new(bench.edge_socket());
    let table = Arc::new(RouteTable::default());
    let end = CancellationToken::new();
    let follower = tokio::spawn(client.clone().follow_routes(Arc::clone(&table), end.clone()));
    bench.open("change").await;
    route(&table, "pr-1", |state| state == Some(&RouteState::Live)).await;
    let found = table.route(&key("pr-1")).unwrap();
    assert_eq!((found.target.service.as_str(), found.target.port), ("web", 8080));
    assert_eq!(
        (found.about.title.as_str(), found.about.pull_request),
        ("A change", Some(1))
    );
    client.wake(&found.target.environment, found.epoch).await;
    bench.ok(Method::DELETE, "/environments/pr-1", None).await;
    route(&table, "pr-1", |state| state.is_none()).await;
    end.cancel();
    follower.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_wakes_the_baseline_and_is_let_in_when_it_answers() {
    let bench = Bench::new().await;
    let client = EdgeClient::new(bench.edge_socket());
    let table = Arc::new(RouteTable::default());
    let end = CancellationToken::new();
    let follower = tokio::spawn(client.clone().follow_routes(Arc::clone(&table), end.clone()));
    bench.rule("{ baseline: asleep }").await;
    route(&table, "base", |state| state == Some(&RouteState::Sleeping)).await;
    let view = bench.reaches("base", "sleeping").await;
    assert_eq!(view["origin"], json!({ "kind": "baseline", "branch": "main" }));
    let id = view["id"].as_str().unwrap().parse().unwrap();
    let stopped = async {
        while runtime::Runtime::observe(&bench.simulator, &id)
            .await
            .unwrap()
            .is_none_or(|found| found.power != model::Power::Stopped)
        {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, stopped).await.expect("it never slept");
    let found = table.route(&key("base")).unwrap();
    client.wake(&found.target.environment, found.epoch).await;
    route(&table, "base", |state| state == Some(&RouteState::Live)).await;
    let service = "web".parse().unwrap();
    let dialled = runtime::Runtime::dial(&bench.simulator, &id, &service, runtime::Target::Port(8080)).await;
    assert!(dialled.is_ok(), "it was let in before it answers");
    end.cancel();
    follower.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_its_own_environment_once_and_its_session_one_host() {
    let bench = Bench::new().await;
    bench.open("change").await;
    bench.open("other").await;
    bench.reaches("pr-1", "live").await;
    let link = bench
        .ok(Method::POST, "/environments/pr-1/links", Some(json!({"label": "ada"})))
        .await;
    let url = link["url"].as_str().unwrap();
    let (origin, token) = url.split_once("/.maquette/sign-in#token=").expect(url);
    assert_eq!(origin, "http://pr-1.preview.test:8080");
    let token = Secret::parse(token.as_bytes()).unwrap().hash();

    let client = EdgeClient::new(bench.edge_socket());
    let session = client.exchange(&token, "pr-1.preview.test").await.unwrap().unwrap();
    assert_eq!(&*session.visitor.subject, "guest:ada");
    assert!(session.visitor.may_see(&"shop".parse().unwrap()));
    assert!(
        client.exchange(&token, "pr-1.preview.test").await.unwrap().is_none(),
        "it was used"
    );

    // Another process of the gateway knows it too, on that host only.
    let other = EdgeClient::new(bench.edge_socket());
    let hash = session.secret.hash();
    assert_eq!(
        other.session(&hash, "pr-1.preview.test").await.unwrap(),
        Some(session.visitor)
    );
    assert_eq!(other.session(&hash, "pr-2.preview.test").await.unwrap(), None);
    other.revoke(&hash).await.unwrap();
    assert_eq!(other.session(&hash, "pr-1.preview.test").await.unwrap(), None);

    // A link of one environment is no way into another.
    let link = bench.ok(Method::POST, "/environments/pr-1/links", None).await;
    let token = link["url"].as_str().unwrap().rsplit_once('=').unwrap().1;
    let token = Secret::parse(token.as_bytes()).unwrap().hash();
    assert!(client.exchange(&token, "pr-2.preview.test").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_seen_is_believed_while_the_control_plane_is_away() {
    let bench = Bench::new().await;
    bench.open("change").await;
    bench.reaches("pr-1", "live").await;
    let link = bench.ok(Method::POST, "/environments/pr-1/links", None).await;
    let token = link["url"].as_str().unwrap().rsplit_once('=').unwrap().1;
    let token = Secret::parse(token.as_bytes()).unwrap().hash();
    let client = EdgeClient::new(bench.edge_socket());
    let session = client.exchange(&token, "pr-1.preview.test").await.unwrap().unwrap();
    bench.end.cancel();
    std::fs::remove_file(bench.edge_socket()).unwrap();
    sleep(Duration::from_millis(50)).await;
    let hash = session.secret.hash();
    assert_eq!(
        client.session(&hash, "pr-1.preview.test").await.unwrap(),
        Some(session.visitor)
    );
    assert!(
        client.session(&token, "pr-1.preview.test").await.is_err(),
        "who was never seen is not"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_token_is_one_for_automation() {
    let bench = Bench::new().await;
    let client = EdgeClient::new(bench.edge_socket());
    let token = Secret::parse(bench.token.as_bytes()).unwrap().hash();
    assert_eq!(
        &*client.automation(&token).await.unwrap().unwrap().subject,
        "token:operator"
    );
    assert_eq!(
        client.automation(&Secret::generate().unwrap().hash()).await.unwrap(),
        None
    );
}
