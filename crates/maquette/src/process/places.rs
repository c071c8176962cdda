//! Where root keeps what is its own: in directories that nobody else can put something in the place of.
//!
//! Whoever may write to a directory may rename what is in it, also what belongs to root. So root opens paths below directories
//! of others once and by descriptor, or not at all.

use crate::exit::Failure;
use server::config::ServerConfig;
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

const LINKS_MAX: usize = 40;
const STICKY: u32 = 0o1000;
const WRITABLE_BY_GROUP: u32 = 0o020;
const WRITABLE_BY_ALL: u32 = 0o002;

/// Where the cell host keeps volumes and files of commits: where the configuration says, or beside the state directory. An
/// installation that has them in the state directory, as all once had, goes on with those.
pub(crate) fn data_dir(config: &ServerConfig) -> PathBuf {
    let place = config.cell_data_dir();
    let older = config.older_cell_data_dir();
    if config.cell.data_dir.is_none() && !place.exists() && is_older(&older) {
        older
    } else {
        place
    }
}

/// Only root's counts: the user of the state directory could make another one there at any time.
fn is_older(place: &Path) -> bool {
    fs::symlink_metadata(place).is_ok_and(|found| found.is_dir() && found.uid() == 0)
}

/// Refuses directories that are not root's alone.
pub(crate) fn check(config: &ServerConfig) -> Result<(), Failure> {
    only_roots(&config.cell.run_dir, "cell.run_dir")?;
    let data = data_dir(config);
    if config.cell.data_dir.is_none() && data == config.older_cell_data_dir() {
        let (from, to) = (data.display(), config.cell_data_dir());
        tracing::warn!(
            "{from} lies in a directory of another user, who could put something else in its place; once the machine was \
             restarted and before Maquette is started: mv {from} {}",
            to.display()
        );
        return Ok(());
    }
    only_roots(&data, "cell.data_dir")
}

/// Refuses a path in which a directory is not root's alone. What does not exist yet is made by root.
fn only_roots(path: &Path, key: &str) -> Result<(), Failure> {
    let failed =
        |at: &Path, error: &io::Error| Failure::new(1, format!("{} can not be looked at: {error}", at.display()));
    let absolute = std::path::absolute(path).map_err(|error| failed(path, &error))?;
    let mut left: VecDeque<OsString> = names(&absolute);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    loop {
        let found = fs::symlink_metadata(&at).map_err(|error| failed(&at, &error))?;
        if let Some(why) = shared(&found) {
            return Err(Failure::new(
                1,
                format!(
                    "{} can not be used: {} {why}, so somebody else could put something in its place",
                    path.display(),
                    at.display()
                ),
            )
            .hint(format!(
                "choose a place with `{key}` in maquette-server.yaml; it and all that it lies in must belong to root"
            )));
        }
        let Some(name) = left.pop_front() else { return Ok(()) };
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        match fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Failure::new(1, format!("{} has too many links", path.display())));
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                let mut ahead = names(&target);
                ahead.append(&mut left);
                left = ahead;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // It is no link.
            Err(_) => at = next,
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::new("..").to_owned()),
            _ => None,
        })
        .collect()
}

/// Why somebody else than root may rename what is in a directory.
fn shared(found: &Metadata) -> Option<String> {
    let mode = found.mode();
    if !found.is_dir() {
        return Some("is not a directory".to_owned());
    }
    if found.uid() != 0 {
        return Some(format!("belongs to the user {}", found.uid()));
    }
    let others = mode & WRITABLE_BY_ALL != 0 || (mode & WRITABLE_BY_GROUP != 0 && found.gid() != 0);
    (others && mode & STICKY == 0).then(|| "can be written to by others than root".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    /// Tests run as root; directories for temporary files are sticky.
    fn refusal(path: &Path) -> Option<String> {
        only_roots(path, "cell.data_dir")
            .err()
            .map(|failure| failure.to_string())
    }

    #[test]
    fn only_what_nobody_else_can_replace_is_used() {
        let place = tempfile::tempdir().unwrap();
        let (own, theirs) = (place.path().join("own"), place.path().join("theirs"));
        for directory in [&own, &theirs] {
            fs::create_dir(directory).unwrap();
        }
        chown(&theirs, Some(12_345), None).unwrap();
        assert_eq!(refusal(&own), None);
        assert_eq!(refusal(&own.join("not/there/yet")), None);
        for bad in [theirs.clone(), theirs.join("cells")] {
            let told = refusal(&bad).unwrap();
            assert!(told.contains("belongs to the user 12345"), "{told}");
            assert!(told.contains("cell.data_dir"), "{told}");
        }
        // Neither a link nor `..` leads around that.
        symlink(&theirs, own.join("link")).unwrap();
        symlink(&own, theirs.join("back")).unwrap();
        for way in [
            "own/link/cells",
            "own/link/back/cells",
            "own/../theirs/cells",
            "theirs/back",
        ] {
            assert!(refusal(&place.path().join(way)).is_some(), "{way}");
        }
        symlink("../own", own.join("self")).unwrap();
        assert_eq!(refusal(&own.join("self/cells")), None);
        symlink("round", own.join("round")).unwrap();
        assert!(refusal(&own.join("round")).unwrap().contains("links"));
        // Whoever may write may rename, except where that is forbidden.
        for (mode, refused) in [(0o777, true), (0o1777, false), (0o755, false)] {
            fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(refusal(&own.join("cells")).is_some(), refused, "{mode:o}");
        }
        chown(&own, None, Some(50)).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o775)).unwrap();
        assert!(refusal(&own.join("cells")).is_some());
    }

    #[test]
    fn data_is_beside_the_state_directory_unless_it_is_in_there_already() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        fs::create_dir(&state).unwrap();
        let text = format!("state_dir: {}\n", state.display());
        let config = ServerConfig::parse(&text, Path::new("x")).unwrap();
        let new = place.path().join("state-cells");
        assert_eq!(data_dir(&config), new);
        // What that user makes there does not count.
        let older = state.join("cells");
        fs::create_dir(&older).unwrap();
        chown(&older, Some(12_345), None).unwrap();
        assert_eq!(data_dir(&config), new);
        chown(&older, Some(0), None).unwrap();
        assert_eq!(data_dir(&config), older);
        fs::rename(&older, &new).unwrap();
        assert_eq!(data_dir(&config), new);
    }
}
