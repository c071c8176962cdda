//! Images: a large one is pulled and unpacked, beside `skopeo copy` and `tar`; containers are started from it, beside such from the
//! host's root.

use crate::{
    cells::{Cells, service},
    machine::Machine,
    stats::Spread,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use images::{BlobDigest, Blobs, Client, Layer, Limits, Platform, Progress, Reference, Registries, Registry};
use model::{ImageDigest, Root, Service};
use runtime::ImageLayer;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};
use test_support::{
    image::{Entry, Image, base, layer},
    registry,
};

/// Files of a layer; what remains of its size is divided among them.
const FILES: usize = 400;
const POOL_GIB: u64 = 8;
/// What runs in the containers: nothing, from a program without libraries.
const SLEEP: [&str; 3] = ["/bin/busybox", "sleep", "100000"];

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Where the results go
    #[arg(long)]
    out: PathBuf,
    /// How often each is pulled
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many containers of each kind
    #[arg(long, default_value_t = 20)]
    containers: usize,
    /// The size of the image when it is unpacked, in MiB
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// How many layers it has
    #[arg(long, default_value_t = 10)]
    layers: usize,
}

/// What this part writes; times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImagesResult {
    pub(crate) machine: Machine,
    pub(crate) mib: usize,
    pub(crate) layers: usize,
    pub(crate) packed_mib: f64,
    /// Pulled, verified, unpacked, ready to be used.
    pub(crate) ours: Spread,
    /// Of that, until all blobs are here.
    pub(crate) ours_pull: Spread,
    /// `skopeo copy` into a directory, then `tar` of each layer.
    pub(crate) skopeo: Spread,
    /// Ours through skopeo's of the same round.
    pub(crate) ratio: Spread,
    /// An image that is there is asked for again.
    pub(crate) again: Spread,
    /// A container is started, its environment being there.
    pub(crate) from_image: Spread,
    pub(crate) from_host: Spread,
}

struct Unseen;

impl Progress for Unseen {
    fn layers(&self, _layers: &[Layer]) {}
    fn received(&self, _layer: &BlobDigest, _bytes: u64) {}
}

pub(crate) async fn run(args: &ImagesArgs) -> Result<()> {
    let machine = Machine::look();
    let shelf = registry::Registry::start().map_err(anyhow::Error::msg)?;
    let image = large(args.mib, args.layers)?;
    let packed: usize = image.layers.iter().map(Vec::len).sum();
    let name = shelf.name();
    image
        .push(&name, "bench/large", "1")
        .await
        .map_err(anyhow::Error::msg)?;
    drop(image);
    tracing::info!(
        "an image of {} MiB in {} layers is in the registry",
        args.mib,
        args.layers
    );
    let cells = Cells::start("images", POOL_GIB).await?;
    let puller = Puller::new(&name)?;
    let (mut ours, mut pulls, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut kept = None;
    // A round first that is not counted; then the two take turns in coming first.
    for round in 0..=args.rounds {
        if let Some(image) = kept.take() {
            cells.cell.image_remove(&image).await?;
        }
        let other = || skopeo(&name, cells.traces.path());
        let early = (round % 2 == 0).then(other).transpose()?;
        let (image, pull, all) = puller.pull(&cells).await?;
        let other = match early {
            Some(other) => other,
            None => other()?,
        };
        tracing::info!("pulled {round}: {all:.0} ms, of that the network {pull:.0}; skopeo and tar {other:.0}");
        if round > 0 {
            ours.push(all);
            pulls.push(pull);
            theirs.push(other);
        }
        kept = Some(image);
    }
    let image = kept.context("no round")?;
    let again = puller.again(&cells, &image, args.containers).await?;
    let (from_image, from_host) = containers(&cells, &image, args.containers).await?;
    let ratio = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs);
    let result = ImagesResult {
        machine,
        mib: args.mib,
        layers: args.layers,
        packed_mib: packed as f64 / f64::from(1 << 20),
        ratio: Spread::of(ratio),
        ours: Spread::of(ours),
        ours_pull: Spread::of(pulls),
        skopeo: Spread::of(theirs),
        again: Spread::of(again),
        from_image: Spread::of(from_image),
        from_host: Spread::of(from_host),
    };
    crate::report::write(&args.out, "images.json", &result)
}

/// Busybox, and layers of files whose bytes compress to about a half.
fn large(mib: usize, layers: usize) -> Result<Image> {
    let bytes = mib * (1 << 20) / layers.max(1) / FILES;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut all = Vec::new();
    for number in 0..layers {
        let mut entries = Vec::new();
        for file in 0..FILES {
            let mut content = Vec::with_capacity(bytes);
            while content.len() < bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                content.extend(state.to_le_bytes());
                content.extend([0; 8]);
            }
            content.truncate(bytes);
            entries.push(Entry::file(&format!("srv/{number}/{:02}/{file}", file % 20), content));
        }
        all.push(layer(&entries).map_err(anyhow::Error::msg)?);
    }
    // Busybox counts as one of them.
    if let Some(first) = all.first_mut() {
        *first = base().map_err(anyhow::Error::msg)?;
    }
    Image::packed(&all, &serde_json::json!({ "Cmd": SLEEP })).map_err(anyhow::Error::msg)
}

