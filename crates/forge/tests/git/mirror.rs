//! Fetching, and what is asked of the history.

use crate::{World, remote};
use forge::{
    Remote, RemoteKind,
    git::{ChangeKind, GitError, GitLimits, Mirror},
};
use model::CommitId;
use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

#[tokio::test]
async fn the_history_answers() {
    let world = World::new().await;
    let commit = |file: &str, content: &str| -> CommitId {
        world
            .tree
            .commit(file, content, &format!("change {file}"))
            .unwrap()
            .parse()
            .unwrap()
    };
    let base = commit("a", "1");
    world.tree.git(&["checkout", "--quiet", "-b", "topic"]).unwrap();
    commit("b", "1");
    fs::remove_file(world.tree.file("a")).unwrap();
    let topic = commit("c d", "1");
    world.tree.git(&["checkout", "--quiet", "main"]).unwrap();
    let main = commit("e", "1");
    for each in [&topic, &main, &base] {
        world.mirror.fetch(&world.remote(), each, None).await.unwrap();
    }
    let mirror = &world.mirror;
    assert_eq!(mirror.merge_base(&topic, &main).await.unwrap(), Some(base.clone()));
    assert!(mirror.is_ancestor(&base, &topic).await.unwrap());
    assert!(!mirror.is_ancestor(&topic, &main).await.unwrap());
    let changes = mirror.changed_files(&base, &topic, 10).await.unwrap();
    let changes: Vec<_> = changes
        .iter()
        .map(|change| (change.path.as_str(), change.kind))
        .collect();
    assert_eq!(
        changes,
        [
            ("a", ChangeKind::Deleted),
            ("b", ChangeKind::Added),
            ("c d", ChangeKind::Added)
        ]
    );
    assert!(matches!(
        mirror.changed_files(&base, &topic, 2).await,
        Err(GitError::Limit { .. })
    ));
    let summary = mirror.summary(&topic).await.unwrap();
    assert_eq!(
        (summary.subject.as_str(), summary.author.as_str()),
        ("change c d", "Ada")
    );

    world.tree.git(&["checkout", "--quiet", "--orphan", "alone"]).unwrap();
    let alone = commit("z", "1");
    mirror.fetch(&world.remote(), &alone, None).await.unwrap();
    assert_eq!(mirror.merge_base(&alone, &main).await.unwrap(), None);
}

#[tokio::test]
async fn a_commit_that_was_force_pushed_away_stays_until_it_is_let_go() {
    let world = World::new().await;
    fs::write(world.tree.file("a"), "1").unwrap();
    let old = world.commit().await;
    world
        .tree
        .git(&["commit", "--quiet", "--amend", "-m", "other"])
        .unwrap();
    let new = world.fetch_head().await;
    assert!(world.mirror.has(&old));
    world.mirror.retain(std::slice::from_ref(&new)).await.unwrap();
    assert!(!world.mirror.has(&old) && world.mirror.has(&new));
    assert!(world.mirror.summary(&old).await.is_err(), "its objects are gone");
}

#[tokio::test]
async fn a_mirror_that_was_not_finished_is_finished() {
    let world = World::new().await;
    fs::remove_file(world.mirror.path().join("config")).unwrap();
    fs::remove_file(world.mirror.path().join("HEAD")).unwrap();
    let git = forge::git::Git::new(world.dir.path().join("home"), GitLimits::default()).unwrap();
    let again = Mirror::open(git, world.mirror.path()).await.unwrap();
    let commit = world.tree.commit("a", "1", "x").unwrap().parse().unwrap();
    again.fetch(&world.remote(), &commit, None).await.unwrap();
    assert!(again.has(&commit));
}

#[tokio::test]
async fn transports_that_run_commands_or_read_the_machine_are_refused() {
    let world = World::new().await;
    let commit: CommitId = world.tree.commit("a", "1", "x").unwrap().parse().unwrap();
    let proof = world.dir.path().join("pwned");
    let ext = format!("ext::sh -c touch% {}", proof.display());
    for kind in [RemoteKind::File, RemoteKind::Http] {
        for url in [
            ext.as_str(),
            "ssh://-oProxyCommand=touch%20x/",
            "git://127.0.0.1:1/x",
            "ftp://127.0.0.1:1/x",
        ] {
            let Ok(url) = url.parse() else { continue };
            let bad = Remote {
                url,
                kind,
                authorization: None,
            };
            assert!(
                matches!(
                    world.mirror.fetch(&bad, &commit, None).await,
                    Err(GitError::Failed { .. })
                ),
                "{}",
                bad.url
            );
        }
    }
    let file_over_http = Remote {
        kind: RemoteKind::Http,
        ..world.remote()
    };
    assert!(world.mirror.fetch(&file_over_http, &commit, None).await.is_err());
    assert!(!proof.exists());
    world.mirror.fetch(&world.remote(), &commit, None).await.unwrap();
}

