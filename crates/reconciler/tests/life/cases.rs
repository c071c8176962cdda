//! What happens to pull requests, one case each.

use crate::bench::{Bench, LOOKS, SETTINGS, branch, compose};
use forge::local::{FileChange, LocalHead, NewPullRequest};
use model::{CommitId, EnvironmentId, Generation, Phase};
use reconciler::Scope;
use runtime::Runtime;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_push_close() {
    let bench = Bench::new().await;
    let number = bench.open("feature").await;
    let first = bench.reaches(number, Phase::Live, None).await;
    let body = bench.comment_says(number, "live** with").await;
    assert!(body.contains(&format!("http://pr-{number}.preview.test")), "{body}");
    let commit = bench.push("feature", &compose("three")).await;
    let second = bench.reaches(number, Phase::Live, Some(&commit)).await;
    assert_eq!(first.id, second.id, "a push makes no new environment");
    bench.comment_says(number, commit.short()).await;
    bench.forge.close(number).await.unwrap();
    bench.reaches(number, Phase::Ended, None).await;
    bench.comment_says(number, "verified gone").await;
    let receipt = bench.store.receipt_get(&first.id).await.unwrap().expect("a receipt");
    assert!(
        !receipt.entries.is_empty() && receipt.entries.iter().all(|entry| entry.gone.is_some()),
        "{receipt:#?}"
    );
    assert_eq!(bench.inventory().await, []);
}

