//! Images made for the tests: their blobs, pushed to a registry.

use images::{BlobDigest, Client, Image, Layer, Limits, Platform, Progress, Reference, Registries, Registry};
use std::{collections::BTreeMap, sync::Mutex};

/// An image in parts.
pub(crate) struct Parts {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

/// An image whose layers hold one file each.
pub(crate) fn parts(files: &[(&str, &[u8])]) -> Parts {
    let layers: Vec<Vec<u8>> = files.iter().map(|(name, content)| layer(name, content)).collect();
    let diffs: Vec<String> = layers.iter().map(|layer| BlobDigest::of(layer).to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "User": "65534", "Cmd": ["/bin/serve"] },
        "rootfs": { "type": "layers", "diff_ids": diffs },
    })
    .to_string()
    .into_bytes();
    let descriptor = |media: &str, bytes: &[u8]| serde_json::json!({ "mediaType": media, "digest": BlobDigest::of(bytes).to_string(), "size": bytes.len() });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes();
    Parts {
        layers,
        config,
        manifest,
    }
}

fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, content).unwrap();
    builder.into_inner().unwrap()
}

/// Pushes by the distribution API, as a builder does.
pub(crate) async fn push(registry: &str, repository: &str, tag: &str, parts: &Parts) {
    let http = reqwest::Client::new();
    for blob in parts.layers.iter().chain([&parts.config]) {
        let begun = http
            .post(format!("http://{registry}/v2/{repository}/blobs/uploads/"))
            .send()
            .await
            .unwrap();
        assert_eq!(begun.status(), 202);
        let place = begun.headers()["location"].to_str().unwrap().to_owned();
        let place = if place.starts_with('/') {
            format!("http://{registry}{place}")
        } else {
            place
        };
        let joint = if place.contains('?') { '&' } else { '?' };
        let stored = http
            .put(format!("{place}{joint}digest={}", BlobDigest::of(blob)))
            .body(blob.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(stored.status(), 201);
    }
    let stored = http
        .put(format!("http://{registry}/v2/{repository}/manifests/{tag}"))
        .header("content-type", "application/vnd.oci.image.manifest.v1+json")
        .body(parts.manifest.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(stored.status(), 201, "{}", stored.text().await.unwrap());
}

/// A client that may ask these registries of the test, without TLS.
pub(crate) fn client(names: &[&str]) -> Client {
    let registry = Registry {
        plain_http: true,
        private: true,
        ..Registry::default()
    };
    let all: BTreeMap<_, _> = names
        .iter()
        .map(|name| ((*name).to_owned(), registry.clone()))
        .collect();
    Client::new(Registries(all)).unwrap()
}

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Told(pub(crate) Mutex<BTreeMap<BlobDigest, u64>>);

impl Progress for Told {
    fn layers(&self, layers: &[Layer]) {
        let mut told = self.0.lock().unwrap();
        told.extend(layers.iter().map(|layer| (layer.digest, 0)));
    }

    fn received(&self, layer: &BlobDigest, bytes: u64) {
        if let Some(known) = self.0.lock().unwrap().get_mut(layer) {
            assert!(*known <= bytes, "progress does not go back");
            *known = bytes;
        }
    }
}

/// A store in a directory of its own.
pub(crate) struct Store {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) blobs: images::Blobs,
}

impl Store {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = images::Blobs::open(dir.path()).unwrap();
        Self { dir, blobs }
    }

    pub(crate) fn drafts(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("drafts")).unwrap().count()
    }

    pub(crate) async fn pull(&self, client: &Client, name: &str) -> images::Result<Image> {
        self.pull_within(client, name, &Limits::default()).await
    }

    pub(crate) async fn pull_within(&self, client: &Client, name: &str, limits: &Limits) -> images::Result<Image> {
        let image: Reference = name.parse().unwrap();
        let platform = Platform {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
        };
        client
            .pull(&self.blobs, &image, &platform, limits, &Told::default())
            .await
    }
}
