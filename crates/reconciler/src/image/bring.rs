//! Brings an image to the runtime: its layers from the registry, then from here.

use super::{ImageSource, Images, lock, resource, turn};
use crate::{context::Context, environment::execute::StepError};
use images::{BlobDigest, Layer, Progress, Reference};
use model::{EnvironmentId, ImageDigest, ServiceName};
use runtime::{ImageLayer, Sake};
use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};
use store::ImageRow;

/// How far an image is.
#[derive(Debug, Default)]
pub(crate) struct Fetch {
    /// What of each layer is here, and its size.
    layers: BTreeMap<BlobDigest, (u64, u64)>,
    unpacking: bool,
}

impl Fetch {
    fn begin(&mut self, layers: &[Layer]) {
        self.layers = layers.iter().map(|layer| (layer.digest, (0, layer.size))).collect();
    }

    fn receive(&mut self, layer: &BlobDigest, bytes: u64) {
        if let Some((here, _)) = self.layers.get_mut(layer) {
            *here = bytes;
        }
    }
}

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        let size: u64 = self.layers.values().map(|(_, size)| size).sum();
        if self.unpacking {
            return write!(
                f,
                "{} layers ({} MB) to be unpacked",
                self.layers.len(),
                megabytes(size)
            );
        }
        if self.layers.is_empty() {
            return f.write_str("the registry");
        }
        let here: u64 = self.layers.values().map(|(here, _)| here).sum();
        let whole = self.layers.values().filter(|(here, size)| here >= size).count();
        write!(
            f,
            "{whole} of {} layers, {} of {} MB",
            self.layers.len(),
            megabytes(here),
            megabytes(size)
        )
    }
}

/// Shows how far an image is for as long as it is there.
struct Shown {
    context: Arc<Context>,
    image: ImageDigest,
}

impl Shown {
    fn new(context: &Arc<Context>, image: &ImageDigest) -> Self {
        lock(&context.images.fetching).insert(image.clone(), Fetch::default());
        Self {
            context: Arc::clone(context),
            image: image.clone(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Fetch)) {
        if let Some(fetch) = lock(&self.context.images.fetching).get_mut(&self.image) {
            change(fetch);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        lock(&self.context.images.fetching).remove(&self.image);
        // Others may have waited for the same image.
        self.context.nudges.every_environment();
    }
}

impl Progress for Shown {
    fn layers(&self, layers: &[Layer]) {
        self.change(|fetch| fetch.begin(layers));
    }

    fn received(&self, layer: &BlobDigest, bytes: u64) {
        self.change(|fetch| fetch.receive(layer, bytes));
    }
}

/// Brings an image unless the runtime has it. Done twice it does nothing more.
pub(crate) async fn bring(
    context: &Arc<Context>,
    sake: &Sake,
    image: &ImageDigest,
    reference: &str,
) -> Result<(), StepError> {
    let Some(source) = &context.settings.images else {
        return Err(StepError::new("this server fetches no images", false));
    };
    let turn = turn(&context.images, image);
    let _turn = turn.lock().await;
    if context.runtime.image_list().await?.contains(image) {
        return Ok(());
    }
    let shown = Shown::new(context, image);
    let mut layers = fetch(context, source, &shown, image, reference).await?;
    let resources: Vec<_> = resource(image).into_iter().collect();
    context.store.ledger_intend(&resources, context.now()).await?;
    shown.change(|fetch| fetch.unpacking = true);
    let files: Vec<ImageLayer> = layers.iter().map(|(layer, _)| layer.clone()).collect();
    if let Err(error) = context.runtime.image_put(sake, image, &files).await {
        let kept = layers.iter().filter_map(|(layer, _)| digest_of(&layer.blob)).collect();
        if !discards_damaged(source, kept).await {
            return Err(error.into());
        }
        // What was kept of it was damaged here: what the registry has is another matter.
        shown.change(|fetch| fetch.unpacking = false);
        layers = fetch(context, source, &shown, image, reference).await?;
        shown.change(|fetch| fetch.unpacking = true);
        let files: Vec<ImageLayer> = layers.iter().map(|(layer, _)| layer.clone()).collect();
        context.runtime.image_put(sake, image, &files).await?;
    }
    let now = context.now();
    let row = ImageRow {
        digest: image.clone(),
        reference: reference.to_owned(),
        bytes: layers.iter().map(|(_, size)| size).sum(),
        created: now,
        last_used: now,
    };
    Ok(context.store.image_put(&row).await?)
}

/// The digest that is a blob's name.
fn digest_of(blob: &Path) -> Option<BlobDigest> {
    format!("sha256:{}", blob.file_name()?.to_str()?).parse().ok()
}

/// Whether some of these were kept and were damaged since: they are gone now, and come anew.
pub(crate) async fn discards_damaged(source: &Arc<ImageSource>, kept: Vec<BlobDigest>) -> bool {
    let source = Arc::clone(source);
    // All of them are read.
    let looked = tokio::task::spawn_blocking(move || source.blobs.discard_damaged(kept)).await;
    match looked {
        Ok(Ok(discarded)) => discarded > 0,
        Ok(Err(error)) => {
            tracing::warn!(why = crate::text::chain(&error), "could not look after kept layers");
            false
        }
        Err(_) => false,
    }
}

/// Fetches an image to here, without bringing it anywhere, and shows how far it is as what the build of a service starts from.
pub(crate) async fn layers_of(
    context: &Context,
    source: &ImageSource,
    whose: &(EnvironmentId, ServiceName),
    image: &ImageDigest,
    reference: &str,
) -> Result<images::Image, StepError> {
    let shown = ShownBase::new(&context.images, whose, reference);
    pull(context, source, &shown, image, reference).await
}

/// Shows how far an image is that a build starts from, for as long as it is there.
struct ShownBase<'a> {
    images: &'a Images,
    whose: &'a (EnvironmentId, ServiceName),
}

impl<'a> ShownBase<'a> {
    fn new(images: &'a Images, whose: &'a (EnvironmentId, ServiceName), reference: &str) -> Self {
        let named = reference.escape_debug().to_string();
        lock(&images.bases).insert(whose.clone(), (named, Fetch::default()));
        Self { images, whose }
    }
}

impl Drop for ShownBase<'_> {
    fn drop(&mut self) {
        lock(&self.images.bases).remove(self.whose);
    }
}

