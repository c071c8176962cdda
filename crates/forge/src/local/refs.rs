//! References of the repository, read from its files: a local forge is asked for them all the time, and a process would cost
//! more than all the rest of the answer.
//!
//! Only the layout is read that git gives a repository that [`super::LocalForge`] has made: loose files, and `packed-refs` for
//! those that git has packed since. Loose ones are read first: git removes one only after it is packed.

use model::CommitId;
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The largest file of packed references, in bytes.
const PACKED_MAX: u64 = 64 << 20;
/// The most loose references, and the deepest directory of them.
const LOOSE_MAX: usize = 100_000;
const DEPTH_MAX: usize = 64;

/// All references whose names begin with one of these, which end with `/`.
pub(super) fn read(repository: &Path, below: &[&str]) -> io::Result<HashMap<String, CommitId>> {
    let mut found = HashMap::new();
    for start in below {
        loose(repository, start.trim_end_matches('/'), &mut found)?;
    }
    let text = match fs::metadata(repository.join("packed-refs")) {
        Ok(meta) if meta.len() > PACKED_MAX => return Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => fs::read_to_string(repository.join("packed-refs"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    for line in text.lines() {
        let Some((commit, name)) = line.split_once(' ') else {
            continue;
        };
        if below.iter().any(|start| name.starts_with(start))
            && let Ok(commit) = commit.parse()
        {
            found.entry(name.to_owned()).or_insert(commit);
        }
    }
    // Without a repository there is no answer: what is missing then was not seen to be gone.
    for part in ["HEAD", "refs", "objects"] {
        fs::metadata(repository.join(part))?;
    }
    Ok(found)
}

fn loose(repository: &Path, start: &str, found: &mut HashMap<String, CommitId>) -> io::Result<()> {
    let mut left: Vec<(PathBuf, String, usize)> = vec![(repository.join(start), start.to_owned(), 0)];
    while let Some((path, name, depth)) = left.pop() {
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // Git removes a directory together with its last reference.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(last) = entry.file_name().into_string() else {
                continue;
            };
            if last.ends_with(".lock") {
                continue;
            }
            let name = format!("{name}/{last}");
            if entry.file_type()?.is_dir() {
                if depth < DEPTH_MAX {
                    left.push((entry.path(), name, depth + 1));
                }
            } else if let Some(commit) = one(&entry.path())? {
                found.insert(name, commit);
            }
            if found.len() > LOOSE_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
    }
    Ok(())
}

/// What a loose reference names; nothing if it is gone or names another reference, which is none of ours.
fn one(path: &Path) -> io::Result<Option<CommitId>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end().parse().ok()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
        Err(error) => Err(error),
    }
}
