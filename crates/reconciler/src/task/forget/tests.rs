//! What stays and what goes.

use super::*;
use model::{Digest, EnvironmentSpec, Limits, Power, ServiceStack, Stack};

fn environment(live: Option<u64>, failed: Option<u64>) -> EnvironmentRow {
    EnvironmentRow {
        id: "e000000001".parse().unwrap(),
        project: "shop".parse().unwrap(),
        origin: Origin::PullRequest { number: 1 },
        label: "pr-1".parse().unwrap(),
        created: Timestamp(0),
        wanted: true,
        reason: String::new(),
        approved_commit: None,
        head: BTreeMap::new(),
        newest: None,
        live: live.map(Generation),
        failed: failed.map(Generation),
        power: Power::Running,
        suspended: None,
        ended: None,
        live_at: None,
        nudged: None,
        overrides: serde_json::json!({}),
        cluster: None,
    }
}

fn generation(n: u64, outcome: Option<Outcome>, restores: Option<u64>) -> GenerationRow {
    GenerationRow {
        environment: "e000000001".parse().unwrap(),
        generation: Generation(n),
        inputs: Digest::of(b""),
        spec: EnvironmentSpec {
            environment: "e000000001".parse().unwrap(),
            generation: Generation(n),
            project: "shop".parse().unwrap(),
            origin: Origin::PullRequest { number: 1 },
            sources: BTreeMap::new(),
            stack: Stack::Services(ServiceStack::default()),
            limits: Limits::default(),
            egress: model::Egress::default(),
            secrets: std::collections::BTreeMap::new(),
        },
        policy_commit: None,
        restores: restores.map(Generation),
        created: Timestamp(0),
        outcome,
        failure: None,
        notes: Vec::new(),
    }
}

fn gone(row: &EnvironmentRow, generations: &[GenerationRow], most: usize) -> Vec<u64> {
    forgettable(row, generations, most).into_iter().map(|n| n.0).collect()
}

#[test]
fn what_is_live_or_would_be_brought_back_is_never_forgotten() {
    let live = Some(Outcome::Live);
    let failed = Some(Outcome::Failed);
    let rows: Vec<_> = (1..=10).map(|n| generation(n, live, None)).collect();
    assert_eq!(gone(&environment(Some(10), None), &rows, 3), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(gone(&environment(Some(10), None), &rows, 20), [0_u64; 0]);
    // Everything since it was live last failed: all of that holds what people had.
    let mut rows: Vec<_> = (1..=2).map(|n| generation(n, live, None)).collect();
    rows.extend((3..=9).map(|n| generation(n, failed, None)));
    assert_eq!(gone(&environment(Some(2), Some(9)), &rows, 3), [1]);
    // The second one was brought back, by the last.
    rows.push(generation(10, live, Some(2)));
    assert_eq!(gone(&environment(Some(2), Some(9)), &rows, 1), [1, 3, 4, 5, 6, 7, 8]);
    // Nothing was ever live.
    let rows: Vec<_> = (1..=9).map(|n| generation(n, failed, None)).collect();
    assert_eq!(gone(&environment(None, Some(9)), &rows, 3), [0_u64; 0]);
}

#[test]
fn a_mirror_goes_when_nothing_names_it_for_long() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["shop--shop.git", "old--old.git", "notes", "plain.git"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let names = BTreeSet::from(["shop--shop.git".to_owned()]);
    mirrors_remove(directory.path(), &names, Duration::from_secs(3600)).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4, "it is too young");
    mirrors_remove(directory.path(), &names, Duration::ZERO).unwrap();
    assert!(!directory.path().join("old--old.git").exists());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
}
