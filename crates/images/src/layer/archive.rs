//! The entries of a layer's archive, in the formats that image builders write: ustar, GNU's long names, and PAX.

use super::{
    Applied, LayerError, printable,
    tree::{Meta, Node, Tree},
};
use std::{
    io::{self, Read},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
};
use tar::{Archive, Entry, EntryType};

/// Names and attributes of one entry together. PATH_MAX is 4 KiB; attributes may be larger.
const MAX_EXTENSION: u64 = 1 << 20;
const MAX_PATH: usize = 4096;

/// What stands before an entry and belongs to it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    seconds: Option<i64>,
}

/// Writes every entry below `root`. Returns what was done and how many entries were looked at.
pub(super) fn extract(reader: impl Read, root: BorrowedFd<'_>, most: u64) -> Result<(Applied, u64), LayerError> {
    let mut archive = Archive::new(reader);
    let mut tree = Tree::new(root);
    let mut applied = Applied::default();
    let mut extension = Extension::default();
    let mut entries = 0;
    // Raw: this library would read a long name of any length into memory, and believe a PAX header about where an entry ends.
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        match entry.header().entry_type() {
            EntryType::XGlobalHeader => global(&mut entry)?,
            EntryType::XHeader => pax(&mut entry, &mut extension)?,
            EntryType::GNULongName => extension.path = Some(long_name(&mut entry)?),
            EntryType::GNULongLink => extension.link = Some(long_name(&mut entry)?),
            _ => {
                entries += 1;
                if entries > most {
                    return Err(LayerError::TooLarge {
                        what: "entries",
                        limit: most,
                    });
                }
                place(&mut tree, &mut entry, std::mem::take(&mut extension), &mut applied)?;
            }
        }
    }
    tree.finish()?;
    Ok((applied, entries))
}

fn place<R: Read>(
    tree: &mut Tree<'_>,
    entry: &mut Entry<'_, R>,
    extension: Extension,
    applied: &mut Applied,
) -> Result<(), LayerError> {
    let header = entry.header();
    let kind = header.entry_type();
    let given = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let path = inside(&given)?;
    let size = header.size().map_err(damaged)?;
    if extension.size.is_some_and(|told| told != size) {
        return Err(LayerError::Kind {
            path: printable(&given),
            what: "a file whose size is told twice and differently".to_owned(),
        });
    }
    if let Some(name) = path.file_name().filter(|name| name.as_bytes().starts_with(b".wh.")) {
        applied.removed += whiteout(tree, &path, name.as_bytes())?;
        return Ok(());
    }
    let meta = Meta {
        uid: told(extension.uid, &header.as_old().uid, || header.uid())?,
        gid: told(extension.gid, &header.as_old().gid, || header.gid())?,
        mode: told(None, &header.as_old().mode, || header.mode())? & 0o7777,
        seconds: told(extension.seconds, &header.as_old().mtime, || {
            Ok(header.mtime()?.try_into().unwrap_or(i64::MAX))
        })?,
    };
    let link = |entry: &Entry<'_, R>| {
        extension
            .link
            .clone()
            .or_else(|| entry.header().link_name_bytes().map(std::borrow::Cow::into_owned))
            .filter(|link| !link.is_empty() && link.len() <= MAX_PATH)
            .ok_or_else(|| LayerError::Path(printable(&given)))
    };
    match kind {
        EntryType::Regular | EntryType::Continuous => tree.put(&path, Node::File(entry), &meta)?,
        EntryType::Directory => tree.put(&path, Node::Directory, &meta)?,
        EntryType::Symlink => tree.put(&path, Node::Symlink(&link(entry)?), &meta)?,
        EntryType::Link => {
            let target = inside(&link(entry)?)?;
            tree.put(&path, Node::Link(&target), &meta)?;
        }
        EntryType::Fifo => tree.put(&path, Node::Fifo, &meta)?,
        EntryType::Char | EntryType::Block => {
            applied.skipped += 1;
            return Ok(());
        }
        other => {
            return Err(LayerError::Kind {
                path: printable(&given),
                what: format!("an entry of type {:?}", char::from(other.as_byte())),
            });
        }
    }
    applied.entries += 1;
    Ok(())
}

