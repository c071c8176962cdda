//! Volumes: the writable trees of an environment, each with a limit, together with a limit where the quotas can.

use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use super::error::io_error;
use super::{
    ENVIRONMENTS, IMAGES, Pool, PoolError, QuotaKind, SNAPSHOTS, SOURCES, TEMPORARY, ioctl, names, quota, subvolume,
};

/// Says what a volume was made from. Services can neither see nor change it: that takes a capability over the host.
const ORIGIN_ATTRIBUTE: &str = "trusted.maquette.origin";

/// The owner that files have on disk. Mounts map it to the user of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user id on disk.
    pub uid: u32,
    /// The group id on disk.
    pub gid: u32,
    /// The permission bits of the volume's root.
    pub mode: u32,
}

/// What a volume is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing.
    Empty(Owner),
    /// A writable snapshot of a sealed source.
    Source(String),
    /// A writable snapshot of an image.
    Image(String),
    /// A writable snapshot of a snapshot, for example of a golden.
    Snapshot(String),
}

impl Origin {
    fn label(&self) -> String {
        match self {
            Self::Empty(_) => "nothing".to_owned(),
            Self::Source(key) => format!("source {key}"),
            Self::Image(id) => format!("image {id}"),
            Self::Snapshot(id) => format!("snapshot {id}"),
        }
    }
}

