//! Commits that no API of a forge would make: with links, submodules and pointers.

use forge::local::LocalForge;
use model::CommitId;
use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

/// What `git lfs` leaves in place of a file.
pub(crate) const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid \
     sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

/// Something that is put into a checkout.
pub(crate) enum Put<'a> {
    File(&'a str, &'a str),
    Link(&'a str, &'a str),
    Submodule(&'a str),
}

fn git(directory: &Path, arguments: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    assert!(done.status.success(), "{arguments:?}: {done:?}");
}

/// Commits exactly this to a branch.
pub(crate) async fn commit(forge: &LocalForge, branch: &str, content: &[Put<'_>]) -> CommitId {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for put in content {
        let (Put::File(path, _) | Put::Link(path, _) | Put::Submodule(path)) = put;
        let at = root.join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match put {
            Put::File(_, text) => fs::write(at, text).unwrap(),
            Put::Link(_, target) => symlink(target, at).unwrap(),
            Put::Submodule(_) => {
                fs::create_dir_all(&at).unwrap();
                git(&at, &["init", "--quiet"]);
                git(&at, &["commit", "--quiet", "--allow-empty", "-m", "x"]);
            }
        }
    }
    forge.import(root, &branch.parse().unwrap(), "Change").await.unwrap()
}
