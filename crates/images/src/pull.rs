//! Pulling: from a name to blobs that are here and verified.

use crate::{
    blobs::Blobs,
    client::{Ask, Client},
    config::ImageConfig,
    digest::BlobDigest,
    error::{Error, Result},
    manifest::{self, Descriptor, Layer, MAX_MANIFEST, Platform, unsupported},
    reference::Reference,
};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Layers of one image that are fetched at once; what Docker does.
const AT_ONCE: usize = 3;
/// How often one blob is tried.
const TRIES: u32 = 4;
/// Before the second try; it doubles each time.
const PAUSE: Duration = Duration::from_millis(500);

/// How large an image may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many layers. overlayfs, which Docker uses, allows 127.
    pub layers: usize,
    /// All layers together as they are fetched, in bytes.
    pub compressed_bytes: u64,
    /// How slowly a layer may come.
    pub pace: Pace,
}

/// The least that a registry has to send: one that sends a byte now and then would hold up a pull for ever.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes of one layer.
    pub bytes: u64,
    /// In each such time.
    pub within: Duration,
}

impl Default for Pace {
    /// A mebibyte a minute, for each of some layers at once: what a line of half a megabit a second still gives.
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            within: Duration::from_secs(60),
        }
    }
}

/// Counts what comes.
struct Meter {
    pace: Pace,
    since: Instant,
    got: u64,
}

impl Meter {
    fn new(pace: Pace) -> Self {
        Self {
            pace,
            since: Instant::now(),
            got: 0,
        }
    }

    /// Notes what came. Silence is bounded elsewhere, so looking when something comes suffices.
    fn note(&mut self, bytes: usize, registry: &str) -> Result<()> {
        self.got += bytes as u64;
        if self.since.elapsed() < self.pace.within {
            return Ok(());
        }
        if self.got < self.pace.bytes {
            return Err(Error::Slow {
                registry: registry.to_owned(),
                got: self.got,
                least: self.pace.bytes,
                within: self.pace.within,
            });
        }
        *self = Self::new(self.pace);
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layers: 200,
            compressed_bytes: 16 << 30,
            pace: Pace::default(),
        }
    }
}

/// Is told how a pull goes on. Called often; must not block.
pub trait Progress: Send + Sync {
    /// What the image consists of. Called once, before anything of a layer was fetched.
    fn layers(&self, layers: &[Layer]);
    /// So many bytes of a layer are here; all of them when it was here before.
    fn received(&self, layer: &BlobDigest, bytes: u64);
}

/// What a name stands for now, before anything of a layer was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// What the registry says that the name stands for: an image, or an index that lists its platforms.
    pub told: BlobDigest,
    /// The manifest for this machine's platform.
    pub digest: BlobDigest,
    /// What its containers run.
    pub config: ImageConfig,
    /// All layers as they are fetched, in bytes.
    pub bytes: u64,
}

/// An image whose blobs are in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The manifest for this machine's platform: the image's identity.
    pub digest: BlobDigest,
    /// Its configuration blob.
    pub config_digest: BlobDigest,
    /// What its containers run.
    pub config: ImageConfig,
    /// Lowest first.
    pub layers: Vec<Layer>,
}

impl Image {
    /// The digest of all layers as they lie on each other: two images with the same one have the same root file system. `None` for
    /// an image without layers.
    #[must_use]
    pub fn chain(&self) -> Option<BlobDigest> {
        let mut diffs = self.layers.iter().map(|layer| layer.diff);
        let first = diffs.next()?;
        Some(diffs.fold(first, |below, layer| below.chain(&layer)))
    }

    /// The blobs that the image needs to be unpacked again.
    pub fn blobs(&self) -> impl Iterator<Item = BlobDigest> {
        [self.digest, self.config_digest]
            .into_iter()
            .chain(self.layers.iter().map(|layer| layer.digest))
    }
}

