//! Images: brought layer by layer, unpacked by a process without rights, kept read-only in the pool; and what a container of one
//! is made from.

mod fill;
mod unpack;

use super::{
    Host, failed,
    launch::{Cell, pool_error},
    record::DiskOrigin,
    resolve::{ImageRoot, Place, Resolved},
};
use crate::{pool::PoolError, sandbox::etc};
use images::{BlobDigest, ImageUser, layer::read_text};
use model::ImageDigest;
use runtime::{RuntimeError, Sake};
use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, PoisonError},
};

/// More layers than Docker can have in one image; what can be brought with one message.
pub(crate) const LAYERS_MAX: usize = 200;
/// The longest list of users or groups of an image, in bytes.
const USERS_MAX: u64 = 1 << 20;

/// How large images may be, and who unpacks them.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// What makes this very program call [`crate::unpacker::main`]: its arguments.
    pub unpacker: Vec<String>,
    /// Bytes of an unpacked image.
    pub bytes: u64,
    /// Files, directories and links of an image.
    pub entries: u64,
    /// How long unpacking may take.
    pub patience: std::time::Duration,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            unpacker: vec!["unpack-image".to_owned()],
            bytes: 16 << 30,
            entries: 2_000_000,
            patience: std::time::Duration::from_secs(1800),
        }
    }
}

impl Host {
    /// Unpacks an image whose layers are these files, unless it is there.
    pub(crate) async fn image_put(
        self: &Arc<Self>,
        sake: &Sake,
        image: ImageDigest,
        diffs: &[BlobDigest],
        files: Vec<OwnedFd>,
    ) -> Result<(), RuntimeError> {
        self.for_sake_of(sake)?;
        if diffs.len() != files.len() || files.len() > LAYERS_MAX {
            return Err(RuntimeError::Invalid {
                what: format!("the image {}", image.short()),
                reason: format!("it has {} layers, and {} files came", diffs.len(), files.len()),
            });
        }
        // One at a time: each keeps a disk and two processors busy.
        let _turn = self.unpacking.lock().await;
        let layers: Vec<(OwnedFd, BlobDigest)> = files.into_iter().zip(diffs.iter().copied()).collect();
        self.block(move |host| host.image_make(&image, layers)).await
    }

    pub(super) fn image_make(
        &self,
        image: &ImageDigest,
        layers: Vec<(OwnedFd, BlobDigest)>,
    ) -> Result<(), RuntimeError> {
        let action = || format!("unpacking the image {}", image.short());
        let pool = |e| pool_error(action(), e);
        if self.pool.image_exists(image.hex()).map_err(pool)? {
            return Ok(());
        }
        let packed = layers.iter().try_fold(0, |sum, (file, _)| {
            let found = rustix::fs::fstat(file).map_err(|e| failed(action(), &e))?;
            Ok::<_, RuntimeError>(sum + u64::try_from(found.st_size).unwrap_or(0))
        })?;
        self.pool.admit(packed).map_err(pool)?;
        let usage = self.pool.usage().map_err(pool)?;
        let room = usage.free.saturating_sub(usage.watermark);
        let limit = self.config.images.bytes.min(room);
        let place = self.pool.image_begin(image.hex(), limit).map_err(pool)?;
        let made = self
            .unpack(image, &place, layers)
            .and_then(|()| self.pool.image_seal(image.hex()).map_err(pool));
        if made.is_err()
            && let Err(error) = self.pool.image_remove(image.hex())
        {
            tracing::warn!(%image, %error, "an image that could not be unpacked left something behind");
        }
        match made {
            // It is the image that is too large, not the pool that is too full.
            Err(RuntimeError::Full { .. }) if limit == self.config.images.bytes => Err(RuntimeError::Invalid {
                what: format!("the image {}", image.short()),
                reason: format!("it is larger than {limit} bytes once it is unpacked"),
            }),
            other => other,
        }
    }

