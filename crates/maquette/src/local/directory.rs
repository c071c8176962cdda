//! A directory of this machine as the tree of a commit: what Git would not take in is not there.

use crate::exit::Failure;
use blueprint::{FILE_BYTES_MAX, Kind, PATHS_MAX, Tree};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Directories that are never part of a commit's content that matters here.
const SKIPPED: [&str; 3] = [".git", "node_modules", "target"];
/// The deepest directory that is looked into.
const DEPTH_MAX: usize = 32;

/// The files below a directory, found once. Links are seen as links and never followed.
pub(crate) struct Directory {
    root: PathBuf,
    entries: BTreeMap<String, Kind>,
}

impl Directory {
    pub(crate) fn open(root: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(1, format!("{} can not be read: {error}", root.display()));
        let root_path = root.canonicalize().map_err(failed)?;
        let mut directory = Self {
            root: root_path.clone(),
            entries: BTreeMap::new(),
        };
        directory.walk(&root_path, "", 0).map_err(failed)?;
        Ok(directory)
    }

    fn walk(&mut self, at: &Path, prefix: &str, depth: usize) -> std::io::Result<()> {
        for entry in fs::read_dir(at)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if self.entries.len() >= PATHS_MAX || SKIPPED.contains(&name) {
                continue;
            }
            let path = if prefix.is_empty() {
                name.to_owned()
            } else {
                format!("{prefix}/{name}")
            };
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                self.entries.insert(path, Kind::Link);
            } else if kind.is_dir() {
                if entry.path().join(".git").exists() {
                    self.entries.insert(path, Kind::Submodule);
                } else if depth < DEPTH_MAX {
                    self.entries.insert(path.clone(), Kind::Directory);
                    self.walk(&entry.path(), &path, depth + 1)?;
                }
            } else if kind.is_file() {
                let bytes = entry.metadata()?.len();
                self.entries.insert(path, Kind::File { bytes });
            }
        }
        Ok(())
    }
}

impl Tree for Directory {
    fn kind(&self, path: &str) -> Option<Kind> {
        if path.is_empty() {
            Some(Kind::Directory)
        } else {
            self.entries.get(path).copied()
        }
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        match self.entries.get(path)? {
            Kind::File { bytes } if *bytes <= FILE_BYTES_MAX => fs::read(self.root.join(path)).ok().map(Cow::Owned),
            _ => None,
        }
    }

    fn list(&self) -> Vec<String> {
        let files = self.entries.iter().filter(|(_, kind)| **kind != Kind::Directory);
        files.map(|(path, _)| path.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_other_repositories_are_seen_and_not_entered() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/c"), "text").unwrap();
        fs::create_dir_all(dir.path().join("sub/.git")).unwrap();
        fs::write(dir.path().join("sub/secret"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let tree = Directory::open(dir.path()).unwrap();
        assert_eq!(tree.kind("a/b/c"), Some(Kind::File { bytes: 4 }));
        assert_eq!(tree.kind("a/b"), Some(Kind::Directory));
        assert_eq!((tree.kind("link"), tree.read("link")), (Some(Kind::Link), None));
        assert_eq!(
            (tree.kind("sub"), tree.kind("sub/secret")),
            (Some(Kind::Submodule), None)
        );
        assert_eq!(tree.list(), ["a/b/c", "link", "sub"]);
        assert_eq!(tree.read("a/b/c").unwrap().as_ref(), b"text");
    }
}
