//! A checkout is faithful.

use crate::World;
use forge::git::{ExportLimits, Finding, GitError};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn files_modes_and_links_are_as_committed() {
    let world = World::new().await;
    fs::create_dir_all(world.tree.file("a/b")).unwrap();
    fs::write(world.tree.file("a/b/text"), "line\r\nother\n").unwrap();
    fs::write(world.tree.file("empty"), "").unwrap();
    let big: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(world.tree.file("a/big \u{fc}\n-rf"), &big).unwrap();
    fs::write(world.tree.file("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(world.tree.file("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../run", world.tree.file("a/link")).unwrap();
    symlink("a", world.tree.file("directory-link")).unwrap();
    let commit = world.commit().await;
    let target = world.target();
    let exported = world
        .mirror
        .export(&commit, &target, ExportLimits::default())
        .await
        .unwrap();
    assert_eq!((exported.files, exported.findings), (6, vec![]));
    assert_eq!(fs::read(target.join("a/b/text")).unwrap(), b"line\r\nother\n");
    assert_eq!(fs::read(target.join("a/big \u{fc}\n-rf")).unwrap(), big);
    assert_eq!(fs::read(target.join("empty")).unwrap(), b"");
    assert_eq!(
        (mode(&target.join("run")), mode(&target.join("a/b/text"))),
        (0o755, 0o644)
    );
    assert_eq!(fs::read_link(target.join("a/link")).unwrap(), Path::new("../run"));
    assert_eq!(fs::read_link(target.join("directory-link")).unwrap(), Path::new("a"));
    assert!(!target.join(".git").exists());
}

#[tokio::test]
async fn attributes_neither_hide_nor_rewrite_nor_run_anything() {
    let world = World::new().await;
    let attributes = "hidden export-ignore\nsubst export-subst ident\ncrlf text eol=crlf\nfiltered filter=evil\n";
    fs::write(world.tree.file(".gitattributes"), attributes).unwrap();
    for name in ["hidden", "subst", "crlf", "filtered"] {
        fs::write(world.tree.file(name), "$Format:%H$ $Id$\n").unwrap();
    }
    let commit = world.commit().await;
    let proof = world.dir.path().join("pwned");
    let evil = format!("touch {}", proof.display());
    let config = world.mirror.path().join("config");
    let more = format!("[filter \"evil\"]\n\tsmudge = {evil}\n\tclean = {evil}\n\trequired = true\n");
    fs::write(&config, fs::read_to_string(&config).unwrap() + &more).unwrap();
    let target = world.target();
    world
        .mirror
        .export(&commit, &target, ExportLimits::default())
        .await
        .unwrap();
    for name in ["hidden", "subst", "crlf", "filtered"] {
        assert_eq!(
            fs::read_to_string(target.join(name)).unwrap(),
            "$Format:%H$ $Id$\n",
            "{name}"
        );
    }
    assert!(!proof.exists());
}

#[tokio::test]
async fn submodules_and_lfs_pointers_are_told() {
    let world = World::new().await;
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    fs::create_dir(world.tree.file("img")).unwrap();
    fs::write(world.tree.file("img/logo.png"), pointer).unwrap();
    fs::write(
        world.tree.file("about-lfs.txt"),
        format!("{pointer}{}", "x".repeat(2000)),
    )
    .unwrap();
    world.tree.git(&["add", "--all"]).unwrap();
    let cacheinfo = format!("160000,{},vendor/lib", "1".repeat(40));
    world
        .tree
        .git(&["update-index", "--add", "--cacheinfo", &cacheinfo])
        .unwrap();
    world.tree.git(&["commit", "--quiet", "-m", "x"]).unwrap();
    let commit = world.fetch_head().await;
    let target = world.target();
    let exported = world
        .mirror
        .export(&commit, &target, ExportLimits::default())
        .await
        .unwrap();
    let lfs = Finding::LfsPointer {
        path: "img/logo.png".to_owned(),
    };
    assert_eq!(
        exported.findings,
        [
            lfs,
            Finding::Submodule {
                path: "vendor/lib".to_owned()
            }
        ]
    );
    assert!(target.join("vendor/lib").is_dir());
    assert_eq!(fs::read_to_string(target.join("img/logo.png")).unwrap(), pointer);
}

#[tokio::test]
async fn bounds_hold_before_anything_is_written() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        fs::write(world.tree.file(name), "0123456789").unwrap();
    }
    let commit = world.commit().await;
    let target = world.target();
    let fits = ExportLimits {
        entries: 3,
        file: 10,
        total: 30,
    };
    for tight in [
        ExportLimits { entries: 2, ..fits },
        ExportLimits { file: 9, ..fits },
        ExportLimits { total: 29, ..fits },
    ] {
        let error = world.mirror.export(&commit, &target, tight).await.unwrap_err();
        assert!(matches!(error, GitError::Limit { .. }), "{error}");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }
    world.mirror.export(&commit, &target, fits).await.unwrap();
    let again = world.mirror.export(&commit, &target, fits).await.unwrap_err();
    assert!(
        matches!(again, GitError::Io { .. }),
        "the directory is not empty: {again}"
    );
}
