//! The life of environments through the API.

use crate::bench::Bench;
use http::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_is_seen_from_start_to_receipt() {
    let bench = Bench::new().await;
    let number = bench.open("change").await;
    assert_eq!(number, 1);
    let view = bench.reaches("pr-1", "live").await;
    assert_eq!(view["address"], "http://pr-1.preview.test:8080");
    assert_eq!(view["status"], "live");
    assert_eq!(view["pull_request"]["title"], "A change");
    assert_eq!(view["commits"]["shop"]["live"], view["commits"]["shop"]["wanted"]);
    let services: Vec<_> = view["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (&s["name"], &s["state"]))
        .collect();
    assert_eq!(
        services,
        [(&json!("cache"), &json!("ready")), (&json!("web"), &json!("ready"))]
    );

    // By id, by label, by number.
    let id = view["id"].as_str().unwrap();
    for name in [id, "pr-1", "1", "%231"] {
        assert_eq!(bench.get(&format!("/environments/{name}")).await["id"], id, "{name}");
    }
    let list = bench.get("/environments").await;
    assert_eq!(list["environments"].as_array().unwrap().len(), 1);

    let why = bench.get("/environments/1/why").await;
    assert_eq!(why["summary"], "pr-1 is live");
    assert!(
        why["steps"]
            .as_array()
            .unwrap()
            .iter()
            .all(|step| step["state"] == "done"),
        "{why:#}"
    );
    assert!(why["steps"][0]["title"].as_str().unwrap().contains(' '), "{why:#}");

    let steps = bench.get("/environments/1/steps").await;
    assert_eq!(steps["generations"][0]["outcome"], "live");
    assert_eq!(steps["removal"], json!(null), "it is not to end");
    assert!(
        steps["generations"][0]["steps"]
            .as_array()
            .unwrap()
            .iter()
            .all(|step| step["took_ms"].is_u64())
    );

    let ledger = bench.get("/environments/1/receipt").await;
    assert_eq!(ledger["complete"], false);
    assert!(ledger["left"].as_u64().unwrap() > 0);

    bench.ok(Method::DELETE, "/environments/pr-1", None).await;
    bench.reaches(id, "ended").await;
    let steps = bench.get(&format!("/environments/{id}/steps")).await;
    let removed = steps["removal"].as_array().unwrap();
    assert!(
        removed
            .iter()
            .any(|step| step["id"] == "remove" && step["state"] == "done" && step["took_ms"].is_u64()),
        "{steps:#}"
    );
    let receipt = bench.get(&format!("/environments/{id}/receipt")).await;
    assert_eq!((&receipt["complete"], &receipt["left"]), (&json!(true), &json!(0)));
    assert_eq!(receipt["reason"], "deleted by token:operator");
    assert_eq!(bench.get("/environments").await["environments"], json!([]));
    assert_eq!(
        bench.get("/environments?ended=true").await["environments"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let events = bench.get(&format!("/environments/{id}/events")).await;
    assert!(events.to_string().contains("deleted by token:operator"), "{events:#}");
    // The project's history has it, too, and says of whom it is.
    let of_project = bench.get("/projects/shop/events?limit=500").await;
    let ours = |event: &&Value| event["environment"] == *id && event["label"].is_string();
    let ours: Vec<&Value> = of_project["events"].as_array().unwrap().iter().filter(ours).collect();
    for event in events["events"].as_array().unwrap() {
        assert!(ours.iter().any(|ours| ours["text"] == event["text"]), "{of_project:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_gets_an_environment_a_copy_and_no_second_one() {
    let bench = Bench::new().await;
    bench.open("change").await;
    let made = bench
        .ok(Method::POST, "/environments", Some(json!({"branch": "change"})))
        .await;
    assert_eq!(
        (&made["label"], &made["origin"]["kind"]),
        (&json!("br-change"), &json!("branch"))
    );
    bench.reaches("br-change", "live").await;
    let (status, problem) = bench
        .call(Method::POST, "/environments", Some(json!({"branch": "change"})))
        .await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("conflict")));

    let copy = bench
        .ok(Method::POST, "/environments", Some(json!({"clone_of": "br-change"})))
        .await;
    assert_eq!(copy["origin"], json!({"kind": "clone", "of": made["id"]}));
    bench.reaches(copy["id"].as_str().unwrap(), "live").await;

    let (status, problem) = bench
        .call(Method::POST, "/environments", Some(json!({"branch": "nowhere"})))
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(problem["hint"], "push the branch first");
    let (status, _) = bench
        .call(Method::POST, "/environments", Some(json!({"branch": "../x"})))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_can_be_asked_for_and_everything_anew() {
    let bench = Bench::new().await;
    bench.open("change").await;
    let view = bench.reaches("pr-1", "live").await;
    let main = bench.get("/projects").await;
    assert_eq!(main["projects"][0]["name"], "shop");
    let commit =
        match forge::Forge::branch(&bench.forge, bench.forge.repository_id(), &crate::bench::branch("main")).await {
            Ok(forge::BranchFact::At(commit)) => commit.to_string(),
            other => panic!("{other:?}"),
        };
    bench
        .ok(
            Method::POST,
            "/environments/pr-1/deploy",
            Some(json!({"commit": commit})),
        )
        .await;
    let live = loop {
        let view = bench.reaches("pr-1", "live").await;
        if view["commits"]["shop"]["live"] == commit {
            break view;
        }
    };
    assert_eq!(live["id"], view["id"]);
    bench.ok(Method::POST, "/environments/pr-1/recreate", None).await;
    bench.reaches(view["id"].as_str().unwrap(), "ended").await;
    let again = loop {
        let view = bench.reaches("1", "live").await;
        if view["id"] != live["id"] {
            break view;
        }
    };
    assert_eq!(again["label"], "pr-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_start_says_why_with_the_lines_of_log() {
    let bench = Bench::new().await;
    let broken =
        "services:\n  web:\n    image: node:20\n    command: [\"x\"]\n    ports: [\"8080:8080\"]\n    unknown_key: 1\n";
    let files = [forge::local::FileChange::write("compose.yaml", broken)];
    let (main, head) = (crate::bench::branch("main"), crate::bench::branch("broken"));
    bench.forge.commit(&head, Some(&main), &files, "Break").await.unwrap();
    bench
        .ok(Method::POST, "/environments", Some(json!({"branch": "broken"})))
        .await;
    let view = bench.reaches("br-broken", "failed").await;
    assert!(view["failure"]["log"].to_string().contains("unknown_key"), "{view:#}");
    let why = bench.get("/environments/br-broken/why").await;
    assert!(
        why["summary"]
            .as_str()
            .unwrap()
            .starts_with("br-broken failed at blueprint"),
        "{why:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_printed_is_streamed() {
    let bench = Bench::new().await;
    bench.open("change").await;
    let view = bench.reaches("pr-1", "live").await;
    let id = view["id"].as_str().unwrap().parse().unwrap();
    for line in ["one", "two", "three"] {
        bench.simulator.print(&id, "web", line);
    }
    let lines = |text: &[u8]| -> Vec<String> {
        let text = String::from_utf8(text.to_vec()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<api::LogLineView>(line).unwrap().text)
            .collect()
    };
    let ask = |path: &str| {
        http::Request::get(format!("/api/v1/environments/pr-1/logs{path}"))
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", bench.token))
            .body(http_body_util::Full::default())
            .unwrap()
    };
    let all = bench.send(ask("?name=web&tail=2")).await;
    assert_eq!(all.headers()["content-type"], "application/x-ndjson");
    assert_eq!(lines(all.body()), ["two", "three"]);
    let every = bench.send(ask("?tail=1")).await;
    assert!(lines(every.body()).contains(&"three".to_owned()));
    assert_eq!(bench.send(ask("?name=nobody")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(bench.send(ask("?nmae=web")).await.status(), StatusCode::BAD_REQUEST);
}
