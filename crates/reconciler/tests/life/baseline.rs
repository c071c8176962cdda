//! The environment of the base branch.

use crate::{
    bench::{Bench, LOOKS, branch, compose},
    gate::Door,
    keeping::until,
};
use model::{Origin, Phase, Power};
use std::time::Duration;
use store::EnvironmentRow;
use tokio::time::sleep;

/// The newest baseline, once there is one for which this holds.
async fn baseline(bench: &Bench, what: &str, holds: impl AsyncFn(&EnvironmentRow) -> bool) -> EnvironmentRow {
    for _ in 0..LOOKS {
        let rows = bench.store.environment_list(None, true).await.unwrap();
        let found = rows
            .into_iter()
            .rfind(|row| matches!(row.origin, Origin::Baseline { .. }));
        if let Some(row) = found
            && holds(&row).await
        {
            return row;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let rows = bench.store.environment_list(None, true).await.unwrap();
    panic!("the baseline never was {what}: {rows:#?}");
}

async fn in_phase(bench: &Bench, phase: Phase) -> EnvironmentRow {
    let row = baseline(bench, phase.word(), async |row| bench.phase(&row.id).await == phase).await;
    // The row was read before its phase.
    bench.store.environment_get(&row.id).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_seen_live_and_sleeps_and_each_push_is_tried() {
    let bench = Bench::new().await;
    let ruled = bench.rule("{}").await;
    let at = |commit: model::CommitId, phase: Phase| {
        let bench = &bench;
        async move {
            baseline(bench, "at the commit", async |row| {
                row.head.values().any(|head| *head == commit) && bench.phase(&row.id).await == phase
            })
            .await
        }
    };
    let row = at(ruled, Phase::Sleeping).await;
    assert_eq!((row.label.as_str(), row.power), ("base", Power::Stopped));
    // It sleeps in truth: it was live and is stopped.
    for _ in 0..LOOKS {
        let observed = runtime::Runtime::observe(&bench.simulator, &row.id).await.unwrap();
        if observed.is_some_and(|observed| observed.power == Power::Stopped) {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let observed = runtime::Runtime::observe(&bench.simulator, &row.id).await.unwrap();
    assert_eq!(observed.unwrap().power, Power::Stopped);

    let handle = bench.handle.clone().unwrap();
    let woken = handle
        .create_branch(&"shop".parse().unwrap(), &branch("main"), "a test wants it")
        .await
        .unwrap();
    assert_eq!(woken.id, row.id, "the same one");
    bench.stands(&row.id, Phase::Live).await;

    let broken = compose("x").replace("    command:", "    comand:");
    let files = [forge::local::FileChange::write("compose.yaml", broken)];
    let broken = bench
        .forge
        .commit(&branch("main"), None, &files, "Break")
        .await
        .unwrap();
    let told = at(broken, Phase::LiveOlder).await;
    assert_eq!(told.id, row.id);
    let files = [forge::local::FileChange::write("compose.yaml", compose("mended"))];
    let mended = bench.forge.commit(&branch("main"), None, &files, "Mend").await.unwrap();
    let asleep = at(mended, Phase::Sleeping).await;
    assert_eq!(asleep.power, Power::Stopped, "it goes back to sleep after a push");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_decides_whether_there_is_one() {
    let bench = Bench::new().await;
    bench.rule("{ baseline: awake }").await;
    let row = in_phase(&bench, Phase::Live).await;
    assert_eq!(row.power, Power::Running);
    let generations = bench.store.generation_list(&row.id).await.unwrap().len();
    bench.rule("{ baseline: asleep }").await;
    let asleep = in_phase(&bench, Phase::Sleeping).await;
    assert_eq!(asleep.id, row.id);
    assert!(bench.store.generation_list(&row.id).await.unwrap().len() <= generations + 1);
    bench.rule("{ baseline: none }").await;
    let ended = in_phase(&bench, Phase::Ended).await;
    assert!(ended.reason.contains("no baseline"), "{}", ended.reason);
    assert_eq!(bench.inventory().await, []);
    // One that somebody asks for is theirs.
    let handle = bench.handle.clone().unwrap();
    let asked = handle
        .create_branch(&"shop".parse().unwrap(), &branch("main"), "a test wants it")
        .await
        .unwrap();
    bench.stands(&asked.id, Phase::Live).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(bench.phase(&asked.id).await, Phase::Live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_deleted_comes_back_with_the_next_push() {
    let bench = Bench::new().await;
    bench.rule("{}").await;
    let row = in_phase(&bench, Phase::Sleeping).await;
    let handle = bench.handle.clone().unwrap();
    handle.delete(&row.id, "deleted by a test", false).await.unwrap();
    bench.stands(&row.id, Phase::Ended).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(
        in_phase(&bench, Phase::Ended).await.id,
        row.id,
        "it came back by itself"
    );
    bench.rule("{ sleep_after: 5m }").await;
    assert_ne!(in_phase(&bench, Phase::Sleeping).await.id, row.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environments_of_branches_survive_force_and_a_new_branch_of_the_name() {
    let bench = Bench::new().await;
    let first = bench.push("topic", &compose("topic")).await;
    let handle = bench.handle.clone().unwrap();
    let row = handle
        .create_branch(&"shop".parse().unwrap(), &branch("topic"), "a test wants it")
        .await
        .unwrap();
    bench.stands(&row.id, Phase::Live).await;
    let follows = |commit: model::CommitId| {
        let (bench, id) = (&bench, row.id.clone());
        async move {
            for _ in 0..LOOKS {
                let now = bench.store.environment_get(&id).await.unwrap().unwrap();
                if now.head.values().any(|head| *head == commit) && bench.phase(&id).await == Phase::Live {
                    assert!(now.wanted, "{}", now.reason);
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
            panic!("it never followed to {commit}");
        }
    };
    bench.push("topic", &compose("second")).await;
    // With force, to a commit without a common history.
    let files = [
        forge::local::FileChange::write("compose.yaml", compose("forced")),
        forge::local::FileChange::write("maquette.yaml", crate::bench::SETTINGS),
    ];
    let forced = bench.forge.commit_create(None, &files, "Anew").await.unwrap();
    bench.set_branch("topic", &forced);
    follows(forced).await;
    // Deleted and made again before anybody has looked twice: the one look in between says that it is gone.
    bench.gate.set(Door::Silent);
    bench.forge.delete_branch(&branch("topic")).await.unwrap();
    bench.set_branch("topic", &first);
    bench.gate.miss(&branch("topic"));
    bench.gate.set(Door::Open);
    until("somebody has looked", || async {
        bench.nudge();
        bench.gate.has_missed()
    })
    .await;
    follows(first.clone()).await;
    // Gone for good; a later branch of that name is not the one that somebody wanted an environment of.
    bench.forge.delete_branch(&branch("topic")).await.unwrap();
    let ended = bench.stands(&row.id, Phase::Ended).await;
    assert_eq!(ended.reason, "branch topic was deleted");
    bench.set_branch("topic", &first);
    sleep(Duration::from_millis(500)).await;
    let rows = bench.store.environment_list(None, false).await.unwrap();
    assert!(rows.is_empty(), "{rows:#?}");
    assert_eq!(bench.inventory().await, []);
}
