//! Spares: made when nothing else is to do, adopted by one environment, gone when the machine needs their memory.

use crate::{
    bench::{Bench, LOOKS, SETTINGS, branch, compose},
    gate::Door,
    keeping::{HOUR, until},
};
use forge::local::{FileChange, LocalHead, NewPullRequest};
use model::{CommitId, EnvironmentId, Origin, Phase, ServiceFact};
use reconciler::{Memory, MemoryReading, SpareFor, SpareSettings};
use runtime::{Runtime, simulator::Behaviour};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use store::EnvironmentRow;
use tokio::time::sleep;

const GIB: u64 = 1 << 30;

/// A machine of 8 GiB of which as much is available as the test says.
#[derive(Debug)]
struct Injected(AtomicU64);

impl Memory for Injected {
    fn read(&self) -> Option<MemoryReading> {
        Some(MemoryReading {
            total: 8 * GIB,
            available: self.0.load(Ordering::SeqCst),
            stalled_percent: Some(0.0),
        })
    }
}

/// A bench on which each project has a spare, and the memory of its machine.
async fn bench_with(available: u64) -> (Bench, Arc<Injected>) {
    let mut bench = Bench::new().await;
    let memory = Arc::new(Injected(AtomicU64::new(available)));
    bench.kill();
    bench.settings.spares = SpareSettings {
        per_project: 1,
        wanted_for: SpareFor::AnyEngine,
        memory_kept: None,
        memory: Arc::clone(&memory) as Arc<dyn Memory>,
    };
    bench.start().await;
    (bench, memory)
}

async fn bench() -> Bench {
    bench_with(4 * GIB).await.0
}

async fn all(bench: &Bench) -> Vec<EnvironmentRow> {
    let mut rows = bench.store.environment_list(None, true).await.unwrap();
    rows.retain(|row| row.origin == Origin::Spare);
    rows
}

