//! What an environment was meant to be: the newest generation whose envelope was asked for, in a file beside the record. Nobody here
//! needs it; it is for a control plane that has lost its store. Names and versions of secrets stand in it, no values.

use super::{Host, failed};
use model::{EnvironmentId, EnvironmentSpec};
use runtime::RuntimeError;
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

const FILE: &str = "spec.json";
/// Larger than any request that was accepted here.
const FILE_MAX: u64 = 8 << 20;

impl Host {
    /// Writes it down, in the place of the one before. Not synced, like the record.
    pub(crate) fn note_spec(&self, spec: &EnvironmentSpec) -> Result<(), RuntimeError> {
        let directory = self.state_dir(spec.environment.as_str());
        let write = || -> io::Result<()> {
            let part = directory.join("spec.part");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&part)?;
            file.write_all(&serde_json::to_vec(spec)?)?;
            fs::rename(part, directory.join(FILE))
        };
        write().map_err(|error| failed(format!("recording {}", spec.environment), &error))
    }

    /// Reads it. One that can not be read is as good as none, and that is told.
    pub(crate) fn recall(&self, id: &EnvironmentId) -> Result<Option<EnvironmentSpec>, RuntimeError> {
        let path = self.state_dir(id.as_str()).join(FILE);
        let read = || -> io::Result<Option<EnvironmentSpec>> {
            if fs::metadata(&path)?.len() > FILE_MAX {
                return Ok(None);
            }
            Ok(serde_json::from_slice(&fs::read(&path)?).ok())
        };
        match read() {
            Ok(spec) => {
                let spec = spec.filter(|spec| spec.environment == *id);
                if spec.is_none() {
                    tracing::warn!(path = %path.display(), "what an environment was meant to be can not be read");
                }
                Ok(spec)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(format!("recalling {id}"), &error)),
        }
    }
}
