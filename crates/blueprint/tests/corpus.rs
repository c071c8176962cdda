//! Applications in the shapes that real projects have, put together. `make compose-diff` compares the same files with what
//! Docker's own reader makes of them; what was the same then is held here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::{Blueprint, MemoryTree, compose_resolved};
use std::{fs, path::Path};
use support::{context, everything};

/// The files of a directory.
fn load(tree: MemoryTree, root: &Path, folder: &Path) -> MemoryTree {
    let mut tree = tree;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tree = load(tree, root, &path);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            tree = tree.with(name, &fs::read(&path).unwrap());
        }
    }
    tree
}

fn cases() -> Vec<(String, MemoryTree)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut cases: Vec<(String, MemoryTree)> = fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, load(MemoryTree::default(), &path, &path))
        })
        .collect();
    cases.sort_by(|(a, _), (b, _)| a.cmp(b));
    cases
}

#[test]
fn applications_are_put_together_as_docker_does() {
    for (name, tree) in cases() {
        match compose_resolved(&tree, &context()) {
            Ok(resolved) => insta::assert_snapshot!(name, format!("{:#}", resolved.value)),
            Err(problems) => insta::assert_snapshot!(name, problems.to_string()),
        }
    }
}

#[test]
fn a_runtime_that_can_everything_runs_what_asks_for_no_privileges() {
    let privileged = ["elastic", "kitchen", "merge", "rails"];
    for (name, tree) in cases() {
        if privileged.contains(&name.as_str()) || compose_resolved(&tree, &context()).is_err() {
            continue;
        }
        if let Err(problems) = Blueprint::read(&tree, None, &context(), &everything()) {
            panic!("{name}\n{problems}");
        }
    }
}
