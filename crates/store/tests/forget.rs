//! What is forgotten goes as a whole; what somebody may still ask for stays.
#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use model::{Generation, LedgerEntry, Origin, Receipt, Timestamp};
use std::time::Duration;
use store::{EnvironmentPatch, Failure, PullRequestRow, PullRequestState, Store, Suspension};
use support::{commit, environment, generation, id};

fn failure(message: &str) -> Failure {
    Failure {
        step: "envelope".to_owned(),
        message: message.to_owned(),
        hint: None,
        log: Vec::new(),
    }
}

async fn ended(store: &Store, name: &str, number: u64) {
    let mut row = environment(name, Origin::PullRequest { number }, &format!("pr-{number}"));
    row.ended = Some(Timestamp(5));
    store.environment_create(&row).await.unwrap();
    store.generation_put(&generation(name, 1)).await.unwrap();
    store
        .step_began(&row.id, Generation(1), "envelope", Timestamp(1))
        .await
        .unwrap();
    store
        .attempt_record(
            &row.id,
            Generation(1),
            "envelope",
            Err(&failure("x")),
            Timestamp(1),
            None,
        )
        .await
        .unwrap();
    store
        .event_add(Some(&row.id), &row.project, Timestamp(1), "created", "it was made")
        .await
        .unwrap();
    let receipt = Receipt {
        environment: row.id.clone(),
        reason: "closed".to_owned(),
        began: Timestamp(1),
        completed: Timestamp(number),
        entries: Vec::<LedgerEntry>::new(),
    };
    store.receipt_put(&receipt).await.unwrap();
}

#[tokio::test]
async fn an_environment_goes_with_everything_but_its_receipt_and_only_after_its_end() {
    let store = Store::in_memory().await.unwrap();
    ended(&store, "eaaaaaaaaa", 1).await;
    let lives = environment("ebbbbbbbbb", Origin::PullRequest { number: 2 }, "pr-2");
    store.environment_create(&lives).await.unwrap();
    store.generation_put(&generation("ebbbbbbbbb", 1)).await.unwrap();
    store.environment_forget(&lives.id).await.unwrap();
    assert_eq!(store.generation_list(&lives.id).await.unwrap().len(), 1);
    let gone = id("eaaaaaaaaa");
    store.environment_forget(&gone).await.unwrap();
    assert!(store.environment_get(&gone).await.unwrap().is_none());
    assert!(store.generation_list(&gone).await.unwrap().is_empty());
    assert!(store.step_list(&gone, Generation(1)).await.unwrap().is_empty());
    assert!(store.attempt_list(&gone, Generation(1)).await.unwrap().is_empty());
    assert!(store.event_list(&gone, 9).await.unwrap().is_empty());
    assert_eq!(store.receipt_get(&gone).await.unwrap().unwrap().reason, "closed");
}

