//! Against a real PostgreSQL, started by each test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

use data::{DataError, StatementError, contents, migrate, prepare, seed};
use model::{DataSet, Digest, Migration, SeedFile};
use std::time::Duration;
use support::Postgres;

const LONG: Duration = Duration::from_secs(60);
const PASSWORD: &str = "s'3\\cr\"et";

fn data(user: &str, database: &str) -> DataSet {
    DataSet {
        volume: "db".parse().unwrap(),
        database: database.to_owned(),
        user: user.to_owned(),
        password: PASSWORD.into(),
        migrations: Vec::new(),
        seeds: Vec::new(),
    }
}

fn migration(path: &str, text: &str) -> (Migration, Vec<u8>) {
    (
        Migration {
            path: path.to_owned(),
            digest: Digest::of(text.as_bytes()),
        },
        text.as_bytes().to_vec(),
    )
}

fn seed_file(path: &str, text: &str) -> (SeedFile, Vec<u8>) {
    (
        SeedFile {
            path: path.to_owned(),
            digest: Digest::of(text.as_bytes()),
        },
        text.as_bytes().to_vec(),
    )
}

async fn prepared(data: &DataSet) -> Postgres {
    let postgres = Postgres::start().await;
    prepare(postgres.stream().await, data, PASSWORD).await.unwrap();
    postgres
}

/// Runs one migration and returns how PostgreSQL refused it.
async fn refused(postgres: &Postgres, data: &DataSet, text: &str) -> StatementError {
    let error = migrate(postgres.stream().await, data, &[migration("m/2.sql", text)], LONG)
        .await
        .unwrap_err();
    match error {
        DataError::Statement(error) => *error,
        other => panic!("{text}: {other:?}"),
    }
}

#[tokio::test]
async fn a_role_owns_its_database_and_is_no_superuser_whatever_its_name() {
    let postgres = Postgres::start().await;
    for (user, database) in [
        ("shop", "shop"),
        ("postgres", "postgres"),
        ("we\"ird; DROP ROLE x", "Ünusual 'name'"),
    ] {
        let data = data(user, database);
        assert!(!contents(postgres.stream().await, &data).await.unwrap().prepared);
        for password in ["first", PASSWORD] {
            prepare(postgres.stream().await, &data, password).await.unwrap();
        }
        assert!(contents(postgres.stream().await, &data).await.unwrap().prepared);
        let sql = "CREATE TABLE mine (a int); DROP SCHEMA public CASCADE; CREATE SCHEMA public; \
                   SELECT current_user || ' ' || current_setting('is_superuser')";
        let who = postgres.query(user, PASSWORD, database, sql).await.unwrap();
        assert_eq!(who, [format!("{user} off")]);
        assert!(
            postgres.query(user, "first", database, "SELECT 1").await.is_err(),
            "the old password still works"
        );
    }
    assert!(!postgres.log().contains("s''3"), "the password is in the server's log");
}

#[tokio::test]
async fn names_that_would_mean_something_else_are_refused() {
    let postgres = Postgres::start().await;
    let long = "x".repeat(64);
    for (user, database) in [
        ("maquette", "shop"),
        ("pg_monitor", "shop"),
        ("public", "shop"),
        ("", "shop"),
        ("shop", "template1"),
        ("shop", &long),
    ] {
        let error = prepare(postgres.stream().await, &data(user, database), "x")
            .await
            .unwrap_err();
        assert!(matches!(error, DataError::Name { .. }), "{user} {database}: {error:?}");
        assert!(error.to_string().contains("hint: "), "{error}");
    }
}

#[tokio::test]
async fn a_migration_is_recorded_under_its_own_name_whatever_that_is() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    let path = "m/1'{ms}\\{ms}.sql";
    let odd = [migration(path, "CREATE TABLE odd (a int)")];
    for runs in [1, 0] {
        let ran = migrate(postgres.stream().await, &data, &odd, LONG).await.unwrap();
        assert_eq!(ran.len(), runs);
    }
    let found = contents(postgres.stream().await, &data).await.unwrap();
    assert_eq!(found.applied[0].path, path);
}

