//! Calls that are cut off anywhere, as a process that is killed cuts them off: the next one ends in the same state.

use crate::rig::{PORT, Rig, ready, spec, with};
use model::{EnvironmentSpec, ServiceState, Stage};
use runtime::{NoSecrets, Runtime, conformance::Fixture, conformance::Program};
use std::time::Duration;

/// How much longer each call lives than the one before it.
const STEP: Duration = Duration::from_millis(15);

/// How long the last of them lives.
const LAST: Duration = Duration::from_millis(600);

/// Makes a call again and again, each time with a little more time, until it ends in time; how often it was cut.
async fn cut(call: impl AsyncFn() -> runtime::Result<()>) -> u32 {
    let mut time = STEP;
    let mut cuts = 0;
    while time < LAST {
        match tokio::time::timeout(time, call()).await {
            Ok(answer) => {
                answer.unwrap();
                return cuts;
            }
            Err(_) => cuts += 1,
        }
        time += STEP;
    }
    call().await.unwrap();
    cuts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_is_made_and_removed_by_the_next_call() {
    let rig = Rig::new().await;
    let mut spec: EnvironmentSpec = spec(&rig);
    let serve = |text: &str| rig.workload(&Program::Serve { text: text.to_owned() });
    with(&mut spec, "api", serve("api"), &[PORT]);
    with(&mut spec, "web", serve("web"), &[PORT]);
    let id = &spec.environment;
    let services = Stage::Services(["api".parse().unwrap(), "web".parse().unwrap()].into());
    let mut cuts = Vec::new();
    for stage in [&Stage::Envelope, &services, &Stage::Prune] {
        cuts.push(cut(async || rig.runtime.apply(&spec, stage, &NoSecrets).await).await);
    }
    ready(&rig, &spec).await;
    let seen = rig.runtime.observe(id).await.unwrap().unwrap();
    assert_eq!(seen.envelope, Some(spec.generation));
    assert!(seen.services.len() == 2 && seen.services.values().all(|fact| fact.state == ServiceState::Ready));

    let mut ledger: Vec<_> = [&Stage::Envelope, &services]
        .iter()
        .flat_map(|stage| rig.runtime.footprint(&spec, stage))
        .collect();
    ledger.sort();
    let mut there = rig.runtime.inventory(Some(id)).await.unwrap();
    there.sort();
    assert_eq!(there, ledger);
    cuts.push(cut(async || rig.runtime.remove(id, spec.generation).await).await);
    assert_eq!(rig.runtime.inventory(None).await.unwrap(), []);
    eprintln!("cut: envelope, services, pruning and removal {cuts:?} times");
    assert!(cuts.iter().sum::<u32>() > 10, "nearly nothing was cut: {cuts:?}");
}
