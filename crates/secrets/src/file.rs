//! Files that only their owner reads, written whole or not at all.

use crate::error::{Error, Result};
use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};
use zeroize::Zeroizing;

/// Makes a directory that nobody else may enter, if there is none, and refuses one that others may enter.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Error::io("made", path)(error)),
        _ => closed(path, 0o700),
    }
}

/// Refuses a file or directory that others may read or write.
pub(crate) fn closed(path: &Path, wanted: u32) -> Result<()> {
    let mode = fs::symlink_metadata(path)
        .map_err(Error::io("read", path))?
        .permissions()
        .mode()
        & 0o777;
    if mode & !wanted != 0 {
        return Err(Error::Open {
            path: path.to_owned(),
            mode,
            wanted,
        });
    }
    Ok(())
}

/// Reads a file of at most `most` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, most: u64) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Error::io("read", path))?,
    };
    // A buffer that grows leaves copies behind that nobody wipes.
    let length = file.metadata().map_err(Error::io("read", path))?.len().min(most + 1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > most {
        return Err(Error::io("read", path)(ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(bytes))
}

/// Writes a file whole: a cut leaves the old one, or none.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = path.with_extension("draft");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(Error::io("written", path))?;
    sync_parent(path)
}

/// Removes a file; whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        removed => removed.map_err(Error::io("removed", path))?,
    }
    sync_parent(path)?;
    Ok(true)
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io("written", parent))
}
