//! What is built in a checkout, from the first pull request that wants it to the last.

use crate::bench::{Bench, LOOKS, SETTINGS, branch, compose};
use forge::{
    PullRequestNumber,
    local::{FileChange, LocalHead, NewPullRequest},
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
    for _ in 0..LOOKS {
        if products(&bench).await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody wants it any more: {:?}", products(&bench).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_approved_commit_of_a_fork_builds_is_its_own_and_it_has_half_of_the_room() {
    let bench = Bench::new().await;
    let first = open(&bench, "one", "1").await;
    let row = bench.reaches(first, Phase::Live, None).await;
    let made = products(&bench).await;
    let head = row.head.values().next().unwrap().clone();
    let new = NewPullRequest {
        head: LocalHead::Fork(head.clone()),
        ..NewPullRequest::new(branch("x"), branch("main"), "From a fork")
    };
    let number = bench.forge.open_pull_request(new).await.unwrap().number;
    let fork = bench.reaches(number, Phase::NeedsApproval, None).await;
    let handle = bench.handle.clone().unwrap();
    handle.approve(&fork.id, &head, "token:operator").await.unwrap();
    bench.reaches(number, Phase::Live, None).await;
    let now = products(&bench).await;
    assert_eq!(now.len(), 2, "the same commit, and nothing shared: {now:?}");
    assert!(made.iter().all(|product| now.contains(product)));

    let limits =
        async |id: &model::EnvironmentId| bench.store.generation_newest(id).await.unwrap().unwrap().spec.limits;
    let (whole, half) = (limits(&row.id).await, limits(&fork.id).await);
    let pairs = [
        (whole.memory_bytes, half.memory_bytes),
        (whole.cpu_millis, half.cpu_millis),
        (whole.pids, half.pids),
        (whole.disk_bytes, half.disk_bytes),
    ];
    assert!(
        pairs.iter().all(|(whole, half)| whole.unwrap() == 2 * half.unwrap()),
        "{pairs:?}"
    );

    // A copy is trusted as what it was copied from is.
    for (of, trusted) in [(&row, true), (&fork, false)] {
        let copy = handle.create_clone(&of.id, "a test").await.unwrap();
        for _ in 0..LOOKS {
            if bench.store.generation_newest(&copy.id).await.unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(limits(&copy.id).await == whole, trusted, "copy of {}", of.label);
    }
}
