//! How goldens are made: again after failures, and from the policy branch's own description of its database.

use crate::{
    bench::{Bench, branch},
    keeping::{DATA_SETTINGS, HOUR, golden_of_main, until},
};
use forge::local::{FileChange, NewPullRequest};
use model::{Generation, MountKind, Origin};
use runtime::simulator::Behaviour;
use std::{collections::BTreeSet, time::Duration};
use store::{EnvironmentRow, GenerationRow};
use tokio::time::sleep;

/// Everything that has made a golden or is making one. One whose generation is still to be written down does not count.
pub(crate) async fn builders(bench: &Bench) -> Vec<EnvironmentRow> {
    let mut builders = Vec::new();
    for row in bench.store.environment_list(None, true).await.unwrap() {
        if row.origin == Origin::Golden && bench.store.generation_newest(&row.id).await.unwrap().is_some() {
            builders.push(row);
        }
    }
    builders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_golden_that_fails_is_tried_again_however_often_it_has_failed() {
    let bench = Bench::new().await;
    bench.simulator.behave("db", Behaviour::Exits(3));
    golden_of_main(&bench).await;
    // The pause after the seventh failure is longer than two hours, and a golden that is wanted is noted as used every hour.
    until("it is tried for the eighth time", || async {
        bench.simulator.advance(HOUR / 20);
        sleep(Duration::from_millis(50)).await;
        builders(&bench).await.len() >= 8
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_golden_is_made_in_the_volume_that_its_engine_mounts_whatever_a_branch_calls_its_own() {
    let compose = |volume: &str| {
        format!(
            "services:\n  db:\n    image: postgres:15\n    environment: {{ POSTGRES_PASSWORD: x }}\n    \
             volumes: [\"{volume}:/var/lib/postgresql/data\"]\nvolumes:\n  {volume}: {{}}\n"
        )
    };
    let bench = Bench::new().await;
    let main = [
        FileChange::write("compose.yaml", compose("pgdata")),
        FileChange::write("maquette.yaml", DATA_SETTINGS),
        FileChange::write("db/1.sql", "SELECT 1;\n"),
        FileChange::write("db/2.sql", "SELECT 2;\n"),
    ];
    bench.forge.commit(&branch("main"), None, &main, "Data").await.unwrap();
    let theirs = [
        FileChange::write("compose.yaml", compose("dbdata")),
        FileChange::write("db/2.sql", "SELECT 22;\n"),
    ];
    let (name, from) = (branch("feature"), branch("main"));
    let change = bench.forge.commit(&name, Some(&from), &theirs, "Change");
    change.await.unwrap();
    let new = NewPullRequest::new(name, from, "Another migration");
    bench.forge.open_pull_request(new).await.unwrap();
    bench.nudge();
    until(
        "there is one with all migrations and one with what both have",
        || async {
            // Each may have been tried more than once.
            let builders = builders(&bench).await;
            let made: BTreeSet<_> = builders.iter().map(|row| row.overrides.to_string()).collect();
            made.len() == 2
        },
    )
    .await;
    for row in builders(&bench).await {
        let made = bench.store.generation_get(&row.id, Generation(1)).await.unwrap();
        assert_eq!(
            volumes(&made.unwrap()),
            ("pgdata".to_owned(), vec!["pgdata".to_owned()])
        );
    }
}

/// The volume that becomes the golden, and those that the engine mounts.
fn volumes(made: &GenerationRow) -> (String, Vec<String>) {
    let stack = made.spec.services().unwrap();
    let (name, set) = stack.data.first_key_value().unwrap();
    let mounts = stack.services[name].workload.mounts.iter();
    let mounted = mounts.filter_map(|mount| match &mount.kind {
        MountKind::Volume { volume } => Some(volume.to_string()),
        _ => None,
    });
    (set.volume.to_string(), mounted.collect())
}
