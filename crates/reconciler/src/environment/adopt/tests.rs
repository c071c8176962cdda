//! What of a spare's volumes an environment keeps.

use super::*;
use crate::spare::tests::{engine, stack};
use model::{Digest, EngineOffer, Migration, Staging, Value};

fn capabilities() -> Capabilities {
    Capabilities {
        runtime: "test".to_owned(),
        staging: Staging::Levels,
        services: true,
        objects: false,
        host_roots: true,
        images: false,
        engines: vec![EngineOffer {
            kind: "postgres".to_owned(),
            major: 15,
            version: "15.1".to_owned(),
        }],
        snapshots: true,
        freeze: true,
        sources: true,
        databases: true,
        features: std::collections::BTreeSet::new(),
    }
}

fn migrations(names: &[&str]) -> Vec<Migration> {
    let migration = |name: &&str| Migration {
        path: (*name).to_owned(),
        digest: Digest::of(name.as_bytes()),
    };
    names.iter().map(migration).collect()
}

/// A database and a queue; the database has these migrations.
fn with_data(names: &[&str]) -> ServiceStack {
    let mut stack = stack(&[("db", engine("postgres")), ("queue", engine("rabbitmq"))]);
    let set = DataSet {
        volume: "db".parse().unwrap(),
        database: "shop".to_owned(),
        user: "shop".to_owned(),
        password: Value::Plain("secret".to_owned()),
        migrations: migrations(names),
        seeds: Vec::new(),
    };
    stack.data.insert("db".parse().unwrap(), set);
    stack
}

/// A spare as the policy branch with these migrations makes it, what is known of it, and that branch's databases.
struct Spare {
    stack: ServiceStack,
    facts: BTreeMap<ServiceName, DataFact>,
    policy: BTreeMap<ServiceName, (Service, DataSet)>,
}

fn spare(names: &[&str]) -> Spare {
    let mut stack = with_data(names);
    let policy = crate::heads::databases(&stack);
    let (service, (engine, set)) = policy.first_key_value().unwrap();
    let origin = origin_of_new(&capabilities(), Some(engine), policy.get(service), set);
    stack.volumes.get_mut(&set.volume).unwrap().origin = origin;
    let fact = DataFact {
        incarnation: Generation(1),
        prepared: true,
        seeded: true,
        applied: set.migrations.clone(),
        ..DataFact::default()
    };
    let facts = BTreeMap::from([(service.clone(), fact)]);
    Spare { stack, facts, policy }
}

/// The incarnations of database and queue of an environment of generation 2.
fn adopted(spare: &Spare, mut wanted: ServiceStack, policy: &Spare) -> (u64, u64) {
    volumes(
        &capabilities(),
        &mut wanted,
        Generation(2),
        &spare.stack,
        &spare.facts,
        &policy.policy,
    );
    let of = |name: &str| wanted.volumes[&name.parse().unwrap()].incarnation.0;
    (of("db"), of("queue"))
}

#[test]
fn what_a_new_environment_would_get_stays() {
    let spare = spare(&["1"]);
    assert_eq!(adopted(&spare, with_data(&["1"]), &spare), (1, 1));
    // The branch's own migrations are run on it.
    assert_eq!(adopted(&spare, with_data(&["1", "2"]), &spare), (1, 1));
}

#[test]
fn what_a_new_environment_would_not_get_is_made_anew() {
    let made = spare(&["1"]);
    // The branch does not have the migration that the golden holds.
    assert_eq!(adopted(&made, with_data(&[]), &made), (2, 1));
    // The policy branch has moved on since.
    assert_eq!(adopted(&made, with_data(&["1", "2"]), &spare(&["1", "2"])), (2, 1));
    // Its engines have not come as far as that.
    let unfilled = Spare {
        facts: BTreeMap::new(),
        ..spare(&["1"])
    };
    assert_eq!(adopted(&unfilled, with_data(&["1"]), &unfilled), (2, 1));
}

#[test]
fn seeds_that_only_the_branch_has_are_run() {
    let made = spare(&["1"]);
    let mut wanted = with_data(&["1"]);
    let set = wanted.data.get_mut(&"db".parse::<ServiceName>().unwrap()).unwrap();
    set.seeds = vec![model::SeedFile {
        path: "seed.sql".to_owned(),
        digest: Digest::of(b"seed"),
    }];
    assert_eq!(adopted(&made, wanted, &made), (2, 1));
}

#[test]
fn what_another_engine_wrote_is_made_anew() {
    let spare = spare(&["1"]);
    for (name, incarnations) in [("queue", (1, 2)), ("db", (2, 1))] {
        let mut wanted = with_data(&["1"]);
        let service = wanted.services.get_mut(&name.parse::<ServiceName>().unwrap()).unwrap();
        service.stop_grace_ms += 1;
        assert_eq!(adopted(&spare, wanted, &spare), incarnations, "{name}");
    }
}
