//! Reads what a build has left: an image as files, written by whoever wrote the Dockerfile, and trusted in nothing.

use super::order::RESULT;
use crate::{
    host::{Host, failed, image::LAYERS_MAX, launch::pool_error},
    names::{self, UnitName},
};
use images::BlobDigest;
use model::EnvironmentId;
use runtime::{BuiltImage, RuntimeError};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, OwnedFd},
};

/// Of a manifest and of a configuration.
const TEXT_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct Manifest {
    config: Part,
    layers: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    digest: BlobDigest,
}

#[derive(Deserialize)]
struct Config {
    rootfs: Roots,
}

#[derive(Deserialize)]
struct Roots {
    diff_ids: Vec<BlobDigest>,
}

impl Host {
    /// The image that a build has left, and its layers as open files.
    pub(super) fn build_result(
        &self,
        id: &EnvironmentId,
        unit: &UnitName,
    ) -> Result<(BuiltImage, Vec<(OwnedFd, BlobDigest)>), RuntimeError> {
        let action = || format!("reading what the build of {} has made", unit.plain());
        let path = self.pool.volume_path(id.as_str(), &names::build_work(unit));
        let path = path.map_err(|e| pool_error(action(), e))?;
        let top = openat2(
            CWD,
            &path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::empty(),
        );
        let top = top.map_err(|e| failed(action(), &e))?;
        read(&top).map_err(|error| RuntimeError::Invalid {
            what: format!("the build of service {}", unit.plain()),
            reason: format!("what it left is no image: {error}"),
        })
    }
}

fn read(top: &OwnedFd) -> io::Result<(BuiltImage, Vec<(OwnedFd, BlobDigest)>)> {
    let manifest = text(top, "manifest.json")?;
    let parsed: Manifest = serde_json::from_str(&manifest)?;
    let config = text(top, &parsed.config.digest.hex())?;
    let diffs = serde_json::from_str::<Config>(&config)?.rootfs.diff_ids;
    if diffs.len() != parsed.layers.len() || diffs.len() > LAYERS_MAX {
        return Err(io::Error::other(format!(
            "it has {} layers, and its configuration {}",
            parsed.layers.len(),
            diffs.len()
        )));
    }
    let mut layers = Vec::new();
    for (layer, diff) in parsed.layers.iter().zip(diffs) {
        layers.push((plain_file(top, &layer.digest.hex())?, diff));
    }
    let image = BlobDigest::of(manifest.as_bytes()).to_string().parse();
    let image = image.map_err(io::Error::other)?;
    Ok((BuiltImage { image, config }, layers))
}

/// A file that is one, reached by no link.
fn plain_file(top: &impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(top, format!("{RESULT}/{name}"), flags, Mode::empty(), resolve)?;
    if !FileType::from_raw_mode(fstat(&file)?.st_mode).is_file() {
        return Err(io::Error::other(format!("`{name}` is no file")));
    }
    Ok(file)
}

fn text(top: &impl AsFd, name: &str) -> io::Result<String> {
    let mut text = String::new();
    let file = File::from(plain_file(top, name)?);
    if file.metadata()?.len() > TEXT_MAX {
        return Err(io::Error::other(format!("`{name}` is longer than {TEXT_MAX} bytes")));
    }
    file.take(TEXT_MAX).read_to_string(&mut text)?;
    Ok(text)
}
