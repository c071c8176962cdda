//! Files that are easy to read wrongly.

use super::*;
use proptest::prelude::*;

fn lines(text: &str) -> Vec<u32> {
    statements("f.sql", text)
        .unwrap()
        .iter()
        .map(|statement| statement.line)
        .collect()
}

#[test]
fn semicolons_in_quotes_comments_and_bodies_end_nothing() {
    let text = "-- a; b\nSELECT 'a;''b';\n/* ; /* ; */ ; */ SELECT \"a;b\", E'\\';';\nDO $x$ BEGIN; $$;$$ END $x$;\n\
                CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;\n\
                CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b);\n;;\nSELECT $1";
    assert_eq!(lines(text), [2, 3, 4, 5, 6, 8]);
}

#[test]
fn a_file_that_can_not_run_in_a_transaction_is_known() {
    let alone = |text: &str| matches!(read("f.sql", text).unwrap(), Script::Single { .. });
    for text in [
        "create unique index concurrently i on t (a)",
        "CREATE TABLE t (); DROP INDEX CONCURRENTLY i;",
        "VACUUM ANALYZE t;",
        "BEGIN; CREATE TABLE a (); COMMIT; BEGIN; CREATE TABLE b (); COMMIT;",
        "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; COMMIT",
        "REINDEX TABLE CONCURRENTLY t",
    ] {
        assert!(alone(text), "{text}");
    }
    for text in [
        "CREATE INDEX i ON t (a); -- not CONCURRENTLY",
        "SAVEPOINT a; ROLLBACK TO a;",
        "SELECT 'VACUUM'; INSERT INTO t VALUES ('BEGIN; COMMIT')",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "",
    ] {
        assert!(!alone(text), "{text}");
    }
}

#[test]
fn a_wrapped_file_joins_our_transaction_and_keeps_its_lines() {
    let text = "BEGIN;\nCREATE TABLE é ();\nSELEC 1;\nCOMMIT;\n";
    let Script::Transaction { sql, statements } = read("f.sql", text).unwrap() else {
        panic!("not joined")
    };
    assert_eq!(sql, "     ;\nCREATE TABLE é ();\nSELEC 1;\n      ;\n");
    assert_eq!(
        statements.iter().map(|statement| statement.line).collect::<Vec<_>>(),
        [2, 3]
    );
    let position = sql.chars().take_while(|c| *c != 'S').count() + 1;
    assert_eq!(
        line_of(&sql, u32::try_from(position).unwrap(), 1),
        3,
        "PostgreSQL counts characters, not bytes"
    );
}

#[test]
fn what_only_psql_understands_is_refused_with_its_line() {
    for (text, line) in [
        ("SELECT 1;\n\\connect other\n", 2),
        ("CREATE TABLE t (a int);\n\nCOPY public.t (a) FROM stdin;\n1\n\\.\n", 3),
        ("SET SESSION AUTHORIZATION DEFAULT;", 1),
        ("\nCOPY (SELECT 1) TO STDOUT;", 2),
        ("RESET ROLE", 1),
    ] {
        match statements("f.sql", text) {
            Err(DataError::Unsupported { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(statements("f.sql", "COPY t FROM '/x'; SET LOCAL lock_timeout = 1; SELECT '\\.'").is_ok());
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "(?s)[a-zé$'\"/*\\-;() \\n\\\\]{0,200}") {
        if let Ok(statements) = statements("f.sql", &text) {
            let mut before = 0;
            for statement in statements {
                prop_assert!(before <= statement.start && statement.start < statement.end);
                prop_assert!(text.get(statement.start..statement.end).is_some());
                before = statement.end;
            }
        }
    }
}
