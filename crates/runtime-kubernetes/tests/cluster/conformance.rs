//! The suite that every runtime must pass, unchanged, on a real cluster. `CASE=words` runs the cases whose names contain them.

use crate::{rig::Rig, volumes::Volumes};
use futures::{StreamExt, stream};
use runtime::conformance::{Case, cases};
use runtime_kubernetes::Cluster;
use std::{env, time::Instant};

/// How many cases run at once: most of their time is the cluster's.
const AT_ONCE: usize = 4;

const RESTARTS: &str =
    "what runs for ever is a deployment, which starts again whatever ends; the port has no way for a runtime to say so";
const SOURCES: &str = "files of a commit are not brought to a cluster; the port has no way for a runtime to say so";

/// Cases that a cluster can not pass as the port is, and why. Everything else must.
const NOT_HERE: &[(&str, &str)] = &[
    (
        "a command that does not exist is the user's mistake",
        "the node finds out after `apply` has returned; it is told as the service's message",
    ),
    (
        "a service that ends is told, and started again if it should be",
        RESTARTS,
    ),
    (
        "a service that ended with a failure is started again when it is applied again",
        RESTARTS,
    ),
    (
        "services that share a network find each other, and others do not",
        "a cluster has one name server for all: a name that a service has in one network is found from its other ones",
    ),
    (
        "a file with a text has its mode and owner, and can not be written",
        "files belong to root and to the group of the service, whoever else is to own them",
    ),
    ("a source is written once and seen by those who mount it", SOURCES),
    ("a checkout that fails leaves no source", SOURCES),
    ("a source is not put for a generation that is too old", SOURCES),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes() {
    let (volumes, change) = volumes().await;
    suite(&Rig::with(change).await, volumes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_with_gitops() {
    let (volumes, change) = volumes().await;
    suite(&Rig::gitops(change).await, volumes).await;
}

/// Volumes, and what makes a cluster use them.
async fn volumes() -> (Volumes, impl Fn(&mut Cluster)) {
    let plain = Rig::new().await;
    let volumes = Volumes::new(plain.client().await, &format!("test-{}", plain.id())).await;
    let class = volumes.class.clone();
    let change = move |cluster: &mut Cluster| {
        cluster.storage_class = Some(class.clone());
        cluster.shared_storage_class = Some(class.clone());
    };
    (volumes, change)
}

async fn suite(rig: &Rig, volumes: Volumes) {
    let only = env::var("CASE").unwrap_or_default();
    let (left_out, meant): (Vec<_>, Vec<_>) = cases()
        .into_iter()
        .filter(|case| case.name.contains(&only))
        .partition(|case| NOT_HERE.iter().any(|(name, _)| *name == case.name));
    for case in left_out {
        let why = NOT_HERE.iter().find(|(name, _)| *name == case.name).map(|(_, why)| why);
        eprintln!("not here: {}: {}", case.name, why.unwrap());
    }
    let run = |case: Case| run(case, rig);
    let failures: Vec<String> = stream::iter(meant)
        .map(run)
        .buffer_unordered(AT_ONCE)
        .filter_map(|failure| async { failure })
        .collect()
        .await;
    volumes.remove().await;
    assert!(
        failures.is_empty(),
        "{} cases failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

async fn run(case: Case, rig: &Rig) -> Option<String> {
    let from = Instant::now();
    let failure = case.run(rig).await.err();
    let word = if failure.is_some() { "FAILED" } else { "passed" };
    eprintln!("{word} after {:.1} s: {}", from.elapsed().as_secs_f32(), case.name);
    let failure = failure.map(|failure| failure.to_string());
    if let Some(failure) = &failure {
        eprintln!("    {failure}");
    }
    failure
}
