//! Manifests: which configuration and layers an image has, and which image of a list is for this machine.

use crate::{
    blobs::Blobs,
    client::{Ask, Client, protocol, read_capped},
    digest::BlobDigest,
    error::{Error, Result},
    pull::Limits,
    reference::Reference,
};
use serde::{Deserialize, Serialize};

/// Registries refuse to store larger ones (distribution specification: "at least 4 megabytes" must be supported).
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// What is understood. `*/*` is left out: a registry then sends the oldest form that it has.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// A list that holds lists: one step is what exists in the wild.
const MAX_DEPTH: usize = 2;

/// The machine that an image is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: String,
}

impl Platform {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
        }
    }
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The blob, compressed or not.
    pub digest: BlobDigest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The digest of the layer once it is uncompressed.
    pub diff: BlobDigest,
}

/// A manifest that was found, verified and written to the store.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) digest: BlobDigest,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: BlobDigest,
    pub(crate) size: u64,
    #[serde(default)]
    platform: Option<WirePlatform>,
}

#[derive(Clone, Debug, Deserialize)]
struct WirePlatform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// A manifest or an index; which one is told by what it holds, since the media type may be missing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u64,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<serde_json::Value>>,
}

enum Found {
    Image(Manifest),
    List(Vec<Descriptor>),
}

/// Which content a name stands for now, without fetching more than headers where the registry gives the digest there.
pub(crate) async fn current(client: &Client, image: &Reference) -> Result<BlobDigest> {
    if let Some(digest) = image.digest() {
        return Ok(digest);
    }
    let name = image.wanted();
    let ask = Ask {
        image,
        kind: "manifests",
        name: &name,
        accept: Some(ACCEPT),
        from: 0,
        head: true,
    };
    let (response, _) = client.ask(ask).await?;
    let told = response
        .headers()
        .get("docker-content-digest")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    match told {
        Some(digest) => Ok(digest),
        None => Ok(BlobDigest::of(&fetch(client, image, &name).await?)),
    }
}

/// Finds the manifest for a machine and keeps every manifest on the way.
pub(crate) async fn find(
    client: &Client,
    blobs: &Blobs,
    image: &Reference,
    platform: &Platform,
    limits: &Limits,
) -> Result<Manifest> {
    let mut at = image.clone();
    for _ in 0..MAX_DEPTH {
        let bytes = read(client, blobs, &at).await?;
        match parse(image, &bytes, limits)? {
            Found::Image(manifest) => return Ok(manifest),
            Found::List(entries) => at = image.at(choose(image, &entries, platform)?),
        }
    }
    Err(unsupported(image, "its index leads to another index".to_owned()))
}

/// The bytes of a manifest, from the store if its digest is known and it is there.
async fn read(client: &Client, blobs: &Blobs, image: &Reference) -> Result<Vec<u8>> {
    if let Some(digest) = image.digest()
        && let Some(bytes) = blobs.read(&digest, MAX_MANIFEST)?
    {
        return Ok(bytes);
    }
    let bytes = fetch(client, image, &image.wanted()).await?;
    blobs.put(&bytes)?;
    Ok(bytes)
}

async fn fetch(client: &Client, image: &Reference, name: &str) -> Result<Vec<u8>> {
    let ask = Ask {
        image,
        kind: "manifests",
        name,
        accept: Some(ACCEPT),
        from: 0,
        head: false,
    };
    let (response, endpoint) = client.ask(ask).await?;
    let told: Option<BlobDigest> = response
        .headers()
        .get("docker-content-digest")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = read_capped(response, MAX_MANIFEST)
        .await
        .map_err(|error| error.of(&endpoint, ask, "the manifest"))?;
    let got = BlobDigest::of(&bytes);
    match image.digest().or(told) {
        Some(wanted) if wanted != got => Err(Error::Mismatch {
            image: Box::new(image.clone()),
            registry: endpoint.registry.clone(),
            wanted,
            got,
        }),
        _ if bytes.is_empty() => Err(protocol(&endpoint, ask, "the manifest is empty")),
        _ => Ok(bytes),
    }
}

fn parse(image: &Reference, bytes: &[u8], limits: &Limits) -> Result<Found> {
    let wire: Wire = serde_json::from_slice(bytes)
        .map_err(|error| unsupported(image, format!("its manifest can not be read: {error}")))?;
    if wire.schema_version != 2 {
        return Err(unsupported(
            image,
            format!(
                "its manifest has the old schema {}; push it again with a newer tool",
                wire.schema_version
            ),
        ));
    }
    match (wire.manifests, wire.config, wire.layers) {
        (Some(entries), None, None) => {
            // Entries of other kinds (attestations, other algorithms) must not make the rest unreadable.
            let entries = entries
                .into_iter()
                .filter_map(|entry| serde_json::from_value(entry).ok())
                .collect();
            Ok(Found::List(entries))
        }
        (None, Some(config), Some(layers)) => {
            bounded(image, &config, &layers, limits)?;
            Ok(Found::Image(Manifest {
                digest: BlobDigest::of(bytes),
                config,
                layers,
            }))
        }
        // Both at once would be an image to one reader and an index to another.
        _ => Err(unsupported(
            image,
            "its manifest is neither an image nor an index".to_owned(),
        )),
    }
}

