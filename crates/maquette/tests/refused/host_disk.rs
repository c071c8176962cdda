//! A full disk below the pool's image, with ten environments alive.

use crate::rig::{COMPOSE, Rig, SETTINGS, Visitor};
use forge::local::FileChange;
use rustix::{
    fs::{FallocateFlags, fallocate},
    process::{Signal, kill_process},
};
use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tokio::time::sleep;

const ENVIRONMENTS: usize = 10;
/// The image has 1 GiB, and a reserve of 2 GiB stays free when it is made.
const DISK: u64 = 3300 << 20;

/// A file system in a file, mounted where the cell host keeps everything.
struct SmallDisk {
    at: PathBuf,
}

fn run(program: &str, arguments: &[&Path]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program}: {done:?}");
}

impl SmallDisk {
    fn new(file: &Path, at: &Path) -> Self {
        File::create(file).unwrap().set_len(DISK).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), "-m0".as_ref(), file]);
        fs::create_dir_all(at).unwrap();
        run("mount", &["-oloop".as_ref(), file, at]);
        Self { at: at.to_owned() }
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = File::create(self.at.join("ballast")).unwrap();
        let mut length = 0;
        for size in [64 << 20, 1 << 20] {
            while fallocate(&file, FallocateFlags::empty(), length, size).is_ok() {
                length += size;
            }
        }
        file.seek(SeekFrom::Start(length)).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![b'x'; size];
            while file.write_all(&block).is_ok() {}
        }
        let _ = file.sync_all();
        // Names need room, too.
        for n in 0..10_000 {
            if fs::write(self.at.join(format!("ballast-{n}")), "x").is_err() {
                break;
            }
        }
    }

    fn free(&self) {
        for entry in fs::read_dir(&self.at).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("ballast") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        run("sync", &["-f".as_ref(), &self.at]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The rig went first, and with it what used the disk; it may have taken the mount along.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if !mounts.contains(&*self.at.to_string_lossy()) {
            return;
        }
        for _ in 0..50 {
            let done = Command::new("umount").arg(&self.at).output();
            if done.is_ok_and(|done| done.status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn with_database() -> [FileChange; 3] {
    let compose = format!(
        "{COMPOSE}  db:\n    image: postgres:15\n    environment: {{ POSTGRES_USER: shop, POSTGRES_PASSWORD: shop, POSTGRES_DB: shop }}\n    \
         volumes: [\"data:/var/lib/postgresql/data\"]\nvolumes: {{ data: }}\n"
    );
    let settings = "stack:\n  services:\n    web: { host: true, public: true }\n  data:\n    db: { versions: \"13-18\", migrations: db/*.sql }\npolicy: { baseline: none }\n";
    [
        FileChange::write("compose.yaml", compose),
        FileChange::write("maquette.yaml", settings),
        FileChange::write(
            "db/1.sql",
            "CREATE TABLE note (text text);\nINSERT INTO note VALUES ('golden');\n",
        ),
    ]
}

async fn notes(rig: &Rig, label: &str) -> String {
    let psql = ["psql", "-h", "127.0.0.1", "-U", "shop", "-d", "shop", "-tAc"];
    let exec = ["exec", "-e", "PGPASSWORD=shop", label, "db"];
    rig.ok(&[&exec[..], &psql[..], &["SELECT text FROM note ORDER BY text"]].concat())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_below_the_pool_harms_nothing_and_nobody_has_to_mend_it() {
    // Dropped last: the disk goes after what is on it.
    let place = tempfile::tempdir().unwrap();
    let rig = Rig::new(&with_database()).await;
    // Fields and variables are dropped in this order: first what is on the disk, then the disk, then its file.
    let disk = SmallDisk::new(&place.path().join("disk"), &rig.root.join("cells"));
    let mut rig = rig;
    rig.start().await;
    let with_db = rig
        .change("data", &[FileChange::write("page.txt", "page of data\n")])
        .await
        .0;
    let mut visitors = Vec::new();
    let plain = |index: usize| {
        [
            FileChange::write("compose.yaml", COMPOSE),
            FileChange::write("maquette.yaml", SETTINGS),
            FileChange::write("page.txt", format!("page {index}\n")),
        ]
    };
    let mut numbers = Vec::new();
    for index in 0..ENVIRONMENTS - 1 {
        numbers.push(rig.change(&format!("change-{index}"), &plain(index)).await.0);
    }
    for number in &numbers {
        rig.comment(*number, &["live** with"]).await;
        visitors.push(Visitor::new(&rig, &format!("pr-{number}")).await);
    }
    rig.comment(with_db, &["live** with"]).await;
    let label = format!("pr-{with_db}");
    assert_eq!(notes(&rig, &label).await, "golden\n");

    disk.fill();
    // Pages, databases and commands go on: what the image has was taken beforehand.
    for (index, visitor) in visitors.iter().enumerate() {
        assert_eq!(visitor.get("/page.txt").await, (200, format!("page {index}\n")));
    }
    let insert = [
        "exec",
        "-e",
        "PGPASSWORD=shop",
        &label,
        "db",
        "psql",
        "-h",
        "127.0.0.1",
        "-U",
        "shop",
        "-d",
        "shop",
        "-tAc",
    ];
    let many = "INSERT INTO note SELECT 'written ' || n FROM generate_series(1, 50000) n";
    rig.ok(&[&insert[..], &[many]].concat()).await;
    // What dies is started again.
    let id = rig.json(&["show", &format!("pr-{}", numbers[0])]).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    kill_process(rig.process(&id, "http.server"), Signal::KILL).unwrap();
    let since = Instant::now();
    while visitors[0].get("/page.txt").await != (200, "page 0\n".to_owned()) {
        assert!(since.elapsed() < Duration::from_secs(240), "{}", rig.log());
        sleep(Duration::from_millis(100)).await;
    }
    // What is new waits and says so, and a push leaves what is live alone.
    let late = rig.change("late", &plain(99)).await.0;
    rig.comment(late, &["waits for room, and goes on by itself"]).await;
    rig.says(
        &["why", &format!("pr-{late}")],
        &["waits for room", "No space left on device"],
    )
    .await;
    let pushed = rig
        .push("change-1", &[FileChange::write("page.txt", "page 1, newer\n")])
        .await;
    rig.comment(numbers[1], &["waits for room"]).await;
    assert_eq!(visitors[1].get("/page.txt").await, (200, "page 1\n".to_owned()));

    disk.free();
    rig.comment(late, &["live** with"]).await;
    rig.comment(numbers[1], &[&format!("live** with `{}`\n", pushed.short())])
        .await;
    assert_eq!(visitors[1].get("/page.txt").await, (200, "page 1, newer\n".to_owned()));
    for (index, visitor) in visitors.iter().enumerate().skip(2) {
        assert_eq!(visitor.get("/page.txt").await, (200, format!("page {index}\n")));
    }
    let count = [&insert[..], &["SELECT count(*) FROM note"]].concat();
    assert_eq!(rig.ok(&count).await, "50001\n");
    // The golden is as it was made.
    let clone = rig
        .change("data-2", &[FileChange::write("page.txt", "page of data 2\n")])
        .await
        .0;
    rig.comment(clone, &["live** with"]).await;
    assert_eq!(notes(&rig, &format!("pr-{clone}")).await, "golden\n");
}
