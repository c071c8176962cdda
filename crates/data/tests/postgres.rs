//! Against a real PostgreSQL, started by each test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

use data::{Contents, DataError, Database, MigrationTiming, StatementError};
use model::{DataSet, Digest, Migration, SeedFile};
use std::time::Duration;
use support::Postgres;

const LONG: Duration = Duration::from_secs(180);
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

/// As a step of a generation does it: by one connection, over which the rest follows.
async fn open<'a>(postgres: &Postgres, data: &'a DataSet, password: &'a str) -> Result<Database<'a>, DataError> {
    let stream = postgres.stream().await;
    if let Some(database) = Database::open(stream, data, password).await? {
        database.prepare(LONG).await?;
        return Ok(database);
    }
    Database::create(postgres.stream().await, data, password).await?;
    let stream = postgres.stream().await;
    let database = Database::open(stream, data, password).await?.unwrap();
    database.prepare(LONG).await?;
    Ok(database)
}

async fn prepare(postgres: &Postgres, data: &DataSet, password: &str) -> Result<(), DataError> {
    open(postgres, data, password).await.map(drop)
}

/// What is there, without changing it.
async fn contents(postgres: &Postgres, data: &DataSet) -> Result<Contents, DataError> {
    match Database::open(postgres.stream().await, data, PASSWORD).await? {
        Some(database) => database.contents().await,
        None => Ok(Contents::default()),
    }
}

async fn migrate(
    postgres: &Postgres,
    data: &DataSet,
    files: &[(Migration, Vec<u8>)],
    within: Duration,
) -> Result<Vec<MigrationTiming>, DataError> {
    let database = open(postgres, data, PASSWORD).await?;
    database.migrate(postgres.stream().await, files, within).await
}

async fn seed(
    postgres: &Postgres,
    data: &DataSet,
    files: &[(SeedFile, Vec<u8>)],
    within: Duration,
) -> Result<Vec<MigrationTiming>, DataError> {
    let database = open(postgres, data, PASSWORD).await?;
    database.seed(postgres.stream().await, files, within).await
}

async fn prepared(data: &DataSet) -> Postgres {
    let postgres = Postgres::start().await;
    prepare(&postgres, data, PASSWORD).await.unwrap();
    postgres
}

/// Runs one migration and returns how PostgreSQL refused it.
async fn refused(postgres: &Postgres, data: &DataSet, text: &str) -> StatementError {
    let error = migrate(postgres, data, &[migration("m/2.sql", text)], LONG)
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
        assert!(!contents(&postgres, &data).await.unwrap().prepared);
        for password in ["first", PASSWORD] {
            prepare(&postgres, &data, password).await.unwrap();
        }
        assert!(contents(&postgres, &data).await.unwrap().prepared);
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
        let error = prepare(&postgres, &data(user, database), "x").await.unwrap_err();
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
        let ran = migrate(&postgres, &data, &odd, LONG).await.unwrap();
        assert_eq!(ran.len(), runs);
    }
    let found = contents(&postgres, &data).await.unwrap();
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

    let timings = migrate(&postgres, &data, &list[..1], LONG).await.unwrap();
    assert_eq!(
        timings.iter().map(|timing| timing.path.as_str()).collect::<Vec<_>>(),
        ["m/1.sql"]
    );
    for expected in [2, 0] {
        let timings = migrate(&postgres, &data, &list, LONG).await.unwrap();
        assert_eq!(timings.len(), expected, "{timings:?}");
    }
    let found = contents(&postgres, &data).await.unwrap();
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
    let error = migrate(&postgres, &data, &[changed], LONG).await.unwrap_err();
    assert!(matches!(error, DataError::Content { .. }), "{error:?}");
    let swapped = [(first.0, b"DROP TABLE a".to_vec())];
    let error = migrate(&postgres, &data, &swapped, LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "m/1.sql: its content is not that of the commit");
}

#[tokio::test]
async fn the_application_can_not_touch_the_record() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    migrate(&postgres, &data, &[migration("m/1.sql", "CREATE TABLE a ()")], LONG)
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
    assert_eq!(contents(&postgres, &data).await.unwrap().applied.len(), 1);
}

#[tokio::test]
async fn a_failing_statement_is_named_with_its_line_and_leaves_nothing() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    let ready = migration(
        "m/1.sql",
        "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1);",
    );
    migrate(&postgres, &data, &[ready], LONG).await.unwrap();

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
    let found = contents(&postgres, &data).await.unwrap();
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
    migrate(&postgres, &data, &files, LONG).await.unwrap();
    let made = "SELECT count(*) FROM pg_class WHERE relname IN ('a', 'b', 'c', 'i') AND relowner = 'shop'::regrole";
    assert_eq!(postgres.query("shop", PASSWORD, "shop", made).await.unwrap(), ["4"]);
    assert_eq!(contents(&postgres, &data).await.unwrap().applied.len(), 2);

    let error = refused(&postgres, &data, "VACUUM a;\n\nSELECT\n nowhere FROM a;").await;
    assert_eq!((error.line, error.code.as_str()), (4, "42703"));
}

