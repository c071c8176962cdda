//! Builds in a checkout: the files that they see, the places where what they made is mounted, and the snapshot of it.
//!
//! A build's files were written by whoever wrote the commit: nothing here follows a link, and nothing of it runs yet.

use super::{Host, environment::Environment, failed, jobs::ended, launch::pool_error};
use crate::names::{self, UnitName};
use model::{EnvironmentSpec, JobName, SnapshotId};
use runtime::RuntimeError;
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchmod, fchown, fstat, ioctl_ficlone,
        mkdirat, openat2, readlinkat, statat, symlinkat,
    },
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::Arc,
};

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Who owns a checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// The owner of what stands at a path.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
        })
    }

    fn ids(self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Copies these files of a sealed source into an empty tree.
pub(crate) fn copy(source: &Path, into: &Path, paths: &[String], owner: Owner) -> io::Result<()> {
    let (source, into) = (directory(source)?, directory(into)?);
    for path in paths {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.escape_debug()));
        copy_one(&source, &into, path, owner).map_err(named)?;
    }
    Ok(())
}

fn copy_one(source: &OwnedFd, into: &OwnedFd, path: &str, owner: Owner) -> io::Result<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (from, place) = (open_below(source, parent)?, directories(into, parent, owner)?);
    let stat = statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let read = openat2(&from, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), BENEATH)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let written = openat2(&place, name, flags, Mode::from_raw_mode(0o600), BENEATH)?;
            // Both lie in the pool, where files share their blocks.
            if ioctl_ficlone(written.as_fd(), read.as_fd()).is_err() {
                io::copy(&mut File::from(read), &mut File::from(written.try_clone()?))?;
            }
            let (uid, gid) = owner.ids();
            fchown(&written, uid, gid)?;
            fchmod(&written, Mode::from_raw_mode(stat.st_mode & 0o755))?;
        }
        FileType::Symlink => {
            symlinkat(readlinkat(&from, name, Vec::new())?, &place, name)?;
            let (uid, gid) = owner.ids();
            chownat(&place, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        _ => return Err(io::Error::from(Errno::INVAL)),
    }
    Ok(())
}

fn open_below(root: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(root, path, flags, Mode::empty(), BENEATH)?)
}

/// Makes a directory with those above it, and opens it. What stands there already must be a directory.
fn directories(root: &OwnedFd, path: &str, owner: Owner) -> io::Result<OwnedFd> {
    let mut at = open_below(root, "")?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let made = match mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        at = open_below(&at, name)?;
        if made {
            let (uid, gid) = owner.ids();
            fchown(&at, uid, gid)?;
            fchmod(&at, Mode::from_raw_mode(0o755))?;
        }
    }
    Ok(at)
}

/// Whether a build has made a file there, and not a directory.
pub(crate) fn is_file(product: &Path, within: &str) -> io::Result<bool> {
    let root = directory(product)?;
    let within = if within.is_empty() { "." } else { within };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(&root, within, flags, Mode::empty(), BENEATH) {
        Ok(found) => Ok(FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::RegularFile),
        // That there is nothing is told where it is mounted.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the file or directory of a layer on which something else is mounted.
pub(crate) fn make_mount_point(layer: &Path, path: &str, file: bool) -> Result<(), RuntimeError> {
    let io = |error: io::Error| failed("making the place for what was built", &error);
    let root = directory(layer).map_err(io)?;
    let stat = fstat(&root).map_err(|error| io(error.into()))?;
    let owner = Owner {
        uid: stat.st_uid,
        gid: stat.st_gid,
    };
    let made = if file {
        make_file(&root, path, owner)
    } else {
        directories(&root, path, owner).map(drop)
    };
    made.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::ISDIR) => RuntimeError::Invalid {
            what: format!("`{}`", path.escape_debug()),
            reason: format!(
                "it is made by a build, and the checkout has something there that is no {}",
                if file { "file" } else { "directory" }
            ),
        },
        _ => io(error),
    })
}

fn make_file(root: &OwnedFd, path: &str, owner: Owner) -> io::Result<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let place = directories(root, parent, owner)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let made = openat2(&place, name, flags, Mode::from_raw_mode(0o644), BENEATH)?;
    let (uid, gid) = owner.ids();
    Ok(fchown(&made, uid, gid)?)
}

impl Host {
    /// Whether what a job makes is there.
    pub(crate) fn is_built(&self, product: &SnapshotId) -> Result<bool, RuntimeError> {
        self.pool
            .snapshot_exists(product.as_str())
            .map_err(|error| pool_error(format!("looking for {product}"), error))
    }