#[tokio::test]
async fn neither_hooks_nor_configuration_of_the_remote_side_run() {
    let world = World::new().await;
    let commit = world.tree.commit("a", "1", "x").unwrap().parse().unwrap();
    let proof = world.dir.path().join("pwned");
    let script = format!("#!/bin/sh\ntouch {}\n", proof.display());
    let hook = world.dir.path().join("evil");
    fs::write(&hook, &script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["reference-transaction", "post-checkout", "pre-auto-gc"] {
        let place = world.mirror.path().join("hooks");
        fs::create_dir_all(&place).unwrap();
        fs::copy(&hook, place.join(name)).unwrap();
    }
    let hook = hook.to_str().unwrap();
    for key in ["uploadpack.packObjectsHook", "core.fsmonitor", "core.sshCommand"] {
        world.tree.git(&["config", key, hook]).unwrap();
    }
    world.mirror.fetch(&world.remote(), &commit, None).await.unwrap();
    assert!(!proof.exists());
}

#[tokio::test]
async fn references_that_are_options_or_no_references_are_refused() {
    let world = World::new().await;
    let unknown = "a".repeat(40).parse().unwrap();
    world.tree.commit("a", "1", "x").unwrap();
    for bad in [
        "--upload-pack=touch x",
        "main",
        "refs/../x",
        "refs/heads/-x y",
        "refs/heads/a:b",
        "+refs/heads/a",
    ] {
        let error = world
            .mirror
            .fetch(&world.remote(), &unknown, Some(bad))
            .await
            .unwrap_err();
        assert!(matches!(error, GitError::Name { .. }), "{bad}: {error}");
    }
}

#[tokio::test]
async fn too_much_output_and_too_much_time_end_the_run() {
    let limits = GitLimits {
        output: 10,
        ..GitLimits::default()
    };
    let world = World::with(limits).await;
    fs::write(world.tree.file("a"), "1").unwrap();
    let commit = world.commit().await;
    let error = world
        .mirror
        .read_tree(&commit, forge::git::TreeLimits::default())
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::Output { limit: 10, .. }), "{error}");

    // A server that accepts and says nothing.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/a/b.git", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let silent = Remote {
        url,
        kind: RemoteKind::Http,
        authorization: None,
    };
    let mut limit = Duration::from_millis(300);
    let mut stream = loop {
        let world = World::with(GitLimits {
            fetch: limit,
            ..GitLimits::default()
        })
        .await;
        let error = world
            .mirror
            .fetch(&silent, &"a".repeat(40).parse().unwrap(), None)
            .await
            .unwrap_err();
        assert!(matches!(error, GitError::Timeout { .. }), "{error}");
        // A git that was ended before it had come so far tells nothing of its helper.
        match tokio::time::timeout(Duration::from_millis(100), listener.accept()).await {
            Ok(accepted) => break accepted.unwrap().0,
            Err(_) => limit *= 4,
        }
        assert!(limit < Duration::from_secs(120), "git never asks");
    };
    // The helper that held the connection ended with its parent: the connection is closed.
    let closed = async {
        use tokio::io::AsyncReadExt as _;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    };
    tokio::time::timeout(Duration::from_secs(60), closed)
        .await
        .expect("git's helper still runs");
}

#[tokio::test]
async fn a_pack_larger_than_allowed_does_not_fill_the_disk() {
    let world = World::with(GitLimits {
        pack: 100_000,
        ..GitLimits::default()
    })
    .await;
    let mut seed: u32 = 1;
    let noise: String = (0..400_000)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'!' + u8::try_from((seed >> 16) % 90).unwrap())
        })
        .collect();
    let commit = world.tree.commit("big", &noise, "x").unwrap().parse().unwrap();
    assert!(
        world
            .mirror
            .fetch(&remote(world.tree.path()), &commit, None)
            .await
            .is_err()
    );
    assert!(!world.mirror.has(&commit));
}

/// A few kilobytes on the way are hundreds of megabytes in memory.
#[tokio::test]
async fn what_is_large_when_it_is_unpacked_does_not_fill_the_memory() {
    let world = World::with(GitLimits {
        memory: 64 << 20,
        ..GitLimits::default()
    })
    .await;
    let small = world.tree.commit("small", "text", "x").unwrap().parse().unwrap();
    let from = remote(world.tree.path());
    world.mirror.fetch(&from, &small, None).await.unwrap();
    let bomb = "x".repeat(200 << 20);
    let commit = world.tree.commit("big", &bomb, "x").unwrap().parse().unwrap();
    assert!(world.mirror.fetch(&from, &commit, None).await.is_err());
    assert!(!world.mirror.has(&commit));
}

#[tokio::test]
async fn many_may_fetch_at_once_and_locks_of_a_killed_git_do_not_stop_them() {
    let world = World::new().await;
    let commit: CommitId = world.tree.commit("a", "1", "x").unwrap().parse().unwrap();
    let kept = world.mirror.path().join("refs/maquette/commits");
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join(format!("{commit}.lock")), "").unwrap();
    fs::write(world.mirror.path().join("packed-refs.lock"), "").unwrap();
    let remote = world.remote();
    let fetch = || world.mirror.fetch(&remote, &commit, None);
    let (a, b, c) = tokio::join!(fetch(), fetch(), fetch());
    a.and(b).and(c).unwrap();
    world.mirror.retain(&[]).await.unwrap();
    assert!(!world.mirror.has(&commit));
}
