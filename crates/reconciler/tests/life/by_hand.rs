//! Jobs that people run.

use crate::bench::{Bench, PATIENCE, compose};
use forge::local::FileChange;
use model::{EnvironmentId, JobName, Phase};
use reconciler::Intent;
use runtime::simulator::JobBehaviour;
use std::time::Duration;
use store::JobRunRow;
use tokio::time::{sleep, timeout};

const SETTINGS: &str = "stack:\n  services:\n    web: { host: true, public: true }\n  jobs:\n    \
    digest: { service: web, run: [mail-digest], on: { schedule: \"30 3 * * *\" } }\n    \
    tidy: { service: web, run: [tidy], on: hand, timeout: 30s }\n    first: { service: web, run: [first], on: create }\n\
    policy: { baseline: none }\n";

async fn live(bench: &Bench) -> EnvironmentId {
    let files = [
        FileChange::write("maquette.yaml", SETTINGS),
        FileChange::write("compose.yaml", compose("two")),
    ];
    let main = crate::bench::branch("main");
    bench.forge.commit(&main, None, &files, "Jobs").await.unwrap();
    let number = bench.open("feature").await;
    bench.reaches(number, Phase::Live, None).await.id
}

fn job(name: &str) -> JobName {
    name.parse().unwrap()
}

async fn ran(bench: &Bench, run: &JobRunRow) -> JobRunRow {
    let wait = async {
        loop {
            let runs = bench.store.job_run_list(&run.environment).await.unwrap();
            let found = runs
                .into_iter()
                .find(|row| row.job == run.job && row.number == run.number);
            if let Some(row) = found.filter(|row| row.ended.is_some()) {
                return row;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the run never ended")
}

async fn run(bench: &Bench, id: &EnvironmentId, name: &str) -> Result<JobRunRow, Intent> {
    let handle = bench.handle.as_ref().unwrap();
    handle.run_job(id, &job(name), "somebody").await
}

/// Waits until the runtime has begun a run of the job.
async fn begun(bench: &Bench, id: &EnvironmentId, name: &str) {
    use runtime::Runtime;
    let wait = async {
        loop {
            let observed = bench.simulator.observe(id).await.unwrap();
            if observed.is_some_and(|observed| observed.jobs.contains_key(&job(name))) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the run never began");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_when_somebody_asks_and_never_by_itself() {
    let bench = Bench::new().await;
    let id = live(&bench).await;
    bench.pass(Duration::from_secs(2 * 86_400)).await;
    let observed = runtime::Runtime::observe(&bench.simulator, &id).await.unwrap().unwrap();
    let jobs: Vec<String> = observed.jobs.keys().map(ToString::to_string).collect();
    assert_eq!(jobs, ["first"], "neither a schedule nor a start runs it");

    let first = run(&bench, &id, "digest").await.unwrap();
    assert_eq!((first.number, first.asked_by.as_str()), (1, "somebody"));
    assert_eq!(ran(&bench, &first).await.exit, Some(0));
    let second = run(&bench, &id, "digest").await.unwrap();
    assert_eq!(second.number, 2, "it runs as often as somebody asks");
    ran(&bench, &second).await;

    bench.simulator.script_job("digest", [JobBehaviour::Exits(3)]);
    let third = run(&bench, &id, "digest").await.unwrap();
    let third = ran(&bench, &third).await;
    assert_eq!(
        (third.exit, third.message),
        (Some(3), None),
        "a failure is told, and not tried again"
    );
    assert!(
        matches!(run(&bench, &id, "first").await, Err(Intent::NotNow(_))),
        "it runs by itself"
    );
    assert!(matches!(run(&bench, &id, "none").await, Err(Intent::NoJob(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_run_of_a_job_at_a_time_and_it_ends_with_its_time() {
    let bench = Bench::new().await;
    let id = live(&bench).await;
    bench.simulator.script_job("tidy", [JobBehaviour::Forever]);
    let first = run(&bench, &id, "tidy").await.unwrap();
    begun(&bench, &id, "tidy").await;
    match run(&bench, &id, "tidy").await {
        Err(Intent::NotNow(text)) => assert!(text.contains("runs already"), "{text}"),
        // Its simulated time may be over on a machine that stalls.
        other => assert!(other.is_ok() && ran(&bench, &first).await.timed_out, "{other:?}"),
    }
    let first = ran(&bench, &first).await;
    assert!(first.timed_out && first.exit != Some(0), "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_found_again_by_the_next_maquette() {
    let mut bench = Bench::new().await;
    let id = live(&bench).await;
    bench.simulator.script_job("tidy", [JobBehaviour::Held]);
    let held = run(&bench, &id, "tidy").await.unwrap();
    begun(&bench, &id, "tidy").await;
    bench.kill();
    bench.start().await;
    bench.simulator.release_job(&id, &job("tidy"), 5);
    assert_eq!(ran(&bench, &held).await.exit, Some(5), "it went on meanwhile");

    // One that was noted and never begun is told and not begun.
    bench.kill();
    let generation = held.generation;
    let cut = bench
        .store
        .job_run_begin(&id, &job("tidy"), generation, "somebody", held.started)
        .await;
    let cut = cut.unwrap().expect("no other run is open");
    bench.start().await;
    let cut = ran(&bench, &cut).await;
    assert_eq!(cut.exit, None);
    assert!(cut.message.unwrap().contains("not begun again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_been_approved_and_what_has_ended_runs_nothing() {
    let bench = Bench::new().await;
    let id = live(&bench).await;
    let row = bench.store.environment_get(&id).await.unwrap().unwrap();
    bench.handle.as_ref().unwrap().delete(&id, "over", false).await.unwrap();
    let refused = run(&bench, &id, "tidy").await;
    assert!(
        matches!(refused, Err(Intent::NotNow(_) | Intent::NoEnvironment(_))),
        "{refused:?}"
    );
    bench.stands(&row.id, Phase::Ended).await;
    assert!(matches!(run(&bench, &id, "tidy").await, Err(Intent::NoEnvironment(_))));
    assert_eq!(bench.inventory().await, []);
}
