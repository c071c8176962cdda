//! Full disks: the host's, where Maquette keeps what it must not lose, and the pool of the environments.

use crate::rig::{COMPOSE, Rig, SETTINGS, Visitor};
use forge::local::FileChange;
use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

const ENVIRONMENTS: usize = 10;

/// Takes all room of a file system.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        let block = vec![b'x'; size];
        while file.write_all(&block).is_ok() {}
    }
    // Delayed allocation tells of the lack of room at this point only.
    let _ = file.sync_all();
}

/// A small file system of its own in the place of the state directory.
fn small_disk(rig: &Rig) -> PathBuf {
    let state = rig.state();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs"])
        .arg(&state)
        .status()
        .unwrap();
    assert!(mounted.success());
    chown(&state, Some(rig.user().0), Some(rig.user().1)).unwrap();
    state
}

/// Each environment from this one on shows its own page.
async fn all_answer(visitors: &[Visitor], from: usize) {
    for (index, visitor) in visitors.iter().enumerate().skip(from) {
        let (status, text) = visitor.get("/page.txt").await;
        assert_eq!((status, text), (200, format!("page {index}\n")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_are_named_and_ten_environments_go_on() {
    let files = [
        FileChange::write("compose.yaml", COMPOSE),
        FileChange::write("maquette.yaml", SETTINGS),
    ];
    let mut rig = Rig::new(&files).await;
    let state = small_disk(&rig);
    rig.start().await;
    let mut numbers = Vec::new();
    for index in 0..ENVIRONMENTS {
        let page = FileChange::write("page.txt", format!("page {index}\n"));
        numbers.push(rig.change(&format!("change-{index}"), &[page]).await.0);
    }
    let mut visitors = Vec::new();
    for number in &numbers {
        rig.comment(*number, &["live** with"]).await;
        visitors.push(Visitor::new(&rig, &format!("pr-{number}")).await);
    }
    all_answer(&visitors, 0).await;

    // The disk of the store.
    fill(&state.join("ballast"));
    // The store's journal may have room that it took before: until that is used up, things are still written down.
    let since = Instant::now();
    while rig.run(&["open", "pr-1"]).await.code == 0 {
        assert!(since.elapsed() < Duration::from_secs(240), "the disk does not get full");
    }
    let refused = rig.run(&["create", "--branch", "change-0"]).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(
        refused.err.contains("disk") && refused.err.contains("full") && refused.err.contains("hint: "),
        "{refused:?}"
    );
    let while_full = rig
        .push("change-1", &[FileChange::write("page.txt", "page 1, newer\n")])
        .await;
    all_answer(&visitors, 0).await;
    let exec = rig.ok(&["exec", "pr-1", "web", "cat", "/app/page.txt"]).await;
    assert_eq!(exec, "page 0\n");
    let list = rig.ok(&["list"]).await;
    assert!(
        numbers.iter().all(|number| list.contains(&format!("pr-{number} "))),
        "{list}"
    );
    fs::remove_file(state.join("ballast")).unwrap();
    rig.comment(numbers[1], &[&format!("live** with `{}`\n", while_full.short())])
        .await;
    assert_eq!(visitors[1].get("/page.txt").await, (200, "page 1, newer\n".to_owned()));

    // The pool.
    let ballast = rig.root.join("cells/pool/ballast");
    fill(&ballast);
    rig.push("late", &[FileChange::write("page.txt", "late\n")]).await;
    let late = rig.open("late", "Late").await;
    rig.comment(late, &["starting**", "waits for room, and goes on by itself"])
        .await;
    let told = [
        "waits for room",
        "no room for",
        "the pool is full",
        "give the runtime more",
    ];
    rig.says(&["why", &format!("pr-{late}")], &told).await;
    // Longer than anything that is given up.
    tokio::time::sleep(Duration::from_secs(20)).await;
    rig.comment(late, &["starting**", "waits for room, and goes on by itself"])
        .await;
    all_answer(&visitors, 2).await;
    fs::remove_file(&ballast).unwrap();
    // The file system gives room back only when its transaction is written.
    let synced = Command::new("sync")
        .arg("-f")
        .arg(ballast.parent().unwrap())
        .status()
        .unwrap();
    assert!(synced.success());
    let since = Instant::now();
    let free = || rustix::fs::statvfs(ballast.parent().unwrap()).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    while free() < 256 << 20 {
        assert!(since.elapsed() < Duration::from_secs(240), "{} bytes are free", free());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Nobody has to do anything for it.
    rig.comment(late, &["live** with"]).await;
    let visitor = Visitor::new(&rig, &format!("pr-{late}")).await;
    assert_eq!(visitor.get("/page.txt").await, (200, "late\n".to_owned()));
}
