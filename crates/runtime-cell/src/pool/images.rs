//! Images: root file systems that were unpacked once and that are read-only ever after. Files have the ids of the inside on disk,
//! set-user-id bits included: nobody but the owner of the pool can pass the directory that they are in.

use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::error::io_error;
use super::{IMAGES, Pool, PoolError, TEMPORARY, ioctl, names, subvolume};

impl Pool {
    /// Makes an empty tree for an image to be unpacked into, of at most `limit` bytes; what an earlier attempt left is gone.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn image_begin(&self, id: &str, limit: u64) -> Result<PathBuf, PoolError> {
        names::check("image", id)?;
        self.retried(|| {
            let _changing = self.changing();
            let directory = self.root.join(IMAGES);
            let name = format!("{TEMPORARY}{id}");
            subvolume::remove(self.fd(), &directory, &name)?;
            let path = directory.join(&name);
            let parent = subvolume::open(&directory)?;
            ioctl::subvolume_create(parent.as_fd(), &name, None).map_err(io_error("make the image", &path))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
                .map_err(io_error("set the permissions of", &path))?;
            ioctl::qgroup_limit(self.fd(), subvolume::id(&path)?, limit).map_err(io_error("limit the image", &path))?;
            Ok(path)
        })
    }

    /// Freezes an unpacked tree and gives it its name. Sealing one that is sealed does nothing.
    ///
    /// # Errors
    /// [`PoolError::Missing`] if nothing was begun, or what the system says.
    pub fn image_seal(&self, id: &str) -> Result<(), PoolError> {
        names::check("image", id)?;
        let directory = self.root.join(IMAGES);
        let (unfinished, path) = (directory.join(format!("{TEMPORARY}{id}")), directory.join(id));
        if !subvolume::exists(&unfinished)? {
            return if self.image_exists(id)? {
                Ok(())
            } else {
                Err(PoolError::Missing {
                    kind: "image being unpacked",
                    id: id.into(),
                })
            };
        }
        let tree = subvolume::open(&unfinished)?;
        ioctl::read_only_set(tree.as_fd(), true).map_err(io_error("freeze the image", &unfinished))?;
        // A power cut must not leave a name that promises what is not on the disk.
        rustix::fs::syncfs(&tree).map_err(io_error("sync", &unfinished))?;
        drop(tree);
        let _changing = self.changing();
        subvolume::remove(self.fd(), &directory, id)?;
        std::fs::rename(&unfinished, &path).map_err(io_error("rename", &unfinished))
    }

    /// Whether the image is there, whole.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn image_exists(&self, id: &str) -> Result<bool, PoolError> {
        names::check("image", id)?;
        subvolume::exists(&self.root.join(IMAGES).join(id))
    }

    /// Where the image is.
    ///
    /// # Errors
    /// [`PoolError::Missing`] if it is not there.
    pub fn image_path(&self, id: &str) -> Result<PathBuf, PoolError> {
        if !self.image_exists(id)? {
            return Err(PoolError::Missing {
                kind: "image",
                id: id.into(),
            });
        }
        Ok(self.root.join(IMAGES).join(id))
    }

    /// Removes an image, whole or not. What was made from it is not touched.
    ///
    /// # Errors
    /// A bad name, or what the system says.
    pub fn image_remove(&self, id: &str) -> Result<(), PoolError> {
        names::check("image", id)?;
        let _changing = self.changing();
        let directory = self.root.join(IMAGES);
        subvolume::remove(self.fd(), &directory, &format!("{TEMPORARY}{id}"))?;
        subvolume::remove(self.fd(), &directory, id).map(drop)
    }

    /// The images that are there, in order.
    ///
    /// # Errors
    /// What the system says.
    pub fn image_list(&self) -> Result<Vec<String>, PoolError> {
        self.directory_names(&self.root.join(IMAGES))
    }
}
