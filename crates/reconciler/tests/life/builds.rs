//! What is built in a checkout, from the first pull request that wants it to the last.

use crate::bench::{Bench, SETTINGS, branch, compose};
use forge::{
    PullRequestNumber,
    local::{FileChange, NewPullRequest},
};
use model::{CommitId, Phase, SnapshotId};
use runtime::{Runtime, simulator::JobBehaviour};
use std::time::Duration;

/// A checkout with a build that sees `lock`.
async fn push(bench: &Bench, name: &str, lock: &str, more: &str) -> CommitId {
    let settings = SETTINGS.replace(
        "host: true, public: true",
        "host: true, public: true, build: { run: [npm, ci], inputs: [lock], outputs: [node_modules] }",
    );
    let files = [
        FileChange::write("maquette.yaml", settings),
        FileChange::write("compose.yaml", compose("built")),
        FileChange::write("lock", lock),
        FileChange::write("more", more),
    ];
    bench
        .forge
        .commit(&branch(name), Some(&branch("main")), &files, "Change")
        .await
        .unwrap()
}

async fn open(bench: &Bench, name: &str, lock: &str) -> PullRequestNumber {
    push(bench, name, lock, "").await;
    let new = NewPullRequest::new(branch(name), branch("main"), "A change");
    bench.forge.open_pull_request(new).await.unwrap().number
}

async fn products(bench: &Bench) -> Vec<SnapshotId> {
    bench.simulator.snapshot_list().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_inputs_are_built_once_and_what_nobody_wants_any_more_goes() {
    let bench = Bench::new().await;
    let first = open(&bench, "one", "1").await;
    let row = bench.reaches(first, Phase::Live, None).await;
    let made = products(&bench).await;
    assert_eq!(made.len(), 1);
    // Whatever would be built from here on fails.
    let fails = std::iter::repeat_n(JobBehaviour::Exits(1), 20);
    bench.simulator.script_job("build-web", fails);
    let commit = push(&bench, "one", "1", "another").await;
    bench.reaches(first, Phase::Live, Some(&commit)).await;
    let second = open(&bench, "two", "1").await;
    bench.reaches(second, Phase::Live, None).await;
    assert_eq!(products(&bench).await, made);

    // Another input is another build, which fails and says why; what was live comes back.
    let broken = push(&bench, "one", "2", "").await;
    bench.reaches(first, Phase::LiveOlder, Some(&broken)).await;
    let body = bench.comment_says(first, "the build of web failed").await;
    assert!(body.contains("status 1"), "{body}");
    let again = bench.environments(first).await;
    assert_eq!(again.last().unwrap().id, row.id);

    bench.forge.close(first).await.unwrap();
    bench.reaches(first, Phase::Ended, None).await;
    assert_eq!(products(&bench).await, made, "the other environment mounts it");
    bench.forge.close(second).await.unwrap();
    bench.reaches(second, Phase::Ended, None).await;
    for _ in 0..600 {
        if products(&bench).await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody wants it any more: {:?}", products(&bench).await);
}
