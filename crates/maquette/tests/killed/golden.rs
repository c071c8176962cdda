//! Each process, killed at each step of the making of a golden.

use crate::{
    every_step::{all, kills, sampled},
    kill::{PATIENCE, PROCESSES, Part, Subject, open_store, steps_after, strike},
    left::nothing_is_left,
    life::{Life, ended, give, nudge, running, seen, write},
    rig::Rig,
};
use model::{EnvironmentId, Generation, Origin, SnapshotId};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use store::{EnvironmentRow, GoldenState};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_step_of_its_making_a_golden_is_made_and_its_maker_ends() {
    let mut rig = running().await;
    let since = Instant::now();
    let makers = made(&rig, &BTreeSet::new()).await;
    let mut points = BTreeSet::new();
    for id in &makers {
        seen(&rig, Part::Golden, id, Generation(0), &mut points).await;
    }
    assert!(points.len() > 8, "{points:?}");
    let kills = sampled(kills(&points.iter().collect::<Vec<_>>(), all()));
    for (n, (point, process)) in kills.iter().enumerate() {
        eprintln!("{:?}, killing {process:?} at {point}", since.elapsed());
        let before = ready(&rig).await;
        reseed(&rig, &format!("seed {n}")).await;
        strike(&mut rig, &Subject::new(Origin::Golden), point, *process).await;
        made(&rig, &before).await;
    }
    for process in PROCESSES {
        assert!(kills.iter().any(|(_, who)| *who == process));
    }
    // And it is of use.
    let (life, commit) = Life::open(&rig, "after").await;
    let id = life.live(&rig, &commit).await;
    let rows = life.sql(&rig, "SELECT text FROM note").await;
    assert_eq!(rows, format!("seed {}\n", kills.len() - 1));
    life.close(&rig).await;
    life.ended(&rig, &id).await;
    nothing_is_left(&mut rig).await;
}

/// Changes what goldens are made from, on the policy branch.
pub(crate) async fn reseed(rig: &Rig, text: &str) {
    let files = [write("seed.sql", format!("INSERT INTO note VALUES ('{text}');\n"))];
    let main = "main".parse().unwrap();
    rig.forge.commit(&main, None, &files, "Another seed").await.unwrap();
    give(rig);
    nudge(rig).await;
}

/// The goldens that can be cloned.
pub(crate) async fn ready(rig: &Rig) -> BTreeSet<SnapshotId> {
    let store = open_store(rig).await;
    let rows = store.golden_list_all().await.unwrap();
    store.close().await;
    let ready = rows.into_iter().filter(|row| row.state == GoldenState::Ready);
    ready.map(|row| row.id).collect()
}

/// All environments that have ever made a golden, or make one.
pub(crate) async fn makers(rig: &Rig) -> BTreeSet<EnvironmentId> {
    let store = open_store(rig).await;
    let rows = store.environment_list(None, true).await.unwrap();
    store.close().await;
    let makers = rows.into_iter().filter(|row| row.origin == Origin::Golden);
    makers.map(|row| row.id).collect()
}

/// Waits until a step of the environment that makes the next golden has begun. One that has ended by the time somebody looks has
/// had it.
pub(crate) async fn begun(rig: &Rig, step: &str, before: &BTreeSet<EnvironmentId>) {
    let store = open_store(rig).await;
    let since = Instant::now();
    loop {
        let rows = store.environment_list(None, true).await.unwrap();
        let is_next = |row: &EnvironmentRow| row.origin == Origin::Golden && !before.contains(&row.id);
        if let Some(row) = rows.into_iter().find(is_next) {
            let steps = steps_after(&store, &row.id, Generation(0)).await;
            if row.ended.is_some() || steps.iter().any(|row| row.step == step) {
                store.close().await;
                return;
            }
        }
        assert!(since.elapsed() < PATIENCE, "{step} never began\n{}", rig.log());
        sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until there is one golden more and none is being made. Returns the environments that have made goldens until now: all
/// of them have ended, with a receipt, and nothing is left of them.
pub(crate) async fn made(rig: &Rig, before: &BTreeSet<SnapshotId>) -> Vec<EnvironmentId> {
    let since = Instant::now();
    loop {
        let store = open_store(rig).await;
        let goldens = store.golden_list_all().await.unwrap();
        let makers = store.environment_list(None, true).await.unwrap();
        store.close().await;
        let fresh: Vec<_> = goldens.iter().filter(|row| !before.contains(&row.id)).collect();
        let makers: Vec<_> = makers.into_iter().filter(|row| row.origin == Origin::Golden).collect();
        let at_rest = makers.iter().all(|row| row.ended.is_some());
        if let [only] = fresh.as_slice()
            && only.state == GoldenState::Ready
            && at_rest
        {
            let tree = rig
                .root
                .join("cells/pool/snapshots")
                .join(only.id.as_str())
                .join("tree");
            assert!(
                tree.join("data/PG_VERSION").exists() || tree.join("PG_VERSION").exists(),
                "{tree:?}"
            );
            let ids: Vec<EnvironmentId> = makers.into_iter().map(|row| row.id).collect();
            for id in &ids {
                ended(rig, id).await;
            }
            return ids;
        }
        assert!(
            since.elapsed() < PATIENCE,
            "the golden was never made: {fresh:#?}\n{}",
            rig.log()
        );
        sleep(Duration::from_millis(20)).await;
    }
}
