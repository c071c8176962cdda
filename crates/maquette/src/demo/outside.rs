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