impl Client {
    /// Which content a name stands for now. Asks for headers only, so it is cheap to ask again: a tag that moves is noticed so.
    ///
    /// The digest is that of the image or of the index that lists its platforms.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn current(&self, image: &Reference) -> Result<BlobDigest> {
        manifest::current(self, image).await
    }

    /// Looks at an image without its layers: manifest and configuration. `told` is what [`Self::current`] said.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn describe(
        &self,
        blobs: &Blobs,
        image: &Reference,
        told: BlobDigest,
        platform: &Platform,
        limits: &Limits,
    ) -> Result<Described> {
        let manifest = manifest::find(self, blobs, &image.at(told), platform, limits).await?;
        let (config, _) = self.config(blobs, image, &manifest, limits.pace).await?;
        Ok(Described {
            told,
            digest: manifest.digest,
            config,
            bytes: manifest.layers.iter().map(|layer| layer.size).sum(),
        })
    }

    async fn config(
        &self,
        blobs: &Blobs,
        image: &Reference,
        manifest: &manifest::Manifest,
        pace: Pace,
    ) -> Result<(ImageConfig, Vec<BlobDigest>)> {
        let wanted = &manifest.config;
        self.blob(blobs, &image.at(manifest.digest), wanted, pace, &Quiet)
            .await?;
        let Some(bytes) = blobs.read(&wanted.digest, MAX_MANIFEST)? else {
            return Err(unsupported(
                image,
                "its configuration was removed while it was pulled".to_owned(),
            ));
        };
        ImageConfig::parse(image, &bytes)
    }

    /// Fetches what of an image is not in the store yet.
    ///
    /// # Errors
    /// See [`Error`]. What was fetched whole stays in the store.
    pub async fn pull(
        &self,
        blobs: &Blobs,
        image: &Reference,
        platform: &Platform,
        limits: &Limits,
        progress: &dyn Progress,
    ) -> Result<Image> {
        let manifest = manifest::find(self, blobs, image, platform, limits).await?;
        let pinned = image.at(manifest.digest);
        let config_digest = manifest.config.digest;
        let (config, diffs) = self.config(blobs, image, &manifest, limits.pace).await?;
        if diffs.len() != manifest.layers.len() {
            return Err(unsupported(
                image,
                format!(
                    "its manifest has {} layers and its configuration {}",
                    manifest.layers.len(),
                    diffs.len()
                ),
            ));
        }
        let layers: Vec<Layer> = manifest
            .layers
            .iter()
            .zip(diffs)
            .map(|(layer, diff)| Layer {
                digest: layer.digest,
                size: layer.size,
                diff,
            })
            .collect();
        progress.layers(&layers);
        let mut fetching = Vec::new();
        for layer in &manifest.layers {
            fetching.push(self.blob(blobs, &pinned, layer, limits.pace, progress));
        }
        futures::stream::iter(fetching)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(Image {
            digest: manifest.digest,
            config_digest,
            config,
            layers,
        })
    }

    async fn blob(
        &self,
        blobs: &Blobs,
        image: &Reference,
        wanted: &Descriptor,
        pace: Pace,
        progress: &dyn Progress,
    ) -> Result<()> {
        let turn = blobs.turn(&wanted.digest);
        let _turn = turn.lock().await;
        if blobs.path(&wanted.digest).is_some() {
            progress.received(&wanted.digest, wanted.size);
            return Ok(());
        }
        let mut draft = blobs.draft().await?;
        let mut pause = PAUSE;
        for tried in 1.. {
            let error = match self.fill(&mut draft, image, wanted, pace, progress).await {
                Ok(registry) => match draft.keep(blobs, &wanted.digest).await? {
                    Ok(()) => return Ok(()),
                    // What came whole and is wrong comes wrong again only if somebody lies; one more try tells.
                    Err(got) => {
                        draft = blobs.draft().await?;
                        Error::Mismatch {
                            image: Box::new(image.clone()),
                            registry,
                            wanted: wanted.digest,
                            got,
                        }
                    }
                },
                Err(error) => error,
            };
            let again = match error {
                // What has come until then is not fetched again.
                Error::Unreachable { .. } | Error::Slow { .. } => true,
                Error::Mismatch { .. } => tried == 1,
                _ => false,
            };
            if tried >= TRIES || !again {
                return Err(error);
            }
            tracing::debug!(%error, "blob {} is tried again", wanted.digest);
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    /// Appends what is missing. Returns who sent it.
    async fn fill(
        &self,
        draft: &mut crate::blobs::Draft,
        image: &Reference,
        wanted: &Descriptor,
        pace: Pace,
        progress: &dyn Progress,
    ) -> Result<String> {
        let name = wanted.digest.to_string();
        let ask = Ask {
            image,
            kind: "blobs",
            name: &name,
            accept: None,
            from: draft.written(),
            head: false,
        };
        let (mut response, endpoint) = self.ask(ask).await?;
        // A registry that does not know ranges begins anew: skip what is here.
        let mut skip = match response.status() {
            reqwest::StatusCode::PARTIAL_CONTENT => 0,
            _ => draft.written(),
        };
        let mut meter = Meter::new(pace);
        loop {
            let part = match response.chunk().await {
                Ok(Some(part)) => part,
                Ok(None) => break,
                Err(error) => {
                    return Err(Error::Unreachable {
                        registry: endpoint.registry,
                        reason: format!("the connection broke after {} bytes: {error}", draft.written()),
                    });
                }
            };
            meter.note(part.len(), &endpoint.registry)?;
            let skipped = skip.min(part.len() as u64);
            skip -= skipped;
            let part = &part[usize::try_from(skipped).unwrap_or(part.len())..];
            if draft.written() + part.len() as u64 > wanted.size {
                return Err(Error::TooLarge {
                    image: Box::new(image.clone()),
                    what: "a blob",
                    limit: wanted.size,
                });
            }
            draft.write(part).await?;
            progress.received(&wanted.digest, draft.written());
        }
        if draft.written() < wanted.size {
            return Err(Error::Unreachable {
                registry: endpoint.registry,
                reason: format!("it sent {} bytes of {}", draft.written(), wanted.size),
            });
        }
        Ok(endpoint.registry)
    }
}

struct Quiet;

impl Progress for Quiet {
    fn layers(&self, _layers: &[Layer]) {}
    fn received(&self, _layer: &BlobDigest, _bytes: u64) {}
}
