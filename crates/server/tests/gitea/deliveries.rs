//! Gitea's real deliveries, as somebody sends them who means harm, or as a bad network brings them. Our server is told nothing
//! but what each test passes on.

use crate::{
    bench::{Bench, Setting, compose},
    between::Between,
    eventually,
};
use model::Phase;
use serde_json::Value;
use std::time::Duration;
use test_support::hooks::{Hooks, Posted};
use tokio::time::sleep;

const WAIT: Duration = crate::PATIENCE;
/// What a nudge leads to happens within a fraction of this.
const QUIET: Duration = Duration::from_millis(700);

/// The next delivery of a pull request's change.
async fn next(hooks: &mut Hooks, action: &str) -> Posted {
    let found = hooks.find(WAIT, |posted| {
        let document: Value = serde_json::from_slice(&posted.body).ok()?;
        (document.get("pull_request").is_some() && document["action"] == action).then(|| posted.clone())
    });
    found
        .await
        .unwrap_or_else(|| panic!("Gitea delivered nothing that says {action}"))
}

struct Taken {
    bench: Bench,
    hooks: Hooks,
    number: u64,
    opened: Posted,
    /// Through this our server asks Gitea.
    between: Between,
}

/// A pull request that Gitea has told of, and we have not.
async fn taken() -> Taken {
    let (bench, between) = Bench::between(Setting::DEAF).await;
    // A server that starts looks once by itself: that must not be the look that finds the pull request.
    eventually("our server has looked", || async {
        (between.listed() == 1).then_some(())
    })
    .await;
    let mut hooks = Hooks::start().await.unwrap();
    bench.deliver_to(&bench.repository, hooks.url()).await;
    bench.push("feature", &compose("two"));
    let number = bench.open("feature", "A change").await;
    let opened = next(&mut hooks, "opened").await;
    Taken {
        bench,
        hooks,
        number,
        opened,
        between,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_signed_delivery_of_this_repository_does_nothing() {
    let Taken {
        bench,
        mut hooks,
        number,
        opened,
        between,
    } = taken().await;
    let Posted { headers, body } = &opened;
    let mut changed = body.to_vec();
    let at = changed.len() / 2;
    changed[at] ^= 1;
    assert_eq!(
        bench.deliver("shop/shop", headers, &changed).await,
        403,
        "changed on its way"
    );
    let mut unsigned = headers.clone();
    unsigned.remove("x-gitea-signature");
    let answer = bench.deliver("shop/shop", &unsigned, body).await;
    assert!((400..500).contains(&answer), "unsigned: {answer}");
    assert_eq!(
        bench.deliver("shop/shop", headers, &vec![b' '; 2 << 20]).await,
        413,
        "oversized"
    );
    assert_eq!(
        bench.deliver("shop/other", headers, body).await,
        403,
        "for an unknown source"
    );
    assert_eq!(
        bench.deliver("other/shop", headers, body).await,
        403,
        "for an unknown project"
    );

    let other = bench.ada.make_repository("other", true).await.unwrap();
    bench.deliver_to(&other, hooks.url()).await;
    bench
        .ada
        .comment(&bench.repository.path, number, "not looked at")
        .await
        .unwrap();
    let path = format!("repos/{}/branches", other.path);
    let new = serde_json::json!({ "new_branch_name": "topic", "old_branch_name": "main" });
    bench.ada.call(reqwest::Method::POST, &path, new).await.unwrap();
    let elsewhere = hooks.find(WAIT, |posted| {
        let document: Value = serde_json::from_slice(&posted.body).ok()?;
        (document["repository"]["id"] == other.id).then(|| posted.clone())
    });
    let Posted { headers, body } = elsewhere.await.expect("a delivery of another repository");
    let answer = bench.deliver("shop/shop", &headers, &body).await;
    assert!(
        (200..300).contains(&answer),
        "signed, and of a repository that is none of ours: {answer}"
    );

    sleep(QUIET).await;
    assert_eq!(between.listed(), 1, "something made our server look");
    assert_eq!(bench.pull_request(number).await, None);
    assert_eq!(bench.environments(number).await, []);
    assert!(bench.inventory().await.is_empty());
    let answer = bench.deliver("shop/shop", &opened.headers, &opened.body).await;
    assert!((200..300).contains(&answer), "the real one: {answer}");
    bench.reaches(number, Phase::Live, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_delivery_does_nothing_and_late_ones_in_any_order_lead_to_what_is_true() {
    let Taken {
        bench,
        mut hooks,
        number,
        opened,
        between: _between,
    } = taken().await;
    bench.deliver("shop/shop", &opened.headers, &opened.body).await;
    let row = bench.reaches(number, Phase::Live, None).await;
    let (comment, _) = bench.comment_says(number, "live** with").await;

    let commit = bench.push_anew("feature", &compose("three"));
    let pushed = next(&mut hooks, "synchronized").await;
    let answer = bench.deliver("shop/shop", &opened.headers, &opened.body).await;
    assert!(
        (200..300).contains(&answer),
        "a repetition is not an error to the forge: {answer}"
    );
    sleep(QUIET).await;
    let now = bench.environments(number).await.pop().unwrap();
    assert_eq!(now.head, row.head, "a replayed delivery made our server look");

    bench.close(number).await;
    let closed = next(&mut hooks, "closed").await;
    bench.reopen(number).await;
    let reopened = next(&mut hooks, "reopened").await;
    for late in [&reopened, &closed, &pushed] {
        bench.deliver("shop/shop", &late.headers, &late.body).await;
    }
    let live = bench.reaches(number, Phase::Live, Some(&commit)).await;
    assert_eq!(live.id, row.id, "it was open whenever somebody looked");
    assert_eq!(
        bench
            .comment_says(number, &format!("live** with `{}`", commit.short()))
            .await
            .0,
        comment
    );

    bench.close(number).await;
    let closed = next(&mut hooks, "closed").await;
    bench.deliver("shop/shop", &closed.headers, &closed.body).await;
    bench.reaches(number, Phase::Ended, None).await;
    for late in [&opened, &reopened, &pushed, &closed] {
        bench.deliver("shop/shop", &late.headers, &late.body).await;
    }
    sleep(QUIET).await;
    assert_eq!(
        bench.environments(number).await.len(),
        1,
        "an old delivery brought it back"
    );
    assert_eq!(bench.inventory().await, []);
}
