//! What a stack can ask of a runtime that has no files of commits and prepares no databases, as on a cluster.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on fails")]

mod support;

use blueprint::{Blueprint, MemoryTree};
use model::{Capabilities, Root};
use support::{context, docker};

fn cluster() -> Capabilities {
    Capabilities {
        runtime: "kubernetes".into(),
        sources: false,
        databases: false,
        ..docker()
    }
}

fn tree(compose: &str, settings: &str) -> MemoryTree {
    MemoryTree::new([
        ("compose.yaml", compose),
        ("maquette.yaml", settings),
        ("db/1.sql", "select 1"),
    ])
}

#[test]
fn what_it_does_not_have_is_refused_where_it_stands() {
    let compose = "services:\n  web:\n    image: node:20\n    ports: ['80']\n    volumes:\n      - ./db:/app\n  db:\n    image: postgres:16\n    \
                   environment: { POSTGRES_PASSWORD: x }\n";
    let tree = tree(compose, "stack:\n  data:\n    db: { migrations: db/*.sql }\n");
    let problems = Blueprint::read(&tree, Some(&tree), &context(), &cluster()).unwrap_err();
    let told = problems.to_string();
    for wanted in [
        "compose.yaml:6:",
        "service `web` mounts files of the commit at `/app`, which the runtime `kubernetes` does not have",
        "maquette.yaml:3:",
        "the data of service `db` is not migrated and seeded by the runtime `kubernetes`",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert!(
        Blueprint::read(&tree, Some(&tree), &context(), &docker()).is_ok(),
        "others have both"
    );
}

#[test]
fn an_engine_is_an_image_like_any_other() {
    let compose = "services:\n  web: { image: 'node:20', ports: ['80'], depends_on: [db] }\n  db:\n    image: postgres:16\n    \
                   environment: { POSTGRES_PASSWORD_FILE: /run/secrets/x }\n    volumes: ['db:/var/lib/postgresql/data']\nvolumes: { db: }\n";
    let tree = tree(compose, "stack: {}\n");
    let read =
        Blueprint::read(&tree, Some(&tree), &context(), &cluster()).unwrap_or_else(|problems| panic!("{problems}"));
    let db = &read.stack.services[&"db".parse().unwrap()];
    assert!(matches!(&db.workload.root, Root::Image { reference, .. } if reference == "postgres:16"));
    assert!(read.stack.data.is_empty());
}
