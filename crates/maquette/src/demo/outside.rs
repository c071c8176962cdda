//! Looks at the machine itself, without asking Maquette, for anything that bears the name of an environment.
//!
//! Every process, control group, mount, directory and volume that is made for an environment has the environment's id in its
//! name or path. So what is gone can be shown by looking for the id in the places where the kernel lists such things.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The most directory entries that are looked at in one tree.
const ENTRIES_MAX: usize = 500_000;

/// Everything that bears the id, in words; empty if nothing does. `trees` are directories whose entries are looked through,
/// without following links.
#[must_use]
pub(crate) fn traces(id: &str, trees: &[&Path]) -> Vec<String> {
    let mut found = processes(id);
    let mut left = ENTRIES_MAX;
    for tree in [Path::new("/sys/fs/cgroup")].iter().chain(trees) {
        walk(tree, id, 0, &mut left, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

/// Everything that an installation has of any environment, whatever that is called: places that are empty when there is none,
/// control groups beside the cell host's own, and containers.
#[must_use]
#[allow(dead_code, reason = "the tests that include this file look in another way")]
pub(crate) fn belongings(instance: &str, cells: &Path, run: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let below = |place: PathBuf, found: &mut Vec<String>| {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            found.push(entry.path().display().to_string());
        }
    };
    for place in ["net", "cells", "mounts"] {
        below(run.join(place), &mut found);
    }
    for place in ["environments", "pool/environments"] {
        below(cells.join(place), &mut found);
    }
    for group in groups(Path::new("/sys/fs/cgroup"), &format!("maquette-{instance}"), 0) {
        for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
            if entry.file_name() != "host" && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    // The name of every container begins so.
    found.extend(processes(&format!("{instance}-")));
    found.sort();
    found
}

/// The control groups of this name, in all hierarchies.
#[allow(dead_code, reason = "as above")]
fn groups(directory: &Path, name: &str, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth < 3 {
            found.extend(groups(&entry.path(), name, depth + 1));
        }
    }
    found
}

/// Processes in a control group of that name, or whose command or mounts mention it.
fn processes(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    let me = std::process::id().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) || name == me {
            continue;
        }
        for file in ["cgroup", "cmdline", "mountinfo"] {
            let text = fs::read(entry.path().join(file)).unwrap_or_default();
            if contains(&text, id) {
                found.push(format!("process {name} ({file})"));
            }
        }
    }
    found
}

fn contains(text: &[u8], id: &str) -> bool {
    text.windows(id.len()).any(|window| window == id.as_bytes())
}

fn walk(directory: &Path, id: &str, depth: usize, left: &mut usize, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let path: PathBuf = entry.path();
        if entry.file_name().to_string_lossy().contains(id) {
            found.push(path.display().to_string());
        } else if depth < 8 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, id, depth + 1, left, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_bears_the_id_is_found_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/e-e123456789-x")).unwrap();
        assert_eq!(traces("e123456789", &[root.path()]).len(), 1);
        assert_eq!(traces("e999999999", &[root.path()]), Vec::<String>::new());
    }
}
