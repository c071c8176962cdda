//! The store is lost while environments exist.

use crate::{
    bench::{Bench, branch, compose},
    gate::Door,
    keeping::{golden_of_main, until},
};
use forge::{
    PullRequestNumber,
    local::{FileChange, NewPullRequest},
};
use model::{EnvironmentId, Generation, Phase, Receipt, ServiceFact};
use runtime::{NoSecrets, Runtime, simulator::Content};
use std::{collections::BTreeMap, fs};
use store::{EnvironmentRow, Store};

/// Everything ends, the store's files are gone, and a new start makes new ones.
async fn lose(bench: &mut Bench) {
    let instance = bench.store.instance().await.unwrap();
    bench.kill();
    bench.store.clone().close().await;
    let path = bench.directory.path().join("store.sqlite");
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", path.display()));
    }
    bench.store = Store::open(&path).await.unwrap();
    assert_eq!(bench.store.instance().await.unwrap(), instance);
    assert!(bench.store.environment_list(None, true).await.unwrap().is_empty());
}

async fn services(bench: &Bench, id: &EnvironmentId) -> BTreeMap<model::ServiceName, ServiceFact> {
    bench.simulator.observe(id).await.unwrap().unwrap().services
}

/// The only environment of a pull request that there was since the store was lost.
async fn only(bench: &Bench, number: PullRequestNumber) -> EnvironmentRow {
    let rows = bench.environments(number).await;
    assert_eq!(rows.len(), 1, "{rows:#?}");
    rows.into_iter().next().unwrap()
}

async fn receipt(bench: &Bench, id: &EnvironmentId) -> Receipt {
    until("there is a receipt", || async {
        bench.store.receipt_get(id).await.unwrap().is_some()
    })
    .await;
    let receipt = bench.store.receipt_get(id).await.unwrap().unwrap();
    assert!(
        !receipt.entries.is_empty() && receipt.entries.iter().all(|entry| entry.gone.is_some()),
        "{receipt:#?}"
    );
    receipt
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_of_an_open_pull_request_goes_on_follows_pushes_and_ends_with_a_receipt() {
    let mut bench = Bench::new().await;
    let number = bench.open("feature").await;
    let before = bench.reaches(number, Phase::Live, None).await;
    let ran = services(&bench, &before.id).await;
    lose(&mut bench).await;
    bench.start().await;
    bench.reaches(number, Phase::Live, None).await;
    // What belongs to it is read from the forge again, and makes a generation of its own.
    until("there is a newer generation", || async {
        only(&bench, number).await.newest > before.newest
    })
    .await;
    let found = bench.reaches(number, Phase::Live, None).await;
    assert_eq!((&found.id, &found.label), (&before.id, &before.label));
    for (name, fact) in services(&bench, &found.id).await {
        assert_eq!(
            (&fact.digest, fact.restarts),
            (&ran[&name].digest, 0),
            "{name} was replaced"
        );
        assert_eq!(fact.since, ran[&name].since, "{name} was started again");
    }
    let commit = bench.push("feature", &compose("three")).await;
    assert_eq!(bench.reaches(number, Phase::Live, Some(&commit)).await.id, before.id);
    bench.comment_says(number, commit.short()).await;
    bench.forge.close(number).await.unwrap();
    bench.reaches(number, Phase::Ended, None).await;
    receipt(&bench, &before.id).await;
    only(&bench, number).await;
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_pull_request_was_closed_meanwhile_ends_with_a_receipt() {
    let mut bench = Bench::new().await;
    let number = bench.open("feature").await;
    let before = bench.reaches(number, Phase::Live, None).await;
    lose(&mut bench).await;
    bench.forge.close(number).await.unwrap();
    bench.start().await;
    bench.reaches(number, Phase::Ended, None).await;
    let receipt = receipt(&bench, &before.id).await;
    assert!(receipt.reason.contains("was closed"), "{receipt:#?}");
    assert_eq!(bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_ends_while_the_forge_can_not_be_asked() {
    let mut bench = Bench::new().await;
    let number = bench.open("feature").await;
    let before = bench.reaches(number, Phase::Live, None).await;
    lose(&mut bench).await;
    bench.gate.set(Door::Silent);
    bench.start().await;
    // It is seen to be live, and people who sign in reach it; that its commit may run is not known.
    bench.reaches(number, Phase::LiveUnapproved, None).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(only(&bench, number).await.id, before.id);
    assert!(!services(&bench, &before.id).await.is_empty());
    assert_eq!(bench.store.receipt_get(&before.id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_did_in_its_database_stays() {
    let mut bench = Bench::new().await;
    let golden = golden_of_main(&bench).await.id;
    bench.simulator.snapshot_put(golden, Content::new());
    let (name, from) = (branch("feature"), branch("main"));
    let change = [FileChange::write("page", "x")];
    bench.forge.commit(&name, Some(&from), &change, "Change").await.unwrap();
    let number = bench
        .forge
        .open_pull_request(NewPullRequest::new(name, from, "Data"))
        .await
        .unwrap()
        .number;
    // Nobody simulates what a database says, so that it stays on its way; its volume is there.
    let incarnations = async |bench: &Bench, id: &EnvironmentId| {
        let observed = bench.simulator.observe(id).await.unwrap();
        observed.map_or_else(BTreeMap::new, |observed| observed.volumes)
    };
    until("its volume is there", || async {
        match bench.environments(number).await.pop() {
            Some(row) => !incarnations(&bench, &row.id).await.is_empty(),
            None => false,
        }
    })
    .await;
    let before = only(&bench, number).await;
    let volumes = incarnations(&bench, &before.id).await;
    lose(&mut bench).await;
    bench.start().await;
    until("a generation is made with what the forge says", || async {
        let newest = only(&bench, number).await.newest;
        newest > before.newest
    })
    .await;
    let newest = bench.store.generation_newest(&before.id).await.unwrap().unwrap();
    let wanted = &newest.spec.services().unwrap().volumes;
    assert_eq!(wanted.len(), volumes.len());
    for (name, fact) in volumes {
        assert_eq!(wanted[&name].incarnation, fact.incarnation, "{name} would be made anew");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_want_any_more_is_removed_with_a_receipt() {
    let mut bench = Bench::new().await;
    let number = bench.open("feature").await;
    let before = bench.reaches(number, Phase::Live, None).await;
    let spec = bench.store.generation_newest(&before.id).await.unwrap().unwrap().spec;
    // A second one for the same pull request, and one that was made to fill a golden.
    let ids: [EnvironmentId; 2] = ["ebbbbbbbbb", "eccccccccc"].map(|id| id.parse().unwrap());
    bench.kill();
    for id in &ids {
        let mut other = spec.clone();
        other.environment = id.clone();
        other.generation = Generation(1);
        if *id == ids[1] {
            other.origin = model::Origin::Golden;
        }
        bench
            .simulator
            .apply(&other, &model::Stage::Envelope, &NoSecrets)
            .await
            .unwrap();
    }
    bench.start().await;
    for id in &ids {
        receipt(&bench, id).await;
    }
    assert_eq!(bench.reaches(number, Phase::Live, None).await.id, before.id);
    let left = bench.inventory().await;
    assert!(
        left.iter().all(|resource| resource.environment == before.id),
        "{left:#?}"
    );
}
