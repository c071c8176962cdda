//! Jobs before an environment stops and before it is removed.

use crate::{
    bench::{Bench, SETTINGS, branch},
    gate::Door,
    keeping::{HOUR, until},
};
use forge::local::FileChange;
use model::{EnvironmentId, JobFact, Phase, Power};
use reconciler::{LostAccess, Settings};
use runtime::{Runtime as _, simulator::JobBehaviour};
use std::time::Duration;
use tokio::time::sleep;

/// A job on stop and one on delete.
const JOBS: &str = "  jobs:\n    halt: { service: web, run: [halt], on: stop }\n    bye: { service: web, run: [bye], on: delete }\npolicy:";

async fn with_jobs(settings: Settings, policy: &str) -> Bench {
    let bench = Bench::with(settings).await;
    let text = SETTINGS.replace("baseline: none", policy).replace("policy:", JOBS);
    let files = [FileChange::write("maquette.yaml", text)];
    let main = branch("main");
    bench.forge.commit(&main, None, &files, "Add jobs").await.unwrap();
    bench.nudge();
    bench
}

async fn power(bench: &Bench, id: &EnvironmentId) -> Option<Power> {
    bench.simulator.observe(id).await.unwrap().map(|seen| seen.power)
}

async fn job(bench: &Bench, id: &EnvironmentId, name: &str) -> Option<JobFact> {
    let seen = bench.simulator.observe(id).await.unwrap();
    seen.and_then(|mut seen| seen.jobs.remove(&name.parse().unwrap()))
}

async fn baseline(bench: &Bench) -> EnvironmentId {
    let mut found = None;
    until("there is a baseline", || async {
        !bench.store.environment_list(None, false).await.unwrap().is_empty()
    })
    .await;
    for row in bench.store.environment_list(None, false).await.unwrap() {
        found = Some(row.id);
    }
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_on_stop_runs_to_its_end_before_every_stop() {
    let bench = with_jobs(Settings::default(), "baseline: none").await;
    bench.simulator.script_job("halt", [JobBehaviour::Held]);
    let asleep = SETTINGS
        .replace("baseline: none", "baseline: asleep")
        .replace("policy:", JOBS);
    let files = [FileChange::write("maquette.yaml", asleep)];
    bench
        .forge
        .commit(&branch("main"), None, &files, "Sleep")
        .await
        .unwrap();
    let id = baseline(&bench).await;
    until("the job runs", || async { job(&bench, &id, "halt").await.is_some() }).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(
        power(&bench, &id).await,
        Some(Power::Running),
        "it does not stop beside its job"
    );
    bench.simulator.release_job(&id, &"halt".parse().unwrap(), 0);
    let stopped = || async { power(&bench, &id).await == Some(Power::Stopped) };
    until("it is stopped", stopped).await;
    let first = job(&bench, &id, "halt").await.unwrap();
    assert_eq!(first.exit, Some(0));

    // Woken and put to sleep again in the same generation: it runs once more, and what fails keeps nothing awake.
    let generation = bench.store.generation_list(&id).await.unwrap().len();
    bench
        .simulator
        .script_job("halt", std::iter::repeat_n(JobBehaviour::Exits(3), 5));
    let set = |power| store::EnvironmentPatch {
        power: Some(power),
        ..store::EnvironmentPatch::default()
    };
    let wake = |power| {
        let (bench, id) = (&bench, &id);
        async move {
            bench.store.environment_update(id, &set(power)).await.unwrap();
            bench.handle.as_ref().unwrap().nudge_environment(id);
        }
    };
    wake(Power::Running).await;
    until("it runs", || async { power(&bench, &id).await == Some(Power::Running) }).await;
    until("its web is ready", || async { bench.phase(&id).await == Phase::Live }).await;
    wake(Power::Stopped).await;
    until("it is stopped again", stopped).await;
    let second = job(&bench, &id, "halt").await.unwrap();
    assert_eq!(second.exit, Some(3), "{second:?}");
    assert_ne!(first.digest, second.digest);
    let told = || async {
        let events = bench.store.event_list(&id, 100).await.unwrap();
        events.iter().any(|event| {
            event
                .text
                .contains("the job halt failed (status 3); the services stop without it")
        })
    };
    until("it is told", told).await;
    // And once more, with the tries counted anew.
    wake(Power::Running).await;
    until("it runs", || async { power(&bench, &id).await == Some(Power::Running) }).await;
    wake(Power::Stopped).await;
    until("it is stopped for the third time", stopped).await;
    let third = job(&bench, &id, "halt").await.unwrap();
    assert_eq!(third.exit, Some(0), "{third:?}");
    assert_eq!(bench.store.generation_list(&id).await.unwrap().len(), generation);

    // Asleep as it is, it is woken for what belongs to its end.
    bench.simulator.script_job("bye", [JobBehaviour::Held]);
    let handle = bench.handle.clone().unwrap();
    handle.delete(&id, "deleted by a test", false).await.unwrap();
    until("the job runs", || async { job(&bench, &id, "bye").await.is_some() }).await;
    assert_eq!(power(&bench, &id).await, Some(Power::Running));
    bench.simulator.release_job(&id, &"bye".parse().unwrap(), 0);
    bench.stands(&id, Phase::Ended).await;
    let receipt = bench.store.receipt_get(&id).await.unwrap().unwrap();
    assert_eq!(receipt.reason, "deleted by a test");
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receipt_tells_of_a_job_on_delete_that_failed() {
    let bench = with_jobs(Settings::default(), "baseline: none").await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    bench
        .simulator
        .script_job("bye", std::iter::repeat_n(JobBehaviour::Exits(4), 5));
    bench.forge.close(number).await.unwrap();
    bench.stands(&row.id, Phase::Ended).await;
    let receipt = bench.store.receipt_get(&row.id).await.unwrap().unwrap();
    assert!(
        receipt.reason.ends_with("; the job bye failed (status 4)"),
        "{}",
        receipt.reason
    );
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_runs_at_the_end_of_what_was_kept_from_running() {
    let settings = Settings {
        lost_access: LostAccess {
            stop_after: 2 * HOUR,
            remove_after: 4 * HOUR,
        },
        ..Settings::default()
    };
    let bench = with_jobs(settings, "baseline: none, expire_after: 6h").await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    bench.gate.set(Door::Silent);
    until("it is suspended", || async {
        bench.pass(HOUR / 2).await;
        bench.phase(&row.id).await == Phase::Suspended
    })
    .await;
    let stopped = || async { power(&bench, &row.id).await == Some(Power::Stopped) };
    until("it is stopped", stopped).await;
    let halt = job(&bench, &row.id, "halt").await.unwrap();
    assert_eq!(halt.exit, Some(0), "it stops as it would by itself");
    until("it is removed", || async {
        bench.pass(HOUR).await;
        bench.phase(&row.id).await == Phase::Ended
    })
    .await;
    let receipt = bench.store.receipt_get(&row.id).await.unwrap().unwrap();
    let told = "the job bye was not run: the environment was kept from running";
    assert!(receipt.reason.contains(told), "{}", receipt.reason);
}