#[tokio::test]
async fn a_migration_without_end_is_ended_on_the_server() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    let endless = [migration("m/1.sql", "CREATE TABLE gone ();\nSELECT pg_sleep(600);")];
    // Enough to get to the statement without end, also on a machine that is busy.
    let error = migrate(&postgres, &data, &endless, Duration::from_secs(4))
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
    let error = migrate(&postgres, &data, &stubborn, Duration::from_secs(2))
        .await
        .unwrap_err();
    assert!(matches!(error, DataError::TimedOut { .. }), "{error:?}");
    let good = [migration("m/1.sql", "CREATE TABLE a ()")];
    migrate(&postgres, &data, &good, LONG).await.unwrap();
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
        migrate(&postgres, &data, &files, LONG),
        migrate(&postgres, &data, &files, LONG)
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
        &postgres,
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
    let error = seed(&postgres, &data, &[good.clone(), bad], LONG).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("seed/2.sql:2: relation \"nowhere\" does not exist"),
        "{error}"
    );
    assert!(error.is_users());
    assert!(!contents(&postgres, &data).await.unwrap().seeded);

    let mended = seed_file("seed/2.sql", "INSERT INTO a VALUES (2);");
    let timings = seed(&postgres, &data, &[good.clone(), mended], LONG).await.unwrap();
    assert_eq!(timings.len(), 1, "the first file was run already");
    assert!(contents(&postgres, &data).await.unwrap().seeded);
    let other = seed_file("seed/1.sql", "INSERT INTO a VALUES (9);");
    assert!(seed(&postgres, &data, &[other], LONG).await.unwrap().is_empty());
    assert_eq!(
        postgres
            .query("shop", PASSWORD, "shop", "SELECT id FROM a ORDER BY id")
            .await
            .unwrap(),
        ["1", "2"]
    );
}

/// The application's attempts at the administrator's rights, as statements of a function that whoever runs it runs.
const GRAB: &str = "CREATE FUNCTION {name}({arguments}) RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN \
                    BEGIN ALTER ROLE shop SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN {value}; END $$;";

fn grab(name: &str, arguments: &str, result: &str, value: &str) -> String {
    GRAB.replace("{name}", name)
        .replace("{arguments}", arguments)
        .replace("{result}", result)
        .replace("{value}", value)
}

async fn is_superuser(postgres: &Postgres) -> bool {
    let sql = "SELECT rolsuper::text FROM pg_roles WHERE rolname = 'shop'";
    // From a database where nobody has made an operator.
    postgres.query("maquette", "", "postgres", sql).await.unwrap() != ["false"]
}

#[tokio::test]
async fn a_file_does_not_get_at_the_rights_of_the_administrator() {
    let data = data("shop", "shop");
    let postgres = prepared(&data).await;
    for text in [
        "DO $$ BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXECUTE 'ALTER ROLE shop SUPERUSER'; END $$;",
        "DO $$ BEGIN EXECUTE 'SET SESSION AUTHORIZATION maquette'; END $$;",
        "DO $$ BEGIN EXECUTE 'SET ROLE maquette'; END $$;",
        "COPY (SELECT 1) TO PROGRAM 'true';",
        "SELECT maquette_record.done('a guess', 1);",
        "CREATE FUNCTION maquette_record.done(text, int) RETURNS void LANGUAGE sql AS 'SELECT';",
    ] {
        let error = refused(&postgres, &data, text).await;
        assert!(["42501", "P0001"].contains(&error.code.as_str()), "{text}: {error}");
    }
    // What runs later, or when the administrator connects: at the commit, by an operator, by a cast.
    let later = [
        "CREATE TABLE t (a int);".to_owned(),
        grab("public.late", "", "trigger", "NULL"),
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();"
            .to_owned(),
        "INSERT INTO t VALUES (1);".to_owned(),
        "CREATE SCHEMA evil;".to_owned(),
        grab("evil.same", "name, text", "boolean", "true"),
        "CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.same);".to_owned(),
        grab("evil.alike", "text, text", "boolean", "true"),
        "CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.alike);".to_owned(),
        grab("evil.names", "name, name", "boolean", "true"),
        "CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.names);".to_owned(),
        "ALTER DATABASE shop SET search_path = evil, pg_catalog, public; SET search_path = evil, pg_catalog;".to_owned(),
    ];
    let first = migration("m/1.sql", &later.join("\n"));
    let second = migration("m/2.sql", "CREATE TABLE public.after ();");
    migrate(&postgres, &data, std::slice::from_ref(&first), LONG)
        .await
        .unwrap();
    migrate(&postgres, &data, &[first, second], LONG).await.unwrap();
    assert_eq!(contents(&postgres, &data).await.unwrap().applied.len(), 2);
    assert!(!is_superuser(&postgres).await);
}

#[tokio::test]
async fn a_record_that_the_application_has_made_is_not_believed() {
    let data = data("shop", "shop");
    let postgres = Postgres::start().await;
    Database::create(postgres.stream().await, &data, PASSWORD)
        .await
        .unwrap();
    let forged = format!(
        "CREATE SCHEMA maquette; {} CREATE VIEW maquette.applied AS SELECT maquette.peek() AS path, 'x' AS digest, 1 AS ordinal",
        grab("maquette.peek", "", "text", "'m/1.sql'")
    );
    postgres.query("shop", PASSWORD, "shop", &forged).await.unwrap();
    for result in [
        contents(&postgres, &data).await.map(drop),
        prepare(&postgres, &data, PASSWORD).await,
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, DataError::Content { .. }), "{error:?}");
    }
    assert!(!is_superuser(&postgres).await);
}
