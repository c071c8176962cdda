//! Spares as callers see them: told with age and cost, of no use to people, and without a route.

use crate::bench::{Bench, branch};
use forge::local::FileChange;
use gateway::{RouteKey, RouteTable, Routes as _};
use http::{Method, StatusCode};
use server::EdgeClient;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_project_without_slow_engines_is_told_why_it_has_none() {
    let bench = Bench::new().await;
    for _ in 0..9_000 {
        let list = bench.get("/spares").await;
        let view = &list["projects"][0];
        assert_eq!(
            (&view["project"], &view["wanted"]),
            (&"shop".into(), &1.into()),
            "{list:#}"
        );
        let why = view["why_fewer"].as_str().unwrap_or_default();
        if why.contains("no engine of the policy branch's stack takes long to start") {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("it is never said: {:#}", bench.get("/spares").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_is_shown_and_has_no_route() {
    let bench = Bench::new().await;
    let client = EdgeClient::new(bench.edge_socket());
    let table = Arc::new(RouteTable::default());
    let end = CancellationToken::new();
    let follower = tokio::spawn(client.follow_routes(Arc::clone(&table), end.clone()));
    let compose = "services:\n  web:\n    image: node:20\n    command: [\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\nx\"]\n    \
                   ports: [\"8080:8080\"]\n  queue:\n    image: rabbitmq:3\n";
    let files = [FileChange::write("compose.yaml", compose)];
    bench
        .forge
        .commit(&branch("main"), None, &files, "A queue")
        .await
        .unwrap();
    bench.ok(Method::POST, "/projects/shop/nudge", None).await;
    let mut list = bench.get("/spares").await;
    for _ in 0..9_000 {
        if list["projects"][0]["spares"][0]["ready"] == true {
            break;
        }
        sleep(Duration::from_millis(20)).await;
        list = bench.get("/spares").await;
    }
    let spare = &list["projects"][0]["spares"][0];
    assert!(
        spare["ready"] == true && spare["memory_bytes"].as_u64().unwrap() > 0,
        "{list:#}"
    );
    let (id, label) = (spare["id"].as_str().unwrap(), spare["label"].as_str().unwrap());
    let listed = bench.get("/environments").await;
    assert_eq!(listed["environments"][0]["origin"]["kind"], "spare", "{listed:#}");
    assert_eq!(listed["environments"][0]["status"], "ready");
    let shown = bench.get(&format!("/environments/{label}")).await;
    assert_eq!(
        (shown["id"].as_str(), &shown["address"]),
        (Some(id), &serde_json::Value::Null)
    );
    for what in ["links", "recreate"] {
        let path = format!("/environments/{label}/{what}");
        let (status, problem) = bench.call(Method::POST, &path, Some(serde_json::json!({}))).await;
        assert_eq!(status, StatusCode::CONFLICT, "{what}: {problem:#}");
    }
    bench.open("change").await;
    let view = bench.reaches("pr-1", "live").await;
    assert_eq!(view["id"], id, "the spare was not adopted");
    let key = |label: &str| RouteKey {
        base: "preview.test".into(),
        label: label.parse().unwrap(),
    };
    // The table has caught up when it has the environment; it never has the spare.
    for _ in 0..9_000 {
        assert!(table.route(&key(label)).is_none());
        if table.route(&key("pr-1")).is_some() {
            end.cancel();
            follower.await.unwrap();
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the environment has no route");
}
