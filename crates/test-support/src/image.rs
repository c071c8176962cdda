//! Images that tests make: layers from files of this machine, a configuration, a manifest; and how they get into a registry.

use crate::gitea::Error;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

/// The one program of the look-alikes, without libraries.
const BUSYBOX: &str = "/bin/busybox";
const BUSYBOX_ELSEWHERE: &str = "/usr/bin/busybox";

/// What stands in a layer.
#[derive(Clone, Debug)]
pub struct Entry {
    path: String,
    kind: tar::EntryType,
    content: Vec<u8>,
    link: String,
    mode: u32,
    owner: (u64, u64),
}

impl Entry {
    fn new(path: &str, kind: tar::EntryType, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            content: Vec::new(),
            link: String::new(),
            mode,
            owner: (0, 0),
        }
    }

    /// A file that everybody may read.
    #[must_use]
    pub fn file(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self {
            content: content.into(),
            ..Self::new(path, tar::EntryType::Regular, 0o644)
        }
    }

    /// A program.
    #[must_use]
    pub fn program(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self {
            mode: 0o755,
            ..Self::file(path, content)
        }
    }

    /// A directory.
    #[must_use]
    pub fn directory(path: &str) -> Self {
        Self::new(path, tar::EntryType::Directory, 0o755)
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(path: &str, target: &str) -> Self {
        Self {
            link: target.to_owned(),
            ..Self::new(path, tar::EntryType::Symlink, 0o777)
        }
    }

    /// A further name of what is at `target` in the image.
    #[must_use]
    pub fn hard_link(path: &str, target: &str) -> Self {
        Self {
            link: target.to_owned(),
            ..Self::new(path, tar::EntryType::Link, 0o644)
        }
    }

    /// A character device; images have none that is of use.
    #[must_use]
    pub fn device(path: &str) -> Self {
        Self::new(path, tar::EntryType::Char, 0o666)
    }

    /// With this owner and group.
    #[must_use]
    pub fn owned(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// With these permission bits.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }
}

/// An archive with these entries, whatever their paths.
///
/// # Errors
/// When an entry can not be written.
pub fn layer(entries: &[Entry]) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| Error(format!("a layer: {error}"));
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(1_700_000_000);
        header.set_size(entry.content.len() as u64);
        // As it is: the library would refuse paths that climb.
        copied(&mut header.as_old_mut().name, &entry.path);
        copied(&mut header.as_old_mut().linkname, &entry.link);
        header.set_cksum();
        builder.append(&header, entry.content.as_slice()).map_err(failed)?;
    }
    builder.into_inner().map_err(failed)
}

fn copied(field: &mut [u8], text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(field.len())];
    field[..bytes.len()].copy_from_slice(bytes);
}

/// A layer with a shell, its usual programs and lists of users: what a small image starts from.
///
/// # Errors
/// Without Debian's `busybox-static` on this machine.
pub fn base() -> Result<Vec<u8>, Error> {
    let program = [BUSYBOX, BUSYBOX_ELSEWHERE]
        .into_iter()
        .find(|path| Path::new(path).is_file());
    let program = program
        .ok_or_else(|| Error("this test needs busybox.\nhint: run scripts/install-packages test once".to_owned()))?;
    let program = std::fs::read(program).map_err(|error| Error(format!("busybox: {error}")))?;
    let mut entries = vec![
        Entry::directory("bin"),
        Entry::program("bin/busybox", program),
        Entry::directory("etc"),
        Entry::file(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/var/www:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n",
        ),
        Entry::file("etc/group", "root:x:0:\nweb:x:102:\nnode:x:1000:\nmedia:x:2000:node\n"),
        Entry::directory("tmp").mode(0o1777),
        Entry::directory("root").mode(0o700),
        Entry::directory("home/node").owned(1000, 1000),
        Entry::directory("var/www").owned(101, 102),
    ];
    for name in [
        "sh", "cat", "chown", "chmod", "echo", "httpd", "id", "ls", "mkdir", "mknod", "mount", "nc", "nslookup",
        "printenv", "ps", "pwd", "rm", "sleep", "stat", "su", "tee", "test", "touch", "true", "false", "umount",
        "wget", "hostname", "dd", "ln", "awk", "basename", "cp", "cut", "date", "dirname", "env", "expr", "find",
        "grep", "head", "install", "mktemp", "mv", "printf", "readlink", "sed", "sort", "tail", "tar", "tr", "uname",
        "wc", "which", "xargs",
    ] {
        entries.push(Entry::symlink(&format!("bin/{name}"), "busybox"));
    }
    // Where scripts name it.
    entries.push(Entry::symlink("usr/bin/env", "../../bin/busybox"));
    layer(&entries)
}