/// Removes what lower layers have: one name, or all that is in a directory (image specification, "Whiteouts").
fn whiteout(tree: &mut Tree<'_>, path: &Path, name: &[u8]) -> Result<u64, LayerError> {
    let parent = path.parent().unwrap_or(Path::new(""));
    match name.strip_prefix(b".wh.") {
        Some(b".wh..opq") => tree.empty(parent),
        // Bookkeeping of aufs that old builders left in.
        Some(rest) if rest.starts_with(b".wh.") => Ok(0),
        Some(b"" | b"." | b"..") | None => Err(LayerError::Path(printable(path.as_os_str().as_bytes()))),
        Some(rest) => tree.hide(&parent.join(Path::new(std::ffi::OsStr::from_bytes(rest)))),
    }
}

/// The path below the root. A path that climbs is refused even where it would come back: no builder writes one.
fn inside(given: &[u8]) -> Result<PathBuf, LayerError> {
    let refused = || LayerError::Path(printable(given));
    if given.len() > MAX_PATH || given.contains(&0) {
        return Err(refused());
    }
    let mut path = PathBuf::new();
    for component in Path::new(std::ffi::OsStr::from_bytes(given)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    Ok(path)
}

/// A number of the PAX header, else of the entry's own; a field that is blank is zero, as other readers have it.
fn told<T: Default>(extension: Option<T>, field: &[u8], header: impl Fn() -> io::Result<T>) -> Result<T, LayerError> {
    if let Some(value) = extension {
        return Ok(value);
    }
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(T::default());
    }
    header().map_err(damaged)
}

fn read_extension<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, LayerError> {
    let mut bytes = Vec::new();
    entry.take(MAX_EXTENSION + 1).read_to_end(&mut bytes).map_err(damaged)?;
    if bytes.len() as u64 > MAX_EXTENSION {
        return Err(LayerError::Damaged(format!(
            "the names of one entry take more than {MAX_EXTENSION} bytes"
        )));
    }
    Ok(bytes)
}

fn long_name<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, LayerError> {
    let mut bytes = read_extension(entry)?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

fn pax<R: Read>(entry: &mut Entry<'_, R>, extension: &mut Extension) -> Result<(), LayerError> {
    let bytes = read_extension(entry)?;
    for record in tar::PaxExtensions::new(&bytes) {
        let record = record.map_err(damaged)?;
        let value = record.value_bytes();
        let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        match record.key_bytes() {
            b"path" => extension.path = Some(value.to_vec()),
            b"linkpath" => extension.link = Some(value.to_vec()),
            b"size" => extension.size = Some(number().ok_or_else(|| bad_record("size"))?),
            b"uid" => extension.uid = Some(number().ok_or_else(|| bad_record("uid"))?),
            b"gid" => extension.gid = Some(number().ok_or_else(|| bad_record("gid"))?),
            b"mtime" => extension.seconds = Some(seconds(value).ok_or_else(|| bad_record("mtime"))?),
            key if key.starts_with(b"GNU.sparse.") => return Err(bad_record("GNU.sparse")),
            _ => {}
        }
    }
    Ok(())
}

/// A header for all entries that follow. Builders write only comments there (`git archive`); a name or size there would change what
/// every entry is, and readers disagree about it.
fn global<R: Read>(entry: &mut Entry<'_, R>) -> Result<(), LayerError> {
    let mut extension = Extension::default();
    pax(entry, &mut extension)?;
    if extension.path.is_some() || extension.link.is_some() || extension.size.is_some() {
        return Err(bad_record("a global header that names files"));
    }
    Ok(())
}

/// Whole seconds of `1700000000.123`.
fn seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.split('.').next()?.parse().ok()
}

fn bad_record(what: &str) -> LayerError {
    LayerError::Damaged(format!("it holds a record that is not supported: {what}"))
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn damaged(error: io::Error) -> LayerError {
    LayerError::Damaged(error.to_string())
}
