//! Full disks: that of the pool itself, and the host's below it.

use rustix::mount::MountFlags;

use super::*;

#[test]
fn a_pool_that_is_full_to_the_last_byte_recovers_when_an_environment_goes() {
    let place = TestPlace::new();
    let pool = place.open();
    pool.environment_create("golden", None).unwrap();
    let data = pool
        .volume_create("golden", "data", &Origin::Empty(OWNER), 60 * MB)
        .unwrap();
    write(&data.join("table"), 10).unwrap();
    pool.snapshot_create("golden", "data", "g1").unwrap();
    let golden = pool.snapshot_path("g1").unwrap().join("table");
    let before = fs::read(&golden).unwrap();

    pool.environment_create("pr-1", None).unwrap();
    let bomb = pool
        .volume_create("pr-1", "db", &Origin::Snapshot("g1".into()), 1 << 40)
        .unwrap();
    assert!(
        is_full(write(&bomb.join("bomb"), 400)),
        "more than the pool has went into it"
    );
    assert!(
        matches!(pool.admit(0), Err(PoolError::Full { .. })),
        "{:?}",
        pool.usage()
    );
    assert!(fs::read(&golden).unwrap() == before, "the golden has changed");

    let removed = pool.environment_remove("pr-1").unwrap();
    pool.space_reclaim(&removed, PATIENCE).unwrap();
    pool.admit(0).unwrap();
    pool.environment_create("pr-2", None).unwrap();
    let next = pool
        .volume_create("pr-2", "db", &Origin::Snapshot("g1".into()), 50 * MB)
        .unwrap();
    write(&next.join("more"), 30).unwrap();
    assert!(fs::read(&golden).unwrap() == before, "the golden has changed");
    pool.close().unwrap();
}

/// A small file system of its own that stands for the host's disk, and the place of the pool in it.
struct Disk(PathBuf, PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.1, UnmountFlags::DETACH);
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_of_the_host_does_not_reach_the_pool() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).unwrap();
    rustix::mount::mount("maquette-test", &disk, "tmpfs", MountFlags::empty(), Some(c"size=300m")).unwrap();
    let disk = Disk(disk, directory.path().join("pool"));
    let place = Place::Image {
        path: disk.0.join("pool.img"),
        size: 260 * MB,
        mountpoint: disk.1.clone(),
        reserve: 0,
    };
    let pool = Pool::open(PoolConfig {
        place,
        instance: "test".into(),
        watermark_percent: 5,
    })
    .unwrap();
    assert!(
        is_full(write(&disk.0.join("other"), 100)),
        "the host's disk is not full"
    );
    pool.environment_create("pr-1", None).unwrap();
    let volume = pool
        .volume_create("pr-1", "db", &Origin::Empty(OWNER), 200 * MB)
        .unwrap();
    write(&volume.join("x"), 120).unwrap();
    assert_eq!(fs::metadata(volume.join("x")).unwrap().len(), 120 * MB);
    assert!(matches!(pool.grow(400 * MB), Err(PoolError::NoRoom { .. })));
    fs::remove_file(volume.join("x")).unwrap();
    write(&volume.join("again"), 120).unwrap();
    pool.close().unwrap();
}
