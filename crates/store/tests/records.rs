//! Pull requests, deliveries, events, the ledger, announcements, access and goldens.

mod support;

use model::{Digest, LedgerEntry, Origin, Receipt, Resource, SnapshotId, Timestamp};
use store::{
    AnnouncementRow, BindingRow, EVENTS_KEPT, GoldenRow, GoldenState, LinkRow, PullRequestRow, PullRequestState,
    SecretHash, SessionRow, Store, StoreError,
};
use support::{commit, environment, id};

fn resource(name: &str) -> Resource {
    Resource {
        environment: id("eaaaaaaaaa"),
        kind: "cgroup".to_owned(),
        name: name.to_owned(),
    }
}

#[tokio::test]
async fn pull_requests_are_replaced_by_what_was_observed_last() {
    let store = Store::in_memory().await.unwrap();
    let project = "shop".parse().unwrap();
    let mut row = PullRequestRow {
        project,
        source: "shop".parse().unwrap(),
        number: 12,
        title: "'); DROP TABLE pull_request; --".to_owned(),
        author: "ada".to_owned(),
        branch: "fix\u{202e}".to_owned(),
        head: commit('a'),
        base: "main".to_owned(),
        state: PullRequestState::Open,
        fork: true,
        trusted: false,
        draft: true,
        labels: vec!["a,b".to_owned(), "\"".to_owned()],
        web_url: None,
        observed: Timestamp(5),
        closed_reads: 0,
    };
    store.pull_request_put(&row).await.unwrap();
    assert_eq!(
        store.pull_request_list(&row.project, true).await.unwrap(),
        [row.clone()]
    );
    row.state = PullRequestState::Merged;
    row.closed_reads = 2;
    store.pull_request_put(&row).await.unwrap();
    assert_eq!(
        store.pull_request_get(&row.project, &row.source, 12).await.unwrap(),
        Some(row.clone())
    );
    assert_eq!(store.pull_request_list(&row.project, true).await.unwrap(), []);
    assert_eq!(store.pull_request_list(&row.project, false).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_repeated_delivery_is_known_until_it_is_forgotten() {
    let store = Store::in_memory().await.unwrap();
    let (project, source) = ("shop".parse().unwrap(), "shop".parse().unwrap());
    assert!(
        store
            .delivery_record(&project, &source, "d1", "pull_request", Timestamp(10))
            .await
            .unwrap()
    );
    assert!(
        !store
            .delivery_record(&project, &source, "d1", "pull_request", Timestamp(11))
            .await
            .unwrap()
    );
    assert!(
        store
            .delivery_record(&project, &"other".parse().unwrap(), "d1", "push", Timestamp(12))
            .await
            .unwrap()
    );
    store.delivery_prune(Timestamp(11), 10).await.unwrap();
    assert!(
        store
            .delivery_record(&project, &source, "d1", "pull_request", Timestamp(13))
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn the_history_is_bounded_in_length_and_count() {
    let store = Store::in_memory().await.unwrap();
    let (project, env) = ("shop".parse().unwrap(), id("eaaaaaaaaa"));
    for n in 0..u64::from(EVENTS_KEPT) + 20 {
        store
            .event_add(Some(&env), &project, Timestamp(n), "note", &"ä".repeat(5_000))
            .await
            .unwrap();
    }
    store
        .event_add(None, &project, Timestamp(0), "project", "one of the project")
        .await
        .unwrap();
    let events = store.event_list(&env, 10_000).await.unwrap();
    assert_eq!(events.len(), EVENTS_KEPT as usize);
    assert_eq!(events[0].at, Timestamp(u64::from(EVENTS_KEPT) + 19));
    assert_eq!(events[0].text.len(), 4096);
    assert_eq!(store.event_list(&env, 3).await.unwrap().len(), 3);
    assert_eq!(
        store.event_list_project(&project, 1).await.unwrap()[0].text,
        "one of the project"
    );
}

#[tokio::test]
async fn a_ledger_entry_is_opened_closed_and_opened_anew() {
    let store = Store::in_memory().await.unwrap();
    let env = id("eaaaaaaaaa");
    let entry = |intended, gone: Option<u64>| {
        vec![LedgerEntry {
            resource: resource("a"),
            intended: Timestamp(intended),
            gone: gone.map(Timestamp),
        }]
    };
    store.ledger_intend(&[resource("a")], Timestamp(1)).await.unwrap();
    store.ledger_intend(&[resource("a")], Timestamp(2)).await.unwrap();
    assert_eq!(store.ledger_list(&env).await.unwrap(), entry(1, None));
    store
        .ledger_gone(&[resource("a"), resource("never-made")], Timestamp(3))
        .await
        .unwrap();
    store.ledger_gone(&[resource("a")], Timestamp(4)).await.unwrap();
    assert_eq!(store.ledger_list(&env).await.unwrap(), entry(1, Some(3)));
    store.ledger_intend(&[resource("a")], Timestamp(5)).await.unwrap();
    assert_eq!(store.ledger_list(&env).await.unwrap(), entry(5, None));
}

#[tokio::test]
async fn receipts_are_kept_also_for_what_the_store_does_not_know() {
    let store = Store::in_memory().await.unwrap();
    let known = environment("ebbbbbbbbb", Origin::PullRequest { number: 1 }, "pr-1");
    store.environment_create(&known).await.unwrap();
    for env in ["eaaaaaaaaa", "ebbbbbbbbb"] {
        let receipt = Receipt {
            environment: id(env),
            reason: "closed".to_owned(),
            began: Timestamp(1),
            completed: Timestamp(2),
            entries: vec![],
        };
        store.receipt_put(&receipt).await.unwrap();
        assert_eq!(store.receipt_get(&receipt.environment).await.unwrap(), Some(receipt));
    }
}

#[tokio::test]
async fn an_announcement_is_remembered() {
    let store = Store::in_memory().await.unwrap();
    let row = AnnouncementRow {
        project: "shop".parse().unwrap(),
        source: "shop".parse().unwrap(),
        number: 3,
        comment_id: Some("77".to_owned()),
        comment_digest: Some(Digest::of(b"text")),
        status_commit: Some(commit('a')),
        status_digest: None,
    };
    assert_eq!(
        store.announcement_get(&row.project, &row.source, 3).await.unwrap(),
        None
    );
    store.announcement_put(&row).await.unwrap();
    assert_eq!(
        store.announcement_get(&row.project, &row.source, 3).await.unwrap(),
        Some(row)
    );
}

#[tokio::test]
async fn a_token_is_found_by_its_hash_until_it_is_revoked() {
    let store = Store::in_memory().await.unwrap();
    let hash = SecretHash([7; 32]);
    let id = store
        .token_create("ci", "operator", &hash, Timestamp(1), Some(Timestamp(9)))
        .await
        .unwrap();
    let again = store.token_create("ci", "operator", &hash, Timestamp(1), None).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })));
    let found = store.token_find(&hash).await.unwrap().unwrap();
    assert_eq!(
        (found.id, found.role.as_str(), found.expires),
        (id, "operator", Some(Timestamp(9)))
    );
    assert_eq!(store.token_find(&SecretHash([8; 32])).await.unwrap(), None);
    assert_eq!(store.token_list().await.unwrap().len(), 1);
    store.token_revoke(id).await.unwrap();
    assert_eq!(store.token_find(&hash).await.unwrap(), None);
}

