//! Builds: a Dockerfile is carried out by `buildah` in a container of its own, and what comes of it is unpacked like any other image.
//!
//! The container is one of the environment: its ids, its control group, its network. Beyond what services get it may mount, inside
//! its own user namespace. It is given the checkout and the base images to read, and three volumes of its own: one in which layers
//! are assembled, that starts as a copy of what the last build of this service left; one to work in; one with the base images.

mod cache;
mod order;
mod result;

pub(crate) use order::{PROGRAM, builder};

use cache::Share;

use super::{Host, environment::Environment, environment::Stop, failed, launch::pool_error, record::UnitRecord};
use crate::{
    names::{self, UnitName},
    pool::{Origin, Owner},
    protocol::{SecretValues, WireBase},
};
use images::BlobDigest;
use model::{Digest, EnvironmentId, EnvironmentSpec, ServiceName, ServiceState};
use runtime::{BuildOutcome, BuiltImage, RuntimeError};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bounds of builds.
#[derive(Clone, Debug)]
pub struct BuildConfig {
    /// How many run at once.
    pub at_once: usize,
    /// Bytes of memory of one.
    pub memory_bytes: u64,
    /// Thousandths of a CPU of one.
    pub cpu_millis: u64,
    /// Processes of one.
    pub pids: u64,
    /// Bytes on disk of one: its layers, its base images and what it works on, each.
    pub disk_bytes: u64,
    /// Bytes of layers that are kept for the next build of the same service.
    pub cache_bytes: u64,
    /// How long one may take.
    pub patience: std::time::Duration,
}

impl Default for BuildConfig {
    fn default() -> Self {
        Self {
            at_once: 1,
            memory_bytes: 4 << 30,
            cpu_millis: 2000,
            pids: 2048,
            disk_bytes: 16 << 30,
            cache_bytes: 8 << 30,
            patience: std::time::Duration::from_secs(3600),
        }
    }
}

/// A base image whose files have arrived.
#[derive(Debug)]
pub(crate) struct Base {
    /// How the Dockerfile calls it.
    pub(crate) names: std::collections::BTreeSet<String>,
    /// Text of unknown content.
    pub(crate) manifest: String,
    /// Its configuration and its layers.
    pub(crate) blobs: Vec<(BlobDigest, OwnedFd)>,
}

impl Base {
    /// What was announced, with the files that came.
    pub(crate) fn all(announced: Vec<WireBase>, files: Vec<OwnedFd>) -> Result<Vec<Self>, RuntimeError> {
        let count: usize = announced.iter().map(|base| base.blobs.len()).sum();
        if count != files.len() {
            return Err(RuntimeError::Invalid {
                what: "base images".to_owned(),
                reason: format!("{count} files were announced, and {} came", files.len()),
            });
        }
        let mut files = files.into_iter();
        let with_files = |base: WireBase| Self {
            blobs: base.blobs.into_iter().zip(files.by_ref()).collect(),
            names: base.names,
            manifest: base.manifest,
        };
        Ok(announced.into_iter().map(with_files).collect())
    }
}

/// How a build ended, as its record says.
enum Ended {
    /// By itself.
    With(i32),
    /// It was ended, so what it left may be incomplete.
    Cut(i32),
}

impl Host {
    /// Carries out a build, or waits for the one that runs, or tells what has come of it.
    pub(crate) async fn build_run(
        self: &Arc<Self>,
        spec: &EnvironmentSpec,
        service: &ServiceName,
        bases: Vec<Base>,
        secrets: &SecretValues,
    ) -> Result<BuildOutcome, RuntimeError> {
        let unit = UnitName::build(service);
        let order = order::resolve(spec, service, &unit, &bases, secrets, &self.config.builds)?;
        let share = Share::of(spec, service);
        let environment = self.environment(&spec.environment)?;
        self.accept(&environment, spec.generation)?;
        let other = |r: &UnitRecord| r.digest != order.digest && ended(r).is_none();
        if environment.unit(&unit).as_ref().is_some_and(other) {
            // What it makes nobody wants any more, and others wait for their turn.
            self.wake(&environment).await?;
            self.stop_units(&environment, std::slice::from_ref(&unit), Stop::Now)
                .await;
        }
        let digest = order.digest.clone();
        let turn = Arc::clone(&self.building).acquire_owned().await;
        let _turn = turn.map_err(|e| failed("waiting for the turn of a build", &e))?;
        {
            let _shared = environment.gate.read().await;
            let _turn = environment.turn(&unit).await;
            self.accept(&environment, spec.generation)?;
            if let Some(done) = self.build_done(&environment.id, &unit, &digest)? {
                return Ok(BuildOutcome::Built(done));
            }
            let left = |r: &UnitRecord| match ended(r) {
                None => true,
                Some(Ended::With(0)) => self.has_volume(&environment.id, &names::build_work(&unit)),
                Some(_) => false,
            };
            let keep = |r: &UnitRecord| r.digest == digest && r.launched && left(r);
            if !environment.unit(&unit).as_ref().is_some_and(keep) {
                self.wake(&environment).await?;
                self.stop_units(&environment, std::slice::from_ref(&unit), Stop::Now)
                    .await;
                let (id, of, whose) = (environment.id.clone(), unit.clone(), share.clone());
                self.block(move |host| host.furnish_build(&id, &of, &whose, bases))
                    .await?;
                self.replace(&environment, unit.clone(), digest.clone(), order.resolved)
                    .await?;
            }
        }
        let over = |r: &super::record::Record| {
            let unit = r.units.get(&unit);
            unit.is_none_or(|u| u.digest != digest || ended(u).is_some())
        };
        environment.until(over).await;
        self.finish_build(&environment, &unit, &digest, share).await
    }

