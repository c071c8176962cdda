//! Properties of golden keys and of the decision between keeping and cloning.

use super::*;
use model::SeedFile;
use proptest::prelude::*;

fn migration(name: &str, content: &str) -> Migration {
    Migration {
        path: format!("migrations/{name}.sql"),
        digest: Digest::of(content.as_bytes()),
    }
}

fn data(migrations: Vec<Migration>, seeds: &[&str]) -> DataSet {
    let seeds = seeds
        .iter()
        .map(|text| SeedFile {
            path: "seed.sql".to_owned(),
            digest: Digest::of(text.as_bytes()),
        })
        .collect();
    DataSet {
        volume: "db".parse().unwrap(),
        database: "shop".to_owned(),
        user: "shop".to_owned(),
        password: "x".into(),
        migrations,
        seeds,
    }
}

fn migrations() -> impl Strategy<Value = Vec<Migration>> {
    // Few names and contents, so that lists often share a beginning.
    prop::collection::vec((0..4u8, 0..2u8), 0..6).prop_map(|list| {
        let mut seen = BTreeSet::new();
        list.into_iter()
            .filter(|(name, _)| seen.insert(*name))
            .map(|(name, content)| migration(&name.to_string(), &content.to_string()))
            .collect()
    })
}

proptest! {
    #[test]
    fn what_is_kept_becomes_exactly_what_is_wanted(applied in migrations(), wanted in migrations()) {
        let prefix = wanted.starts_with(&applied);
        match keep_or_clone(&applied, &data(wanted.clone(), &[])) {
            Decision::Keep { pending } => {
                prop_assert!(prefix);
                prop_assert_eq!([applied, pending].concat(), wanted);
            }
            Decision::CloneAnew { why } => {
                prop_assert!(!prefix);
                let text = why.to_string();
                prop_assert!(applied.iter().any(|migration| text.contains(&migration.path)), "{text}");
            }
        }
    }

    #[test]
    fn a_golden_holds_exactly_the_common_beginning(policy in migrations(), wanted in migrations()) {
        let plan = golden_for("15.18", &data(policy.clone(), &["s"]), &data(wanted.clone(), &["s"]));
        prop_assert!(policy.starts_with(&plan.migrations) && wanted.starts_with(&plan.migrations));
        prop_assert!(policy.get(plan.migrations.len()) != wanted.get(plan.migrations.len()) || policy == wanted);
        prop_assert_eq!(!plan.seeds.is_empty(), wanted.starts_with(&policy));
        // Whoever shares the same beginning shares the golden.
        let again = golden_for("15.18", &data(policy, &["s"]), &data(plan.migrations.clone(), &["s"]));
        prop_assert_eq!(again.id == plan.id, again == plan);
    }
}

#[test]
fn everything_that_decides_the_bytes_is_in_the_key() {
    let base = data(vec![migration("1", "a")], &["s"]);
    let id = |engine: &str, data: &DataSet| golden_for(engine, data, data).id;
    let first = id("15.18", &base);
    let renamed = DataSet {
        database: "other".to_owned(),
        ..base.clone()
    };
    let owned = DataSet {
        user: "other".to_owned(),
        ..base.clone()
    };
    let seeded = data(base.migrations.clone(), &["t"]);
    let moved = data(vec![migration("2", "a")], &["s"]);
    let others = [
        id("15.19", &base),
        id("15.18", &renamed),
        id("15.18", &owned),
        id("15.18", &seeded),
        id("15.18", &moved),
    ];
    assert!(!others.contains(&first));
    assert_eq!(BTreeSet::from(others).len(), 5);
    let password = DataSet {
        password: "y".into(),
        ..base
    };
    assert_eq!(id("15.18", &password), first, "another password needs no other golden");
}

#[test]
fn the_comment_can_say_why_data_was_cloned_anew() {
    let [a, b, c] = ["a", "b", "c"].map(|name| migration(name, name));
    let why = |applied: &[&Migration], wanted: &[&Migration]| {
        let own = |list: &[&Migration]| list.iter().copied().cloned().collect::<Vec<_>>();
        match keep_or_clone(&own(applied), &data(own(wanted), &[])) {
            Decision::CloneAnew { why } => why,
            Decision::Keep { .. } => panic!("kept"),
        }
    };
    let path = |name: &str| format!("migrations/{name}.sql");
    assert_eq!(
        why(&[&a, &b], &[&a, &migration("b", "new")]),
        Divergence::Changed { path: path("b") }
    );
    assert_eq!(why(&[&a, &b], &[&a]), Divergence::Removed { path: path("b") });
    assert_eq!(
        why(&[&a, &c], &[&a, &b, &c]),
        Divergence::Inserted {
            path: path("b"),
            before: path("c")
        }
    );
    assert_eq!(why(&[&a, &b], &[&b, &a]), Divergence::Reordered { path: path("a") });
}
