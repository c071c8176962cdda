//! The mark that says whose pool this is and in which format: what bears another one is left alone.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::io_error;
use super::{PoolError, TEMPORARY};

const MARKER: &str = "pool.json";

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    version: u32,
    instance: String,
}

/// Checks the mark, or makes it where there is nothing else yet.
pub(super) fn ensure(root: &Path, instance: &str) -> Result<(), PoolError> {
    let path = root.join(MARKER);
    let marker = match std::fs::read(&path) {
        Ok(bytes) if bytes.len() <= 4096 => serde_json::from_slice::<Marker>(&bytes).ok(),
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return write(root, instance),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    let reason = match marker {
        Some(Marker {
            version: 1,
            instance: found,
        }) if found == instance => return Ok(()),
        Some(Marker {
            version: 1,
            instance: found,
        }) => format!("it belongs to the instance `{found}`"),
        Some(Marker { version, .. }) => format!("it has the format {version}, this program knows 1"),
        None => format!("{MARKER} can't be read"),
    };
    Err(PoolError::Foreign {
        path: root.to_owned(),
        reason,
    })
}

fn write(root: &Path, instance: &str) -> Result<(), PoolError> {
    let (path, unfinished) = (root.join(MARKER), root.join(format!("{TEMPORARY}{MARKER}")));
    for entry in std::fs::read_dir(root).map_err(io_error("list", root))? {
        let entry = entry.map_err(io_error("list", root))?;
        if entry.path() != unfinished {
            let reason = format!("it has no {MARKER}, but holds {}", entry.file_name().to_string_lossy());
            return Err(PoolError::Foreign {
                path: root.to_owned(),
                reason,
            });
        }
    }
    let marker = serde_json::to_vec(&Marker {
        version: 1,
        instance: instance.to_owned(),
    })
    .map_err(|error| io_error("write", &path)(std::io::Error::from(error)))?;
    std::fs::write(&unfinished, marker).map_err(io_error("write", &unfinished))?;
    File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .map_err(io_error("sync", &unfinished))?;
    std::fs::rename(&unfinished, &path).map_err(io_error("rename", &unfinished))
}
