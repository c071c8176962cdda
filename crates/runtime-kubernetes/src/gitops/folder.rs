//! The folder of an environment in the repository: one file per object, and what a person should know beside them.
//!
//! Secrets are never in it, and neither is what runs to its end or says which generation is there: Maquette brings those to the
//! cluster itself.

use super::yaml;
use crate::{Kind, build::Object};
use forge::git::Files;
use model::{EnvironmentId, Generation};

/// The folder of what surrounds the services.
pub(crate) const ENVELOPE: &str = "envelope";
/// The folder of the services.
pub(crate) const STACK: &str = "stack";
/// The file that says which generation this is.
const SHEET: &str = "maquette.yaml";
/// A folder without files is none.
const NOTE: &str = "README.md";
const NOTE_TEXT: &str = "\
Written by Maquette, which made these files for a pull request and removes them with it. What is changed here by hand is undone with
the next delivery.
";

/// Whether an object is delivered by a commit. A run is an event and no state: one that has failed is made again, which no file can
/// say.
pub(crate) fn is_in_git(object: &Object) -> bool {
    !matches!(object, Object::Secret(_) | Object::Job(_) | Object::Marker(_))
}

/// Where an object's file is.
pub(crate) fn path(folder: &str, kind: Kind, name: &str) -> String {
    format!("{folder}/{}-{name}.yaml", kind.word())
}

/// The files of objects, of those that are delivered so.
///
/// # Errors
/// As [`Object::shown`].
pub(crate) fn files<'a>(folder: &str, objects: impl IntoIterator<Item = &'a Object>) -> serde_json::Result<Files> {
    let delivered = objects.into_iter().filter(|object| is_in_git(object));
    let each = delivered.map(|object| {
        let content = crate::api::with_type(object.kind(), object.shown()?);
        let path = path(folder, object.kind(), object.name());
        Ok((path, yaml::document(&content).into_bytes()))
    });
    each.collect()
}

/// What an environment's sheet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sheet {
    pub(super) generation: Generation,
    /// Counts what was written: no two commits of ours have the same sheet.
    pub(super) write: u64,
}

impl Sheet {
    /// The sheet of a folder; `None` if it has none that can be read.
    pub(super) fn of(files: &Files) -> Option<Self> {
        let text = std::str::from_utf8(files.get(SHEET)?).ok()?;
        let number = |key: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")?.parse().ok())
        };
        Some(Self {
            generation: Generation(number("generation")?),
            write: number("write")?,
        })
    }

    /// Puts it, and what else every folder has.
    pub(super) fn put(self, files: &mut Files, environment: &EnvironmentId) {
        let Self { generation, write } = self;
        let text = format!("environment: \"{environment}\"\ngeneration: {generation}\nwrite: {write}\n");
        files.insert(SHEET.to_owned(), text.into_bytes());
        for folder in [ENVELOPE, STACK] {
            files.insert(format!("{folder}/{NOTE}"), NOTE_TEXT.into());
        }
    }
}

/// Removes the files of a folder that are not among these.
pub(crate) fn keep_only(files: &mut Files, folder: &str, wanted: &Files) {
    let is_of = |path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    files.retain(|path, _| !is_of(path) || wanted.contains_key(path));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_is_read_as_it_was_written() {
        let mut files = Files::new();
        assert_eq!(Sheet::of(&files), None);
        let sheet = Sheet {
            generation: Generation(7),
            write: 12,
        };
        sheet.put(&mut files, &"e000000007".parse().unwrap());
        assert_eq!(Sheet::of(&files), Some(sheet));
        keep_only(&mut files, STACK, &Files::new());
        let left: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(left, ["envelope/README.md", "maquette.yaml"]);
    }
}