fn bounded(image: &Reference, config: &Descriptor, layers: &[Descriptor], limits: &Limits) -> Result<()> {
    let too_large = |what, limit| {
        Err(Error::TooLarge {
            image: Box::new(image.clone()),
            what,
            limit,
        })
    };
    if config.size > MAX_MANIFEST {
        return too_large("the configuration", MAX_MANIFEST);
    }
    if layers.len() > limits.layers {
        return Err(unsupported(
            image,
            format!("it has {} layers, and {} are the most", layers.len(), limits.layers),
        ));
    }
    let total = layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
    if total > limits.compressed_bytes {
        return too_large("the layers together", limits.compressed_bytes);
    }
    let foreign = layers
        .iter()
        .find(|layer| layer.media_type.contains("foreign") || layer.media_type.contains("encrypted"));
    if let Some(layer) = foreign {
        return Err(unsupported(
            image,
            format!("layers of type {} can not be read", layer.media_type),
        ));
    }
    Ok(())
}

fn choose(image: &Reference, entries: &[Descriptor], platform: &Platform) -> Result<BlobDigest> {
    let fits = |entry: &&Descriptor| {
        entry
            .platform
            .as_ref()
            .is_some_and(|p| p.os == platform.os && p.architecture == platform.architecture)
    };
    // The plainest variant first: one without a name runs everywhere, `v2` and `v3` of amd64 do not.
    let rank = |entry: &&Descriptor| match entry.platform.as_ref().and_then(|p| p.variant.as_deref()) {
        None | Some("v8") => 0,
        Some("v1") => 1,
        Some(_) => 2,
    };
    if let Some(found) = entries.iter().filter(fits).min_by_key(rank) {
        return Ok(found.digest);
    }
    let mut available: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .filter(|p| p.os != "unknown")
        .take(20)
        .map(|p| printable(&format!("{}/{}", p.os, p.architecture)))
        .collect();
    available.sort();
    available.dedup();
    Err(Error::NoPlatform {
        image: Box::new(image.clone()),
        wanted: format!("{}/{}", platform.os, platform.architecture),
        available,
    })
}

pub(crate) fn unsupported(image: &Reference, reason: String) -> Error {
    Error::Unsupported {
        image: Box::new(image.clone()),
        reason,
    }
}

fn printable(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(json: &serde_json::Value) -> Vec<Descriptor> {
        let image = "acme/web".parse().unwrap();
        match parse(&image, json.to_string().as_bytes(), &Limits::default()).unwrap() {
            Found::List(entries) => entries,
            Found::Image(_) => panic!("an image"),
        }
    }

    fn entry(letter: &str, os: &str, architecture: &str, variant: Option<&str>) -> serde_json::Value {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", letter.repeat(64)),
            "size": 7,
            "platform": { "os": os, "architecture": architecture, "variant": variant },
        })
    }

    #[test]
    fn the_plain_variant_for_this_machine_is_chosen() {
        let entries = list(&serde_json::json!({
            "schemaVersion": 2,
            "manifests": [
                entry("0", "unknown", "unknown", None),
                entry("1", "linux", "amd64", Some("v3")),
                entry("2", "linux", "amd64", None),
                entry("3", "linux", "arm64", Some("v8")),
                { "digest": "sha512:beef", "size": 1 },
            ],
        }));
        let image: Reference = "acme/web".parse().unwrap();
        let chosen = |architecture: &str| {
            let platform = Platform {
                os: "linux".to_owned(),
                architecture: architecture.to_owned(),
            };
            choose(&image, &entries, &platform).map(|digest| digest.hex()[..1].to_owned())
        };
        assert_eq!(chosen("amd64").unwrap(), "2");
        assert_eq!(chosen("arm64").unwrap(), "3");
        assert_eq!(
            chosen("riscv64").unwrap_err().to_string(),
            "docker.io/acme/web:latest has no variant for linux/riscv64; it has linux/amd64, linux/arm64"
        );
    }

    #[test]
    fn manifests_that_are_not_understood_are_refused_in_words() {
        let image: Reference = "acme/web".parse().unwrap();
        let digest = format!("sha256:{}", "a".repeat(64));
        let descriptor = serde_json::json!({ "digest": digest, "size": 10 });
        let huge = serde_json::json!({ "digest": digest, "size": u64::MAX });
        let foreign = serde_json::json!({ "digest": digest, "size": 1, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" });
        let cases = [
            (serde_json::json!({ "schemaVersion": 1, "name": "x" }), "old schema 1"),
            (
                serde_json::json!({ "schemaVersion": 2 }),
                "neither an image nor an index",
            ),
            (
                serde_json::json!({ "schemaVersion": 2, "manifests": [], "config": descriptor, "layers": [] }),
                "neither an image nor an index",
            ),
            (
                serde_json::json!({ "schemaVersion": 2, "config": descriptor, "layers": [huge, huge] }),
                "the layers together",
            ),
            (
                serde_json::json!({ "schemaVersion": 2, "config": huge, "layers": [] }),
                "the configuration",
            ),
            (
                serde_json::json!({ "schemaVersion": 2, "config": descriptor, "layers": vec![&descriptor; 300] }),
                "it has 300 layers",
            ),
            (
                serde_json::json!({ "schemaVersion": 2, "config": descriptor, "layers": [foreign] }),
                "foreign",
            ),
            (serde_json::json!("no manifest"), "can not be read"),
        ];
        for (json, wanted) in cases {
            let Err(error) = parse(&image, json.to_string().as_bytes(), &Limits::default()) else {
                panic!("accepted: {json}");
            };
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }
}