struct Puller {
    client: Client,
    name: Reference,
}

impl Puller {
    fn new(registry: &str) -> Result<Self> {
        let known = Registry {
            plain_http: true,
            private: true,
            ..Registry::default()
        };
        Ok(Self {
            client: Client::new(Registries(BTreeMap::from([(registry.to_owned(), known)])))?,
            name: format!("{registry}/bench/large:1").parse()?,
        })
    }

    /// As the reconciler does it. Milliseconds until the blobs are here, and until the image can be used.
    async fn pull(&self, cells: &Cells) -> Result<(ImageDigest, f64, f64)> {
        let directory = cells.traces.path().join("blobs");
        fs::create_dir_all(&directory)?;
        rustix::fs::sync();
        let since = Instant::now();
        let blobs = Blobs::open(&directory)?;
        let (platform, limits) = (Platform::here(), Limits::default());
        let pulled = self.client.pull(&blobs, &self.name, &platform, &limits, &Unseen);
        let pulled = pulled.await?;
        let here = since.elapsed().as_secs_f64() * 1e3;
        let layers = pulled.layers.iter().map(|layer| {
            let blob = blobs.path(&layer.digest).context("a layer is missing")?;
            let diff = layer.diff.to_string();
            anyhow::Ok(ImageLayer { blob, diff })
        });
        let image: ImageDigest = pulled.digest.to_string().parse()?;
        let layers = layers.collect::<Result<Vec<_>>>()?;
        cells.cell.image_put(&cells.sake()?, &image, &layers).await?;
        let all = since.elapsed().as_secs_f64() * 1e3;
        fs::remove_dir_all(&directory)?;
        Ok((image, here, all))
    }

    /// What a second environment pays for the image itself.
    async fn again(&self, cells: &Cells, image: &ImageDigest, times: usize) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for _ in 0..times {
            let since = Instant::now();
            if !cells.cell.image_list().await?.contains(image) {
                bail!("the image is gone");
            }
            all.push(since.elapsed().as_secs_f64() * 1e3);
        }
        Ok(all)
    }
}

/// Copies the image into a directory and unpacks each layer, on the file system of the pool.
fn skopeo(registry: &str, place: &Path) -> Result<f64> {
    let (blobs, root) = (place.join("skopeo"), place.join("pool/.tmp-bench-skopeo"));
    fs::create_dir_all(&root)?;
    rustix::fs::sync();
    let since = Instant::now();
    finished(
        Command::new("skopeo")
            .args(["copy", "--quiet", "--src-tls-verify=false"])
            .arg(format!("docker://{registry}/bench/large:1"))
            .arg(format!("dir:{}", blobs.display())),
    )?;
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(blobs.join("manifest.json"))?)?;
    for layer in manifest["layers"].as_array().context("no layers")? {
        let digest = layer["digest"].as_str().context("no digest")?;
        let digits = digest.rsplit(':').next().unwrap_or_default();
        finished(
            Command::new("tar")
                .args(["-xz", "-C"])
                .arg(&root)
                .arg("-f")
                .arg(blobs.join(digits)),
        )?;
    }
    let took = since.elapsed().as_secs_f64() * 1e3;
    fs::remove_dir_all(&root)?;
    fs::remove_dir_all(&blobs)?;
    Ok(took)
}

/// Runs a program to its end.
pub(crate) fn finished(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} can not be started", program.display()))?;
    if !output.status.success() {
        bail!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Milliseconds in which one container is started, each in an environment of its own: from the image, and from the host's root.
async fn containers(cells: &Cells, image: &ImageDigest, times: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let root = Root::Image {
        reference: "bench/large:1".to_owned(),
        pinned: Some(image.clone()),
    };
    let from_image = service(root, &SLEEP, &[]);
    let from_host = service(Root::Host, &SLEEP, &[]);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=times {
        for step in 0..2 {
            let with_image = (round + step) % 2 == 0;
            let took = started(cells, if with_image { &from_image } else { &from_host }).await?;
            if round > 0 {
                if with_image { &mut ours } else { &mut theirs }.push(took);
            }
        }
    }
    Ok((ours, theirs))
}

async fn started(cells: &Cells, service: &Service) -> Result<f64> {
    let spec = cells.environment(&[("sleep", service.clone())], None).await?;
    let since = Instant::now();
    cells.start_services(&spec).await?;
    let took = since.elapsed().as_secs_f64() * 1e3;
    cells.remove(&spec.environment).await?;
    Ok(took)
}