    /// The images that are there.
    pub(crate) fn image_list(&self) -> Result<BTreeSet<ImageDigest>, RuntimeError> {
        let all = self.pool.image_list();
        let all = all.map_err(|e| pool_error("listing the images".into(), e))?;
        Ok(all
            .iter()
            .filter_map(|hex| format!("sha256:{hex}").parse().ok())
            .collect())
    }

    /// Removes an image.
    pub(crate) fn image_remove(&self, image: &ImageDigest) -> Result<(), RuntimeError> {
        self.pool
            .image_remove(image.hex())
            .map_err(|e| pool_error(format!("removing the image {}", image.short()), e))
    }

    /// Who a container's process is: what its author says, else its engine, else its image.
    pub(crate) fn who(&self, cell: &Cell, resolved: &Resolved) -> Result<ImageUser, RuntimeError> {
        let options = &resolved.options;
        if resolved.image.is_none() && options.user.is_none() && options.groups.is_empty() {
            return Ok(ImageUser {
                uid: cell.manner.user,
                gid: cell.manner.user,
                groups: Vec::new(),
                home: None,
            });
        }
        let lists = match &resolved.image {
            Some(root) => self.users_of(&root.image)?,
            None => [etc::PASSWD.to_owned(), etc::GROUP.to_owned()],
        };
        let find = |user: &str| {
            ImageUser::resolve(user, &lists[0], &lists[1]).map_err(|unknown| RuntimeError::Invalid {
                what: cell.unit.plain().to_owned(),
                reason: match &resolved.image {
                    Some(_) => unknown.to_string(),
                    None => format!("there is no {} `{}` on cells", unknown.what, unknown.name),
                },
            })
        };
        let mut who = find(options.user.as_deref().unwrap_or_default())?;
        for group in &options.groups {
            who.groups.push(find(&format!("0:{group}"))?.gid);
        }
        if resolved.image.is_some() {
            // Files of its own group are found by the list of groups as well, as other runtimes have it.
            who.groups.insert(0, who.gid);
            who.home.get_or_insert_with(|| "/".to_owned());
        }
        Ok(who)
    }

    /// Gives volumes that nobody has written to yet what the image has where they are mounted, and to whoever owns it there: a
    /// service that is not root could not write to them.
    pub(crate) fn give_volumes(&self, cell: &Cell, resolved: &Resolved, image: &ImageRoot) -> Result<(), RuntimeError> {
        let action = || format!("preparing the volumes of {}", cell.unit.plain());
        let io = |e: io::Error| failed(action(), &e);
        let path = self.pool.image_path(image.image.hex());
        // Another service of the environment may have the same volume.
        let environment = self.environment(&cell.environment)?;
        let _turn = environment.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let root = File::open(path.map_err(|e| pool_error(action(), e))?).map_err(io)?;
        for (target, place) in &resolved.places {
            let Place::Disk(number) = place else { continue };
            let Some(mount) = cell.manner.mounts.get(*number) else {
                continue;
            };
            let DiskOrigin::Volume(name) = &mount.origin else {
                continue;
            };
            if mount.origin.is_checkout() || !mount.subpath.is_empty() {
                continue;
            }
            let copies = !resolved.options.empty_volumes.contains(target);
            let path = self.pool.volume_path(cell.environment.as_str(), name);
            let path = path.map_err(|e| pool_error(action(), e))?;
            fill::fill(&root, target, &path, copies)
                .map_err(|source| PoolError::Io {
                    what: "filling",
                    path: path.clone(),
                    source,
                })
                .map_err(|e| pool_error(action(), e))?;
        }
        Ok(())
    }

    /// The lists of users and groups. They are text of the image's, read without following links out of it.
    fn users_of(&self, image: &ImageDigest) -> Result<[String; 2], RuntimeError> {
        let action = || format!("looking for the users of the image {}", image.short());
        let path = self.pool.image_path(image.hex()).map_err(|e| pool_error(action(), e))?;
        let root = File::open(path).map_err(|e| failed(action(), &e))?;
        Ok(["etc/passwd", "etc/group"].map(|file| read_text(root.as_fd(), file, USERS_MAX)))
    }
}
