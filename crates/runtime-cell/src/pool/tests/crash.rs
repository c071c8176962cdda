//! A process that works on the pool is killed at many moments; whoever opens the pool next finds it whole.

use std::process::{Command, Stdio};

use super::*;

const VARIABLE: &str = "MAQUETTE_TEST_POOL_WORKER";
const KILLS: u64 = 14;

fn place_of(directory: &Path) -> PoolConfig {
    let place = Place::Image {
        path: directory.join("pool.img"),
        size: 320 * MB,
        mountpoint: directory.join("pool"),
        reserve: 64 * MB,
    };
    PoolConfig {
        place,
        instance: "test".into(),
        watermark_percent: 10,
    }
}

/// Not a test of its own: the process that the test below kills.
#[test]
fn worker() {
    let Ok(directory) = std::env::var(VARIABLE) else { return };
    let pool = Pool::open(place_of(Path::new(&directory))).unwrap();
    loop {
        cycle(&pool).unwrap();
    }
}

/// Every operation that changes something, in an order that a life has.
fn cycle(pool: &Pool) -> Result<(), PoolError> {
    let source = pool.source_begin("abc", 0, 0)?;
    fs::write(source.join("main"), "complete").unwrap();
    pool.source_seal("abc")?;
    pool.environment_create("golden", Some(60 * MB))?;
    let data = pool.volume_create("golden", "data", &Origin::Empty(OWNER), 40 * MB)?;
    fs::write(data.join("table"), "complete").unwrap();
    pool.snapshot_create("golden", "data", "g1")?;
    pool.environment_remove("golden")?;
    pool.environment_create("pr-1", Some(60 * MB))?;
    pool.volume_create("pr-1", "web", &Origin::Source("abc".into()), 10 * MB)?;
    pool.volume_create("pr-1", "db", &Origin::Snapshot("g1".into()), 10 * MB)?;
    pool.volume_remove("pr-1", "db")?;
    pool.volume_create("pr-1", "db", &Origin::Snapshot("g1".into()), 10 * MB)?;
    pool.environment_remove("pr-1")?;
    pool.snapshot_remove("g1")?;
    pool.source_remove("abc").map(drop)
}

fn check(pool: &Pool, round: u64) {
    let inventory = pool.inventory(None).unwrap();
    for found in &inventory.subvolumes {
        let path = found.path.display().to_string();
        assert!(!path.contains(TEMPORARY), "round {round}: {path} was not swept");
        let content = |name: &str| fs::read_to_string(pool.root().join(&found.path).join(name)).unwrap();
        if path.starts_with(SOURCES) {
            assert!(
                found.read_only && content("main") == "complete",
                "round {round}: {found:?}"
            );
        } else if path.starts_with(SNAPSHOTS) {
            assert!(
                found.read_only && content("table") == "complete",
                "round {round}: {found:?}"
            );
        } else {
            assert!(!found.read_only && found.limit.is_some(), "round {round}: {found:?}");
        }
    }
    if pool.quota_kind() == QuotaKind::Simple {
        let groups: Vec<_> = quota::list(pool.fd())
            .unwrap()
            .into_values()
            .filter(|group| group.level() == 1)
            .map(|group| group.id)
            .collect();
        let known: Vec<_> = inventory.groups.values().map(|group| group.id).collect();
        assert!(
            groups.iter().all(|group| known.contains(group)),
            "round {round}: {groups:?} {known:?}"
        );
    }
}

#[test]
fn killed_at_any_moment_the_pool_is_whole_for_the_next() {
    let place = TestPlace::new();
    for round in 0..KILLS {
        let mut worker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pool::tests::crash::worker", "--nocapture"])
            .env(VARIABLE, place.directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The first rounds hit the making of the image, the later ones the work. 37 spreads the moments.
        std::thread::sleep(Duration::from_millis(15 + round * 37 % 211));
        assert!(
            worker.try_wait().unwrap().is_none(),
            "round {round}: the worker has failed by itself"
        );
        worker.kill().unwrap();
        worker.wait().unwrap();
        let pool = Pool::open(place_of(place.directory.path())).unwrap();
        check(&pool, round);
        // And the work goes on from whatever was left.
        cycle(&pool).unwrap();
        if round % 3 == 0 {
            pool.close().unwrap();
        }
    }
    let pool = place.open();
    let inventory = pool.inventory(None).unwrap();
    assert!(inventory.subvolumes.is_empty(), "{inventory:?}");
    pool.close().unwrap();
    assert!(image::loop_find(&place.image()).unwrap().is_none());
    let left: Vec<_> = fs::read_dir(place.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.iter().all(|name| name == "pool.img" || name == "pool"), "{left:?}");
}
