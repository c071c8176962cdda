//! Brings images to a cell host and makes services of them.

use crate::support::{Rig, service};
use model::{EnvironmentId, Generation, ImageDigest, Root, Service};
use runtime::{ImageLayer, Runtime as _, RuntimeError, Sake};
use runtime_cell::CellRuntime;
use std::fs;
use test_support::image::{Entry, base, digest, layer};

/// An image as it lies on the disk before it is brought.
pub(crate) struct Packed {
    pub(crate) image: ImageDigest,
    layers: Vec<ImageLayer>,
    _directory: tempfile::TempDir,
}

impl Packed {
    pub(crate) fn of(layers: &[Vec<u8>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        let mut names = String::new();
        for (number, bytes) in layers.iter().enumerate() {
            let blob = directory.path().join(number.to_string());
            fs::write(&blob, bytes).unwrap();
            names.push_str(&digest(bytes));
            all.push(ImageLayer {
                blob,
                diff: digest(bytes),
            });
        }
        Self {
            image: digest(names.as_bytes()).parse().unwrap(),
            layers: all,
            _directory: directory,
        }
    }

    /// Busybox, and this on top of it.
    pub(crate) fn with(entries: &[Entry]) -> Self {
        Self::of(&[base().unwrap(), layer(entries).unwrap()])
    }

    pub(crate) async fn put(&self, runtime: &CellRuntime, environment: &EnvironmentId) -> Result<(), RuntimeError> {
        let sake = Sake {
            environment: environment.clone(),
            generation: Generation(1),
        };
        runtime.image_put(&sake, &self.image, &self.layers).await
    }

    /// A service of it.
    pub(crate) fn service(&self, argv: &[&str], ports: &[u16]) -> Service {
        let mut service = service(argv, ports);
        service.workload.root = Root::Image {
            reference: "registry.example/look-alike:1".to_owned(),
            pinned: Some(self.image.clone()),
        };
        service.workload.read_only = false;
        service
    }
}

/// What is in the pool of images.
pub(crate) fn in_pool(rig: &Rig) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(rig.directory.join("pool/images"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