#[tokio::test]
async fn migrations_are_applied_once_and_read_back_from_the_database() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    let first = migration(
        "m/1.sql",
        "CREATE TABLE a (id int); -- one\nCREATE TABLE b (id int); SET search_path = '';",
    );
    let second = migration("m/2.sql", "BEGIN;\nINSERT INTO a VALUES (1);\nCOMMIT;\n");
    let empty = migration("m/3.sql", "-- nothing yet\n");
    let list = [first.clone(), second, empty];

    let timings = migrate(postgres.stream().await, &data, &list[..1], LONG).await.unwrap();
    assert_eq!(
        timings.iter().map(|timing| timing.path.as_str()).collect::<Vec<_>>(),
        ["m/1.sql"]
    );
    for expected in [2, 0] {
        let timings = migrate(postgres.stream().await, &data, &list, LONG).await.unwrap();
        assert_eq!(timings.len(), expected, "{timings:?}");
    }
    let found = contents(postgres.stream().await, &data).await.unwrap();
    assert_eq!(
        found.applied,
        list.iter().map(|(migration, _)| migration.clone()).collect::<Vec<_>>()
    );
    assert!(!found.seeded);

    let owners = "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(
        postgres.query("shop", PASSWORD, "shop", owners).await.unwrap(),
        ["shop"]
    );
    assert_eq!(
        postgres
            .query("shop", PASSWORD, "shop", "SELECT id FROM a")
            .await
            .unwrap(),
        ["1"],
        "run more than once"
    );

    let changed = migration("m/1.sql", "CREATE TABLE other ()");
    let error = migrate(postgres.stream().await, &data, &[changed], LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, DataError::Content { .. }), "{error:?}");
    let swapped = [(first.0, b"DROP TABLE a".to_vec())];
    let error = migrate(postgres.stream().await, &data, &swapped, LONG)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "m/1.sql: its content is not that of the commit");
}

#[tokio::test]
async fn the_application_can_not_touch_the_record() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    migrate(
        postgres.stream().await,
        &data,
        &[migration("m/1.sql", "CREATE TABLE a ()")],
        LONG,
    )
    .await
    .unwrap();
    for sql in [
        "SELECT * FROM maquette.applied",
        "DROP SCHEMA maquette CASCADE",
        "DELETE FROM maquette.applied",
    ] {
        let refused = postgres.query("shop", PASSWORD, "shop", sql).await.unwrap_err();
        assert!(refused.contains("maquette"), "{sql}: {refused}");
    }
    let error = refused(&postgres, &data, "DELETE FROM maquette.applied;").await;
    assert_eq!(error.code, "42501");
    assert!(error.hint.is_some());
    assert_eq!(contents(postgres.stream().await, &data).await.unwrap().applied.len(), 1);
}

#[tokio::test]
async fn a_failing_statement_is_named_with_its_line_and_leaves_nothing() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    let ready = migration(
        "m/1.sql",
        "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1);",
    );
    migrate(postgres.stream().await, &data, &[ready], LONG).await.unwrap();

    let cases = [
        ("CREATE TABLE gone ();\n-- é\nSELEC 1;\n", 3, "42601"),
        (
            "CREATE TABLE gone ();\n\nINSERT INTO a\n  VALUES (1);\nSELECT 1;",
            3,
            "23505",
        ),
        ("CREATE TABLE gone ();\nSELECT\n  nowhere FROM a;", 3, "42703"),
        (
            "CREATE TABLE gone ();\nDO $$ BEGIN\n RAISE EXCEPTION 'no';\nEND $$;",
            2,
            "P0001",
        ),
        (
            "CREATE TABLE gone (a int REFERENCES a DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO gone VALUES (7);\n",
            2,
            "23503",
        ),
        (
            "CREATE TABLE gone ();\nSELECT 1;\nALTER SYSTEM SET port = 1;",
            3,
            "42501",
        ),
        ("CREATE EXTENSION file_fdw;", 1, "42501"),
    ];
    for (text, line, code) in cases {
        let error = refused(&postgres, &data, text).await;
        assert_eq!((error.line, error.code.as_str()), (line, code), "{text}: {error}");
        assert!(error.to_string().starts_with(&format!("m/2.sql:{line}: ")), "{error}");
        if text.contains("ALTER SYSTEM") {
            // It runs in no transaction, as documented: the first half stays.
            let sql = "DROP TABLE gone";
            postgres.query("shop", PASSWORD, "shop", sql).await.unwrap();
        }
        let left = postgres
            .query(
                "shop",
                PASSWORD,
                "shop",
                "SELECT 1 FROM pg_tables WHERE tablename = 'gone'",
            )
            .await
            .unwrap();
        assert!(left.is_empty(), "{text}");
    }
    let found = contents(postgres.stream().await, &data).await.unwrap();
    assert_eq!(found.applied.len(), 1, "a file that failed is recorded");
}

