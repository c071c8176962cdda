//! Unpacking: a layer's archive becomes a part of a root file system.
//!
//! A layer is hostile bytes. [`apply`] is meant to run in a sandbox whose only writable directory is the target and whose root
//! user is nobody outside; and it does not rely on that: it never leaves the root, follows no link out of it, makes no devices, and
//! is bounded in entries and bytes. What it writes keeps the owners, modes and times of the archive.
//!
//! What is left out, on purpose: device nodes and sockets (a container gets its own `/dev`), and extended attributes (file
//! capabilities would have no effect: containers run with `no_new_privs`).

mod archive;
mod stream;
mod tree;

use crate::digest::BlobDigest;
use std::{
    io::{self, Read},
    os::fd::BorrowedFd,
};

/// What is left of what an image may have once it is unpacked. Taken along from layer to layer.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Files, directories, links.
    pub entries: u64,
    /// Bytes of the uncompressed archives.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            bytes: 64 << 30,
        }
    }
}

/// What a layer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Files, directories and links made or replaced.
    pub entries: u64,
    /// Whiteouts: what of lower layers was removed.
    pub removed: u64,
    /// Entries that are left out on purpose.
    pub skipped: u64,
}

/// A layer can not be unpacked. Paths are shortened and escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The archive or its compression is damaged.
    #[error("the layer can not be read: {0}")]
    Damaged(String),
    /// The uncompressed layer is not what the image's configuration says.
    #[error("the layer holds something else than the image's configuration says: its digest is {got}")]
    Mismatch {
        /// What it is.
        got: BlobDigest,
    },
    /// A path that leaves the root, or can not be one.
    #[error("the path `{0}` can not be in an image")]
    Path(String),
    /// An entry of a kind that images do not have.
    #[error("`{path}` is {what}, which is not supported")]
    Kind {
        /// Which entry.
        path: String,
        /// Its kind.
        what: String,
    },
    /// More entries or bytes than are allowed.
    #[error("the image is larger than is allowed: more than {limit} {what}")]
    TooLarge {
        /// `entries` or `bytes`.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// An owner that does not exist in the container's range of ids.
    #[error("`{path}` belongs to user {uid}, group {gid}; containers know ids up to 65535")]
    Owner {
        /// Which entry.
        path: String,
        /// Its owner.
        uid: u64,
        /// Its group.
        gid: u64,
    },
    /// The file system refused.
    #[error("`{path}` can not be written")]
    Io {
        /// Which entry.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Applies a layer on top of what is in `root`.
///
/// Compression (none, gzip, zstd) is recognised by the first bytes, as others do: media types are often wrong. Decompression and
/// writing run on two threads.
///
/// # Errors
/// See [`LayerError`]. The root then holds a part of the layer and is of no use.
pub fn apply(
    layer: impl Read + Send,
    diff: &BlobDigest,
    root: BorrowedFd<'_>,
    bounds: &mut Bounds,
) -> Result<Applied, LayerError> {
    let (result, consumed) = stream::unpacked(layer, bounds.bytes, |reader| {
        archive::extract(reader, root, bounds.entries)
    });
    let (applied, touched) = result?;
    let consumed = consumed?;
    if consumed.digest != *diff {
        return Err(LayerError::Mismatch { got: consumed.digest });
    }
    bounds.entries = bounds.entries.saturating_sub(touched);
    bounds.bytes = bounds.bytes.saturating_sub(consumed.bytes);
    Ok(applied)
}

/// Reads a small text file of an unpacked image, such as `etc/passwd`; empty if there is none or it is longer than `most` bytes.
/// Links are followed, but not out of the root.
#[must_use]
pub fn read_text(root: BorrowedFd<'_>, path: &str, most: u64) -> String {
    tree::read(root, path, most)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default()
}

fn printable(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect()
}
