//! What the pool has, for the ledger and for receipts; and the sweep of what a crash left.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::io_error;
use super::{ENVIRONMENTS, IMAGES, Place, Pool, PoolError, Qgroup, QuotaKind, SNAPSHOTS, SOURCES, TEMPORARY};
use super::{image, ioctl, names, quota, subvolume};

/// A subvolume of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InventorySubvolume {
    /// The kernel's id, never used twice.
    pub id: u64,
    /// Where it is, relative to the pool.
    pub path: PathBuf,
    /// Whether it can't be written.
    pub read_only: bool,
    /// Bytes charged to it.
    pub referenced: u64,
    /// Its limit in bytes, that of its origin included with full quotas.
    pub limit: Option<u64>,
}

/// Everything that the pool holds outside of Maquette's own store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// The kind of pool.
    pub backend: &'static str,
    /// How limits are kept.
    pub quota: QuotaKind,
    /// The directory that all paths are relative to.
    pub root: PathBuf,
    /// The loop device, of a pool in an image file.
    pub loop_device: Option<PathBuf>,
    /// Sources, volumes and snapshots, half-made ones included.
    pub subvolumes: Vec<InventorySubvolume>,
    /// The groups that bound whole environments, by environment.
    pub groups: BTreeMap<String, Qgroup>,
    /// Qgroups whose subvolume is deleted: a snapshot still holds bytes that it wrote, or the kernel is not done.
    pub leftover_groups: Vec<Qgroup>,
}

impl Pool {
    /// What there is of one environment, or of all together with sources and snapshots.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn inventory(&self, environment: Option<&str>) -> Result<Inventory, PoolError> {
        if let Some(environment) = environment {
            names::check("environment", environment)?;
        }
        let search = || io_error("search", &self.root);
        let all = quota::list(self.fd()).map_err(search())?;
        let alive = quota::subvolume_ids(self.fd()).map_err(search())?;
        let mut places = Vec::new();
        let mut groups = BTreeMap::new();
        for name in self.environment_list()? {
            let directory = self.root.join(ENVIRONMENTS).join(&name);
            if environment.is_none_or(|wanted| wanted == name) {
                if let Some(group) = self.group_of(&directory)?.and_then(|id| all.get(&id)) {
                    groups.insert(name, group.clone());
                }
                places.push(directory);
            }
        }
        if environment.is_none() {
            places.push(self.root.join(SOURCES));
            places.push(self.root.join(IMAGES));
            let snapshots = self.root.join(SNAPSHOTS);
            places.extend(
                self.directory_names(&snapshots)?
                    .into_iter()
                    .map(|id| snapshots.join(id)),
            );
        }
        let mut subvolumes = Vec::new();
        for place in places {
            for path in children(&place)? {
                if subvolume::exists(&path)? {
                    subvolumes.push(self.describe(&path, &all)?);
                }
            }
        }
        subvolumes.sort_by(|left, right| left.path.cmp(&right.path));
        let leftover = |group: &&Qgroup| {
            let belongs = environment.is_none() || groups.values().any(|of| group.parents.contains(&of.id));
            group.level() == 0 && group.id > 255 && !alive.contains(&group.id) && belongs
        };
        let leftover_groups = all.values().filter(leftover).cloned().collect();
        let loop_device = match &self.config.place {
            Place::Image { path, .. } => image::loop_find(path)?.map(|device| device.path),
            Place::Directory(_) => None,
        };
        let root = self.root.clone();
        Ok(Inventory {
            backend: "btrfs",
            quota: self.quota,
            root,
            loop_device,
            subvolumes,
            groups,
            leftover_groups,
        })
    }

    fn describe(&self, path: &Path, groups: &BTreeMap<u64, Qgroup>) -> Result<InventorySubvolume, PoolError> {
        let file = subvolume::open(path)?;
        let id = ioctl::subvolume_id(file.as_fd()).map_err(io_error("look at", path))?;
        let read_only = ioctl::read_only_get(file.as_fd()).map_err(io_error("look at", path))?;
        let group = groups.get(&id);
        Ok(InventorySubvolume {
            id,
            path: path.strip_prefix(&self.root).unwrap_or(path).to_owned(),
            read_only,
            referenced: group.map_or(0, |group| group.referenced),
            limit: group.and_then(|group| group.limit),
        })
    }

    /// Removes what a crash left: half-made subvolumes, places of snapshots without one, groups without an environment.
    pub(super) fn sweep(&self) -> Result<(), PoolError> {
        let _changing = self.changing();
        let mut places = vec![self.root.join(SOURCES), self.root.join(IMAGES)];
        let mut groups = Vec::new();
        for name in self.environment_list()? {
            let directory = self.root.join(ENVIRONMENTS).join(name);
            groups.extend(self.group_of(&directory)?);
            places.push(directory);
        }
        for place in places {
            for path in children(&place)? {
                let name = path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default();
                if name.starts_with(TEMPORARY) {
                    tracing::info!(path = %path.display(), "removing what was left half-made");
                    subvolume::remove(self.fd(), &place, &name)?;
                }
            }
        }
        for id in self.directory_names(&self.root.join(SNAPSHOTS))? {
            if !self.snapshot_exists(&id)? {
                self.snapshot_directory_remove(&self.root.join(SNAPSHOTS).join(id))?;
            }
        }
        self.groups_sweep(&groups)
    }

    /// On a file system of its own the pool knows every group; elsewhere only its own range of numbers.
    fn groups_sweep(&self, known: &[u64]) -> Result<(), PoolError> {
        let error = || io_error("sweep the quotas of", &self.root);
        let range = quota::group_id(self.group_base) >> 32;
        for group in quota::list(self.fd()).map_err(error())?.values() {
            let ours = group.level() == 1 && (self.owns_file_system() || group.id >> 32 == range);
            if ours && !known.contains(&group.id) {
                quota::group_remove(self.fd(), group.id).map_err(error())?;
            }
        }
        if self.owns_file_system() {
            let removed = quota::sweep(self.fd()).map_err(error())?;
            tracing::debug!(removed, "swept quota groups of deleted volumes");
        }
        Ok(())
    }
}

fn children(directory: &Path) -> Result<Vec<PathBuf>, PoolError> {
    std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(io_error("list", directory))
}
