//! Heads that nobody who may push has pushed: approved at one commit, by somebody who may push.

use crate::{
    bench::{Bench, LOOKS, SETTINGS, branch, compose},
    keeping::until,
};
use forge::{
    Account, PullRequestNumber, StatusState,
    local::{FileChange, LocalForge, LocalHead, NewPullRequest},
};
use model::{CommitId, Phase};
use reconciler::Intent;
use std::time::Duration;
use tokio::time::sleep;

pub(crate) async fn from_a_fork(bench: &Bench, text: &str) -> CommitId {
    let files = [
        FileChange::write("compose.yaml", compose(text)),
        FileChange::write("maquette.yaml", SETTINGS),
    ];
    bench.forge.commit_create(None, &files, "From a fork").await.unwrap()
}

pub(crate) async fn open(bench: &Bench, commit: &CommitId) -> PullRequestNumber {
    let new = NewPullRequest {
        head: LocalHead::Fork(commit.clone()),
        ..NewPullRequest::new(branch("x"), branch("main"), "Fork")
    };
    bench.forge.open_pull_request(new).await.unwrap().number
}

pub(crate) async fn say(bench: &Bench, number: PullRequestNumber, account: Account, text: &str) {
    bench.forge.comment_add(number, account, text).await.unwrap();
}

/// Our comment, among those of others.
async fn told(bench: &Bench, number: PullRequestNumber, text: &str) -> String {
    let us = LocalForge::ours().id;
    let mut seen = Vec::new();
    for _ in 0..LOOKS {
        seen = bench.forge.comments(number).unwrap();
        let mut ours = seen.iter().filter(|comment| comment.account.id == us);
        if let Some(comment) = ours.find(|comment| comment.body.contains(text)) {
            return comment.body.clone();
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never said {text:?}: {seen:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_of_somebody_who_may_push_approves_the_commit_that_it_names() {
    let bench = Bench::new().await;
    let first = from_a_fork(&bench, "harmless").await;
    let number = open(&bench, &first).await;
    let row = bench.reaches(number, Phase::NeedsApproval, Some(&first)).await;
    let approval = format!("/preview approve {first}");
    let body = told(&bench, number, &approval).await;
    assert!(
        body.contains(&format!("maquette approve pr-{number} --commit {first}")),
        "{body}"
    );

    say(&bench, number, LocalForge::stranger(), &approval).await;
    say(
        &bench,
        number,
        LocalForge::developer(),
        &format!("> {approval}\nShould we?"),
    )
    .await;
    say(
        &bench,
        number,
        LocalForge::developer(),
        &format!("/preview approve {}", first.short()),
    )
    .await;
    told(&bench, number, "does not name the commit with all of its digits").await;
    assert_eq!(bench.phase(&row.id).await, Phase::NeedsApproval);
    assert_eq!(bench.inventory().await, []);

    say(
        &bench,
        number,
        LocalForge::developer(),
        &format!("{approval}\nLooks good."),
    )
    .await;
    let live = bench.reaches(number, Phase::Live, Some(&first)).await;
    assert_eq!(live.id, row.id);
    bench.status_says(&first, StatusState::Success, "live").await;
    let who = format!("{first} was approved: developer by a comment");
    until("it is noted who has approved it", || async {
        let events = bench.store.event_list(&row.id, 50).await.unwrap();
        events.iter().any(|event| event.text == who)
    })
    .await;

    // The approval was for that commit alone.
    let second = from_a_fork(&bench, "evil").await;
    bench.forge.push_fork(number, &second).await.unwrap();
    bench.reaches(number, Phase::LiveUnapproved, Some(&second)).await;
    let words = format!("{} is live, {} needs approval", first.short(), second.short());
    bench.status_says(&second, StatusState::Pending, &words).await;
    let body = told(
        &bench,
        number,
        &format!("`{}` is live, `{}` needs approval", first.short(), second.short()),
    )
    .await;
    assert!(body.contains(&format!("/preview approve {second}")), "{body}");
    say(&bench, number, LocalForge::developer(), &approval).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(bench.phase(&row.id).await, Phase::LiveUnapproved);
    let ran = bench.simulator.calls();
    assert!(
        !ran.iter().any(|call| call.detail.contains(second.as_str())),
        "{ran:#?}"
    );

    say(
        &bench,
        number,
        LocalForge::developer(),
        &format!("/preview approve {second}"),
    )
    .await;
    bench.reaches(number, Phase::Live, Some(&second)).await;
    told(&bench, number, "live** with").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_approves_the_newest_commit_and_no_other() {
    let bench = Bench::new().await;
    let first = from_a_fork(&bench, "harmless").await;
    let number = open(&bench, &first).await;
    let row = bench.reaches(number, Phase::NeedsApproval, Some(&first)).await;
    // Pushed between the reading and the approval.
    let second = from_a_fork(&bench, "evil").await;
    bench.forge.push_fork(number, &second).await.unwrap();
    let handle = bench.handle.clone().unwrap();
    let refused = handle.approve(&row.id, &first, "an operator").await;
    assert!(
        matches!(&refused, Err(Intent::Moved { newest, .. }) if *newest == second),
        "{refused:?}"
    );
    assert_eq!(bench.inventory().await, []);
    handle.approve(&row.id, &second, "an operator").await.unwrap();
    bench.reaches(number, Phase::Live, Some(&second)).await;
    bench.forge.close(number).await.unwrap();
    bench.reaches(number, Phase::Ended, None).await;
    assert!(handle.approve(&row.id, &second, "an operator").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_long_after_the_push_approves_it_as_well() {
    let bench = Bench::new().await;
    let commit = from_a_fork(&bench, "harmless").await;
    let number = open(&bench, &commit).await;
    bench.reaches(number, Phase::NeedsApproval, Some(&commit)).await;
    // By now the comments have been read for as long as they are without being asked for.
    sleep(Duration::from_secs(5)).await;
    let approval = format!("/preview approve {commit}");
    say(&bench, number, LocalForge::developer(), &approval).await;
    bench.reaches(number, Phase::Live, Some(&commit)).await;
}