impl Pool {
    /// Makes the place for an environment's volumes, with a limit in bytes for all of them together (with simple quotas
    /// only, see [`Pool::quota_kind`]). If it exists, its limit is set.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn environment_create(&self, environment: &str, limit: Option<u64>) -> Result<(), PoolError> {
        names::check("environment", environment)?;
        self.retried(|| self.environment_make(environment, limit))
    }

    fn environment_make(&self, environment: &str, limit: Option<u64>) -> Result<(), PoolError> {
        let _changing = self.changing();
        let directory = self.root.join(ENVIRONMENTS).join(environment);
        super::directory_ensure(&directory, 0o700)?;
        match self.group_of(&directory)? {
            Some(group) => {
                quota::group_ensure(self.fd(), group, limit).map_err(io_error("limit the environment at", &directory))
            }
            None => Ok(()),
        }
    }

    /// Removes an environment: its volumes and what bounds them. Returns the ids of the deleted subvolumes, to wait for with
    /// [`Pool::space_reclaim`]; if it is gone already, an empty list.
    ///
    /// # Errors
    /// A bad name, or what the system says. Repeating continues.
    pub fn environment_remove(&self, environment: &str) -> Result<Vec<u64>, PoolError> {
        names::check("environment", environment)?;
        let _changing = self.changing();
        let directory = self.root.join(ENVIRONMENTS).join(environment);
        if !directory.exists() {
            return Ok(Vec::new());
        }
        if let Some(group) = self.group_of(&directory)? {
            // Deleting what is nested in a volume is charged, too, and the environment may have used up what it has.
            let _ = ioctl::qgroup_limit(self.fd(), group, u64::MAX);
        }
        let mut removed = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(io_error("list", &directory))? {
            let name = entry.map_err(io_error("list", &directory))?.file_name();
            removed.extend(subvolume::remove(self.fd(), &directory, &name.to_string_lossy())?);
        }
        if let Some(group) = self.group_of(&directory)? {
            quota::group_remove(self.fd(), group).map_err(io_error("remove the limit of", &directory))?;
        }
        std::fs::remove_dir(&directory).map_err(io_error("remove", &directory))?;
        Ok(removed)
    }

    /// The environments that have a place in the pool.
    ///
    /// # Errors
    /// What the system says.
    pub fn environment_list(&self) -> Result<Vec<String>, PoolError> {
        self.directory_names(&self.root.join(ENVIRONMENTS))
    }

    /// The bytes that an environment's volumes are charged with together; `None` if the quotas don't tell.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn environment_usage(&self, environment: &str) -> Result<Option<u64>, PoolError> {
        let directory = self.environment_directory(environment)?;
        let Some(group) = self.group_of(&directory)? else {
            return Ok(None);
        };
        quota::referenced(self.fd(), group)
            .map(Some)
            .map_err(io_error("search the quotas of", &self.root))
    }

    /// The bytes that an environment's volumes are charged with together, and their limit; `None` if the quotas don't tell.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn environment_room(&self, environment: &str) -> Result<Option<(u64, u64)>, PoolError> {
        let directory = self.environment_directory(environment)?;
        let Some(group) = self.group_of(&directory)? else {
            return Ok(None);
        };
        let all = quota::list(self.fd()).map_err(io_error("search the quotas of", &self.root))?;
        Ok(all.get(&group).and_then(|group| Some((group.referenced, group.limit?))))
    }

    /// Makes a volume of an environment, with `limit` bytes beyond what it is made from. One that exists gets the limit,
    /// nothing else.
    ///
    /// # Errors
    /// [`PoolError::Missing`] for an environment, source or snapshot that is not there; [`PoolError::OriginDiffers`] for a volume
    /// that exists and was made from something else.
    pub fn volume_create(
        &self,
        environment: &str,
        volume: &str,
        origin: &Origin,
        limit: u64,
    ) -> Result<PathBuf, PoolError> {
        names::check("volume", volume)?;
        self.retried(|| self.volume_make(environment, volume, origin, limit))
    }

    fn volume_make(&self, environment: &str, volume: &str, origin: &Origin, limit: u64) -> Result<PathBuf, PoolError> {
        let directory = self.environment_directory(environment)?;
        let source = self.origin_path(origin)?;
        let _changing = self.changing();
        let path = directory.join(volume);
        if subvolume::exists(&path)? {
            let found = origin_read(&path)?;
            if found != origin.label() {
                let (environment, volume) = (environment.to_owned(), volume.to_owned());
                return Err(PoolError::OriginDiffers {
                    environment,
                    volume,
                    origin: found,
                });
            }
            return self.volume_limit(&path, source.as_deref(), limit).map(|()| path);
        }
        let unfinished_name = format!("{TEMPORARY}{volume}");
        subvolume::remove(self.fd(), &directory, &unfinished_name)?;
        let unfinished = directory.join(&unfinished_name);
        let (parent, group) = (subvolume::open(&directory)?, self.group_of(&directory)?);
        match &source {
            Some(source) => {
                let source = subvolume::open(source)?;
                ioctl::snapshot_create(source.as_fd(), parent.as_fd(), &unfinished_name, false, group)
            }
            None => ioctl::subvolume_create(parent.as_fd(), &unfinished_name, group),
        }
        .map_err(io_error("make the volume", &path))?;
        if let Origin::Empty(owner) = origin {
            std::os::unix::fs::chown(&unfinished, Some(owner.uid), Some(owner.gid))
                .map_err(io_error("set the owner of", &path))?;
            std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(owner.mode & 0o777))
                .map_err(io_error("set the permissions of", &path))?;
        }
        origin_write(&unfinished, &origin.label())?;
        self.volume_limit(&unfinished, source.as_deref(), limit)?;
        std::fs::rename(&unfinished, &path).map_err(io_error("rename", &unfinished))?;
        if let Origin::Snapshot(id) = origin {
            self.snapshot_used(id)?;
        }
        Ok(path)
    }

    /// Where a volume is.
    ///
    /// # Errors
    /// [`PoolError::Missing`] if it is not there.
    pub fn volume_path(&self, environment: &str, volume: &str) -> Result<PathBuf, PoolError> {
        names::check("volume", volume)?;
        names::check("environment", environment)?;
        let path = self.root.join(ENVIRONMENTS).join(environment).join(volume);
        if subvolume::exists(&path)? {
            Ok(path)
        } else {
            Err(PoolError::Missing {
                kind: "volume",
                id: format!("{environment}/{volume}"),
            })
        }
    }

    /// The bytes that a volume is charged with.
    ///
    /// # Errors
    /// [`PoolError::Missing`] if there is none, or what the system says.
    pub fn volume_usage(&self, environment: &str, volume: &str) -> Result<u64, PoolError> {
        let path = self.volume_path(environment, volume)?;
        quota::referenced(self.fd(), subvolume::id(&path)?).map_err(io_error("search the quotas of", &self.root))
    }

    /// Removes a volume and what services nested in it. Returns the ids of the deleted subvolumes.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn volume_remove(&self, environment: &str, volume: &str) -> Result<Vec<u64>, PoolError> {
        names::check("volume", volume)?;
        names::check("environment", environment)?;
        let _changing = self.changing();
        subvolume::remove(self.fd(), &self.root.join(ENVIRONMENTS).join(environment), volume)
    }

    /// The volumes of an environment, in order; none if there is no such environment.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn volume_list(&self, environment: &str) -> Result<Vec<String>, PoolError> {
        names::check("environment", environment)?;
        let directory = self.root.join(ENVIRONMENTS).join(environment);
        if directory.exists() {
            self.directory_names(&directory)
        } else {
            Ok(Vec::new())
        }
    }

    pub(super) fn environment_directory(&self, environment: &str) -> Result<PathBuf, PoolError> {
        names::check("environment", environment)?;
        let directory = self.root.join(ENVIRONMENTS).join(environment);
        if directory.is_dir() {
            Ok(directory)
        } else {
            Err(PoolError::Missing {
                kind: "environment in the pool",
                id: environment.into(),
            })
        }
    }

    /// The group that bounds an environment. Inode numbers of btrfs are never used twice, so nothing has to be stored.
    pub(super) fn group_of(&self, directory: &Path) -> Result<Option<u64>, PoolError> {
        if self.quota == QuotaKind::Full {
            return Ok(None);
        }
        let inode = std::fs::symlink_metadata(directory)
            .map_err(io_error("look at", directory))?
            .ino();
        Ok(Some(quota::group_id(self.group_base | inode)))
    }

    fn origin_path(&self, origin: &Origin) -> Result<Option<PathBuf>, PoolError> {
        let (kind, id, path) = match origin {
            Origin::Empty(_) => return Ok(None),
            Origin::Source(key) => ("source", key, self.root.join(SOURCES).join(key)),
            Origin::Image(id) => ("image", id, self.root.join(IMAGES).join(id)),
            Origin::Snapshot(id) => ("snapshot", id, self.root.join(SNAPSHOTS).join(id).join("tree")),
        };
        names::check(kind, id)?;
        if subvolume::exists(&path)? {
            Ok(Some(path))
        } else {
            Err(PoolError::Missing { kind, id: id.clone() })
        }
    }

    fn volume_limit(&self, path: &Path, source: Option<&Path>, limit: u64) -> Result<(), PoolError> {
        let inherited = match (self.quota, source) {
            // What the volume was made from counts too with these quotas.
            (QuotaKind::Full, Some(source)) => quota::referenced(self.fd(), subvolume::id(source)?)
                .map_err(io_error("search the quotas of", &self.root))?,
            _ => 0,
        };
        ioctl::qgroup_limit(self.fd(), subvolume::id(path)?, inherited.saturating_add(limit))
            .map_err(io_error("limit the volume", path))
    }

    /// The complete entries of a directory of the pool, in order.
    pub(super) fn directory_names(&self, directory: &Path) -> Result<Vec<String>, PoolError> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(io_error("list", directory))? {
            let name = entry.map_err(io_error("list", directory))?.file_name();
            match name.into_string() {
                Ok(name) if !name.starts_with('.') => found.push(name),
                _ => {}
            }
        }
        found.sort();
        Ok(found)
    }
}

fn origin_write(path: &Path, label: &str) -> Result<(), PoolError> {
    rustix::fs::lsetxattr(path, ORIGIN_ATTRIBUTE, label.as_bytes(), XattrFlags::empty())
        .map_err(io_error("mark the origin of", path))
}

fn origin_read(path: &Path) -> Result<String, PoolError> {
    let mut bytes = [0; 256];
    let length =
        rustix::fs::lgetxattr(path, ORIGIN_ATTRIBUTE, &mut bytes[..]).map_err(io_error("read the origin of", path))?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}
