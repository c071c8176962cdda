//! What troubles one thing keeps nobody from looking after the others, and a start after an end at an unlucky moment mends what
//! was half written.

use crate::{
    bench::{Bench, LOOKS, branch, compose},
    goldens,
    keeping::until,
};
use forge::local::{FileChange, NewPullRequest};
use model::{Generation, Phase};
use std::time::Duration;
use store::{EnvironmentPatch, EnvironmentRow, GoldenState, Outcome, PullRequestState};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_that_can_not_be_written_holds_up_no_other() {
    let bench = Bench::new().await;
    bench.push("first", &compose("two")).await;
    // What should be a folder of comments is a file.
    bench.spoil_comments(1);
    let first = bench.open("first").await;
    assert_eq!(first.0, 1);
    let second = bench.open("second").await;
    bench.reaches(first, Phase::Live, None).await;
    bench.comment_says(second, "live** with").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_between_outcome_and_environment_is_mended() {
    let mut bench = Bench::new().await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    bench.kill();
    let unwritten = EnvironmentPatch {
        live: Some(None),
        ..EnvironmentPatch::default()
    };
    bench.store.environment_update(&row.id, &unwritten).await.unwrap();
    bench.start().await;
    bench.reaches(number, Phase::Live, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_between_failure_and_environment_is_mended() {
    let mut bench = Bench::new().await;
    bench
        .push("broken", &compose("x").replace("    command:", "    comand:"))
        .await;
    let new = NewPullRequest::new(branch("broken"), branch("main"), "Broken");
    let number = bench.forge.open_pull_request(new).await.unwrap().number;
    let row = bench.reaches(number, Phase::Failed, None).await;
    bench.kill();
    let unwritten = EnvironmentPatch {
        failed: Some(None),
        ..EnvironmentPatch::default()
    };
    bench.store.environment_update(&row.id, &unwritten).await.unwrap();
    bench.start().await;
    bench.reaches(number, Phase::Failed, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_between_environment_and_pull_request_is_mended() {
    let mut bench = Bench::new().await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    bench.kill();
    bench.forge.close(number).await.unwrap();
    let written = EnvironmentPatch {
        wanted: Some(false),
        ..EnvironmentPatch::default()
    };
    bench.store.environment_update(&row.id, &written).await.unwrap();
    bench.start().await;
    bench.reaches(number, Phase::Ended, None).await;
    bench.comment_says(number, "verified gone").await;
    let shop = "shop".parse().unwrap();
    until("it is noted as closed", || async {
        let source = "shop".parse().unwrap();
        let known = bench.store.pull_request_get(&shop, &source, number.0).await.unwrap();
        known.unwrap().state == PullRequestState::Closed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_golden_that_failed_is_tried_again() {
    let mut bench = Bench::new().await;
    let files = [
        FileChange::write(
            "compose.yaml",
            "services:\n  db:\n    image: postgres:15\n    environment: { POSTGRES_PASSWORD: x }\n",
        ),
        FileChange::write(
            "maquette.yaml",
            "stack:\n  data:\n    db: { migrations: db/*.sql }\npolicy: { baseline: none }\n",
        ),
        FileChange::write("db/1.sql", "SELECT 1;\n"),
    ];
    bench.forge.commit(&branch("main"), None, &files, "Data").await.unwrap();
    let first = builders(&bench, 1).await.remove(0);
    bench.kill();
    bench
        .store
        .generation_outcome(&first.id, Generation(1), Outcome::Failed, None)
        .await
        .unwrap();
    bench.start().await;
    let project = "shop".parse().unwrap();
    for _ in 0..LOOKS {
        let goldens = bench.store.golden_list(&project).await.unwrap();
        if goldens.iter().any(|golden| golden.state == GoldenState::Failed) {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(builders(&bench, 1).await.len(), 1, "it was tried again at once");
    bench.simulator.advance(Duration::from_secs(3600));
    // A push to the policy branch has the goldens looked at.
    let more = [FileChange::write("README", "more")];
    bench.forge.commit(&branch("main"), None, &more, "More").await.unwrap();
    assert_eq!(builders(&bench, 2).await.len(), 2);
}

/// The builders of goldens there ever were, once there are so many.
async fn builders(bench: &Bench, count: usize) -> Vec<EnvironmentRow> {
    for _ in 0..LOOKS {
        let rows = goldens::builders(bench).await;
        if rows.len() >= count {
            return rows;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("there never were {count} builders");
}
