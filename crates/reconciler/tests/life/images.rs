//! Images, from a real registry to a simulated runtime: what is missing, what moves, and what nobody wants any more.

use crate::{
    bench::{Bench, branch},
    keeping::until,
};
use forge::{
    PullRequestNumber,
    local::{FileChange, NewPullRequest},
};
use model::{CommitId, Phase};
use reconciler::{ImageSource, Keep, Settings, image_keeper};
use runtime::Runtime as _;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use test_support::{
    image::{Entry, Image, layer},
    registry::Registry,
};
use tokio::time::sleep;

pub(crate) fn image(says: &str) -> Image {
    let config = json!({
        "Entrypoint": ["serve"],
        "Cmd": [format!("HTTP/1.1 200 OK\r\n\r\n{says}")],
        "ExposedPorts": { "8080/tcp": {} },
    });
    Image::new(vec![layer(&[Entry::file("etc/says", says)]).unwrap()], &config)
}

fn settings(registry: &Registry, directory: &tempfile::TempDir) -> Settings {
    settings_for(&registry.name(), directory)
}

/// Images come from a registry of this name.
pub(crate) fn settings_for(registry: &str, directory: &tempfile::TempDir) -> Settings {
    let named = images::Registry {
        plain_http: true,
        private: true,
        ..images::Registry::default()
    };
    let registries = images::Registries(BTreeMap::from([(registry.to_owned(), named)]));
    let source = ImageSource {
        client: images::Client::new(registries).unwrap(),
        blobs: images::Blobs::open(directory.path()).unwrap(),
        limits: images::Limits::default(),
        platform: images::Platform::here(),
        blobs_max: 1 << 30,
        poll: Duration::from_millis(200),
    };
    Settings {
        images: Some(Arc::new(source)),
        keep: Keep {
            image_age: Duration::from_secs(30),
            ..Keep::default()
        },
        ..Settings::default()
    }
}

async fn push(bench: &Bench, registry: &str, tag: &str) -> CommitId {
    let files = [
        FileChange::write(
            "compose.yaml",
            format!("services:\n  web:\n    image: {registry}/team/web:{tag}\n"),
        ),
        FileChange::write(
            "maquette.yaml",
            "stack:\n  services:\n    web: { public: true }\npolicy: { baseline: none }\n",
        ),
    ];
    let main = branch("main");
    bench
        .forge
        .commit(&branch("topic"), Some(&main), &files, "Change")
        .await
        .unwrap()
}

pub(crate) async fn open(bench: &Bench) -> PullRequestNumber {
    let new = NewPullRequest::new(branch("topic"), branch("main"), "A change");
    bench.forge.open_pull_request(new).await.unwrap().number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_pinned_taken_when_it_comes_followed_and_removed_when_nobody_wants_it() {
    let registry = Registry::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::with(settings(&registry, &directory)).await;

    // Not there yet: told, with the service; then taken by itself.
    let commit = push(&bench, &registry.name(), "1").await;
    let number = open(&bench).await;
    bench.reaches(number, Phase::Failed, Some(&commit)).await;
    let body = bench.comment_says(number, "service web: ").await;
    assert!(body.contains("team/web:1 does not exist"), "{body}");
    let first = image("one");
    first.push(&registry.name(), "team/web", "1").await.unwrap();
    bench.reaches(number, Phase::Live, Some(&commit)).await;
    let row = bench.environments(number).await.pop().unwrap();
    let digest = first.digest().parse().unwrap();
    let newest = bench.store.generation_newest(&row.id).await.unwrap().unwrap();
    assert!(newest.spec.images().contains_key(&digest), "{newest:#?}");
    let web = &newest.spec.services().unwrap().services[&"web".parse().unwrap()];
    assert_eq!(web.public_port, Some(8080), "the image says so");
    assert_eq!(bench.simulator.image_list().await.unwrap(), [digest.clone()].into());

    // It moves: what is live is the other one, and the first one goes with a receipt when nobody has wanted it for some time.
    let second = image("two");
    second.push(&registry.name(), "team/web", "1").await.unwrap();
    let other = second.digest().parse().unwrap();
    for tries in 0.. {
        let newest = bench.store.generation_newest(&row.id).await.unwrap().unwrap();
        if newest.outcome == Some(store::Outcome::Live) && newest.spec.images().contains_key(&other) {
            assert!(
                newest.notes.iter().any(|note| note.contains("has moved")),
                "{:?}",
                newest.notes
            );
            break;
        }
        assert!(tries < 3600, "{newest:#?}");
        sleep(Duration::from_millis(50)).await;
    }
    for tries in 0.. {
        if bench.simulator.image_list().await.unwrap() == [other.clone()].into() {
            break;
        }
        assert!(tries < 3600, "{:?}", bench.store.image_list().await);
        sleep(Duration::from_millis(50)).await;
    }
    // It is written once the image is seen gone.
    let keeper = image_keeper(&digest).unwrap();
    until("there is a receipt", || async {
        bench.store.receipt_get(&keeper).await.unwrap().is_some()
    })
    .await;
    let receipt = bench.store.receipt_get(&keeper).await.unwrap().unwrap();
    assert!(receipt.entries.iter().all(|entry| entry.gone.is_some()), "{receipt:#?}");
}
