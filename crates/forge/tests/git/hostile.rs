//! Trees that git's own porcelain would not make, written object by object.

use crate::World;
use forge::git::{ExportLimits, GitError, TreeLimits};
use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

/// Writes an object of any kind without git's checks and returns its id.
fn object(world: &World, kind: &str, content: &[u8]) -> String {
    let mut child = Command::new("git")
        .args(["hash-object", "-w", "--literally", "--stdin", "-t", kind])
        .current_dir(world.tree.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}

fn tree(world: &World, entries: &[(&str, &str, &str)]) -> String {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        bytes.extend((0..20).map(|i| u8::from_str_radix(&id[2 * i..2 * i + 2], 16).unwrap()));
    }
    object(world, "tree", &bytes)
}

async fn exported(world: &World, tree: &str) -> GitError {
    let commit = format!("tree {tree}\nauthor a <a@b> 0 +0000\ncommitter a <a@b> 0 +0000\n\nx\n");
    let commit = object(world, "commit", commit.as_bytes());
    world.tree.git(&["update-ref", "--no-deref", "HEAD", &commit]).unwrap();
    let commit = world.fetch_head().await;
    let target = world.target();
    let error = world
        .mirror
        .export(&commit, &target, ExportLimits::default())
        .await
        .unwrap_err();
    fs::remove_dir_all(target).unwrap();
    error
}

#[tokio::test]
async fn paths_that_leave_the_checkout_are_refused_by_name() {
    let world = World::new().await;
    let blob = object(&world, "blob", b"evil");
    let file = |name: &str| tree(&world, &[("100644", name, &blob)]);
    for (tree, shown) in [
        (file("../escaped"), "../escaped"),
        (tree(&world, &[("40000", "..", &file("escaped"))]), "../escaped"),
        (tree(&world, &[("40000", ".git", &file("config"))]), ".git/config"),
        (tree(&world, &[("40000", ".GiT", &file("hooks"))]), ".GiT/hooks"),
        (file("/etc/evil"), "/etc/evil"),
        (file("."), "."),
    ] {
        let error = exported(&world, &tree).await;
        assert!(
            matches!(&error, GitError::Path { path, .. } if path == shown),
            "{shown}: {error}"
        );
    }
    assert!(!world.dir.path().join("escaped").exists());
}

#[tokio::test]
async fn links_that_leave_the_checkout_are_refused_by_name() {
    let world = World::new().await;
    let link = |target: &str| object(&world, "blob", target.as_bytes());
    let inner = tree(&world, &[("120000", "up", &link(".."))]);
    for (tree, shown) in [
        (tree(&world, &[("120000", "secrets", &link("/etc/shadow"))]), "secrets"),
        (tree(&world, &[("120000", "secrets", &link("../../host"))]), "secrets"),
        (
            tree(&world, &[("120000", "out", &link("p/up/..")), ("40000", "p", &inner)]),
            "out",
        ),
        (tree(&world, &[("120000", "long", &link(&"../".repeat(1000)))]), "long"),
        (tree(&world, &[("120000", "none", &link(""))]), "none"),
    ] {
        let error = exported(&world, &tree).await;
        assert!(
            matches!(&error, GitError::Escape { path, .. } if path == shown),
            "{shown}: {error}"
        );
        assert!(error.to_string().len() < 500);
    }
}

#[tokio::test]
async fn a_link_and_a_directory_of_one_name_do_not_write_through_the_link() {
    let world = World::new().await;
    let outside = world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let blob = object(&world, "blob", b"evil");
    let inner = tree(&world, &[("100644", "planted", &blob)]);
    let link = object(&world, "blob", b"sub");
    // Both orders; git's own checks would refuse the second entry.
    for entries in [
        [("120000", "x", link.as_str()), ("40000", "x", inner.as_str())],
        [("40000", "x", inner.as_str()), ("120000", "x", link.as_str())],
    ] {
        let error = exported(&world, &tree(&world, &entries)).await;
        assert!(
            matches!(error, GitError::Io { .. } | GitError::Escape { .. }),
            "{error}"
        );
    }
    let twice = tree(&world, &[("100644", "x", &blob), ("100644", "x", &blob)]);
    assert!(matches!(exported(&world, &twice).await, GitError::Io { .. }));
}

#[tokio::test]
async fn names_that_are_not_text_or_that_attack_a_terminal_are_shown_cleaned() {
    let world = World::new().await;
    let blob = object(&world, "blob", b"x");
    let inner = tree(&world, &[("100644", "\u{1b}[2J\u{202e}x", &blob)]);
    let error = exported(&world, &tree(&world, &[("40000", "..", &inner)])).await;
    assert!(!error.to_string().contains(['\u{1b}', '\u{202e}']), "{error}");
    let mut bytes = b"100644 \xff\xfe\0".to_vec();
    bytes.extend((0..20).map(|i| u8::from_str_radix(&blob[2 * i..2 * i + 2], 16).unwrap()));
    let error = exported(&world, &object(&world, "tree", &bytes)).await;
    assert!(matches!(error, GitError::Path { .. }), "{error}");
}

#[tokio::test]
async fn a_tree_that_multiplies_itself_is_cut() {
    let world = World::new().await;
    let blob = object(&world, "blob", b"x");
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let mut id = blob;
    // Ten entries on each of nine levels: a thousand million files out of ten small objects.
    for level in 0..9 {
        let mode = if level == 0 { "100644" } else { "40000" };
        let entries: Vec<_> = names.iter().map(|name| (mode, name.as_str(), id.as_str())).collect();
        id = tree(&world, &entries);
    }
    let error = exported(&world, &id).await;
    assert!(
        matches!(error, GitError::Output { .. } | GitError::Limit { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_is_read_by_its_very_path_only() {
    let world = World::new().await;
    fs::create_dir(world.tree.file("d")).unwrap();
    fs::write(world.tree.file("d/file"), "content").unwrap();
    std::os::unix::fs::symlink("d/file", world.tree.file("link")).unwrap();
    let commit = world.commit().await;
    assert_eq!(world.mirror.read_blob(&commit, "d/file", 7).await.unwrap(), b"content");
    assert!(matches!(
        world.mirror.read_blob(&commit, "d/file", 6).await,
        Err(GitError::Limit { .. })
    ));
    for missing in [
        "d",
        "link",
        "d/*",
        "*",
        ":(glob)**",
        ":/d/file",
        "nothing",
        "--help",
        "d/file/x",
    ] {
        let error = world.mirror.read_blob(&commit, missing, 100).await.unwrap_err();
        assert!(matches!(error, GitError::NoSuchFile { .. }), "{missing}: {error}");
    }
    for bad in ["../x", "/etc/passwd", "", "d/../d/file", ".git/config"] {
        let error = world.mirror.read_blob(&commit, bad, 100).await.unwrap_err();
        assert!(matches!(error, GitError::Path { .. }), "{bad}: {error}");
    }
    let entries = world.mirror.read_tree(&commit, TreeLimits::default()).await.unwrap();
    assert_eq!(
        entries
            .iter()
            .map(|entry| (entry.path.as_str(), entry.size))
            .collect::<Vec<_>>(),
        [("d/file", 7), ("link", 6)]
    );
}
