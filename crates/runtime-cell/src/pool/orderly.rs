//! Whether the machine went down in order. Engines run without fsync, so after a crash of the machine (not of a process) what
//! they wrote last may be half there: volumes of engines that ran are then suspect, and that is told to people. An orderly
//! shutdown leaves a mark, so that a planned reboot is no reason to distrust anything.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::io_error;
use super::{Pool, PoolError, TEMPORARY};

const FILE: &str = "state.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    boot_id: String,
    /// The machine was about to go down in order, or nothing was running, when this was written.
    orderly: bool,
    /// The machine crashed at some time and nobody has dealt with the volumes since.
    suspect: bool,
}

impl State {
    /// What to assume when the pool is opened in the boot `boot_id`. Without a mark volumes are suspect, if there are any.
    fn opened(before: Option<Self>, boot_id: String, has_volumes: bool) -> Self {
        let suspect = match before {
            None => has_volumes,
            Some(before) => before.suspect || (before.boot_id != boot_id && !before.orderly),
        };
        Self {
            boot_id,
            orderly: false,
            suspect,
        }
    }
}

impl Pool {
    /// Whether the machine has crashed since the volumes were written. Snapshots and sources are not concerned: they were on
    /// disk before they got their names. It stays so until [`Pool::suspect_clear`].
    ///
    /// # Errors
    /// When the mark can't be read.
    pub fn volumes_suspect(&self) -> Result<bool, PoolError> {
        Ok(read(&self.root)?.is_none_or(|state| state.suspect))
    }

    /// Records that every suspect volume has been made again.
    ///
    /// # Errors
    /// When the mark can't be written.
    pub fn suspect_clear(&self) -> Result<(), PoolError> {
        write(
            &self.root,
            &State {
                boot_id: boot_id()?,
                orderly: false,
                suspect: false,
            },
        )
    }

    /// Writes everything to disk and marks that. For when nothing will be written any more, or when the machine goes down in order:
    /// what engines write until then, the kernel writes to disk at the end. The next [`Pool::open`] unmarks it.
    ///
    /// # Errors
    /// When the mark can't be written.
    pub fn orderly_mark(&self) -> Result<(), PoolError> {
        rustix::fs::syncfs(&self.root_file).map_err(io_error("sync", &self.root))?;
        write(
            &self.root,
            &State {
                boot_id: boot_id()?,
                orderly: true,
                suspect: self.volumes_suspect()?,
            },
        )
    }
}

/// Takes the mark away: from now on engines may run. On a full pool nothing can be written, but still be removed; that says
/// the same less kindly (volumes will be suspect), and the pool opens.
pub(super) fn unmark(root: &Path, has_volumes: bool) -> Result<(), PoolError> {
    match write(root, &State::opened(read(root)?, boot_id()?, has_volumes)) {
        Err(PoolError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
            let path = root.join(FILE);
            tracing::warn!(path = %path.display(), "the pool is full: its state could not be recorded");
            let _ = std::fs::remove_file(root.join(format!("{TEMPORARY}{FILE}")));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
                _ => Ok(()),
            }
        }
        other => other,
    }
}

fn boot_id() -> Result<String, PoolError> {
    let path = Path::new(BOOT_ID);
    std::fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(io_error("read", path))
}

fn read(root: &Path) -> Result<Option<State>, PoolError> {
    let path = root.join(FILE);
    match std::fs::read(&path) {
        // One that can't be read tells nothing good: as after a crash.
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes[..bytes.len().min(4096)]).unwrap_or(
            State {
                boot_id: String::new(),
                orderly: false,
                suspect: true,
            },
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", &path)(error)),
    }
}

fn write(root: &Path, state: &State) -> Result<(), PoolError> {
    let (path, unfinished) = (root.join(FILE), root.join(format!("{TEMPORARY}{FILE}")));
    let bytes = serde_json::to_vec(state).map_err(|error| io_error("write", &path)(std::io::Error::from(error)))?;
    std::fs::write(&unfinished, bytes).map_err(io_error("write", &unfinished))?;
    File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .map_err(io_error("sync", &unfinished))?;
    std::fs::rename(&unfinished, &path).map_err(io_error("rename", &unfinished))?;
    File::open(root)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("sync", root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_boot_without_the_mark_makes_volumes_suspect() {
        let state = |boot: &str, orderly, suspect| State {
            boot_id: boot.into(),
            orderly,
            suspect,
        };
        let suspect = |before| State::opened(before, "now".into(), true).suspect;
        assert!(
            !State::opened(None, "now".into(), false).suspect,
            "a new pool has nothing to suspect"
        );
        assert!(suspect(None));
        assert!(
            !suspect(Some(state("now", false, false))),
            "a killed process is no crash of the machine"
        );
        assert!(
            !suspect(Some(state("before", true, false))),
            "an orderly reboot is none either"
        );
        assert!(suspect(Some(state("before", false, false))));
        assert!(
            suspect(Some(state("now", false, true))),
            "it was forgotten by restarting"
        );
        assert!(suspect(Some(state("before", true, true))));
        assert!(!State::opened(Some(state("before", true, false)), "now".into(), true).orderly);
    }
}
