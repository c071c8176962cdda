//! A real registry: what a user has.

use super::image::{Store, Told, client, parts, push};
use images::{BlobDigest, Client, Credentials, Limits, Platform, Reference, Registries, layer};
use std::{collections::BTreeMap, os::fd::AsFd};
use test_support::registry::{ACCOUNT, Registry};

#[tokio::test]
async fn an_image_is_pulled_unpacked_and_not_fetched_twice() {
    let mut registry = Registry::start().unwrap();
    let image = parts(&[("a", b"below"), ("b", &[7; 300_000]), ("a", b"above")]);
    push(&registry.name(), "acme/web", "1.0", &image).await;
    let client = client(&[&registry.name()]);
    let store = Store::new();
    let reference: Reference = format!("{}/acme/web:1.0", registry.name()).parse().unwrap();
    let told = Told::default();
    let here = Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
    };
    let pulled = client
        .pull(&store.blobs, &reference, &here, &Limits::default(), &told)
        .await
        .unwrap();
    assert_eq!(pulled.config.cmd, ["/bin/serve"]);
    assert_eq!(pulled.digest, BlobDigest::of(&image.manifest));
    let told = told.0.into_inner().unwrap();
    assert!(pulled.layers.iter().all(|layer| told[&layer.digest] == layer.size));

    let root = tempfile::tempdir().unwrap();
    let fd = std::fs::File::open(root.path()).unwrap();
    let mut bounds = layer::Bounds::default();
    for layer in &pulled.layers {
        let blob = std::fs::File::open(store.blobs.path(&layer.digest).unwrap()).unwrap();
        layer::apply(blob, &layer.diff, fd.as_fd(), &mut bounds).unwrap();
    }
    assert_eq!(std::fs::read_to_string(root.path().join("a")).unwrap(), "above");

    // By its digest the image needs no registry any more.
    registry.pause();
    let pinned = format!("{}/acme/web@{}", registry.name(), pulled.digest);
    assert_eq!(store.pull(&client, &pinned).await.unwrap(), pulled);
    let error = store.pull(&client, &reference.to_string()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("can not be reached: "), "{error}");
    registry.resume().unwrap();
    assert_eq!(store.pull(&client, &reference.to_string()).await.unwrap(), pulled);
}

#[tokio::test]
async fn a_tag_that_moves_is_noticed() {
    let registry = Registry::start().unwrap();
    let client = client(&[&registry.name()]);
    let reference: Reference = format!("{}/acme/web", registry.name()).parse().unwrap();
    let first = parts(&[("v", b"1")]);
    push(&registry.name(), "acme/web", "latest", &first).await;
    assert_eq!(
        client.current(&reference).await.unwrap(),
        BlobDigest::of(&first.manifest)
    );
    let second = parts(&[("v", b"2")]);
    push(&registry.name(), "acme/web", "latest", &second).await;
    assert_eq!(
        client.current(&reference).await.unwrap(),
        BlobDigest::of(&second.manifest)
    );
}

#[tokio::test]
async fn what_does_not_exist_is_told() {
    let registry = Registry::start().unwrap();
    let client = client(&[&registry.name()]);
    let store = Store::new();
    let error = store
        .pull(&client, &format!("{}/acme/nothing:7", registry.name()))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{0}/acme/nothing:7 does not exist at {0}", registry.name())
    );
    assert_eq!(error.hint(), Some("check the name and the tag; was the image pushed?"));
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_registry_with_accounts_lets_in_whoever_the_operator_names_and_nobody_else() {
    let mut registry = Registry::start().unwrap();
    let image = parts(&[("f", b"content")]);
    push(&registry.name(), "acme/web", "1", &image).await;
    registry.lock().unwrap();
    let name = format!("{}/acme/web:1", registry.name());
    let with = |password: &str| {
        let registered = images::Registry {
            credentials: Some(Credentials::new(ACCOUNT.0.to_owned(), password.to_owned())),
            plain_http: true,
            private: true,
            ..images::Registry::default()
        };
        Client::new(Registries(BTreeMap::from([(registry.name(), registered)]))).unwrap()
    };
    let store = Store::new();
    for (client, wanted) in [
        (
            client(&[&registry.name()]),
            "it wants credentials, or there is no such image",
        ),
        (
            with("another"),
            "the credentials do not suffice, or there is no such image",
        ),
    ] {
        let error = store.pull(&client, &name).await.unwrap_err();
        assert!(error.to_string().ends_with(wanted), "{error}");
        assert!(
            !error.is_transient() && !format!("{error:?}").contains("another"),
            "{error:?}"
        );
    }
    let pulled = store.pull(&with(ACCOUNT.1), &name).await.unwrap();
    assert_eq!(pulled.digest, BlobDigest::of(&image.manifest));
    assert!(store.blobs.path(&pulled.layers[0].digest).is_some());
}

#[tokio::test]
async fn a_blob_that_the_registry_lost_or_damaged_is_not_used() {
    let registry = Registry::start().unwrap();
    let client = client(&[&registry.name()]);
    let store = Store::new();
    let image = parts(&[("f", b"content")]);
    push(&registry.name(), "acme/web", "1", &image).await;
    let digest = BlobDigest::of(&image.layers[0]).hex();
    let blob = registry
        .data()
        .join("docker/registry/v2/blobs/sha256")
        .join(&digest[..2])
        .join(&digest)
        .join("data");
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[600] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let name = format!("{}/acme/web:1", registry.name());
    let error = store.pull(&client, &name).await.unwrap_err().to_string();
    assert!(error.contains("sent something else than sha256:"), "{error}");
    assert!(store.blobs.path(&BlobDigest::of(&image.layers[0])).is_none());
    assert_eq!(store.drafts(), 0);
}
