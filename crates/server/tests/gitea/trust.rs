//! Heads that nobody who may push has pushed: they are told about, and nothing of them runs.

use crate::{
    bench::{Bench, Setting, commit_id, compose},
    between::Mode,
    name,
};
use model::{CommitId, Phase};
use reqwest::Method;
use serde_json::json;
use test_support::gitea::{Client, NewRepository, WorkTree};

const TOLD: &str = "needs approval by somebody who may push";

/// Somebody who may read, and no more.
async fn reader(bench: &Bench) -> Client {
    let eve = bench.admin.make_user(&name("eve")).await.unwrap();
    bench
        .ada
        .allow(&bench.repository.path, eve.user(), "read")
        .await
        .unwrap();
    eve
}

/// A commit on a branch of a fork, with the author of the real ones.
fn push_to(fork: &NewRepository, eve: &Client, branch: &str, text: &str) -> CommitId {
    let tree = WorkTree::clone(&eve.git_url(&fork.path)).unwrap();
    tree.git(&["checkout", "--quiet", "-B", branch]).unwrap();
    let commit = tree.commit("compose.yaml", &compose(text), "From a fork").unwrap();
    tree.git(&["push", "--quiet", "--force", "origin", branch]).unwrap();
    commit_id(&commit)
}

async fn assert_nothing_runs(bench: &Bench, number: u64, commit: &CommitId) {
    let row = bench.reaches(number, Phase::NeedsApproval, Some(commit)).await;
    bench.status_is(commit, "pending", TOLD).await;
    bench
        .comment_says(number, &format!("needs approval.** `{}`", commit.short()))
        .await;
    assert_eq!(bench.calls_for(&row.id), [], "the runtime was asked for something");
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_from_a_fork_needs_approval_and_nothing_runs() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let eve = reader(&bench).await;
    let fork = eve.fork(&bench.repository.path).await.unwrap();
    let first = push_to(&fork, &eve, "topic", "evil");
    let head = format!("{}:topic", eve.user());
    let number = eve
        .open_pull_request(&bench.repository.path, &head, "main", "From a fork")
        .await;
    let number = number.unwrap();
    assert_nothing_runs(&bench, number, &first).await;
    let pull = bench.pull_request(number).await.unwrap();
    assert!(pull.fork && !pull.trusted, "{pull:?}");

    let second = push_to(&fork, &eve, "topic", "worse");
    assert_nothing_runs(&bench, number, &second).await;
    bench.close(number).await;
    bench.reaches(number, Phase::Ended, None).await;
    bench.reopen(number).await;
    assert_nothing_runs(&bench, number, &second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_of_the_same_name_in_a_fork_changes_nothing_for_ours() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let ours = bench.push("topic", &compose("ours"));
    let number = bench.open("topic", "Ours").await;
    let row = bench.reaches(number, Phase::Live, Some(&ours)).await;
    let eve = reader(&bench).await;
    let fork = eve.fork(&bench.repository.path).await.unwrap();
    let theirs = push_to(&fork, &eve, "topic", "evil");
    let head = format!("{}:topic", eve.user());
    let other = eve
        .open_pull_request(&bench.repository.path, &head, "main", "Theirs")
        .await
        .unwrap();
    let doubted = bench.reaches(other, Phase::NeedsApproval, Some(&theirs)).await;
    bench.status_is(&theirs, "pending", TOLD).await;
    assert_eq!(bench.reaches(number, Phase::Live, Some(&ours)).await.id, row.id);
    let left = bench.inventory().await;
    assert!(left.iter().all(|resource| resource.environment == row.id), "{left:#?}");
    let mut asked = bench.simulator.calls();
    asked.retain(|call| call.environment.as_ref() == Some(&doubted.id) || call.detail.contains(theirs.as_str()));
    assert_eq!(asked, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_a_reader_pushed_without_a_branch_needs_approval() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let eve = reader(&bench).await;
    let theirs = WorkTree::clone(&eve.git_url(&bench.repository.path)).unwrap();
    let commit = theirs.commit("compose.yaml", &compose("evil"), "x").unwrap();
    theirs
        .git(&["push", "--quiet", "origin", "HEAD:refs/for/main", "-o", "topic=evil"])
        .unwrap();
    assert_nothing_runs(&bench, 1, &commit_id(&commit)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_push_is_asked_at_that_moment() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let path = &bench.repository.path;
    bench
        .tree
        .git(&["remote", "set-url", "origin", &bench.bob.git_url(path)])
        .unwrap();
    let theirs = bench.push("topic", &compose("by bob"));
    bench.ada.allow(path, bench.bob.user(), "read").await.unwrap();
    let number = bench.open("topic", "Of somebody who has left").await;
    assert_nothing_runs(&bench, number, &theirs).await;
    bench
        .tree
        .git(&["remote", "set-url", "origin", &bench.ada.git_url(path)])
        .unwrap();
    let ours = bench.push("topic", &compose("by ada"));
    bench.reaches(number, Phase::Live, Some(&ours)).await;
    bench.status_is(&ours, "success", "live").await;
    bench
        .comment_says(number, &format!("live** with `{}`", ours.short()))
        .await;
}

/// Forges note who pushed after they have told of the push, and tell nobody of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_pushed_is_found_out_however_late_the_forge_notes_it() {
    let (bench, between) = Bench::between(Setting::WEBHOOKS).await;
    between.set(Mode::NoRecord);
    let commit = bench.push("topic", &compose("by ada"));
    let number = bench.open("topic", "Whose is it?").await;
    let row = bench.reaches(number, Phase::NeedsApproval, Some(&commit)).await;
    bench.comment_says(number, "needs approval.**").await;
    assert_eq!(bench.calls_for(&row.id), [], "the runtime was asked for something");
    between.set(Mode::Honest);
    assert_eq!(bench.reaches(number, Phase::Live, Some(&commit)).await.id, row.id);
    bench.status_is(&commit, "success", "live").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_is_for_one_commit_of_a_fork() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let eve = reader(&bench).await;
    let fork = eve.fork(&bench.repository.path).await.unwrap();
    let first = push_to(&fork, &eve, "topic", "harmless");
    let head = format!("{}:topic", eve.user());
    let number = eve
        .open_pull_request(&bench.repository.path, &head, "main", "From a fork")
        .await
        .unwrap();
    let row = bench.reaches(number, Phase::NeedsApproval, Some(&first)).await;
    let approve = json!({ "commit": first.as_str() });
    bench.ask(&format!("environments/{}/approve", row.id), approve).await;
    bench.reaches(number, Phase::Live, Some(&first)).await;
    bench.status_is(&first, "success", "live").await;

    let second = push_to(&fork, &eve, "topic", "evil");
    // What was approved goes on, and is not taken for what was not.
    let words = format!("{} is live, {} needs approval", first.short(), second.short());
    let told = bench.status_is(&second, "pending", &words).await;
    assert_eq!(told, [words], "it was never told to be live");
    let words = format!("`{}` is live, `{}` needs approval", first.short(), second.short());
    bench.comment_says(number, &words).await;
    bench.reaches(number, Phase::LiveUnapproved, Some(&second)).await;
    let mut asked = bench.simulator.calls();
    asked.retain(|call| call.detail.contains(second.as_str()));
    assert_eq!(asked, []);
    let generations = bench.generations(&row.id).await;
    assert!(
        generations
            .iter()
            .all(|row| row.spec.sources.values().all(|commit| *commit == first)),
        "{generations:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_approves_the_commit_that_it_names_if_its_author_may_push() {
    let bench = Bench::new(Setting::WEBHOOKS).await;
    let path = bench.repository.path.clone();
    let eve = reader(&bench).await;
    let fork = eve.fork(&path).await.unwrap();
    let first = push_to(&fork, &eve, "topic", "harmless");
    let head = format!("{}:topic", eve.user());
    let number = eve
        .open_pull_request(&path, &head, "main", "From a fork")
        .await
        .unwrap();
    assert_nothing_runs(&bench, number, &first).await;
    let approval = format!("/preview approve {first}");
    let (_, body) = bench.comment_says(number, &approval).await;
    assert!(
        body.contains(&format!("maquette approve pr-{number} --commit {first}")),
        "{body}"
    );

    // She may not push; who quotes the line approves nothing; nor does somebody who names a part of the commit.
    eve.comment(&path, number, &approval).await.unwrap();
    let quoted = format!("> {approval}\n\nI did not read it yet.");
    bench.bob.comment(&path, number, &quoted).await.unwrap();
    let short = format!("/preview approve {}", first.short());
    bench.bob.comment(&path, number, &short).await.unwrap();
    bench
        .comment_says(number, "does not name the commit with all of its digits")
        .await;
    // Somebody with the right to edit comments makes one of bob's say so.
    let harmless = bench.bob.comment(&path, number, "Thanks!").await.unwrap();
    // Gitea tells times in seconds; and after three of them in which nothing changed a poll reads no comments any more.
    tokio::time::sleep(std::time::Duration::from_millis(3_200)).await;
    bench.ask("projects/shop/nudge", json!({})).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let edit = format!("repos/{path}/issues/comments/{harmless}");
    bench
        .ada
        .call(Method::PATCH, &edit, json!({ "body": approval }))
        .await
        .unwrap();
    bench.comment_says(number, "the comment was edited").await;
    assert_nothing_runs(&bench, number, &first).await;

    bench.bob.comment(&path, number, &approval).await.unwrap();
    bench.reaches(number, Phase::Live, Some(&first)).await;
    bench.status_is(&first, "success", "live").await;

    // A push in between: the approval is for what was read.
    let second = push_to(&fork, &eve, "topic", "evil");
    bench.bob.comment(&path, number, &approval).await.unwrap();
    let row = bench.reaches(number, Phase::LiveUnapproved, Some(&second)).await;
    let words = format!("{} is live, {} needs approval", first.short(), second.short());
    bench.status_is(&second, "pending", &words).await;
    // Who may not push any more approves nothing, whatever they wrote before.
    bench.ada.allow(&path, bench.bob.user(), "read").await.unwrap();
    let late = format!("/preview approve {second}");
    bench.bob.comment(&path, number, &late).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(
        bench.reaches(number, Phase::LiveUnapproved, Some(&second)).await.id,
        row.id
    );
    let mut asked = bench.simulator.calls();
    asked.retain(|call| call.detail.contains(second.as_str()));
    assert_eq!(asked, []);
    bench.ada.comment(&path, number, &late).await.unwrap();
    bench.reaches(number, Phase::Live, Some(&second)).await;
    bench
        .comment_says(number, &format!("live** with `{}`", second.short()))
        .await;
}
