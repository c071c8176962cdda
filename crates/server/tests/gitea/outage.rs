//! A forge that is down, or that says what is not true: nothing is removed because of it, and everything goes on afterwards.

use crate::{
    bench::{Bench, Setting, compose},
    between::Mode,
    eventually,
};
use model::Phase;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use store::PullRequestState;
use test_support::gitea::Gitea;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_gitea_is_down_nothing_is_removed_and_afterwards_everything_goes_on() {
    let gitea = Gitea::start().await.unwrap_or_else(|error| panic!("{error}"));
    let mut bench = Bench::on(
        Arc::new(gitea),
        Setting {
            poll_seconds: 1,
            ..Setting::WEBHOOKS
        },
    )
    .await;
    let commit = bench.push("feature", &compose("two"));
    let number = bench.open("feature", "A change").await;
    let row = bench.reaches(number, Phase::Live, Some(&commit)).await;
    let (comment, _) = bench.comment_says(number, "live** with").await;
    let before = bench.inventory().await;

    Arc::get_mut(&mut bench.gitea).unwrap().pause();
    // Some polls come and fail.
    sleep(Duration::from_millis(2000)).await;
    assert_eq!(bench.reaches(number, Phase::Live, Some(&commit)).await.id, row.id);
    // Our server is started anew while it can ask nobody.
    bench.stop().await;
    bench.start().await;
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(bench.reaches(number, Phase::Live, Some(&commit)).await.id, row.id);
    assert_eq!(bench.inventory().await, before);

    Arc::get_mut(&mut bench.gitea).unwrap().resume().await.unwrap();
    let pushed = bench.push("feature", &compose("three"));
    assert_eq!(bench.reaches(number, Phase::Live, Some(&pushed)).await.id, row.id);
    assert_eq!(
        bench
            .comment_says(number, &format!("live** with `{}`", pushed.short()))
            .await
            .0,
        comment
    );
    bench.close(number).await;
    bench.reaches(number, Phase::Ended, None).await;
    assert_eq!(bench.inventory().await, []);
}

/// Has our server look at the forge again and again.
async fn looks_until(bench: &Bench, enough: impl Fn() -> bool) {
    eventually("our server asks", || async {
        bench.ask("projects/shop/nudge", json!({})).await;
        enough().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_removed_but_on_closed_read_twice() {
    let (bench, between) = Bench::between(Setting::POLL).await;
    let commit = bench.push("feature", &compose("two"));
    let number = bench.open("feature", "A change").await;
    let row = bench.reaches(number, Phase::Live, Some(&commit)).await;
    let before = bench.inventory().await;

    // So many requests are more than one look at the pull requests.
    for (mode, requests) in [
        (Mode::Refuse(404), 2),
        (Mode::Refuse(401), 2),
        (Mode::Refuse(503), 6),
        (Mode::EmptyList, 16),
    ] {
        between.set(mode);
        looks_until(&bench, || between.asked() >= requests).await;
        let now = bench.environments(number).await.pop().unwrap();
        assert!(now.wanted && now.id == row.id, "{mode:?}: {now:#?}");
        assert_eq!(
            bench.pull_request(number).await.unwrap().state,
            PullRequestState::Open,
            "{mode:?}"
        );
        between.set(Mode::Honest);
        looks_until(&bench, || between.asked() >= 8).await;
    }
    between.set(Mode::ClosedOnce);
    looks_until(&bench, || between.is_honest()).await;
    looks_until(&bench, || between.asked() >= 16).await;
    let now = bench.environments(number).await.pop().unwrap();
    assert!(now.wanted && now.id == row.id, "one answer was enough: {now:#?}");
    assert_eq!(bench.inventory().await, before);

    bench.close(number).await;
    eventually("the close is seen", || async {
        let pull = bench.pull_request(number).await?;
        (pull.state == PullRequestState::Closed).then_some(())
    })
    .await;
    bench.reaches(number, Phase::Ended, None).await;
    assert_eq!(bench.inventory().await, []);
}
