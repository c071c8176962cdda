//! What environments may reach: the policy's list, at once, for commits that are trusted.

use crate::{
    approvals::{from_a_fork, open, say},
    bench::{Bench, LOOKS},
};
use forge::local::LocalForge;
use model::{EnvironmentId, Phase, ServiceFact};
use reconciler::Settings;
use runtime::{ExecExit, Runtime as _};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::sleep;

/// Whether `web` gets anything from there.
async fn reaches(bench: &Bench, id: &EnvironmentId, name: &str) -> bool {
    let argv = ["fetch", name, "443"].map(str::to_owned);
    let service = "web".parse().unwrap();
    let exec = bench.simulator.exec(id, &service, &argv, &BTreeMap::new()).await;
    exec.unwrap().exit.await.unwrap() == ExecExit::Status(0)
}

async fn reaches_at_last(bench: &Bench, id: &EnvironmentId, name: &str, wanted: bool) {
    for _ in 0..LOOKS {
        if reaches(bench, id, name).await == wanted {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} is reached: {}", !wanted);
}

async fn web(bench: &Bench, id: &EnvironmentId) -> ServiceFact {
    let seen = bench.simulator.observe(id).await.unwrap().unwrap();
    seen.services[&"web".parse().unwrap()].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_list_holds_for_environments_that_run() {
    let bench = Bench::new().await;
    bench.rule("{ baseline: none, egress: [api.example.com] }").await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    reaches_at_last(&bench, &row.id, "api.example.com", true).await;
    assert!(!reaches(&bench, &row.id, "other.example.com").await);
    let before = web(&bench, &row.id).await;

    bench.rule("{ baseline: none, egress: [other.example.com] }").await;
    bench.nudge();
    reaches_at_last(&bench, &row.id, "other.example.com", true).await;
    assert!(!reaches(&bench, &row.id, "api.example.com").await);
    let after = bench.stands(&row.id, Phase::Live).await;
    assert_eq!(after.id, row.id);
    assert_eq!(
        web(&bench, &row.id).await.since,
        before.since,
        "nothing was started again"
    );
    let seen = bench.simulator.observe(&row.id).await.unwrap().unwrap();
    assert!(
        seen.door
            .refused
            .iter()
            .any(|refused| refused.name == "api.example.com"),
        "{:?}",
        seen.door
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preset_is_what_the_server_says_and_one_that_it_lacks_is_told() {
    let listed = BTreeMap::from([("packages".to_owned(), vec!["packages.example.com".to_owned()])]);
    let bench = Bench::with(Settings {
        presets: reconciler::presets(&listed).unwrap(),
        ..Settings::default()
    })
    .await;
    bench.rule("{ baseline: none, egress: [packages, gems] }").await;
    let number = bench.open("feature").await;
    let row = bench.reaches(number, Phase::Live, None).await;
    reaches_at_last(&bench, &row.id, "packages.example.com", true).await;
    assert!(!reaches(&bench, &row.id, "gems.example.com").await);
    let body = bench.comment_says(number, "the preset").await;
    assert!(body.contains("gems") && !body.contains("preset `packages`"), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_commit_reaches_nothing_also_when_it_is_approved() {
    let bench = Bench::new().await;
    bench.rule("{ baseline: none, egress: [api.example.com] }").await;
    let commit = from_a_fork(&bench, "harmless").await;
    let number = open(&bench, &commit).await;
    bench.reaches(number, Phase::NeedsApproval, Some(&commit)).await;
    let approval = format!("/preview approve {commit}");
    say(&bench, number, LocalForge::developer(), &approval).await;
    let row = bench.reaches(number, Phase::Live, Some(&commit)).await;
    assert!(!reaches(&bench, &row.id, "api.example.com").await);
    let generations = bench.store.generation_list(&row.id).await.unwrap();
    assert!(generations.iter().all(|row| row.spec.egress.is_empty()));
}
