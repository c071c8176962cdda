//! A policy branch whose settings can not be used, and projects that the configuration does not name any more.

use crate::{
    bench::{Bench, compose},
    keeping::until,
};
use model::{Generation, Origin, Phase};
use reconciler::SpareFor;
use std::time::Duration;
use tokio::time::sleep;

const BROKEN: &str = "{ sleep_after: sometimes }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_policy_can_not_be_used_the_one_before_it_holds_and_people_are_told() {
    let mut bench = Bench::new().await;
    let one = bench.open("one").await;
    let row = bench.reaches(one, Phase::Live, None).await;
    bench.rule(BROKEN).await;
    bench.nudge();
    let body = bench
        .comment_says(one, "The policy branch's settings can not be used")
        .await;
    assert!(
        body.contains("must be a duration") && body.contains("live** with"),
        "{body}"
    );
    let two = bench.open("two").await;
    bench.reaches(two, Phase::Live, None).await;
    // Also after a restart.
    bench.kill();
    bench.start().await;
    let commit = bench.push("one", &compose("newer")).await;
    bench.reaches(one, Phase::Live, Some(&commit)).await;
    let generations = bench.store.generation_list(&row.id).await.unwrap();
    assert!(
        generations.iter().all(|generation| generation.failure.is_none()),
        "{generations:#?}"
    );
    bench.rule("{ baseline: none }").await;
    until("nobody is told any more", || async {
        bench.nudge();
        let comments = bench.forge.comments(one).unwrap();
        !comments[0].body.contains("can not be used")
    })
    .await;
    let row = bench.store.environment_get(&row.id).await.unwrap().unwrap();
    assert_eq!(
        row.newest,
        Some(Generation(2)),
        "what the policy says is as it was before"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_policy_that_can_be_used_nothing_is_made() {
    let mut bench = Bench::new().await;
    bench.kill();
    bench.rule(BROKEN).await;
    bench.start().await;
    let number = bench.open("feature").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.environments(number).await, []);
    bench.rule("{ baseline: none }").await;
    bench.reaches(number, Phase::Live, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_spare_of_a_project_that_is_taken_out_of_the_configuration_ends() {
    let mut bench = Bench::new().await;
    bench.kill();
    bench.settings.spares.per_project = 1;
    bench.settings.spares.wanted_for = SpareFor::AnyEngine;
    bench.start().await;
    let spare = async |project: &str| {
        let rows = bench.store.environment_list(None, false).await.unwrap();
        let found = rows.into_iter().find(|row| {
            row.origin == Origin::Spare && row.project.as_str() == project && row.live.is_some() && row.wanted
        });
        found.map(|row| row.id)
    };
    until("there is a spare", || async { spare("shop").await.is_some() }).await;
    let old = spare("shop").await.unwrap();
    bench.kill();
    bench.project = "other";
    bench.start().await;
    bench.stands(&old, Phase::Ended).await;
    let spare = async |project: &str| {
        let rows = bench.store.environment_list(None, false).await.unwrap();
        rows.iter()
            .any(|row| row.origin == Origin::Spare && row.project.as_str() == project && row.live.is_some())
    };
    until("the other project has one", || async { spare("other").await }).await;
}