    /// Keeps what a job that has succeeded has left in its checkout.
    pub(crate) async fn keep_product(
        self: &Arc<Self>,
        environment: &Arc<Environment>,
        spec: &EnvironmentSpec,
        job: &JobName,
        product: SnapshotId,
    ) -> Result<(), RuntimeError> {
        let unit = UnitName::job(job);
        let layer = product_layer(spec, job).ok_or_else(|| RuntimeError::NotFound {
            what: format!("the checkout of job {job}"),
        })?;
        let done = environment.inner().watchers.get(&unit).map(|w| w.done.clone());
        if let Some(mut done) = done {
            let _ = done.wait_for(|done| *done).await;
        }
        let _shared = environment.gate.read().await;
        let _turn = environment.turn(&unit).await;
        let has_succeeded = environment
            .unit(&unit)
            .is_some_and(|r| Some(&r.digest) == spec.job_digest(job).as_ref() && ended(&r.state) == Some(0));
        if !has_succeeded {
            return Err(RuntimeError::NotFound {
                what: format!("job {job}: it was replaced"),
            });
        }
        let id = spec.environment.clone();
        self.block(move |host| {
            host.pool
                .snapshot_create(id.as_str(), &layer, product.as_str())
                .map_err(|error| pool_error(format!("keeping what {} has made", unit.plain()), error))
        })
        .await
    }

    /// Whether the checkout of a job is there, as the job left it.
    pub(crate) fn has_checkout(&self, spec: &EnvironmentSpec, job: &JobName) -> bool {
        product_layer(spec, job).is_some_and(|layer| self.pool.volume_path(spec.environment.as_str(), &layer).is_ok())
    }
}

fn product_layer(spec: &EnvironmentSpec, job: &JobName) -> Option<String> {
    let source = &spec.services()?.jobs.get(job)?.product.as_ref()?.source;
    Some(names::layer(&UnitName::job(job), source, spec.sources.get(source)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn owner() -> Owner {
        Owner { uid: 1234, gid: 1235 }
    }

    #[test]
    fn only_the_inputs_are_copied_with_their_modes_and_links_are_not_followed() {
        let (source, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| source.path().join(path);
        fs::create_dir_all(at("web/bin")).unwrap();
        fs::write(at("web/lock"), "1").unwrap();
        fs::write(at("web/bin/run"), "2").unwrap();
        fs::set_permissions(at("web/bin/run"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::write(at("secret"), "3").unwrap();
        symlink("../secret", at("web/link")).unwrap();
        symlink("/etc", at("web/out")).unwrap();
        let paths = ["web/lock", "web/bin/run", "web/link"].map(str::to_owned);
        copy(source.path(), into.path(), &paths, owner()).unwrap();
        let made = |path: &str| into.path().join(path);
        assert_eq!(fs::read_to_string(made("web/lock")).unwrap(), "1");
        let run = fs::symlink_metadata(made("web/bin/run")).unwrap();
        assert_eq!((run.mode() & 0o7777, run.uid(), run.gid()), (0o755, 1234, 1235));
        assert_eq!(fs::symlink_metadata(made("web/bin")).unwrap().uid(), 1234);
        assert_eq!(fs::read_link(made("web/link")).unwrap(), Path::new("../secret"));
        assert!(!made("secret").exists() && !made("web/out").exists());

        for bad in ["web/out/passwd", "../secret", "web/none", "/etc/passwd", "web"] {
            let error = copy(source.path(), into.path(), &[bad.to_owned()], owner()).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn mount_points_are_made_in_directories_only() {
        let layer = tempfile::tempdir().unwrap();
        symlink("/tmp", layer.path().join("link")).unwrap();
        fs::write(layer.path().join("file"), "").unwrap();
        for _ in 0..2 {
            make_mount_point(layer.path(), "web/node_modules", false).unwrap();
            make_mount_point(layer.path(), "target/release/program", true).unwrap();
        }
        assert!(layer.path().join("web/node_modules").is_dir());
        assert!(layer.path().join("target/release/program").is_file());
        for (bad, file) in [
            ("link/x", false),
            ("link/x", true),
            ("link", true),
            ("file", false),
            ("file/x", true),
            ("web", true),
        ] {
            let error = make_mount_point(layer.path(), bad, file).unwrap_err();
            assert!(matches!(error, RuntimeError::Invalid { .. }), "{bad}: {error}");
        }
        let is = |path: &str| is_file(layer.path(), path).unwrap();
        assert!(is("file") && !is("web") && !is("link") && !is("none") && !is("file/none"));
    }
}