impl Progress for ShownBase<'_> {
    fn layers(&self, layers: &[Layer]) {
        if let Some((_, fetch)) = lock(&self.images.bases).get_mut(self.whose) {
            fetch.begin(layers);
        }
    }

    fn received(&self, layer: &BlobDigest, bytes: u64) {
        if let Some((_, fetch)) = lock(&self.images.bases).get_mut(self.whose) {
            fetch.receive(layer, bytes);
        }
    }
}

async fn fetch(
    context: &Context,
    source: &ImageSource,
    shown: &Shown,
    image: &ImageDigest,
    reference: &str,
) -> Result<Vec<(ImageLayer, u64)>, StepError> {
    let pulled = pull(context, source, shown, image, reference).await?;
    let named = reference.escape_debug();
    let mut layers = Vec::new();
    for layer in &pulled.layers {
        let blob = source.blobs.path(&layer.digest);
        // Removed in between: the next try fetches it again.
        let blob = blob.ok_or_else(|| StepError::new(format!("a layer of {named} is gone again"), true))?;
        let diff = layer.diff.to_string();
        layers.push((ImageLayer { blob, diff }, layer.size));
    }
    Ok(layers)
}

async fn pull(
    context: &Context,
    source: &ImageSource,
    progress: &dyn Progress,
    image: &ImageDigest,
    reference: &str,
) -> Result<images::Image, StepError> {
    let unreadable = || StepError::new(format!("the image {} has no name", reference.escape_debug()), false);
    let digest: BlobDigest = image.to_string().parse().map_err(|_| unreadable())?;
    let named: Reference = reference.parse().map_err(|_| unreadable())?;
    let told = |error: images::Error| {
        let told = StepError::new(crate::text::chain(&error), error.is_transient());
        let told = if error.is_of_registry() { told.wait() } else { told };
        match error.hint() {
            Some(hint) => told.hint(hint),
            None => told,
        }
    };
    let registry = named.registry();
    if let Some(limited) = context.images.resting(registry, context.now()) {
        return Err(told(limited));
    }
    let (blobs, at) = (&source.blobs, named.at(digest));
    let pulled = source
        .client
        .pull(blobs, &at, &source.platform, &source.limits, progress);
    pulled.await.map_err(|error| {
        context.images.rest(registry, &error, context.now());
        told(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_how_far_each_layer_is() {
        let digest = |text: &str| BlobDigest::of(text.as_bytes());
        let mut fetch = Fetch::default();
        let mut seen = vec![fetch.to_string()];
        fetch.layers = [("a", 40_000_000), ("b", 1_200_000), ("c", 9_000_000)]
            .map(|(name, size)| (digest(name), (0, size)))
            .into();
        let steps = [("b", 1_200_000), ("a", 12_345_678), ("a", 40_000_000), ("c", 9_000_000)];
        seen.push(fetch.to_string());
        for (name, bytes) in steps {
            fetch.layers.get_mut(&digest(name)).unwrap().0 = bytes;
            seen.push(fetch.to_string());
        }
        fetch.unpacking = true;
        seen.push(fetch.to_string());
        let expected = [
            "the registry",
            "0 of 3 layers, 0 of 51 MB",
            "1 of 3 layers, 2 of 51 MB",
            "1 of 3 layers, 14 of 51 MB",
            "2 of 3 layers, 42 of 51 MB",
            "3 of 3 layers, 51 of 51 MB",
            "3 layers (51 MB) to be unpacked",
        ];
        assert_eq!(seen, expected);
    }
}
