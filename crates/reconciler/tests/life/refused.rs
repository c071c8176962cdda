//! A service that starts and never serves: what people read.

use crate::bench::{Bench, branch, compose};
use forge::{StatusState, local::NewPullRequest};
use model::Phase;
use runtime::simulator::Behaviour;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_never_gets_ready_is_told_with_what_it_said_last() {
    let bench = Bench::new().await;
    bench.simulator.behave("web", Behaviour::NeverReady);
    let says = compose("x").replace("HTTP/1.1 200 OK\\r\\n\\r\\nx", "waiting for a license server");
    assert!(says.contains("license"), "{says}");
    bench.push("slow", &says).await;
    let new = NewPullRequest::new(branch("slow"), branch("main"), "Slow");
    let number = bench.forge.open_pull_request(new).await.unwrap().number;
    let row = bench.reaches(number, Phase::Failed, None).await;
    let body = bench
        .comment_says(number, "web was not ready 120 s after its start")
        .await;
    assert!(body.contains("waiting for a license server"), "{body}");
    let head = row.head.values().next().unwrap();
    bench
        .status_says(head, StatusState::Failure, "web was not ready 120 s after its start")
        .await;
}