#[tokio::test]
async fn generations_go_with_their_steps() {
    let store = Store::in_memory().await.unwrap();
    let row = environment("eaaaaaaaaa", Origin::PullRequest { number: 1 }, "pr-1");
    store.environment_create(&row).await.unwrap();
    for n in 1..=3 {
        store.generation_put(&generation("eaaaaaaaaa", n)).await.unwrap();
        store
            .step_began(&row.id, Generation(n), "envelope", Timestamp(n))
            .await
            .unwrap();
    }
    store
        .generation_forget(&row.id, &[Generation(1), Generation(2)])
        .await
        .unwrap();
    let left = store.generation_list(&row.id).await.unwrap();
    assert_eq!(
        left.iter().map(|row| row.generation).collect::<Vec<_>>(),
        [Generation(3)]
    );
    assert!(store.step_list(&row.id, Generation(2)).await.unwrap().is_empty());
    assert_eq!(store.step_list(&row.id, Generation(3)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn receipts_are_bounded_by_age_and_by_count() {
    let store = Store::in_memory().await.unwrap();
    for (name, number) in [
        ("eaaaaaaaaa", 10),
        ("ebbbbbbbbb", 20),
        ("eccccccccc", 30),
        ("eddddddddd", 40),
    ] {
        ended(&store, name, number).await;
    }
    assert_eq!(store.receipt_prune(Timestamp(15), 10).await.unwrap(), 1);
    assert_eq!(store.receipt_prune(Timestamp(15), 2).await.unwrap(), 1);
    assert!(store.receipt_get(&id("ebbbbbbbbb")).await.unwrap().is_none());
    for left in ["eccccccccc", "eddddddddd"] {
        assert!(store.receipt_get(&id(left)).await.unwrap().is_some(), "{left}");
    }
}

#[tokio::test]
async fn deliveries_are_bounded_by_count() {
    let store = Store::in_memory().await.unwrap();
    let (project, source) = ("shop".parse().unwrap(), "shop".parse().unwrap());
    for n in 0..10 {
        let name = format!("d{n}");
        store
            .delivery_record(&project, &source, &name, "push", Timestamp(n))
            .await
            .unwrap();
    }
    assert_eq!(store.delivery_prune(Timestamp(0), 4).await.unwrap(), 5);
    let known = |name| store.delivery_record(&project, &source, name, "push", Timestamp(9));
    assert!(!known("d9").await.unwrap() && !known("d5").await.unwrap());
    assert!(known("d4").await.unwrap());
}

#[tokio::test]
async fn a_closed_pull_request_is_known_as_long_as_its_environment() {
    let store = Store::in_memory().await.unwrap();
    ended(&store, "eaaaaaaaaa", 1).await;
    for (number, state) in [
        (1, PullRequestState::Closed),
        (2, PullRequestState::Merged),
        (3, PullRequestState::Open),
    ] {
        let row = PullRequestRow {
            project: "shop".parse().unwrap(),
            source: "shop".parse().unwrap(),
            number,
            title: "A change".to_owned(),
            author: "ada".to_owned(),
            branch: "topic".to_owned(),
            head: commit('a'),
            base: "main".to_owned(),
            state,
            fork: false,
            trusted: true,
            draft: false,
            labels: Vec::new(),
            web_url: None,
            observed: Timestamp(7),
            closed_reads: 0,
        };
        store.pull_request_put(&row).await.unwrap();
    }
    assert_eq!(store.pull_request_prune(Timestamp(7), 10).await.unwrap(), 0);
    assert_eq!(store.pull_request_prune(Timestamp(8), 10).await.unwrap(), 1);
    let left = store.pull_request_list(&"shop".parse().unwrap(), false).await.unwrap();
    assert_eq!(left.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 3]);
    store.environment_forget(&id("eaaaaaaaaa")).await.unwrap();
    assert_eq!(store.pull_request_prune(Timestamp(8), 10).await.unwrap(), 1);
}

#[tokio::test]
async fn waiting_for_room_is_not_counted_as_trying() {
    let store = Store::in_memory().await.unwrap();
    let row = environment("eaaaaaaaaa", Origin::PullRequest { number: 1 }, "pr-1");
    store.environment_create(&row).await.unwrap();
    let n = Generation(1);
    for at in 1..=9 {
        let (full, next) = (failure("no room"), Timestamp(at + 1));
        store
            .attempt_wait(&row.id, n, "envelope", &full, Timestamp(at), next)
            .await
            .unwrap();
    }
    let waits = store.attempt_list(&row.id, n).await.unwrap()["envelope"].clone();
    assert!(
        waits.waits && waits.count == 0 && waits.next == Some(Timestamp(10)),
        "{waits:?}"
    );
    let other = failure("something else");
    store
        .attempt_record(&row.id, n, "envelope", Err(&other), Timestamp(11), None)
        .await
        .unwrap();
    let tried = store.attempt_list(&row.id, n).await.unwrap()["envelope"].clone();
    assert!(!tried.waits && tried.count == 1, "{tried:?}");
}

#[tokio::test]
async fn only_time_in_which_somebody_looked_counts_as_lost() {
    let store = Store::in_memory().await.unwrap();
    let (project, source) = ("shop".parse().unwrap(), "shop".parse().unwrap());
    let longest = Duration::from_millis(100);
    let note = |at| store.lost_access_note(&project, &source, "no answer", Timestamp(at), longest);
    assert_eq!(note(1_000).await.unwrap().seen, Duration::ZERO);
    assert_eq!(note(1_060).await.unwrap().seen, Duration::from_millis(60));
    // It was switched off for a long time, and the clock was set back.
    assert_eq!(note(900_000).await.unwrap().seen, Duration::from_millis(160));
    let row = note(800_000).await.unwrap();
    assert_eq!((row.seen, row.since), (Duration::from_millis(160), Timestamp(1_000)));
    assert_eq!(store.lost_access_clear(&project, &source).await.unwrap(), Some(row));
    assert_eq!(store.lost_access_clear(&project, &source).await.unwrap(), None);
}

#[tokio::test]
async fn a_suspension_is_kept_and_ends() {
    let store = Store::in_memory().await.unwrap();
    let row = environment("eaaaaaaaaa", Origin::PullRequest { number: 1 }, "pr-1");
    store.environment_create(&row).await.unwrap();
    let mut suspension = Suspension {
        since: Timestamp(3),
        reason: "no access".to_owned(),
        until: None,
    };
    let patch = |suspension: &Suspension| EnvironmentPatch {
        suspended: Some(Some(suspension.clone())),
        ..EnvironmentPatch::default()
    };
    store.environment_update(&row.id, &patch(&suspension)).await.unwrap();
    let read = store.environment_get(&row.id).await.unwrap().unwrap();
    assert_eq!(read.suspension(), Some(&suspension));
    assert_eq!(read.power_now(), model::Power::Stopped);
    suspension.until = Some(Timestamp(9));
    store.environment_update(&row.id, &patch(&suspension)).await.unwrap();
    let read = store.environment_get(&row.id).await.unwrap().unwrap();
    assert_eq!((read.suspension(), read.power_now()), (None, model::Power::Running));
}