#[tokio::test]
async fn a_link_works_as_often_and_as_long_as_it_may() {
    let store = Store::in_memory().await.unwrap();
    let hash = SecretHash([1; 32]);
    let row = LinkRow {
        hash,
        subject: "guest:demo".to_owned(),
        scope: Some(id("eaaaaaaaaa")),
        expires: Timestamp(100),
        uses_left: 2,
    };
    store.link_create(&row).await.unwrap();
    assert_eq!(
        store.link_use(&hash, Timestamp(100)).await.unwrap(),
        None,
        "it has expired"
    );
    assert_eq!(
        store.link_use(&hash, Timestamp(99)).await.unwrap().unwrap().uses_left,
        1
    );
    assert_eq!(
        store.link_use(&hash, Timestamp(99)).await.unwrap().unwrap().scope,
        Some(id("eaaaaaaaaa"))
    );
    assert_eq!(
        store.link_use(&hash, Timestamp(99)).await.unwrap(),
        None,
        "it is used up"
    );
}

#[tokio::test]
async fn a_session_ends_by_time_and_on_request() {
    let store = Store::in_memory().await.unwrap();
    let session = |byte: u8| SessionRow {
        hash: SecretHash([byte; 32]),
        subject: "ada".to_owned(),
        scope: None,
        host: "pr-1.localhost".to_owned(),
        created: Timestamp(1),
        expires: Timestamp(10),
    };
    for byte in [1, 2] {
        store.session_create(&session(byte)).await.unwrap();
    }
    assert_eq!(
        store.session_find(&SecretHash([1; 32]), Timestamp(9)).await.unwrap(),
        Some(session(1))
    );
    assert_eq!(
        store.session_find(&SecretHash([1; 32]), Timestamp(10)).await.unwrap(),
        None
    );
    store.session_revoke(&SecretHash([1; 32])).await.unwrap();
    assert_eq!(
        store.session_find(&SecretHash([1; 32]), Timestamp(9)).await.unwrap(),
        None
    );
    store.session_prune(Timestamp(10)).await.unwrap();
    assert_eq!(
        store.session_find(&SecretHash([2; 32]), Timestamp(9)).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_golden_goes_through_its_states() {
    let store = Store::in_memory().await.unwrap();
    let mut row = GoldenRow {
        id: SnapshotId::golden(&Digest::of(b"x")),
        project: "shop".parse().unwrap(),
        engine: "postgres 17.2".to_owned(),
        migrations: vec![Digest::of(b"1")],
        seeded: true,
        chain: vec!["postgres 17.2".to_owned(), "0001.sql".to_owned()],
        state: GoldenState::Making,
        failure: None,
        created: Timestamp(1),
        last_used: Timestamp(1),
        private_to: Some(id("eaaaaaaaaa")),
    };
    store.golden_put(&row).await.unwrap();
    row.state = GoldenState::Ready;
    store.golden_put(&row).await.unwrap();
    store.golden_used(&row.id, Timestamp(7)).await.unwrap();
    row.last_used = Timestamp(7);
    assert_eq!(store.golden_get(&row.id).await.unwrap(), Some(row.clone()));
    assert_eq!(store.golden_list(&row.project).await.unwrap(), [row.clone()]);
    store.golden_remove(&row.id).await.unwrap();
    store.golden_remove(&row.id).await.unwrap();
    assert!(matches!(
        store.golden_used(&row.id, Timestamp(8)).await,
        Err(StoreError::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_repository_is_remembered_by_its_id() {
    let store = Store::in_memory().await.unwrap();
    let mut row = BindingRow {
        project: "shop".parse().unwrap(),
        source: "shop".parse().unwrap(),
        address: "https://git.example.org/team/shop".to_owned(),
        repository: "17".to_owned(),
        webhook: None,
        webhook_digest: None,
    };
    assert_eq!(store.binding_get(&row.project, &row.source).await.unwrap(), None);
    store.binding_put(&row).await.unwrap();
    row.webhook = Some(4);
    row.webhook_digest = Some(Digest::of(b"x"));
    store.binding_put(&row).await.unwrap();
    assert_eq!(store.binding_get(&row.project, &row.source).await.unwrap(), Some(row));
}
