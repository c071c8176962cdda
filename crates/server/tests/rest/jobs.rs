//! Jobs that people run, through the API.

use crate::bench::{Bench, PATIENCE, branch};
use forge::local::FileChange;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const SETTINGS: &str = "stack:\n  services:\n    web: { host: true, public: true }\n  jobs:\n    \
    digest: { service: web, run: [mail-digest, now], on: { schedule: \"30 3 * * *\" } }\npolicy: { baseline: none }\n";

async fn ended(bench: &Bench, path: &str) -> Value {
    let wait = async {
        loop {
            let run = bench.get(path).await;
            if !run["ended"].is_null() {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let run = tokio::time::timeout(PATIENCE, wait).await;
    run.expect("the run never ended")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_listed_run_and_told() {
    let bench = Bench::new().await;
    let files = [FileChange::write("maquette.yaml", SETTINGS)];
    bench.forge.commit(&branch("main"), None, &files, "Jobs").await.unwrap();
    bench.open("change").await;
    bench.reaches("pr-1", "live").await;
    let jobs = bench.get("/environments/pr-1/jobs").await["jobs"].clone();
    assert_eq!(jobs.as_array().map(Vec::len), Some(1), "{jobs:#}");
    assert_eq!(
        (&jobs[0]["name"], &jobs[0]["schedule"], &jobs[0]["runs"]),
        (&json!("digest"), &json!("30 3 * * *"), &json!([]))
    );
    let path = "/environments/pr-1/jobs/digest/runs";
    let (status, run) = bench.call(Method::POST, path, None).await;
    assert_eq!(
        (status, &run["number"], &run["asked_by"]),
        (StatusCode::ACCEPTED, &json!(1), &json!("token:operator"))
    );
    let run = ended(&bench, &format!("{path}/1")).await;
    assert_eq!(
        (&run["exit"], &run["timed_out"], &run["message"]),
        (&json!(0), &json!(false), &Value::Null)
    );
    let view = bench.get("/environments/pr-1").await;
    assert_eq!(view["jobs"][0]["runs"][0]["exit"], 0, "{view:#}");
    let events = bench.get("/environments/pr-1/events").await["events"].to_string();
    assert!(events.contains("runs the job digest (run 1)"), "{events}");

    for (path, status) in [
        ("/environments/pr-1/jobs/none/runs", StatusCode::NOT_FOUND),
        ("/environments/pr-1/jobs/%2e%2e%2fx/runs", StatusCode::BAD_REQUEST),
        ("/environments/pr-9/jobs/digest/runs", StatusCode::NOT_FOUND),
    ] {
        let (found, problem) = bench.call(Method::POST, path, None).await;
        assert_eq!(found, status, "{path}: {problem}");
    }
    let (missing, _) = bench.call(Method::GET, &format!("{path}/7"), None).await;
    assert_eq!(missing, StatusCode::NOT_FOUND);
}