    /// Takes what an ended build has made, and removes what it left.
    async fn finish_build(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        unit: &UnitName,
        digest: &Digest,
        share: Share,
    ) -> Result<BuildOutcome, RuntimeError> {
        let watched = environment.inner().watchers.get(unit).map(|w| w.done.clone());
        if let Some(mut done) = watched {
            let _ = done.wait_for(|done| *done).await;
        }
        let _shared = environment.gate.read().await;
        let _turn = environment.turn(unit).await;
        if let Some(done) = self.build_done(&environment.id, unit, digest)? {
            return Ok(BuildOutcome::Built(done));
        }
        let record = environment.unit(unit).filter(|r| r.digest == *digest);
        let record = record.ok_or_else(|| RuntimeError::NotFound {
            what: format!("the build of {}: it was replaced", unit.plain()),
        })?;
        let Some(end) = ended(&record) else {
            return Err(RuntimeError::NotFound {
                what: format!("the end of the build of {}", unit.plain()),
            });
        };
        environment.inner().watchers.remove(unit);
        let cell = self.cell(environment, unit)?;
        let (id, of) = (environment.id.clone(), unit.clone());
        self.block(move |host| host.clear_unit(&cell)).await?;
        let outcome = match end {
            Ended::With(0) => {
                let found = self.block(move |host| host.build_result(&id, &of)).await;
                match found {
                    Ok((found, layers)) => {
                        let _turn = self.unpacking.lock().await;
                        let image = found.image.clone();
                        self.block(move |host| host.image_make(&image, layers)).await?;
                        BuildOutcome::Built(found)
                    }
                    Err(RuntimeError::Invalid { reason, .. }) => BuildOutcome::Failed {
                        exit: 0,
                        message: Some(reason),
                    },
                    Err(error) => return Err(error),
                }
            }
            Ended::With(exit) | Ended::Cut(exit) => BuildOutcome::Failed {
                exit,
                message: record.message.clone().filter(|m| !m.starts_with("ended with status")),
            },
        };
        let whole = matches!(end, Ended::With(_));
        let (id, of, digest, told) = (environment.id.clone(), unit.clone(), digest.clone(), outcome.clone());
        self.block(move |host| {
            if let BuildOutcome::Built(image) = &told {
                host.build_note(&id, &of, &digest, image)?;
            }
            host.keep_layers(&id, &of, &share, whole)?;
            host.clear_build(&id, &of)
        })
        .await?;
        Ok(outcome)
    }