/// An image in parts.
#[derive(Clone, Debug)]
pub struct Image {
    /// As they are pushed, the lowest first; uncompressed unless it is [`Self::packed`].
    pub layers: Vec<Vec<u8>>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    /// An image of these layers. `config` is the part of the configuration that says what containers run, in Docker's words.
    #[must_use]
    pub fn new(layers: Vec<Vec<u8>>, config: &Value) -> Self {
        let diffs: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        Self::of(layers, &diffs, "application/vnd.oci.image.layer.v1.tar", config)
    }

    /// The same, with layers that are compressed as builders compress them.
    ///
    /// # Errors
    /// When a layer can not be compressed.
    pub fn packed(layers: &[Vec<u8>], config: &Value) -> Result<Self, Error> {
        let diffs: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let packed = layers.iter().map(|layer| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut packer, layer)?;
            packer.finish()
        });
        let packed = packed.collect::<std::io::Result<Vec<_>>>();
        let packed = packed.map_err(|error| Error(format!("a layer: {error}")))?;
        Ok(Self::of(
            packed,
            &diffs,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            config,
        ))
    }

    fn of(layers: Vec<Vec<u8>>, diffs: &[String], media: &str, config: &Value) -> Self {
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let rootfs = json!({ "type": "layers", "diff_ids": diffs });
        let config = json!({ "architecture": architecture, "os": "linux", "config": config, "rootfs": rootfs });
        let config = config.to_string().into_bytes();
        let descriptor =
            |media: &str, bytes: &[u8]| json!({ "mediaType": media, "digest": digest(bytes), "size": bytes.len() });
        let layers_of = |layer: &Vec<u8>| descriptor(media, layer);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(layers_of).collect::<Vec<_>>(),
        });
        Self {
            manifest: manifest.to_string().into_bytes(),
            layers,
            config,
        }
    }

    /// The digest of its manifest.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// Its manifest and its configuration, as they are stored.
    #[must_use]
    pub fn documents(&self) -> (&[u8], &[u8]) {
        (&self.manifest, &self.config)
    }

    /// Pushes it by the distribution API, as a builder does.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push(&self, registry: &str, repository: &str, tag: &str) -> Result<(), Error> {
        let failed = |error: reqwest::Error| Error(format!("pushing an image: {error}"));
        let http = reqwest::Client::new();
        let base = format!("http://{registry}/v2/{repository}");
        for blob in self.layers.iter().chain([&self.config]) {
            let begun = http
                .post(format!("{base}/blobs/uploads/"))
                .send()
                .await
                .map_err(failed)?;
            let place = begun.headers().get("location").and_then(|value| value.to_str().ok());
            let place = place.ok_or_else(|| Error("the registry takes no blobs".to_owned()))?;
            let place = match place.strip_prefix('/') {
                Some(path) => format!("http://{registry}/{path}"),
                None => place.to_owned(),
            };
            let joint = if place.contains('?') { '&' } else { '?' };
            let stored = http
                .put(format!("{place}{joint}digest={}", digest(blob)))
                .body(blob.clone());
            stored
                .send()
                .await
                .and_then(reqwest::Response::error_for_status)
                .map_err(failed)?;
        }
        let stored = http
            .put(format!("{base}/manifests/{tag}"))
            .header("content-type", MANIFEST)
            .body(self.manifest.clone());
        stored
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(failed)?;
        Ok(())
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// From this size on a program of the machine is asked: in tests nothing is optimised.
const LARGE: usize = 1 << 20;

fn digest_of_large(bytes: &[u8]) -> Option<String> {
    let piped = || Stdio::piped();
    let mut child = Command::new("sha256sum").stdin(piped()).stdout(piped()).spawn().ok()?;
    // It prints nothing before its input ends.
    child.stdin.take()?.write_all(bytes).ok()?;
    let told = child.wait_with_output().ok()?;
    let text = String::from_utf8(told.stdout).ok()?;
    let digits = text.split(' ').next()?;
    (told.status.success() && digits.len() == 64).then(|| digits.to_owned())
}

/// `sha256:` and digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    if bytes.len() > LARGE
        && let Some(digits) = digest_of_large(bytes)
    {
        return format!("sha256:{digits}");
    }
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
