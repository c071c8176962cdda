//! The policy's triggers: what they do not cover has no environment, and what they cover no longer loses it, with a reason.

use crate::bench::{Bench, LOOKS, branch, compose};
use forge::{PullRequestNumber, StatusState, local::NewPullRequest};
use model::Phase;
use std::time::Duration;
use tokio::time::sleep;

async fn open(bench: &Bench, change: impl FnOnce(&mut NewPullRequest)) -> PullRequestNumber {
    bench.push("feature", &compose("two")).await;
    let mut new = NewPullRequest::new(branch("feature"), branch("main"), "A change");
    change(&mut new);
    bench.forge.open_pull_request(new).await.unwrap().number
}

/// Long enough for several looks at the forge.
async fn a_while() {
    sleep(Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_brings_an_environment_and_takes_it_away() {
    let bench = Bench::new().await;
    bench
        .rule("{ baseline: none, triggers: { labels: [preview, demo] } }")
        .await;
    let number = open(&bench, |_| ()).await;
    a_while().await;
    assert_eq!(bench.environments(number).await.len(), 0);
    assert_eq!(bench.forge.comments(number).unwrap().len(), 0);

    bench.forge.change_labels(number, &["bug", "preview"]).await.unwrap();
    let first = bench.reaches(number, Phase::Live, None).await;
    let head = first.head.values().next().unwrap().clone();
    // Another of the labels will do.
    bench.forge.change_labels(number, &["demo"]).await.unwrap();
    a_while().await;
    assert_eq!(bench.phase(&first.id).await, Phase::Live);

    bench.forge.change_labels(number, &["bug"]).await.unwrap();
    let ended = bench.reaches(number, Phase::Ended, None).await;
    let reason = "has none of the labels that ask for a preview: preview, demo";
    assert!(ended.reason.contains(reason), "{}", ended.reason);
    let receipt = bench.store.receipt_get(&first.id).await.unwrap().expect("a receipt");
    assert!(
        receipt.reason.contains(reason) && !receipt.entries.is_empty(),
        "{receipt:?}"
    );
    assert!(receipt.entries.iter().all(|entry| entry.gone.is_some()));
    let body = bench.comment_says(number, "verified gone").await;
    assert!(
        body.contains(reason) && body.contains("as soon as that changes"),
        "{body}"
    );
    bench
        .status_says(&head, StatusState::Pending, "removed: pull request")
        .await;
    assert_eq!(bench.inventory().await, []);

    bench.forge.change_labels(number, &["preview"]).await.unwrap();
    let anew = bench.reaches(number, Phase::Live, None).await;
    assert_ne!(anew.id, first.id);
    let body = bench.comment_says(number, "live** with").await;
    assert!(!body.contains("labels"), "{body}");
    bench.status_says(&head, StatusState::Success, "live").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_has_none_where_the_policy_says_so() {
    let bench = Bench::new().await;
    bench.rule("{ baseline: none, triggers: { drafts: false } }").await;
    let number = open(&bench, |_| ()).await;
    let first = bench.reaches(number, Phase::Live, None).await;
    bench.forge.change_draft(number, true).await.unwrap();
    let ended = bench.reaches(number, Phase::Ended, None).await;
    assert_eq!(ended.id, first.id);
    bench
        .comment_says(number, "is a draft, and drafts get no preview")
        .await;
    bench.forge.change_draft(number, false).await.unwrap();
    assert_ne!(bench.reaches(number, Phase::Live, None).await.id, first.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_changes_ends_what_it_covers_no_longer() {
    let bench = Bench::new().await;
    let number = open(&bench, |_| ()).await;
    let first = bench.reaches(number, Phase::Live, None).await;
    bench.push("release", &compose("release")).await;
    bench
        .rule("{ baseline: none, triggers: { base_branches: [release] } }")
        .await;
    bench.reaches(number, Phase::Ended, None).await;
    bench
        .comment_says(number, "a branch whose pull requests get no preview")
        .await;
    bench.forge.change_base(number, &branch("release")).await.unwrap();
    let second = bench.reaches(number, Phase::Live, None).await;
    assert_ne!(second.id, first.id);
    bench
        .rule("{ baseline: none, triggers: { pull_requests: false } }")
        .await;
    bench.stands(&second.id, Phase::Ended).await;
    bench.comment_says(number, "no previews of their own").await;
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_can_not_be_read_ends_nothing() {
    let bench = Bench::new().await;
    bench.rule("{ baseline: none, triggers: { labels: [preview] } }").await;
    let number = open(&bench, |new| new.labels = vec![forge::DisplayText::new("preview")]).await;
    let row = bench.reaches(number, Phase::Live, None).await;
    bench
        .rule("{ baseline: none, triggers: { labels: [other], draft: x } }")
        .await;
    a_while().await;
    let now = bench.store.environment_get(&row.id).await.unwrap().unwrap();
    assert!(now.wanted, "{}", now.reason);
    bench.rule("{ baseline: none, triggers: { labels: [preview] } }").await;
    bench.stands(&row.id, Phase::Live).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_title_reaches_the_services_and_nothing_else_restarts() {
    let bench = Bench::new().await;
    let number = open(&bench, |_| ()).await;
    let row = bench.reaches(number, Phase::Live, None).await;
    let live = |title: &'static str, base: &'static str| {
        let (bench, id) = (&bench, row.id.clone());
        async move {
            for _ in 0..LOOKS {
                let generations = bench.store.generation_list(&id).await.unwrap();
                let last = generations.last().unwrap();
                let values = &last.spec.services().unwrap().services[&"web".parse().unwrap()]
                    .workload
                    .environment;
                let said = format!("{values:?}");
                if last.outcome == Some(store::Outcome::Live) && said.contains(title) && said.contains(base) {
                    return last.generation;
                }
                sleep(Duration::from_millis(10)).await;
            }
            panic!("{title} was never live");
        }
    };
    let first = live("A change", "main").await;
    let before = bench.simulator.calls().len();
    bench.forge.change_title(number, "Another title").await.unwrap();
    let second = live("Another title", "main").await;
    assert_eq!(second, first.next());
    // The engine sees no title, and goes on.
    let restarted = |service: &str| {
        let calls = bench.simulator.calls();
        calls[before..]
            .iter()
            .any(|call| call.operation.mutates() && call.detail.contains(service))
    };
    assert!(
        restarted("web") && !restarted("cache"),
        "{:#?}",
        bench.simulator.calls()
    );
    bench.stands(&row.id, Phase::Live).await;
    // Labels and drafts are nothing that a service could see.
    bench.forge.change_labels(number, &["bug"]).await.unwrap();
    bench.forge.change_draft(number, true).await.unwrap();
    a_while().await;
    assert_eq!(live("Another title", "main").await, second);
    bench.push("release", &compose("release")).await;
    bench.forge.change_base(number, &branch("release")).await.unwrap();
    assert_eq!(live("Another title", "release").await, second.next());
}