    /// Makes the volumes of a build anew.
    fn furnish_build(
        &self,
        id: &EnvironmentId,
        unit: &UnitName,
        share: &Share,
        bases: Vec<Base>,
    ) -> Result<(), RuntimeError> {
        let action = || format!("preparing the build of {}", unit.plain());
        let pool = |e| pool_error(action(), e);
        let io = |e: io::Error| failed(action(), &e);
        self.clear_build(id, unit)?;
        let mut bytes = 0u64;
        for (_, file) in bases.iter().flat_map(|base| &base.blobs) {
            let found = rustix::fs::fstat(file).map_err(|e| failed(action(), &e))?;
            bytes = bytes.saturating_add(u64::try_from(found.st_size).unwrap_or(0));
        }
        self.pool.admit(bytes).map_err(pool)?;
        let empty = Origin::Empty(Owner {
            uid: 0,
            gid: 0,
            mode: 0o755,
        });
        let kept = self.layers_for(id, unit, share)?;
        let limit = self.config.builds.disk_bytes;
        let make = |name: &str, origin: &Origin| self.pool.volume_create(id.as_str(), name, origin, limit);
        let of_layers = names::build_storage(unit);
        // Those of another environment may go meanwhile.
        let copied = match &kept {
            Some(origin) => make(&of_layers, origin).is_ok(),
            None => false,
        };
        // A copy of what a build left has it already, or what that build has put in its place: nothing here follows that.
        if !copied {
            let storage = make(&of_layers, &empty).map_err(pool)?;
            let temporary = storage.join(order::TEMPORARY);
            fs::DirBuilder::new().create(&temporary).map_err(io)?;
            fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777)).map_err(io)?;
        }
        make(&names::build_work(unit), &empty).map_err(pool)?;
        let place = make(&names::build_bases(unit), &empty).map_err(pool)?;
        for (number, base) in bases.into_iter().enumerate() {
            write_base(&place.join(number.to_string()), base).map_err(io)?;
        }
        Ok(())
    }

    /// Removes the volumes of a build.
    fn clear_build(&self, id: &EnvironmentId, unit: &UnitName) -> Result<(), RuntimeError> {
        for name in [
            names::build_storage(unit),
            names::build_work(unit),
            names::build_bases(unit),
        ] {
            if self.has_volume(id, &name) {
                let removed = self.pool.volume_remove(id.as_str(), &name);
                removed.map_err(|e| pool_error(format!("clearing the build of {}", unit.plain()), e))?;
            }
        }
        Ok(())
    }

    /// Removes all that builds of an environment have kept.
    pub(crate) fn forget_builds(&self, id: &EnvironmentId) -> Result<(), RuntimeError> {
        let pool = |e| pool_error(format!("removing the layers of the builds of {id}"), e);
        for cache in self.build_caches(id)? {
            self.pool.snapshot_remove(&cache).map_err(pool)?;
        }
        Ok(())
    }

    /// The names in the pool of what builds of an environment have kept.
    pub(crate) fn build_caches(&self, id: &EnvironmentId) -> Result<Vec<String>, RuntimeError> {
        let all = self.pool.snapshot_list();
        let all = all.map_err(|e| pool_error("listing the layers of builds".to_owned(), e))?;
        let prefix = names::build_caches(id);
        Ok(all
            .into_iter()
            .map(|s| s.id)
            .filter(|n| n.starts_with(&prefix))
            .collect())
    }

    fn has_volume(&self, id: &EnvironmentId, name: &str) -> bool {
        self.pool.volume_path(id.as_str(), name).is_ok()
    }

    fn note_of(&self, id: &EnvironmentId, unit: &UnitName) -> PathBuf {
        self.state_dir(id.as_str())
            .join("builds")
            .join(format!("{}.json", unit.as_str()))
    }

    /// Writes down what a build has made, so that it is not made twice.
    fn build_note(
        &self,
        id: &EnvironmentId,
        unit: &UnitName,
        digest: &Digest,
        image: &BuiltImage,
    ) -> Result<(), RuntimeError> {
        let path = self.note_of(id, unit);
        let text = serde_json::to_vec(&(digest, image)).map_err(io::Error::from);
        text.and_then(|text| write_note(&path, &text))
            .map_err(|e| failed(format!("noting the build of {}", unit.plain()), &e))
    }

    /// What a build of this digest has made, if its image is still there.
    fn build_done(
        &self,
        id: &EnvironmentId,
        unit: &UnitName,
        digest: &Digest,
    ) -> Result<Option<BuiltImage>, RuntimeError> {
        let Ok(text) = fs::read(self.note_of(id, unit)) else {
            return Ok(None);
        };
        let Ok((of, image)) = serde_json::from_slice::<(Digest, BuiltImage)>(&text) else {
            return Ok(None);
        };
        let there = self.pool.image_exists(image.image.hex());
        let there = there.map_err(|e| pool_error("looking for a built image".to_owned(), e))?;
        Ok((of == *digest && there).then_some(image))
    }
}

fn write_note(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let part = path.with_extension("part");
    fs::write(&part, text)?;
    fs::rename(part, path)
}

/// As `skopeo copy … dir:` would: what `buildah` reads as an image.
fn write_base(directory: &Path, base: Base) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(directory)?;
    fs::write(directory.join("version"), "Directory Transport Version: 1.1\n")?;
    fs::write(directory.join("manifest.json"), base.manifest)?;
    for (digest, file) in base.blobs {
        let mut target = File::create_new(directory.join(digest.hex()))?;
        io::copy(&mut File::from(file), &mut target)?;
        target.flush()?;
    }
    Ok(())
}

fn ended(record: &UnitRecord) -> Option<Ended> {
    let ServiceState::Exited { code } = record.state else {
        return None;
    };
    let cut = record.timed_out || !(0..128).contains(&code);
    Some(if cut { Ended::Cut(code) } else { Ended::With(code) })
}
