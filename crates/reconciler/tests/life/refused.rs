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
    // The status is written after the comment.
    let status = loop {
        let status = bench.forge.status(head).unwrap().unwrap();
        if status.state == StatusState::Failure {
            break status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(status.description.contains("web was not ready"), "{status:?}");
}
