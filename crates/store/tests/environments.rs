//! Environments, generations and what is known of them.

mod support;

use model::{DataFact, Generation, Origin, Power, Timestamp};
use store::{EnvironmentPatch, Failure, Outcome, Store, StoreError};
use support::{commit, environment, generation, id};

fn failure() -> Failure {
    Failure {
        step: "start web".to_owned(),
        message: "exited with 1".to_owned(),
        hint: Some("look at the log".to_owned()),
        log: vec!["no such table".to_owned()],
    }
}

#[tokio::test]
async fn what_was_written_is_read_again() {
    let store = Store::in_memory().await.unwrap();
    let mut row = environment("eaaaaaaaaa", Origin::PullRequest { number: 12 }, "pr-12");
    row.approved_commit = Some(commit('c'));
    row.power = Power::Frozen;
    row.overrides = serde_json::json!({"web": {"branch": "x"}});
    row.live = Some(Generation(3));
    store.environment_create(&row).await.unwrap();
    assert_eq!(store.environment_get(&row.id).await.unwrap().as_ref(), Some(&row));
    assert_eq!(
        store
            .environment_find(&row.project, &row.origin)
            .await
            .unwrap()
            .as_ref(),
        Some(&row)
    );
    assert_eq!(
        store.environment_find_label(&row.label).await.unwrap().as_ref(),
        Some(&row)
    );
    assert_eq!(store.environment_list(None, false).await.unwrap(), [row.clone()]);
    assert_eq!(
        store
            .environment_list(Some(&"other".parse().unwrap()), true)
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn one_pull_request_has_one_environment_until_it_ends() {
    let store = Store::in_memory().await.unwrap();
    let first = environment("eaaaaaaaaa", Origin::PullRequest { number: 12 }, "pr-12");
    store.environment_create(&first).await.unwrap();

    let same_origin = environment("ebbbbbbbbb", Origin::PullRequest { number: 12 }, "pr-12-other");
    assert!(matches!(
        store.environment_create(&same_origin).await,
        Err(StoreError::Conflict { .. })
    ));
    let same_label = environment("ebbbbbbbbb", Origin::PullRequest { number: 13 }, "pr-12");
    assert!(matches!(
        store.environment_create(&same_label).await,
        Err(StoreError::Conflict { .. })
    ));

    let ended = EnvironmentPatch {
        ended: Some(Some(Timestamp(9))),
        ..EnvironmentPatch::default()
    };
    store.environment_update(&first.id, &ended).await.unwrap();
    let again = environment("ebbbbbbbbb", Origin::PullRequest { number: 12 }, "pr-12");
    store.environment_create(&again).await.unwrap();
    assert_eq!(
        store
            .environment_find(&again.project, &again.origin)
            .await
            .unwrap()
            .unwrap()
            .id,
        again.id
    );
    assert_eq!(store.environment_list(None, false).await.unwrap().len(), 1);
    assert_eq!(store.environment_list(None, true).await.unwrap().len(), 2);
    // Bringing the first one back would make two.
    let back = EnvironmentPatch {
        ended: Some(None),
        ..EnvironmentPatch::default()
    };
    assert!(matches!(
        store.environment_update(&first.id, &back).await,
        Err(StoreError::Conflict { .. })
    ));
}

#[tokio::test]
async fn an_environment_can_be_copied_more_than_once() {
    let store = Store::in_memory().await.unwrap();
    let origin = Origin::Clone { of: id("eaaaaaaaaa") };
    store
        .environment_create(&environment("ebbbbbbbbb", origin.clone(), "copy-1"))
        .await
        .unwrap();
    store
        .environment_create(&environment("eccccccccc", origin, "copy-2"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_patch_changes_its_fields_and_no_others() {
    let store = Store::in_memory().await.unwrap();
    let mut row = environment(
        "eaaaaaaaaa",
        Origin::Baseline {
            branch: "main".parse().unwrap(),
        },
        "base",
    );
    row.live = Some(Generation(1));
    row.failed = Some(Generation(2));
    store.environment_create(&row).await.unwrap();
    let patch = EnvironmentPatch {
        newest: Some(Some(Generation(3))),
        failed: Some(None),
        power: Some(Power::Stopped),
        ..EnvironmentPatch::default()
    };
    store.environment_update(&row.id, &patch).await.unwrap();
    row.newest = Some(Generation(3));
    row.failed = None;
    row.power = Power::Stopped;
    assert_eq!(store.environment_get(&row.id).await.unwrap(), Some(row));
    let nobody = store.environment_update(&id("ezzzzzzzzz"), &patch).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_generation_is_written_once_and_gets_an_outcome() {
    let store = Store::in_memory().await.unwrap();
    let env = environment("eaaaaaaaaa", Origin::PullRequest { number: 12 }, "pr-12");
    store.environment_create(&env).await.unwrap();
    let mut row = generation("eaaaaaaaaa", 1);
    store.generation_put(&row).await.unwrap();
    store.generation_put(&row).await.unwrap();
    assert_eq!(store.generation_list(&env.id).await.unwrap(), [row.clone()]);

    let mut other = row.clone();
    other.inputs = model::Digest::of(b"other");
    assert!(matches!(
        store.generation_put(&other).await,
        Err(StoreError::Conflict { .. })
    ));

    store
        .generation_outcome(&env.id, Generation(1), Outcome::Failed, Some(&failure()))
        .await
        .unwrap();
    row.outcome = Some(Outcome::Failed);
    row.failure = Some(failure());
    assert_eq!(store.generation_get(&env.id, Generation(1)).await.unwrap(), Some(row));
    let missing = store
        .generation_outcome(&env.id, Generation(2), Outcome::Live, None)
        .await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn tries_are_counted_and_the_last_one_is_remembered() {
    let store = Store::in_memory().await.unwrap();
    let env = id("gaaaaaaaaa");
    let (failure, next) = (failure(), Some(Timestamp(20)));
    store
        .attempt_record(&env, Generation(1), "start", Err(&failure), Timestamp(10), next)
        .await
        .unwrap();
    store
        .attempt_record(&env, Generation(1), "start", Err(&failure), Timestamp(20), None)
        .await
        .unwrap();
    let list = store.attempt_list(&env, Generation(1)).await.unwrap();
    assert_eq!(
        (list["start"].count, list["start"].next, list["start"].succeeded),
        (2, None, false)
    );
    assert_eq!(list["start"].failure, Some(failure));
    store
        .attempt_record(&env, Generation(1), "start", Ok(()), Timestamp(30), None)
        .await
        .unwrap();
    let list = store.attempt_list(&env, Generation(1)).await.unwrap();
    assert_eq!(
        (list["start"].count, &list["start"].failure, list["start"].succeeded),
        (3, &None, true)
    );
    assert!(store.attempt_list(&env, Generation(2)).await.unwrap().is_empty());
    let failure = self::failure();
    store
        .attempt_record(&env, Generation(1), "start", Err(&failure), Timestamp(40), next)
        .await
        .unwrap();
    let list = store.attempt_list(&env, Generation(1)).await.unwrap();
    assert_eq!(list["start"].count, 1, "a success ends the count");
}

#[tokio::test]
async fn steps_are_timed_in_the_order_in_which_they_began() {
    let store = Store::in_memory().await.unwrap();
    let (env, n) = (id("eaaaaaaaaa"), Generation(1));
    store.step_began(&env, n, "z-first", Timestamp(10)).await.unwrap();
    store.step_began(&env, n, "a-second", Timestamp(20)).await.unwrap();
    store.step_ended(&env, n, "z-first", Timestamp(30), true).await.unwrap();
    let steps = store.step_list(&env, n).await.unwrap();
    assert_eq!(
        steps.iter().map(|s| s.step.as_str()).collect::<Vec<_>>(),
        ["z-first", "a-second"]
    );
    assert_eq!(
        (steps[0].began, steps[0].ended, steps[0].ok),
        (Timestamp(10), Some(Timestamp(30)), Some(true))
    );
    assert_eq!((steps[1].ended, steps[1].ok), (None, None));
}

#[tokio::test]
async fn facts_about_data_are_replaced_and_forgotten() {
    let store = Store::in_memory().await.unwrap();
    let (env, db) = (id("eaaaaaaaaa"), "db".parse().unwrap());
    let mut fact = DataFact {
        incarnation: Generation(1),
        prepared: true,
        ..DataFact::default()
    };
    store.data_fact_put(&env, &db, &fact).await.unwrap();
    fact.seeded = true;
    store.data_fact_put(&env, &db, &fact).await.unwrap();
    assert_eq!(store.data_fact_list(&env).await.unwrap().get(&db), Some(&fact));
    store.data_fact_remove(&env, &db).await.unwrap();
    store.data_fact_remove(&env, &db).await.unwrap();
    assert!(store.data_fact_list(&env).await.unwrap().is_empty());
}

/// A spare that is ready.
fn spare(name: &str) -> store::EnvironmentRow {
    let mut row = environment(name, Origin::Spare, &format!("spare-{name}"));
    (row.newest, row.live, row.live_at) = (Some(Generation(1)), Some(Generation(1)), Some(Timestamp(5)));
    row.power = Power::Frozen;
    row
}

#[tokio::test]
async fn a_spare_becomes_one_environment_and_keeps_its_id() {
    let store = Store::in_memory().await.unwrap();
    for name in ["saaaaaaaaa", "sbbbbbbbbb"] {
        store.environment_create(&spare(name)).await.unwrap();
    }
    let mut wanted = environment("eaaaaaaaaa", Origin::PullRequest { number: 12 }, "pr-12");
    wanted.approved_commit = Some(commit('a'));
    wanted.overrides = serde_json::json!({});
    let (first, second) = (id("saaaaaaaaa"), id("sbbbbbbbbb"));
    assert!(store.spare_adopt(&first, &wanted).await.unwrap());
    let found = store
        .environment_find(&wanted.project, &wanted.origin)
        .await
        .unwrap()
        .unwrap();
    let expected = store::EnvironmentRow {
        id: first.clone(),
        newest: Some(Generation(1)),
        ..wanted.clone()
    };
    assert_eq!(found, expected, "nothing of it was live, and it runs");
    // It is none any more: nobody else gets it, and nobody ends it for one.
    let other = environment("ebbbbbbbbb", Origin::PullRequest { number: 13 }, "pr-13");
    assert!(!store.spare_adopt(&first, &other).await.unwrap());
    assert!(!store.spare_end(&first, "memory is short", None).await.unwrap());
    // The second environment of one pull request is refused as ever, and the spare stays what it is.
    assert!(matches!(
        store.spare_adopt(&second, &wanted).await,
        Err(StoreError::Conflict { .. })
    ));
    assert_eq!(store.environment_get(&second).await.unwrap(), Some(spare("sbbbbbbbbb")));
}

#[tokio::test]
async fn a_spare_that_is_not_ready_or_not_wanted_is_not_adopted() {
    let store = Store::in_memory().await.unwrap();
    let mut unready = spare("saaaaaaaaa");
    unready.live = None;
    store.environment_create(&unready).await.unwrap();
    store.environment_create(&spare("sbbbbbbbbb")).await.unwrap();
    let ends = id("sbbbbbbbbb");
    let deleted = serde_json::json!({"deleted": true});
    assert!(store.spare_end(&ends, "deleted", Some(&deleted)).await.unwrap());
    let row = store.environment_get(&ends).await.unwrap().unwrap();
    assert!(
        !row.wanted && row.reason == "deleted" && row.overrides == deleted,
        "{row:?}"
    );
    let wanted = environment("eaaaaaaaaa", Origin::PullRequest { number: 12 }, "pr-12");
    for name in [&unready.id, &ends] {
        assert!(!store.spare_adopt(name, &wanted).await.unwrap(), "{name}");
    }
    let mut foreign = environment("ebbbbbbbbb", Origin::PullRequest { number: 1 }, "pr-1");
    foreign.project = "other".parse().unwrap();
    store.environment_create(&spare("sccccccccc")).await.unwrap();
    assert!(!store.spare_adopt(&id("sccccccccc"), &foreign).await.unwrap());
}

#[tokio::test]
async fn a_cluster_keeps_its_name_as_long_as_there_are_environments_on_it() {
    let store = Store::in_memory().await.unwrap();
    let meet = async |name: &str, identity: &str| {
        let met = store.cluster_meet(&name.parse().unwrap(), identity).await.unwrap();
        met.map(|name| name.to_string())
    };
    assert_eq!(meet("staging", "one").await, None);
    assert_eq!(meet("previews", "one").await, None, "nothing was on it");
    assert_eq!(meet("staging", "two").await, None);
    let mut row = environment("eaaaaaaaaa", Origin::PullRequest { number: 1 }, "pr-1");
    row.cluster = Some("staging".parse().unwrap());
    store.environment_create(&row).await.unwrap();
    assert_eq!(meet("staging", "two").await, None);
    assert_eq!(meet("staging", "three").await.as_deref(), Some("staging"));
    assert_eq!(meet("other", "two").await.as_deref(), Some("staging"));
    let ended = EnvironmentPatch {
        ended: Some(Some(Timestamp(9))),
        ..EnvironmentPatch::default()
    };
    store.environment_update(&row.id, &ended).await.unwrap();
    assert_eq!(meet("staging", "three").await, None);
}
