//! Sources and snapshots: what the pool holds beyond environments.

use super::{Host, failed, launch::pool_error};
use crate::{names, names::UnitName};
use model::{EnvironmentId, Generation, SnapshotId, VolumeName};
use runtime::{Room, RuntimeError, Sake, SourceKey};
use std::{fs, path::PathBuf, sync::Arc};

const KEY_MAX: u64 = 4096;

impl Host {
    fn keys_dir(&self) -> PathBuf {
        self.config.state_dir.join("sources")
    }

    /// Whether a source is there.
    pub(crate) fn source_exists(&self, key: &SourceKey) -> Result<bool, RuntimeError> {
        self.pool
            .source_exists(&names::source(key))
            .map_err(|e| pool_error("looking for a source".into(), e))
    }

    /// Makes an empty tree that the control plane fills.
    pub(crate) fn source_begin(&self, sake: &Sake, key: &SourceKey) -> Result<PathBuf, RuntimeError> {
        self.for_sake_of(sake)?;
        let name = names::source(key);
        let action = || format!("making the source {} at {}", key.source, key.commit);
        self.pool.admit(0).map_err(|e| pool_error(action(), e))?;
        // The name in the pool is a digest: what it stands for is written down before it exists.
        let directory = self.keys_dir();
        let io = |e: std::io::Error| failed(action(), &e);
        fs::create_dir_all(&directory).map_err(io)?;
        fs::write(
            directory.join(format!("{name}.part")),
            serde_json::to_vec(key).map_err(|e| io(e.into()))?,
        )
        .map_err(io)?;
        fs::rename(directory.join(format!("{name}.part")), directory.join(&name)).map_err(io)?;
        self.pool
            .source_begin(&name, self.config.control_uid, self.config.control_gid)
            .map_err(|e| pool_error(action(), e))
    }

    /// Ends the filling.
    pub(crate) fn source_seal(&self, sake: &Sake, key: &SourceKey) -> Result<(), RuntimeError> {
        self.for_sake_of(sake)?;
        self.pool
            .source_seal(&names::source(key))
            .map_err(|e| pool_error(format!("sealing the source {} at {}", key.source, key.commit), e))
    }

    /// The sources that are there.
    pub(crate) fn source_list(&self) -> Result<Vec<SourceKey>, RuntimeError> {
        let mut keys = Vec::new();
        for name in self
            .pool
            .source_list()
            .map_err(|e| pool_error("listing the sources".into(), e))?
        {
            let path = self.keys_dir().join(&name);
            if fs::metadata(&path).is_ok_and(|m| m.len() <= KEY_MAX)
                && let Ok(bytes) = fs::read(&path)
                && let Ok(key) = serde_json::from_slice::<SourceKey>(&bytes)
                && names::source(&key) == name
            {
                keys.push(key);
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// Removes a source.
    pub(crate) fn source_remove(&self, key: &SourceKey) -> Result<(), RuntimeError> {
        let name = names::source(key);
        self.pool
            .source_remove(&name)
            .map_err(|e| pool_error(format!("removing the source {} at {}", key.source, key.commit), e))?;
        match fs::remove_file(self.keys_dir().join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("removing the name of a source", &e)),
            _ => Ok(()),
        }
    }

    /// Makes a snapshot of a volume that nothing writes to.
    pub(crate) async fn snapshot_create(
        self: &Arc<Self>,
        id: &EnvironmentId,
        generation: Generation,
        volume: &VolumeName,
        snapshot: &SnapshotId,
    ) -> Result<(), RuntimeError> {
        let action = || format!("making the snapshot {snapshot} of {volume} in {id}");
        self.for_sake_of(&Sake {
            environment: id.clone(),
            generation,
        })?;
        if self
            .pool
            .snapshot_exists(snapshot.as_str())
            .map_err(|e| pool_error(action(), e))?
        {
            return Ok(());
        }
        let environment = self.environment(id)?;
        // A service that is just being started writes already, and nobody watches it yet.
        let _turn = environment.gate.write().await;
        let incarnation = {
            let inner = environment.inner();
            let uses = |name: &UnitName| inner.watchers.get(name).is_some_and(|w| !*w.done.borrow());
            let mut users = inner
                .record
                .units
                .iter()
                .filter(|(name, r)| uses(name) && r.manner.volumes.iter().any(|v| v == volume.as_str()));
            if let Some((user, _)) = users.next() {
                return Err(RuntimeError::Failed {
                    action: action(),
                    reason: format!("{} still runs", user.plain()),
                });
            }
            inner.record.volumes.get(volume.as_str()).copied()
        };
        let incarnation = incarnation.ok_or_else(|| RuntimeError::NotFound {
            what: format!("volume {volume} of {id}"),
        })?;
        let name = names::volume(volume, incarnation);
        let (owner, id) = (id.clone(), snapshot.clone());
        let make = move |host: &Self| {
            host.pool
                .snapshot_create(owner.as_str(), &name, id.as_str())
                .map_err(|e| pool_error(format!("making the snapshot {id} in {owner}"), e))
        };
        self.block(make).await
    }

    /// The snapshots that are there.
    pub(crate) fn snapshot_list(&self) -> Result<Vec<SnapshotId>, RuntimeError> {
        let all = self
            .pool
            .snapshot_list()
            .map_err(|e| pool_error("listing the snapshots".into(), e))?;
        // The caches of builds are in the same place and nobody else's.
        let snapshots = all.into_iter().filter(|s| !s.id.starts_with(names::BUILD_CACHE));
        Ok(snapshots.filter_map(|s| s.id.parse().ok()).collect())
    }

    /// How much room the pool has.
    pub(crate) fn room(&self) -> Result<Room, RuntimeError> {
        let usage = self
            .pool
            .usage()
            .map_err(|e| pool_error("asking for the room in the pool".into(), e))?;
        Ok(Room {
            total: usage.total,
            free: usage.free,
            reserve: usage.watermark,
        })
    }

    /// How much room an environment has of its own.
    pub(crate) fn room_of(&self, id: &EnvironmentId) -> Result<Option<Room>, RuntimeError> {
        let found = self
            .pool
            .environment_room(id.as_str())
            .map_err(|e| pool_error(format!("asking for the room of {id}"), e))?;
        Ok(found.map(|(used, limit)| Room {
            total: limit,
            free: limit.saturating_sub(used),
            reserve: 0,
        }))
    }

    /// Removes a snapshot.
    pub(crate) fn snapshot_remove(&self, sake: Option<&Sake>, snapshot: &SnapshotId) -> Result<(), RuntimeError> {
        if let Some(sake) = sake {
            self.for_sake_of(sake)?;
        }
        self.pool
            .snapshot_remove(snapshot.as_str())
            .map(drop)
            .map_err(|e| pool_error(format!("removing the snapshot {snapshot}"), e))
    }
}
