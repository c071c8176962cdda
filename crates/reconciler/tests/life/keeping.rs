//! What is kept, for how long, and what happens when a forge or the room for environments is lost.

use crate::{
    bench::{Bench, LOOKS, PATIENCE, SETTINGS, branch, compose},
    gate::Door,
    goldens::builders,
};
use forge::local::{FileChange, NewPullRequest};
use model::{EnvironmentId, Generation, Origin, Phase, Power, SnapshotId, Timestamp};
use reconciler::{Keep, LostAccess, Settings};
use runtime::{Room, Runtime as _, simulator::Content};
use std::time::{Duration, Instant};
use store::{GoldenRow, GoldenState, Outcome};
use tokio::time::sleep;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// Waits until this is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if is().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it never was so: {what}");
}

async fn power(bench: &Bench, id: &EnvironmentId) -> Option<Power> {
    bench.simulator.observe(id).await.unwrap().map(|seen| seen.power)
}

fn patience(stop: Duration, remove: Duration) -> Settings {
    Settings {
        lost_access: LostAccess {
            stop_after: stop,
            remove_after: remove,
        },
        ..Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forge_that_locks_us_out_stops_environments_after_a_day_and_they_run_again() {
    let bench = Bench::with(patience(24 * HOUR, 400 * HOUR)).await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    for door in [Door::Silent, Door::Refused, Door::Hidden] {
        bench.gate.set(door);
        for _ in 0..20 {
            bench.pass(HOUR).await;
        }
        assert_eq!(bench.phase(&row.id).await, Phase::Live, "{door:?} for less than a day");
        bench.gate.set(Door::Open);
        until("access is back", || async {
            bench.nudge();
            bench.store.lost_access_list().await.unwrap().is_empty()
        })
        .await;
    }
    bench.gate.set(Door::Silent);
    until("it is suspended", || async {
        bench.pass(HOUR).await;
        bench.phase(&row.id).await == Phase::Suspended
    })
    .await;
    until("it is stopped", || async {
        power(&bench, &row.id).await == Some(Power::Stopped)
    })
    .await;
    assert!(!bench.inventory().await.is_empty(), "what people did is kept");
    let kept = bench.store.environment_get(&row.id).await.unwrap().unwrap();
    let reason = kept.suspension().unwrap().reason.clone();
    assert!(
        reason.contains("has not let Maquette read shop for") && reason.contains("30 s"),
        "{reason}"
    );

    bench.gate.set(Door::Open);
    bench.nudge();
    bench.reaches(number, Phase::Live, None).await;
    until("it runs", || async {
        power(&bench, &row.id).await == Some(Power::Running)
    })
    .await;
    let body = bench
        .comment_says(number, "and runs again: the forge has not let Maquette")
        .await;
    assert!(body.contains("live** with"), "{body}");
    // A new commit is more news than an old trouble.
    let commit = bench.push("feature", &compose("newer")).await;
    bench.reaches(number, Phase::Live, Some(&commit)).await;
    let live = format!("live** with `{}`", commit.short());
    let body = bench.comment_says(number, &live).await;
    assert!(!body.contains("runs again"), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_after_the_age_of_expiry_is_anything_removed_and_the_receipt_says_why() {
    let bench = Bench::with(patience(2 * HOUR, 400 * HOUR)).await;
    let settings = SETTINGS.replace("baseline: none", "baseline: none, expire_after: 6h");
    assert_ne!(settings, SETTINGS);
    let files = [FileChange::write("maquette.yaml", settings)];
    bench
        .forge
        .commit(&branch("main"), None, &files, "Expire")
        .await
        .unwrap();
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    bench.gate.set(Door::Refused);
    until("it is suspended", || async {
        bench.pass(HOUR).await;
        bench.phase(&row.id).await == Phase::Suspended
    })
    .await;
    until("it is removed", || async {
        bench.pass(HOUR).await;
        bench.phase(&row.id).await == Phase::Ended
    })
    .await;
    let receipt = bench.store.receipt_get(&row.id).await.unwrap().unwrap();
    assert!(
        receipt.reason.contains("has not let Maquette read shop for 6 h")
            && receipt.reason.contains("does not accept our token"),
        "{receipt:?}"
    );
    assert_eq!(bench.inventory().await, []);
    // It is back, and so is the environment of what is still open.
    bench.gate.set(Door::Open);
    bench.nudge();
    let anew = bench.reaches(number, Phase::Live, None).await;
    assert_ne!(anew.id, row.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_age_of_expiry_what_is_removed_was_stopped_before() {
    let bench = Bench::with(patience(24 * HOUR, 400 * HOUR)).await;
    bench.rule("{ baseline: none, expire_after: 1h }").await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    bench.gate.set(Door::Silent);
    until("it is removed", || async {
        bench.pass(HOUR).await;
        bench.phase(&row.id).await == Phase::Ended
    })
    .await;
    let events = bench.store.event_list(&row.id, 100).await.unwrap();
    assert!(events.iter().any(|event| event.kind == "suspended"), "{events:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policys_age_of_expiry_counts_after_a_restart_without_the_forge() {
    let mut bench = Bench::with(patience(2 * HOUR, 4 * HOUR)).await;
    bench.rule("{ baseline: none, expire_after: 1000h }").await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    bench.kill();
    bench.gate.set(Door::Silent);
    bench.start().await;
    until("it is away for longer than the configuration would wait", || async {
        bench.pass(HOUR / 2).await;
        let lost = bench.store.lost_access_list().await.unwrap();
        lost.iter().any(|lost| lost.seen >= 12 * HOUR)
    })
    .await;
    bench.stands(&row.id, Phase::Suspended).await;
    assert!(bench.store.environment_get(&row.id).await.unwrap().unwrap().wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_is_over_when_the_source_can_be_read_whatever_it_was_called() {
    let mut bench = Bench::with(patience(2 * HOUR, 400 * HOUR)).await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    bench.gate.set(Door::Refused);
    until("it is suspended", || async {
        bench.pass(HOUR).await;
        bench.phase(&row.id).await == Phase::Suspended
    })
    .await;
    bench.kill();
    bench.source = "renamed";
    bench.gate.set(Door::Open);
    bench.start().await;
    until("it is resumed, and nothing is noted", || async {
        let row = bench.store.environment_get(&row.id).await.unwrap().unwrap();
        row.suspension().is_none() && bench.store.lost_access_list().await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_listing_beside_not_found_removes_nothing() {
    let bench = Bench::with(patience(24 * HOUR, 400 * HOUR)).await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    for door in [Door::Empty, Door::Hidden] {
        bench.gate.set(door);
        for _ in 0..20 {
            bench.pass(Duration::from_secs(60)).await;
        }
        assert_eq!(bench.phase(&row.id).await, Phase::Live, "{door:?}");
    }
}

const DATA: &str = "services:\n  db:\n    image: postgres:15\n    environment: { POSTGRES_PASSWORD: x }\n";
pub(crate) const DATA_SETTINGS: &str = "stack:\n  data:\n    db: { migrations: db/*.sql }\n";

/// The policy branch's golden, which exists from here on as if somebody had made it.
pub(crate) async fn golden_of_main(bench: &Bench) -> GoldenRow {
    let files = [
        FileChange::write("compose.yaml", DATA),
        FileChange::write("maquette.yaml", DATA_SETTINGS),
        FileChange::write("db/1.sql", "SELECT 1;\n"),
    ];
    bench.forge.commit(&branch("main"), None, &files, "Data").await.unwrap();
    for _ in 0..LOOKS {
        if let Some(row) = bench.store.golden_list_all().await.unwrap().pop() {
            return row;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody wanted a golden");
}

fn keeper(golden: &SnapshotId) -> EnvironmentId {
    golden.as_str()[..10].parse().unwrap()
}

async fn exists(bench: &Bench, golden: &SnapshotId) -> bool {
    bench.simulator.snapshot_list().await.unwrap().contains(golden)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_golden_goes_when_nobody_has_wanted_it_for_long_with_a_receipt() {
    let bench = Bench::with(Settings {
        keep: Keep {
            golden_age: 200 * HOUR,
            ..Keep::default()
        },
        ..Settings::default()
    })
    .await;
    let wanted = golden_of_main(&bench).await.id;
    bench.simulator.snapshot_put(wanted.clone(), Content::new());
    // A lost store has forgotten this one.
    let stray: SnapshotId = "g0123456789abcdef".parse().unwrap();
    bench.simulator.snapshot_put(stray.clone(), Content::new());
    until("the stray one is found", || async {
        bench.nudge_goldens().await;
        bench.store.golden_get(&stray).await.unwrap().is_some()
    })
    .await;
    for _ in 0..10 {
        bench.nudge_goldens().await;
    }
    assert!(exists(&bench, &stray).await, "it is too young");
    bench.simulator.advance(201 * HOUR);
    until("the stray one is removed", || async {
        bench.nudge_goldens().await;
        !exists(&bench, &stray).await && bench.store.golden_get(&stray).await.unwrap().is_none()
    })
    .await;
    assert!(exists(&bench, &wanted).await, "the policy branch wants this one");
    let receipt = bench.store.receipt_get(&keeper(&stray)).await.unwrap().unwrap();
    assert!(receipt.reason.contains(stray.as_str()) && receipt.reason.contains("no environment has wanted it"));
    assert!(
        matches!(receipt.entries.as_slice(), [entry] if entry.gone.is_some()),
        "{receipt:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_pressure_goldens_that_nobody_wants_go_at_once() {
    let bench = Bench::new().await;
    let wanted = golden_of_main(&bench).await.id;
    bench.simulator.snapshot_put(wanted.clone(), Content::new());
    let strays: [SnapshotId; 2] = ["g0123456789abcdef", "gfedcba9876543210"].map(|id| id.parse().unwrap());
    for stray in &strays {
        bench.simulator.snapshot_put(stray.clone(), Content::new());
    }
    bench.simulator.set_room(Some(Room {
        total: 100,
        free: 5,
        reserve: 3,
    }));
    until("both are removed", || async {
        bench.nudge_goldens().await;
        !exists(&bench, &strays[0]).await && !exists(&bench, &strays[1]).await
    })
    .await;
    assert!(exists(&bench, &wanted).await, "the policy branch wants this one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_recovers_when_its_golden_is_mended() {
    let mut bench = Bench::new().await;
    let golden = golden_of_main(&bench).await.id;
    let number = {
        let files = [FileChange::write("page", "x")];
        let (name, main) = (branch("feature"), branch("main"));
        bench.forge.commit(&name, Some(&main), &files, "Change").await.unwrap();
        let new = NewPullRequest::new(name, main, "Data");
        bench.forge.open_pull_request(new).await.unwrap().number
    };
    bench.reaches(number, Phase::Starting, None).await;
    until("somebody makes it", || async { !builders(&bench).await.is_empty() }).await;
    bench.kill();
    for row in bench.store.environment_list(None, false).await.unwrap() {
        if row.origin == Origin::Golden {
            bench
                .store
                .generation_outcome(&row.id, Generation(1), Outcome::Failed, None)
                .await
                .unwrap();
        }
    }
    bench.start().await;
    // For two simulated minutes.
    until("the golden has failed", || async {
        let row = bench.store.golden_get(&golden).await.unwrap();
        row.unwrap().state == GoldenState::Failed
    })
    .await;
    let row = bench.reaches(number, Phase::Failed, None).await;
    bench.comment_says(number, "the golden could not be made").await;
    // Somebody has mended it.
    bench.simulator.snapshot_put(golden.clone(), Content::new());
    until("it goes on by itself", || async {
        bench.nudge_goldens().await;
        let seen = bench.simulator.observe(&row.id).await.unwrap();
        seen.is_some_and(|seen| seen.envelope == Some(Generation(2)))
    })
    .await;
    let used = bench.store.golden_get(&golden).await.unwrap().unwrap();
    assert_eq!(used.state, GoldenState::Ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_room_waits_visibly_and_goes_on_by_himself() {
    let bench = Bench::new().await;
    let (total, reserve) = (100, 10);
    bench.simulator.set_room(Some(Room {
        total,
        free: 9,
        reserve,
    }));
    let number = bench.open("feature").await;
    bench
        .comment_says(number, "waits for room, and goes on by itself")
        .await;
    let row = bench.reaches(number, Phase::Starting, None).await;
    // Far longer than anything else is tried.
    for _ in 0..40 {
        bench.pass(Duration::from_secs(60)).await;
    }
    assert_eq!(bench.phase(&row.id).await, Phase::Starting);
    let attempts = bench.store.attempt_list(&row.id, Generation(1)).await.unwrap();
    assert!(attempts.values().any(|attempt| attempt.waits), "{attempts:?}");
    let told = || async {
        let events = bench.store.event_list(&row.id, 100).await.unwrap();
        events.iter().filter(|event| event.kind == "waits").count()
    };
    until("it is noted", || async { told().await > 0 }).await;
    assert_eq!(told().await, 1, "it is noted once");
    bench.simulator.set_room(Some(Room {
        total,
        free: 50,
        reserve,
    }));
    bench.reaches(number, Phase::Live, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_generations_and_ended_environments_are_forgotten() {
    let bench = Bench::with(Settings {
        keep: Keep {
            generations: 2,
            ended_age: 100 * HOUR,
            ..Keep::default()
        },
        ..Settings::default()
    })
    .await;
    let number = bench.open("feature").await;
    let mut row = bench.reaches(number, Phase::Live, None).await;
    for n in 0..5 {
        let commit = bench.push("feature", &compose(&format!("text {n}"))).await;
        row = bench.reaches(number, Phase::Live, Some(&commit)).await;
    }
    until("old generations are forgotten", || async {
        bench.store.generation_list(&row.id).await.unwrap().len() == 2
    })
    .await;
    assert_eq!(bench.phase(&row.id).await, Phase::Live);
    bench.forge.close(number).await.unwrap();
    bench.reaches(number, Phase::Ended, None).await;
    bench.comment_says(number, "verified gone").await;
    bench.simulator.advance(101 * HOUR);
    until("the environment is forgotten", || async {
        bench.store.environment_get(&row.id).await.unwrap().is_none()
    })
    .await;
    assert!(
        bench.store.receipt_get(&row.id).await.unwrap().is_some(),
        "the receipt is kept"
    );
    assert!(bench.store.ledger_list(&row.id).await.unwrap().is_empty());
    assert_ne!(bench.simulator.now(), Timestamp(0));
}