#[tokio::test]
async fn statements_that_run_in_no_transaction_work() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    let files = [
        migration(
            "m/1.sql",
            "CREATE TABLE a (id int);\nCREATE INDEX CONCURRENTLY i ON a (id);\nVACUUM a;",
        ),
        migration(
            "m/1b.sql",
            "BEGIN;\nCREATE TABLE b ();\nCOMMIT;\nBEGIN;\nCREATE TABLE c ();",
        ),
    ];
    migrate(postgres.stream().await, &data, &files, LONG).await.unwrap();
    let made = "SELECT count(*) FROM pg_class WHERE relname IN ('a', 'b', 'c', 'i') AND relowner = 'shop'::regrole";
    assert_eq!(postgres.query("shop", PASSWORD, "shop", made).await.unwrap(), ["4"]);
    assert_eq!(contents(postgres.stream().await, &data).await.unwrap().applied.len(), 2);

    let error = refused(&postgres, &data, "VACUUM a;\n\nSELECT\n nowhere FROM a;").await;
    assert_eq!((error.line, error.code.as_str()), (4, "42703"));
}

#[tokio::test]
async fn a_migration_without_end_is_ended_on_the_server() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    let endless = [migration("m/1.sql", "CREATE TABLE gone ();\nSELECT pg_sleep(600);")];
    let error = migrate(postgres.stream().await, &data, &endless, Duration::from_millis(800))
        .await
        .unwrap_err();
    match error {
        DataError::Statement(error) => assert_eq!((error.line, error.code.as_str()), (2, "57014"), "{error}"),
        other => panic!("{other:?}"),
    }
    // A file that takes the server's bound away meets ours, and the server notices that we are gone.
    let stubborn = [migration(
        "m/1.sql",
        "SET statement_timeout = 0;\nSELECT pg_sleep(600);",
    )];
    let error = migrate(postgres.stream().await, &data, &stubborn, Duration::from_millis(200))
        .await
        .unwrap_err();
    assert!(matches!(error, DataError::TimedOut { .. }), "{error:?}");
    let good = [migration("m/1.sql", "CREATE TABLE a ()")];
    migrate(postgres.stream().await, &data, &good, LONG).await.unwrap();
}

#[tokio::test]
async fn two_at_once_apply_each_migration_once() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    let files = [
        migration("m/1.sql", "CREATE TABLE a (id int);"),
        migration("m/2.sql", "INSERT INTO a VALUES (1);"),
    ];
    let (left, right) = tokio::join!(
        migrate(postgres.stream().await, &data, &files, LONG),
        migrate(postgres.stream().await, &data, &files, LONG)
    );
    assert_eq!(left.unwrap().len() + right.unwrap().len(), 2);
    assert_eq!(
        postgres
            .query("shop", PASSWORD, "shop", "SELECT id FROM a")
            .await
            .unwrap(),
        ["1"]
    );
}

#[tokio::test]
async fn seed_files_run_once_in_the_life_of_a_database() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    migrate(
        postgres.stream().await,
        &data,
        &[migration("m/1.sql", "CREATE TABLE a (id int)")],
        LONG,
    )
    .await
    .unwrap();
    let good = seed_file("seed/1.sql", "INSERT INTO a VALUES (1);");
    let bad = seed_file(
        "seed/2.sql",
        "INSERT INTO a VALUES (2);\nINSERT INTO nowhere VALUES (3);",
    );
    let error = seed(postgres.stream().await, &data, &[good.clone(), bad], LONG)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("seed/2.sql:2: relation \"nowhere\" does not exist"),
        "{error}"
    );
    assert!(error.is_users());
    assert!(!contents(postgres.stream().await, &data).await.unwrap().seeded);

    let mended = seed_file("seed/2.sql", "INSERT INTO a VALUES (2);");
    let timings = seed(postgres.stream().await, &data, &[good.clone(), mended], LONG)
        .await
        .unwrap();
    assert_eq!(timings.len(), 1, "the first file was run already");
    assert!(contents(postgres.stream().await, &data).await.unwrap().seeded);
    let other = seed_file("seed/1.sql", "INSERT INTO a VALUES (9);");
    assert!(
        seed(postgres.stream().await, &data, &[other], LONG)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        postgres
            .query("shop", PASSWORD, "shop", "SELECT id FROM a ORDER BY id")
            .await
            .unwrap(),
        ["1", "2"]
    );
}