/// Waits for a spare that can be adopted and is not `but`.
async fn ready(bench: &Bench, but: Option<&EnvironmentId>) -> EnvironmentRow {
    for _ in 0..LOOKS {
        let rows = all(bench).await;
        let found = rows
            .into_iter()
            .find(|row| row.wanted && row.live.is_some() && Some(&row.id) != but);
        if let Some(row) = found {
            return row;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("there is no spare: {:#?}", why(bench).await)
}

async fn why(bench: &Bench) -> Option<String> {
    let reports = bench.handle.as_ref().unwrap().spares().await.unwrap();
    reports.into_iter().next().and_then(|report| report.why_fewer)
}

async fn why_says(bench: &Bench, text: &str) {
    for _ in 0..LOOKS {
        if why(bench).await.is_some_and(|why| why.contains(text)) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it is never said {text:?}: {:?}", why(bench).await);
}

async fn cache(bench: &Bench, id: &EnvironmentId) -> ServiceFact {
    let observed = bench.simulator.observe(id).await.unwrap().unwrap();
    observed.services[&"cache".parse().unwrap()].clone()
}

async fn ended(bench: &Bench, id: &EnvironmentId) -> EnvironmentRow {
    let row = bench.stands(id, Phase::Ended).await;
    let receipt = bench.store.receipt_get(id).await.unwrap().expect("a receipt");
    assert!(
        !receipt.entries.is_empty() && receipt.entries.iter().all(|entry| entry.gone.is_some()),
        "{receipt:#?}"
    );
    row
}

/// Ends all spares as an operator does who wants none any more; then nothing is left.
async fn without(bench: &mut Bench) {
    bench.kill();
    bench.settings.spares.per_project = 0;
    bench.start().await;
    for row in all(bench).await {
        bench.stands(&row.id, Phase::Ended).await;
    }
    assert_eq!(bench.inventory().await, [], "something is left over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_adopts_the_spare_and_the_next_one_is_made() {
    let mut bench = bench().await;
    let spare = ready(&bench, None).await;
    let before = cache(&bench, &spare.id).await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    assert_eq!(row.id, spare.id, "the spare was not adopted");
    let after = cache(&bench, &row.id).await;
    assert_eq!(
        (after.since, after.restarts),
        (before.since, 0),
        "the engine was touched"
    );
    let body = bench.comment_says(number, "live** with").await;
    assert!(!body.contains("cloned anew") && body.contains("`web`"), "{body}");
    let next = ready(&bench, Some(&row.id)).await;
    bench.forge.close(number).await.unwrap();
    bench.reaches(number, Phase::Ended, None).await;
    ended(&bench, &row.id).await;
    let left = bench.inventory().await;
    assert!(left.iter().all(|resource| resource.environment == next.id), "{left:#?}");
    bench.assert_one(number).await;
    without(&mut bench).await;
    ended(&bench, &next.id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_pull_requests_at_once_one_adopts_it() {
    let bench = bench().await;
    let spare = ready(&bench, None).await;
    let handle = bench.handle.clone().unwrap();
    let shop = "shop".parse().unwrap();
    bench.push("one", &compose("one")).await;
    bench.push("two", &compose("two")).await;
    let (one, two) = (branch("one"), branch("two"));
    let (one, two) = tokio::join!(
        handle.create_branch(&shop, &one, "a test"),
        handle.create_branch(&shop, &two, "a test")
    );
    let ids = [one.unwrap().id, two.unwrap().id];
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids.iter().filter(|id| **id == spare.id).count(), 1, "{ids:?}");
    for id in &ids {
        bench.stands(id, Phase::Live).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_approved_adopts_nothing() {
    let bench = bench().await;
    let spare = ready(&bench, None).await;
    let files = [
        FileChange::write("compose.yaml", compose("evil")),
        FileChange::write("maquette.yaml", SETTINGS),
    ];
    let commit: CommitId = bench.forge.commit_create(None, &files, "From a fork").await.unwrap();
    let new = NewPullRequest {
        head: LocalHead::Fork(commit),
        ..NewPullRequest::new(branch("x"), branch("main"), "Fork")
    };
    let number = bench.forge.open_pull_request(new).await.unwrap().number;
    let row = bench.reaches(number, Phase::NeedsApproval, None).await;
    assert_ne!(row.id, spare.id);
    let spare = bench.store.environment_get(&spare.id).await.unwrap().unwrap();
    assert!(spare.origin == Origin::Spare && spare.wanted, "{spare:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_the_head_wants_otherwise_is_started_anew() {
    let bench = bench().await;
    let spare = ready(&bench, None).await;
    let before = cache(&bench, &spare.id).await;
    let otherwise = compose("two").replace("image: redis:7\n", "image: redis:7\n    stop_grace_period: 7s\n");
    let commit = bench.push("feature", &otherwise).await;
    let new = NewPullRequest::new(branch("feature"), branch("main"), "Another engine");
    let number = bench.forge.open_pull_request(new).await.unwrap().number;
    let row = bench.reaches(number, Phase::Live, Some(&commit)).await;
    assert_eq!(row.id, spare.id);
    assert_ne!(cache(&bench, &row.id).await.digest, before.digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_yields_when_memory_is_short() {
    let (bench, memory) = bench_with(GIB).await;
    why_says(&bench, "memory is short").await;
    assert_eq!(all(&bench).await, []);
    memory.0.store(4 * GIB, Ordering::SeqCst);
    let spare = ready(&bench, None).await;
    memory.0.store(GIB / 2, Ordering::SeqCst);
    let row = ended(&bench, &spare.id).await;
    assert!(row.reason.contains("memory is short"), "{}", row.reason);
    assert_eq!(bench.inventory().await, []);
    // Environments are made all the same.
    let number = bench.open("feature").await;
    bench.reaches(number, Phase::Live, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_yields_when_the_pool_is_short_of_room() {
    let bench = bench().await;
    let spare = ready(&bench, None).await;
    let room = runtime::Room {
        total: 100,
        free: 9,
        reserve: 5,
    };
    bench.simulator.set_room(Some(room));
    let row = ended(&bench, &spare.id).await;
    assert!(row.reason.contains("short of room"), "{}", row.reason);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_not_come_and_go_while_the_pool_is_nearly_short_of_room() {
    let bench = bench().await;
    let spare = ready(&bench, None).await;
    let room = |free| runtime::Room {
        total: 100,
        free,
        reserve: 5,
    };
    bench.simulator.set_room(Some(room(9)));
    ended(&bench, &spare.id).await;
    // What the spare took is free again, and no more.
    bench.simulator.set_room(Some(room(11)));
    bench.simulator.advance(Duration::from_secs(600));
    why_says(&bench, "little room").await;
    assert_eq!(all(&bench).await.len(), 1);
    bench.simulator.set_room(Some(room(50)));
    ready(&bench, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_forge_can_not_be_read_there_is_none_and_none_is_made() {
    let (mut bench, _) = bench_with(4 * GIB).await;
    bench.kill();
    bench.settings.lost_access.stop_after = 2 * HOUR;
    bench.start().await;
    let spare = ready(&bench, None).await;
    bench.gate.set(Door::Silent);
    until("it goes", || async {
        bench.pass(HOUR / 2).await;
        let row = bench.store.environment_get(&spare.id).await.unwrap();
        !row.unwrap().wanted
    })
    .await;
    ended(&bench, &spare.id).await;
    for _ in 0..50 {
        bench.pass(HOUR / 2).await;
    }
    assert_eq!(all(&bench).await.len(), 1, "spares come and go");
    bench.gate.set(Door::Open);
    until("there is a spare again", || async {
        bench.pass(HOUR / 20).await;
        all(&bench).await.len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_engine_ends_is_replaced_after_a_pause() {
    let bench = bench().await;
    let spare = ready(&bench, None).await;
    bench.simulator.kill(&spare.id, &"cache".parse().unwrap(), 137);
    // Said for two simulated minutes, from the moment on at which it is to go.
    why_says(&bench, "another is made later").await;
    let row = ended(&bench, &spare.id).await;
    assert!(row.reason.contains("do not run any more"), "{}", row.reason);
    bench.simulator.advance(HOUR / 20);
    ready(&bench, Some(&spare.id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_replaced_when_the_policy_branch_wants_its_engines_otherwise() {
    let bench = bench().await;
    let spare = ready(&bench, None).await;
    let text = compose("one").replace("image: redis:7\n", "image: redis:7\n    stop_grace_period: 7s\n");
    let files = [FileChange::write("compose.yaml", text)];
    bench
        .forge
        .commit(&branch("main"), None, &files, "Another engine")
        .await
        .unwrap();
    let next = ready(&bench, Some(&spare.id)).await;
    ended(&bench, &spare.id).await;
    // What changes nothing of the engines leaves it alone.
    let files = [FileChange::write("README", "more")];
    bench.forge.commit(&branch("main"), None, &files, "More").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ready(&bench, None).await.id, next.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_somebody_deletes_stays_away_until_it_is_missed() {
    let bench = bench().await;
    let spare = ready(&bench, None).await;
    let handle = bench.handle.clone().unwrap();
    handle.delete(&spare.id, "deleted by a test", false).await.unwrap();
    ended(&bench, &spare.id).await;
    why_says(&bench, "somebody deleted it").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(all(&bench).await.len(), 1);
    let number = bench.open("feature").await;
    bench.reaches(number, Phase::Live, None).await;
    ready(&bench, Some(&spare.id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_start_is_told_of_and_troubles_nobody() {
    let mut bench = bench().await;
    bench.kill();
    bench.simulator.behave("cache", Behaviour::Exits(3));
    without(&mut bench).await;
    bench.kill();
    bench.settings.spares.per_project = 1;
    bench.start().await;
    why_says(&bench, "could not be started").await;
    let failed = all(&bench).await.pop().unwrap();
    assert!(failed.reason.contains("status 3"), "{}", failed.reason);
    sleep(Duration::from_secs(1)).await;
    assert!(
        all(&bench).await.iter().all(|row| !row.wanted),
        "it is tried again at once"
    );
    bench.simulator.behave("cache", Behaviour::Ready);
    let number = bench.open("feature").await;
    bench.reaches(number, Phase::Live, None).await;
}

/// The reconciler is ended at every call that it makes of the runtime from the opening of a pull request on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adoption_that_is_interrupted_goes_on() {
    for calls in (0..24).step_by(2) {
        let mut bench = bench().await;
        ready(&bench, None).await;
        let begin = bench.simulator.calls().len();
        let number = bench.open("feature").await;
        for _ in 0..500 {
            if bench.simulator.calls().len() >= begin + calls {
                break;
            }
            sleep(Duration::from_micros(500)).await;
        }
        bench.kill();
        bench.start().await;
        let row = bench.reaches(number, Phase::Live, None).await;
        bench.assert_one(number).await;
        assert_eq!(bench.environments(number).await.len(), 1);
        bench.forge.close(number).await.unwrap();
        bench.reaches(number, Phase::Ended, None).await;
        ended(&bench, &row.id).await;
        without(&mut bench).await;
    }
}
