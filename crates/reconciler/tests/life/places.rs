//! Environments on a cluster beside those in cells, and what becomes of them when the configuration changes.

use crate::bench::{Bench, PATIENCE, branch};
use forge::{PullRequestNumber, local::NewPullRequest};
use model::{EnvironmentId, Feature, Phase};
use reconciler::{Clusters, Settings};
use runtime::{Runtime, simulator::Simulator};
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// A simulator that stands for a cluster, and its time.
struct Cluster {
    simulator: Simulator,
    clock: tokio::task::JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

impl Cluster {
    fn new() -> Self {
        let mut capabilities = Simulator::new().capabilities().clone();
        // As clusters are: files of commits, images and snapshots are nothing that is brought there.
        (capabilities.sources, capabilities.snapshots) = (false, false);
        capabilities.features.remove(&Feature::BroughtImages);
        let simulator = Simulator::with(capabilities);
        let ticking = simulator.clone();
        let clock = tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(5)).await;
                ticking.advance(Duration::from_millis(50));
            }
        });
        Self { simulator, clock }
    }

    fn configured(&self) -> Clusters {
        let runtime: Arc<dyn Runtime> = Arc::new(self.simulator.clone());
        Clusters([("staging".parse().unwrap(), runtime)].into())
    }

    async fn has(&self, id: &EnvironmentId) -> bool {
        self.simulator.observe(id).await.unwrap().is_some()
    }
}

/// A stack that mounts nothing of its commit.
fn compose(text: &str) -> String {
    crate::bench::compose(text).replace("    volumes: [\".:/app:ro\"]\n", "")
}

async fn open(bench: &Bench, name: &str) -> PullRequestNumber {
    bench.push(name, &compose("two")).await;
    let new = NewPullRequest::new(branch(name), branch("main"), "A change");
    bench.forge.open_pull_request(new).await.unwrap().number
}

async fn in_cells(bench: &Bench, id: &EnvironmentId) -> bool {
    bench.simulator.observe(id).await.unwrap().is_some()
}

/// A server whose project is on this cluster.
async fn beside(cluster: &Cluster) -> Bench {
    let settings = Settings {
        clusters: cluster.configured(),
        ..Settings::default()
    };
    let mut bench = Bench::with(settings).await;
    bench.kill();
    bench.cluster = Some("staging");
    bench.start().await;
    bench
}

async fn is_unwanted(bench: &Bench, id: &EnvironmentId) {
    let wait = async {
        while bench.store.environment_get(id).await.unwrap().unwrap().wanted {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let noticed = timeout(PATIENCE, wait).await;
    noticed.expect("nobody noticed that it was closed");
}

async fn ends(bench: &Bench, id: &EnvironmentId) {
    let wait = async {
        while bench.store.environment_get(id).await.unwrap().unwrap().ended.is_none() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it never ended");
    let receipt = bench.store.receipt_get(id).await.unwrap().unwrap();
    assert!(
        !receipt.entries.is_empty() && receipt.entries.iter().all(|entry| entry.gone.is_some()),
        "{receipt:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_stays_where_it_is_whatever_the_projects_target_is() {
    let cluster = Cluster::new();
    let mut bench = beside(&cluster).await;
    let number = open(&bench, "change").await;
    let first = bench.reaches(number, Phase::Live, None).await.id;
    assert!(cluster.has(&first).await && !in_cells(&bench, &first).await);

    bench.kill();
    bench.cluster = None;
    bench.start().await;
    let commit = bench.push("change", &compose("three")).await;
    assert_eq!(bench.reaches(number, Phase::Live, Some(&commit)).await.id, first);
    assert!(cluster.has(&first).await && !in_cells(&bench, &first).await);
    let other = open(&bench, "other").await;
    let second = bench.reaches(other, Phase::Live, None).await.id;
    assert!(!cluster.has(&second).await && in_cells(&bench, &second).await);
    for (number, id) in [(number, &first), (other, &second)] {
        bench.forge.close(number).await.unwrap();
        ends(&bench, id).await;
    }
    assert!(!cluster.has(&first).await && !in_cells(&bench, &second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cluster_that_is_not_configured_any_more_nothing_is_concluded() {
    let cluster = Cluster::new();
    let mut bench = beside(&cluster).await;
    let number = open(&bench, "change").await;
    let id = bench.reaches(number, Phase::Live, None).await.id;
    bench.kill();
    bench.cluster = None;
    bench.settings.clusters = Clusters::default();
    bench.start().await;
    bench.forge.close(number).await.unwrap();
    is_unwanted(&bench, &id).await;
    for _ in 0..50 {
        sleep(Duration::from_millis(10)).await;
        let row = bench.store.environment_get(&id).await.unwrap().unwrap();
        assert!(row.ended.is_none() && cluster.has(&id).await);
    }
    bench.kill();
    bench.settings.clusters = cluster.configured();
    bench.start().await;
    ends(&bench, &id).await;
    assert!(!cluster.has(&id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_by_the_same_name_gets_and_loses_nothing() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    cluster.simulator.call("the first");
    other.simulator.call("the second");
    let mut bench = beside(&cluster).await;
    let number = open(&bench, "change").await;
    let id = bench.reaches(number, Phase::Live, None).await.id;
    bench.kill();
    bench.settings.clusters = other.configured();
    bench.start().await;
    bench.forge.close(number).await.unwrap();
    is_unwanted(&bench, &id).await;
    for _ in 0..50 {
        sleep(Duration::from_millis(10)).await;
        let row = bench.store.environment_get(&id).await.unwrap().unwrap();
        assert!(row.ended.is_none() && cluster.has(&id).await && !other.has(&id).await);
    }
    bench.kill();
    bench.settings.clusters = cluster.configured();
    bench.start().await;
    ends(&bench, &id).await;
    assert!(!cluster.has(&id).await);

    // With no environment left its name is free.
    bench.kill();
    bench.settings.clusters = other.configured();
    bench.start().await;
    let number = open(&bench, "later").await;
    let later = bench.reaches(number, Phase::Live, None).await.id;
    assert!(other.has(&later).await);
}
