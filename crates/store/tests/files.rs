//! The file: its mode, opening it again and twice, writers at once, migrations.

mod support;

use model::{Origin, Resource, Timestamp};
use std::{fs, os::unix::fs::PermissionsExt};
use store::{EnvironmentPatch, Store, StoreError};
use support::{environment, id};

#[tokio::test]
async fn the_file_is_private_and_keeps_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = Store::open(&path).await.unwrap();
    let instance = store.instance().await.unwrap();
    store
        .environment_create(&environment("eaaaaaaaaa", Origin::PullRequest { number: 1 }, "pr-1"))
        .await
        .unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.file_name()
        );
    }
    store.close().await;
    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.instance().await.unwrap(), instance);
    assert_eq!(store.environment_list(None, false).await.unwrap().len(), 1);
}

/// What a crash of the disk, or a person, does to a store.
fn lose(path: &std::path::Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", path.display()));
    }
}

#[tokio::test]
async fn a_store_that_was_lost_is_followed_by_one_of_the_same_installation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = Store::open(&path).await.unwrap();
    let instance = store.instance().await.unwrap();
    store.close().await;
    assert_eq!(
        fs::read_to_string(store::instance_file(&path)).unwrap(),
        format!("{instance}\n")
    );
    lose(&path);
    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.instance().await.unwrap(), instance);
    store.close().await;
    // Of a store that was made before there was this file.
    fs::remove_file(store::instance_file(&path)).unwrap();
    Store::open(&path).await.unwrap().close().await;
    lose(&path);
    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.instance().await.unwrap(), instance);
}

#[tokio::test]
async fn a_store_of_another_installation_is_refused_and_so_is_a_file_that_names_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    Store::open(&path).await.unwrap().close().await;
    let file = store::instance_file(&path);
    fs::write(&file, "zzzzzz\n").unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::OtherInstance { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("zzzzzz") && text.contains("store.db") && text.contains("store.instance"),
        "{text}"
    );
    for broken in ["", "../../x\n", &"x".repeat(1000)] {
        fs::write(&file, broken).unwrap();
        let error = Store::open(&path).await.unwrap_err();
        assert!(matches!(error, StoreError::Open { .. }), "{error}");
    }
    // Nothing was changed by any of it.
    assert_eq!(fs::read_to_string(&file).unwrap(), "x".repeat(1000));
}

#[tokio::test]
async fn two_installations_have_different_ids() {
    let (a, b) = (Store::in_memory().await.unwrap(), Store::in_memory().await.unwrap());
    assert_ne!(a.instance().await.unwrap(), b.instance().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_queue_also_between_two_that_opened_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let stores = [Store::open(&path).await.unwrap(), Store::open(&path).await.unwrap()];
    assert_eq!(stores[0].instance().await.unwrap(), stores[1].instance().await.unwrap());
    let env = environment("eaaaaaaaaa", Origin::PullRequest { number: 1 }, "pr-1");
    stores[0].environment_create(&env).await.unwrap();
    let mut tasks = Vec::new();
    for writer in 0..8_u64 {
        let (store, env) = (stores[(writer % 2) as usize].clone(), env.clone());
        tasks.push(tokio::spawn(async move {
            for n in 0..25_u64 {
                let name = format!("{writer}-{n}");
                let resources = [Resource {
                    environment: env.id.clone(),
                    kind: "cgroup".to_owned(),
                    name,
                }];
                store.ledger_intend(&resources, Timestamp(n)).await.unwrap();
                store
                    .event_add(Some(&env.id), &env.project, Timestamp(n), "note", "text")
                    .await
                    .unwrap();
                let patch = EnvironmentPatch {
                    nudged: Some(Some(Timestamp(n))),
                    ..EnvironmentPatch::default()
                };
                store.environment_update(&env.id, &patch).await.unwrap();
                store.environment_get(&env.id).await.unwrap().unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(stores[1].ledger_list(&env.id).await.unwrap().len(), 200);
    assert_eq!(stores[0].event_list(&env.id, 1_000).await.unwrap().len(), 200);
}

#[tokio::test]
async fn whoever_waits_for_a_change_then_sees_it() {
    let store = Store::in_memory().await.unwrap();
    let mut changes = store.changes();
    changes.mark_unchanged();
    assert!(store.environment_list(None, true).await.unwrap().is_empty());
    assert!(!changes.has_changed().unwrap(), "reading is no change");
    let env = environment("eaaaaaaaaa", Origin::PullRequest { number: 1 }, "pr-1");
    store.environment_create(&env).await.unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    store
        .event_add(Some(&env.id), &env.project, Timestamp(1), "note", "text")
        .await
        .unwrap();
    assert!(changes.has_changed().unwrap());
}

#[tokio::test]
async fn of_two_that_add_the_same_environment_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (a, b) = (Store::open(&path).await.unwrap(), Store::open(&path).await.unwrap());
    let first = environment("eaaaaaaaaa", Origin::PullRequest { number: 1 }, "pr-1");
    let second = environment("ebbbbbbbbb", Origin::PullRequest { number: 1 }, "pr-1");
    let (one, two) = tokio::join!(a.environment_create(&first), b.environment_create(&second));
    assert_eq!(
        [one.is_ok(), two.is_ok()].iter().filter(|ok| **ok).count(),
        1,
        "{one:?} {two:?}"
    );
    assert!(matches!(one.and(two), Err(StoreError::Conflict { .. })));
}

#[tokio::test]
async fn a_path_that_can_not_be_opened_is_named() {
    let error = Store::open(std::path::Path::new("/nonexistent/store.db"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nonexistent/store.db"), "{error}");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    Store::open(&path).await.unwrap().close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    assert!(matches!(Store::open(&path).await, Err(StoreError::Migrate { .. })));
}

/// A database as the first version left it, with a row in every table that later migrations may touch.
#[tokio::test]
async fn a_populated_database_of_the_first_version_is_readable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::migrate!("./migrations").run_to(1, &pool).await.unwrap();
    for statement in include_str!("populated/0001.sql")
        .split(";\n")
        .filter(|s| !s.trim().is_empty())
    {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()))
            .execute(&pool)
            .await
            .unwrap();
    }
    pool.close().await;

    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.instance().await.unwrap().as_str(), "abc234");
    let project = "shop".parse().unwrap();
    let environments = store.environment_list(Some(&project), true).await.unwrap();
    assert_eq!(environments.len(), 1);
    let env = id("eaaaaaaaaa");
    assert_eq!(environments[0].id, env);
    assert_eq!(store.pull_request_list(&project, true).await.unwrap().len(), 1);
    let generations = store.generation_list(&env).await.unwrap();
    assert_eq!(generations[0].failure.as_ref().unwrap().step, "start web");
    assert_eq!(
        store.attempt_list(&env, generations[0].generation).await.unwrap()["start web"].count,
        3
    );
    assert_eq!(store.step_list(&env, generations[0].generation).await.unwrap().len(), 1);
    assert_eq!(store.ledger_list(&env).await.unwrap().len(), 1);
    assert_eq!(store.receipt_get(&env).await.unwrap().unwrap().reason, "closed");
    assert_eq!(store.data_fact_list(&env).await.unwrap().len(), 1);
    assert_eq!(store.golden_list(&project).await.unwrap().len(), 1);
    assert_eq!(store.event_list(&env, 9).await.unwrap().len(), 1);
    assert_eq!(store.token_list().await.unwrap().len(), 1);
}
