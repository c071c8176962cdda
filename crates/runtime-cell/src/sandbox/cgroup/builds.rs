//! Builds: their groups lie beside those of the environments, in one that has the least weight of all, so that whoever builds takes
//! from the environments that people look at only what these do not want. Within the environment's own group a build would weigh as
//! much, against other environments, as whatever runs there.
//!
//! Each environment's group in there has the environment's limits and goes with it. An environment that builds can so take its limits
//! twice: once for what runs and once for what is built.

use super::{Cgroups, delegate, gone};
use model::Limits;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Stands beside the environments. No environment has such an id.
pub(super) const BUILDS: &str = "builds";
/// Files of both versions and of the schedulers that have their own, with the least that each takes.
const IO_WEIGHTS: [(&str, &str); 4] = [
    ("io.weight", "1"),
    ("io.bfq.weight", "1"),
    ("blkio.weight", "10"),
    ("blkio.bfq.weight", "1"),
];
/// Whoever removes the last environment in it may remove the group itself just now.
const TRIES: usize = 100;

/// The group of an environment's builds, relative to the instance's own.
pub(crate) fn group(environment: &str) -> String {
    format!("{BUILDS}/{environment}")
}

/// The group of one of them.
pub(crate) fn group_of(environment: &str, container: &str) -> String {
    format!("{BUILDS}/{environment}/{container}")
}

impl Cgroups {
    /// The path of a build's group as the OCI runtime wants it.
    pub(crate) fn oci_path_of_build(&self, environment: &str, container: &str) -> String {
        format!("/{}/{}", self.parent, group_of(environment, container))
    }

    /// Makes the group of an environment's builds, and sets its limits.
    pub(crate) fn ensure_builds(&self, environment: &str, limits: &Limits) -> io::Result<()> {
        for (name, root) in self.own() {
            let path = self.of_builds(root, environment);
            let mut made = fs::create_dir_all(&path);
            for _ in 0..TRIES {
                if !made.as_ref().is_err_and(gone) {
                    break;
                }
                made = fs::create_dir_all(&path);
            }
            made?;
            let builds = root.join(&self.parent).join(BUILDS);
            if self.unified {
                delegate(&builds)?;
            }
            if self.unified || name == "cpu" {
                self.set_least(&builds)?;
            }
            self.limit(name, &path, limits)?;
        }
        self.set_least_of_disks();
        Ok(())
    }

    /// The same of the disks, where the kernel weighs who uses them.
    fn set_least_of_disks(&self) {
        for (name, root) in &self.hierarchies {
            let builds = root.join(&self.parent).join(BUILDS);
            if name == "blkio" && fs::create_dir_all(&builds).is_err() {
                continue;
            }
            for (file, least) in IO_WEIGHTS {
                let file = builds.join(file);
                if file.exists()
                    && let Err(error) = fs::write(&file, least)
                {
                    tracing::debug!(file = %file.display(), %error, "builds have the usual weight here");
                }
            }
        }
    }

    /// Gives a group what nobody else wants of the processors.
    fn set_least(&self, path: &Path) -> io::Result<()> {
        // Newer kernels know groups that are only run when no other one wants to, and for which nobody waits.
        let idle = path.join("cpu.idle");
        if fs::read_to_string(&idle).is_ok_and(|text| text.trim() == "1") {
            return Ok(());
        }
        let (file, value) = if self.unified {
            ("cpu.weight", "1")
        } else {
            ("cpu.shares", "2")
        };
        match fs::write(path.join(file), value) {
            // A kernel without shares of the CPU has everybody share alike.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Somebody else has just made it an idle one.
            Err(_) if fs::read_to_string(&idle).is_ok_and(|text| text.trim() == "1") => return Ok(()),
            written => written?,
        }
        if idle.exists() {
            fs::write(idle, "1")?;
        }
        Ok(())
    }

    /// Where the groups of an environment may be in a hierarchy: what runs, and what builds.
    pub(super) fn both(&self, hierarchy: &str, environment: &str) -> Vec<PathBuf> {
        let mut hierarchies = self.hierarchies.iter();
        let found = hierarchies.find(|(name, _)| self.unified || name == hierarchy);
        found.map_or_else(Vec::new, |(_, root)| {
            vec![
                root.join(&self.parent).join(environment),
                self.of_builds(root, environment),
            ]
        })
    }

    pub(super) fn of_builds(&self, root: &Path, environment: &str) -> PathBuf {
        root.join(&self.parent).join(BUILDS).join(environment)
    }

    /// Whether the list of groups that a process is in names one of an environment.
    pub(super) fn is_within(&self, groups: &str, environment: &str) -> bool {
        let parent = &self.parent;
        [
            format!("/{parent}/{environment}/"),
            format!("/{parent}/{BUILDS}/{environment}/"),
        ]
        .iter()
        .any(|group| groups.contains(group))
    }

    /// Removes the group of all builds if there are none; the kernel removes no other.
    pub(super) fn leave_builds(&self, root: &Path) {
        let _ = fs::remove_dir(root.join(&self.parent).join(BUILDS));
    }
}
