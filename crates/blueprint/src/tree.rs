//! The files of one commit, as the caller offers them: rooted, bounded, without a way out.

use crate::{
    escape::quoted,
    problem::{Report, Whose},
};
use std::{borrow::Cow, collections::BTreeMap};

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The largest number of paths in a tree.
pub const PATHS_MAX: usize = 200_000;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of that many bytes.
    File {
        /// Its size.
        bytes: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link; it is never followed.
    Link,
    /// Another repository, of which this tree has the address only.
    Submodule,
}

/// The files of one commit. Paths are relative, `/`-separated, without `.` and `..`; the root is the empty path. What is
/// implemented here is only ever asked for paths of that form.
pub trait Tree {
    /// What stands at a path, without following links; `None` if nothing does.
    fn kind(&self, path: &str) -> Option<Kind>;
    /// The bytes of a regular file; `None` if there is none or it can't be read. Only asked for files of at most
    /// [`FILE_BYTES_MAX`] bytes by their [`Kind`].
    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>>;
    /// The paths of everything that is no directory, sorted by bytes.
    fn list(&self) -> Vec<String>;
    /// An id of what stands at a path of [`Self::list`]: the same for the same content and mode, in whatever tree of the same
    /// implementation. `None` for what has no content, such as a submodule. Here it is the digest of a file's bytes.
    fn content_id(&self, path: &str) -> Option<String> {
        match self.kind(path)? {
            Kind::File { .. } => Some(model::Digest::of(&self.read(path)?).as_str().to_owned()),
            Kind::Link => Some("link".to_owned()),
            Kind::Directory | Kind::Submodule => None,
        }
    }
}

/// A tree in memory, for tests.
#[derive(Clone, Debug, Default)]
pub struct MemoryTree {
    entries: BTreeMap<String, (Kind, Vec<u8>)>,
}

impl MemoryTree {
    /// A tree of these files.
    #[must_use]
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        files
            .into_iter()
            .fold(Self::default(), |tree, (path, text)| tree.with(path, text.as_bytes()))
    }

    /// The same tree with one more file.
    #[must_use]
    pub fn with(mut self, path: &str, bytes: &[u8]) -> Self {
        self.entries.insert(
            path.to_owned(),
            (
                Kind::File {
                    bytes: bytes.len() as u64,
                },
                bytes.to_vec(),
            ),
        );
        self
    }

    /// The same tree with one more symbolic link.
    #[must_use]
    pub fn with_link(mut self, path: &str) -> Self {
        self.entries.insert(path.to_owned(), (Kind::Link, Vec::new()));
        self
    }

    /// The same tree with one more submodule.
    #[must_use]
    pub fn with_submodule(mut self, path: &str) -> Self {
        self.entries.insert(path.to_owned(), (Kind::Submodule, Vec::new()));
        self
    }
}

impl Tree for MemoryTree {
    fn kind(&self, path: &str) -> Option<Kind> {
        if let Some((kind, _)) = self.entries.get(path) {
            return Some(*kind);
        }
        let folder = format!("{path}/");
        let inside = path.is_empty()
            || self
                .entries
                .range(folder.clone()..)
                .next()
                .is_some_and(|(entry, _)| entry.starts_with(&folder));
        inside.then_some(Kind::Directory)
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        match self.entries.get(path)? {
            (Kind::File { .. }, bytes) => Some(Cow::Borrowed(bytes)),
            _ => None,
        }
    }

    fn list(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }
}

/// Why a path of a blueprint can't be used. The texts continue "`path` …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("is absolute; only paths inside the repository can be used")]
    Absolute,
    #[error("leads out of the repository")]
    Escapes,
    #[error("is not a path")]
    NotAPath,
    #[error("does not exist in this commit")]
    Missing,
    #[error("can not be used: {} is a symbolic link, and links are not followed", quoted(.0))]
    Link(String),
    #[error("can not be used: {} is a submodule, and submodules are not fetched", quoted(.0))]
    Submodule(String),
    #[error("is a directory; a file is needed")]
    Directory,
    #[error("has {0} bytes; at most {FILE_BYTES_MAX} are read")]
    TooLarge(u64),
    #[error("is a Git LFS pointer; the file that it stands for is not in the repository")]
    Lfs,
    #[error("could not be read")]
    Unreadable,
    #[error("is not UTF-8 text")]
    NotText,
}

/// Joins a foreign path to a folder and resolves `.` and `..`; what would leave the root is refused.
pub(crate) fn join(folder: &str, path: &str) -> Result<String, PathError> {
    if path.is_empty() || path.len() > 4096 || path.contains(['\0', '\n', '\\']) {
        return Err(PathError::NotAPath);
    }
    if path.starts_with(['/', '~']) || path.get(1..3).is_some_and(|colon| colon == ":/") {
        return Err(PathError::Absolute);
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or(PathError::Escapes)?;
            }
            part if part.eq_ignore_ascii_case(".git") => return Err(PathError::NotAPath),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The folder that a file is in.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// What stands at a normalised path, provided that no part of the way is a link or a submodule.
pub(crate) fn resolve(tree: &dyn Tree, path: &str) -> Result<Kind, PathError> {
    if path.is_empty() {
        return Ok(Kind::Directory);
    }
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    let mut last = Kind::Directory;
    for end in ends {
        let way = &path[..end];
        last = tree.kind(way).ok_or(PathError::Missing)?;
        match last {
            Kind::Link => return Err(PathError::Link(way.to_owned())),
            Kind::Submodule => return Err(PathError::Submodule(way.to_owned())),
            Kind::File { .. } if end < path.len() => return Err(PathError::Missing),
            Kind::File { .. } | Kind::Directory => {}
        }
    }
    Ok(last)
}

/// The bytes of the regular file at a normalised path.
pub(crate) fn bytes<'a>(tree: &'a dyn Tree, path: &str) -> Result<Cow<'a, [u8]>, PathError> {
    match resolve(tree, path)? {
        Kind::File { bytes } if bytes > FILE_BYTES_MAX => return Err(PathError::TooLarge(bytes)),
        Kind::File { .. } => {}
        _ => return Err(PathError::Directory),
    }
    let bytes = tree.read(path).ok_or(PathError::Unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(PathError::TooLarge(bytes.len() as u64));
    }
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Err(PathError::Lfs);
    }
    Ok(bytes)
}

/// The text of the regular file at a normalised path.
pub(crate) fn text(tree: &dyn Tree, path: &str) -> Result<String, PathError> {
    let bytes = bytes(tree, path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| PathError::NotText)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())
}

/// A file as a report that its problems can be written to; without the text if it can't be read, which is a problem then.
pub(crate) fn open(tree: &dyn Tree, whose: Whose, path: &str) -> (Report, bool) {
    match text(tree, path) {
        Ok(text) => (Report::new(whose, path, text), true),
        Err(error) => {
            let report = Report::new(whose, path, String::new());
            report.error(None, format!("the file {error}"));
            (report, false)
        }
    }
}
