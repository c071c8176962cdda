//! Layers that builds keep for those after them.
//!
//! Each environment keeps its own, as a snapshot that goes with it. The first build of a service in an environment starts from a
//! copy of the newest ones that an environment of the same project has of a service of that name; the baseline is always there to
//! have some. Builds of commits that run by approval have layers apart, also from those of other commits in their environment:
//! what they leave reaches nobody, and nobody's reaches them.

use super::{Host, write_note};
use crate::{
    host::{failed, launch::pool_error},
    names::{self, UnitName},
    pool::Origin,
};
use model::{EnvironmentId, EnvironmentSpec, ProjectName, ServiceName};
use runtime::RuntimeError;
use serde::{Deserialize, Serialize};
use std::{fs, io, path::PathBuf, time::SystemTime};

/// Whose layers a build may find, and who may find what it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) project: ProjectName,
    /// Nobody but builds by approval in the same environment.
    pub(super) private: bool,
}

/// What is known of kept layers.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    project: ProjectName,
    /// What they share with those that they were copied from is counted, too.
    bytes: u64,
}

impl Share {
    pub(super) fn of(spec: &EnvironmentSpec, service: &ServiceName) -> Self {
        Self {
            project: spec.project.clone(),
            private: names::builds_by_approval(spec, service),
        }
    }
}

impl Host {
    fn layers_note(&self, id: &EnvironmentId, unit: &UnitName, private: bool) -> PathBuf {
        let extension = if private { "private-layers" } else { "layers" };
        self.note_of(id, unit).with_extension(extension)
    }

    fn begun_note(&self, id: &EnvironmentId, unit: &UnitName) -> PathBuf {
        self.note_of(id, unit).with_extension("begun")
    }

    /// The layers that a build starts from, if there are any; and how many bytes they have is written down.
    pub(super) fn layers_for(
        &self,
        id: &EnvironmentId,
        unit: &UnitName,
        share: &Share,
    ) -> Result<Option<Origin>, RuntimeError> {
        let exists = |cache: &str| {
            let found = self.pool.snapshot_exists(cache);
            found.map_err(|e| pool_error(format!("looking for the layers of {}", unit.plain()), e))
        };
        let own = names::build_cache(id, unit, share.private);
        let found = if exists(&own)? {
            Some((own, self.layers_note(id, unit, share.private)))
        } else {
            match self.layers_elsewhere(id, unit, share) {
                Some((cache, note)) if exists(&cache)? => Some((cache, note)),
                _ => None,
            }
        };
        let bytes = found
            .as_ref()
            .and_then(|(_, note)| read(note))
            .map_or(0, |note| note.bytes);
        write_note(&self.begun_note(id, unit), bytes.to_string().as_bytes())
            .map_err(|e| failed(format!("noting the layers of {}", unit.plain()), &e))?;
        Ok(found.map(|(cache, _)| Origin::Snapshot(cache)))
    }

    /// The newest layers of the project that anybody may start from.
    fn layers_elsewhere(&self, id: &EnvironmentId, unit: &UnitName, share: &Share) -> Option<(String, PathBuf)> {
        if share.private {
            return None;
        }
        let others: Vec<EnvironmentId> = self
            .known()
            .environments
            .keys()
            .filter(|other| *other != id)
            .cloned()
            .collect();
        let noted = others.into_iter().filter_map(|other| {
            let path = self.layers_note(&other, unit, false);
            let note = read(&path)?;
            let time = fs::metadata(&path).and_then(|found| found.modified());
            (note.project == share.project).then(|| (time.unwrap_or(SystemTime::UNIX_EPOCH), other, path))
        });
        let (_, other, path) = noted.max_by_key(|(time, ..)| *time)?;
        Some((names::build_cache(&other, unit, false), path))
    }

    /// Keeps the layers of a build for the next one, unless they are too many, or may be incomplete.
    pub(super) fn keep_layers(
        &self,
        id: &EnvironmentId,
        unit: &UnitName,
        share: &Share,
        whole: bool,
    ) -> Result<(), RuntimeError> {
        let pool = |e| pool_error(format!("keeping the layers of the build of {}", unit.plain()), e);
        let storage = names::build_storage(unit);
        if !whole || !self.has_volume(id, &storage) {
            return Ok(());
        }
        // What a copy shares with its original is counted with the original: the sum over all builds is at least the size.
        let begun = fs::read_to_string(self.begun_note(id, unit)).ok();
        let before: u64 = begun.and_then(|text| text.parse().ok()).unwrap_or(0);
        let own = self.pool.volume_usage(id.as_str(), &storage).map_err(pool)?;
        let bytes = before.saturating_add(own);
        let cache = names::build_cache(id, unit, share.private);
        self.pool.snapshot_remove(&cache).map_err(pool)?;
        if bytes > self.config.builds.cache_bytes {
            return Ok(());
        }
        let note = Note {
            project: share.project.clone(),
            bytes,
        };
        let text = serde_json::to_vec(&note).map_err(io::Error::from);
        text.and_then(|text| write_note(&self.layers_note(id, unit, share.private), &text))
            .map_err(|e| failed(format!("noting the layers of {}", unit.plain()), &e))?;
        self.pool.snapshot_create(id.as_str(), &storage, &cache).map_err(pool)
    }
}

fn read(path: &PathBuf) -> Option<Note> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