/// The newest generation that was made for this commit, and not to bring an older one back.
async fn newest_try(bench: &Bench, id: &EnvironmentId, commit: &CommitId) -> Option<Generation> {
    let all = bench.store.generation_list(id).await.unwrap();
    let tries = all
        .iter()
        .filter(|row| row.restores.is_none() && row.spec.sources.values().any(|at| at == commit));
    tries.map(|row| row.generation).max()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_update_brings_the_older_one_back() {
    let bench = Bench::new().await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    let broken = bench
        .push(
            "feature",
            &compose("x")
                .replace("\"serve\", \"", "\"exit\", \"no such table\", \"3")
                .replace("\"3HTTP/1.1 200 OK\\r\\n\\r\\nx\"", "\"3\""),
        )
        .await;
    bench.reaches(number, Phase::LiveOlder, Some(&broken)).await;
    let body = bench.comment_says(number, "failed").await;
    assert!(body.contains("no such table"), "the log is missing: {body}");
    // Whoever asks for it once more gets one more try, each time.
    let handle = bench.handle.clone().unwrap();
    for _ in 0..2 {
        let before = newest_try(&bench, &row.id, &broken).await;
        handle.deploy(&row.id, &broken).await.unwrap();
        let since = Instant::now();
        while newest_try(&bench, &row.id, &broken).await <= before {
            assert!(since.elapsed() < Duration::from_secs(60), "nothing is tried again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bench.reaches(number, Phase::LiveOlder, Some(&broken)).await;
    }
    let good = bench.push("feature", &compose("four")).await;
    let again = bench.reaches(number, Phase::Live, Some(&good)).await;
    assert_eq!(row.id, again.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blueprint_that_can_not_be_used_is_told_with_its_place() {
    let bench = Bench::new().await;
    let broken = compose("x").replace("    command:", "    comand:");
    bench.push("feature", &broken).await;
    let new = NewPullRequest::new(branch("feature"), branch("main"), "Broken");
    let number = bench.forge.open_pull_request(new).await.unwrap().number;
    bench.reaches(number, Phase::Failed, None).await;
    let body = bench.comment_says(number, "compose.yaml:4").await;
    assert!(body.contains("command"), "the near miss is missing: {body}");
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_fork_runs() {
    let bench = Bench::new().await;
    let files = [
        FileChange::write("compose.yaml", compose("evil")),
        FileChange::write("maquette.yaml", SETTINGS),
    ];
    let commit = bench.forge.commit_create(None, &files, "From a fork").await.unwrap();
    let new = NewPullRequest {
        head: LocalHead::Fork(commit),
        ..NewPullRequest::new(branch("x"), branch("main"), "Fork")
    };
    let number = bench.forge.open_pull_request(new).await.unwrap().number;
    bench.reaches(number, Phase::NeedsApproval, None).await;
    bench.comment_says(number, "needs approval").await;
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_and_a_reopened_one() {
    let bench = Bench::new().await;
    let (a, b) = (bench.open("a").await, bench.open("b").await);
    let first = bench.reaches(a, Phase::Live, None).await;
    let other = bench.reaches(b, Phase::Live, None).await;
    assert_ne!(first.id, other.id);
    bench.forge.close(a).await.unwrap();
    bench.forge.reopen(a).await.unwrap();
    bench.forge.close(a).await.unwrap();
    bench.reaches(a, Phase::Ended, None).await;
    bench.forge.reopen(a).await.unwrap();
    let anew = bench.reaches(a, Phase::Live, None).await;
    bench.assert_one(a).await;
    assert_ne!(first.id, anew.id);
    assert_eq!(bench.phase(&other.id).await, Phase::Live);
    bench.comment_says(a, "live** with").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_one_stays_away_until_the_next_push() {
    let bench = Bench::new().await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    let handle = bench.handle.clone().unwrap();
    handle.delete(&row.id, "deleted by a test", false).await.unwrap();
    bench.reaches(number, Phase::Ended, None).await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert_eq!(bench.environments(number).await.len(), 1, "it came back by itself");
    let commit = bench.push("feature", &compose("again")).await;
    let anew = bench.reaches(number, Phase::Live, Some(&commit)).await;
    handle.delete(&anew.id, "made again by a test", true).await.unwrap();
    loop {
        let row = bench.reaches(number, Phase::Live, Some(&commit)).await;
        if row.id != anew.id {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    bench.assert_one(number).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_environment_follows_its_branch_and_ends_with_it() {
    let bench = Bench::new().await;
    bench.push("topic", &compose("topic")).await;
    let handle = bench.handle.clone().unwrap();
    let row = handle
        .create_branch(&"shop".parse().unwrap(), &branch("topic"), "a test wants it")
        .await
        .unwrap();
    let live = |commit: Option<model::CommitId>| {
        let (bench, id) = (&bench, row.id.clone());
        async move {
            for _ in 0..LOOKS {
                let now = bench.store.environment_get(&id).await.unwrap().unwrap();
                let at = commit
                    .as_ref()
                    .is_none_or(|commit| now.head.values().any(|head| head == commit));
                if at && bench.phase(&id).await == Phase::Live {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            panic!("never live");
        }
    };
    live(None).await;
    let commit = bench.push("topic", &compose("newer")).await;
    live(Some(commit)).await;
    bench.forge.delete_branch(&branch("topic")).await.unwrap();
    for _ in 0..LOOKS {
        if bench.phase(&row.id).await == Phase::Ended {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(bench.phase(&row.id).await, Phase::Ended);
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_service_comes_from_another_branch_and_follows_it() {
    let bench = Bench::new().await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    bench.push("other", &compose("from other")).await;
    let handle = bench.handle.clone().unwrap();
    let web = "web".parse().unwrap();
    handle.update_service(&row.id, &web, &branch("other")).await.unwrap();
    let serves = |text: &'static str| {
        let (bench, id) = (&bench, row.id.clone());
        async move {
            for _ in 0..LOOKS {
                let generations = bench.store.generation_list(&id).await.unwrap();
                let last = generations.last().unwrap();
                let command = &last.spec.services().unwrap().services[&"web".parse().unwrap()]
                    .workload
                    .command;
                if last.outcome == Some(store::Outcome::Live) && format!("{command:?}").contains(text) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            panic!("never {text}");
        }
    };
    serves("from other").await;
    let commit = bench.push("feature", &compose("pushed")).await;
    bench.reaches(number, Phase::Live, Some(&commit)).await;
    serves("from other").await;
    bench.push("other", &compose("newer other")).await;
    serves("newer other").await;
    assert!(handle.update_service(&row.id, &web, &branch("nowhere")).await.is_err());
    assert!(
        handle
            .update_service(&row.id, &"wbe".parse().unwrap(), &branch("other"))
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_left_out_of_one_environment_and_taken_in_again() {
    let bench = Bench::new().await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    let handle = bench.handle.clone().unwrap();
    let out = |names: &[&str]| Scope {
        without: names.iter().map(|name| name.parse().unwrap()).collect(),
        ..Scope::default()
    };
    let runs = async |expected: &[&str]| {
        let mut there = Vec::new();
        for _ in 0..LOOKS {
            let observed = bench.simulator.observe(&row.id).await.unwrap();
            let services = observed.map(|o| o.services.into_keys().map(|name| name.to_string()));
            there = services.into_iter().flatten().collect();
            if there == expected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{there:?} instead of {expected:?}");
    };
    runs(&["cache", "web"]).await;
    handle.update_scope(&row.id, &out(&["cache"])).await.unwrap();
    runs(&["web"]).await;
    bench.reaches(number, Phase::Live, None).await;
    bench.comment_says(number, "Left out: cache").await;
    let commit = bench.push("feature", &compose("pushed")).await;
    bench.reaches(number, Phase::Live, Some(&commit)).await;
    runs(&["web"]).await;
    let back = Scope {
        with: out(&["cache"]).without,
        ..Scope::default()
    };
    handle.update_scope(&row.id, &back).await.unwrap();
    runs(&["cache", "web"]).await;

    let refused = handle.update_scope(&row.id, &out(&["cahce"])).await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no service cahce");
    let refused = handle.update_scope(&row.id, &out(&["cache", "web"])).await.unwrap_err();
    assert_eq!(refused.to_string(), "no service would be left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sweep_lets_go_of_is_never_missed() {
    let mut bench = Bench::new().await;
    for round in 0..4 {
        // The sweep at the start knows nothing yet of what the forge has.
        bench.kill();
        bench.start().await;
        let number = bench.open(&format!("feature-{round}")).await;
        bench.reaches(number, Phase::Live, None).await;
        bench.forge.close(number).await.unwrap();
        bench.reaches(number, Phase::Ended, None).await;
    }
}
