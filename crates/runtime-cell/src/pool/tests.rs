//! The pool on real loop devices. These tests need root, a btrfs kernel and about 300 MB each under the temporary directory.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;

use super::*;

mod crash;
mod full;
mod full_quotas;
mod postgres;

const MB: u64 = 1 << 20;
/// For what the kernel does when it gets to it.
const PATIENCE: Duration = Duration::from_secs(120);
const OWNER: Owner = Owner {
    uid: 1000,
    gid: 1000,
    mode: 0o700,
};

/// A place for one pool, cleaned up whatever happens.
struct TestPlace {
    directory: tempfile::TempDir,
}

impl TestPlace {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("pool.img")
    }

    fn mountpoint(&self) -> PathBuf {
        self.directory.path().join("pool")
    }

    fn config(&self) -> PoolConfig {
        let place = Place::Image {
            path: self.image(),
            size: 320 * MB,
            mountpoint: self.mountpoint(),
            reserve: 64 * MB,
        };
        PoolConfig {
            place,
            instance: "test".into(),
            watermark_percent: 10,
        }
    }

    fn open(&self) -> Pool {
        Pool::open(self.config()).unwrap()
    }
}

impl Drop for TestPlace {
    fn drop(&mut self) {
        for _ in 0..4 {
            if rustix::mount::unmount(self.mountpoint(), UnmountFlags::DETACH).is_err() {
                break;
            }
        }
        let begun = Instant::now();
        while image::loop_find(&self.image()).is_ok_and(|found| found.is_some()) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn write(path: &Path, megabytes: usize) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    // Not compressible and not equal, in case that ever matters.
    let mut block = vec![0_u8; 1 << 20];
    for number in 0..megabytes {
        for (at, byte) in block.iter_mut().enumerate() {
            *byte = (at.wrapping_mul(31) >> 3 ^ number.wrapping_mul(97)) as u8;
        }
        file.write_all(&block)?;
    }
    file.sync_all()
}

fn is_full(result: std::io::Result<()>) -> bool {
    match result {
        Ok(()) => false,
        Err(error) => matches!(error.raw_os_error(), Some(libc::EDQUOT | libc::ENOSPC)),
    }
}

fn files(pool: &Pool) -> Vec<String> {
    let inventory = pool.inventory(None).unwrap();
    inventory
        .subvolumes
        .into_iter()
        .map(|subvolume| subvolume.path.display().to_string())
        .collect()
}

#[test]
fn an_image_is_made_found_again_and_given_back() {
    let place = TestPlace::new();
    let pool = place.open();
    let metadata = fs::metadata(place.image()).unwrap();
    assert!(
        metadata.blocks() * 512 >= metadata.len(),
        "the image is sparse: {} blocks",
        metadata.blocks()
    );
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    pool.environment_create("pr-1", None).unwrap();
    let volume = pool
        .volume_create("pr-1", "data", &Origin::Empty(OWNER), 50 * MB)
        .unwrap();
    write(&volume.join("file"), 5).unwrap();
    let device = pool.inventory(None).unwrap().loop_device.unwrap();

    // As after `kill -9`: the process is gone, mount and loop device are not.
    drop(pool);
    let pool = place.open();
    assert_eq!(pool.inventory(None).unwrap().loop_device.unwrap(), device);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(
        mounts
            .lines()
            .filter(|line| line.contains(&format!(" {} ", device.display())))
            .count(),
        1
    );
    assert!(volume.join("file").exists());

    // As after a reboot.
    pool.close().unwrap();
    assert!(
        image::loop_find(&place.image()).unwrap().is_none(),
        "the loop device is still attached"
    );
    assert!(!volume.exists());
    let pool = place.open();
    assert_eq!(fs::metadata(volume.join("file")).unwrap().len(), 5 * MB);
    pool.volume_remove("pr-1", "data").unwrap();
    pool.close().unwrap();
    let metadata = fs::metadata(place.image()).unwrap();
    assert!(
        metadata.blocks() * 512 >= metadata.len(),
        "deleting has punched holes into the image"
    );
}

#[test]
fn a_second_cell_host_and_a_foreign_instance_are_refused() {
    let place = TestPlace::new();
    let pool = place.open();
    assert!(matches!(Pool::open(place.config()), Err(PoolError::Locked { .. })));
    drop(pool);
    let error = Pool::open(PoolConfig {
        instance: "other".into(),
        ..place.config()
    })
    .unwrap_err();
    assert!(error.to_string().contains("belongs to the instance `test`"), "{error}");
    assert!(place.open().close().is_ok());
}

#[test]
fn a_pool_that_the_disk_has_no_room_for_is_refused_and_says_what_is_free() {
    let place = TestPlace::new();
    let mut config = place.config();
    config.place = Place::Image {
        path: place.image(),
        size: 1 << 60,
        mountpoint: place.mountpoint(),
        reserve: 64 * MB,
    };
    let Err(PoolError::NoRoom { needed, free, .. }) = Pool::open(config.clone()) else {
        panic!("not refused")
    };
    assert!(needed > free && free > 0);
    config.place = Place::Image {
        path: place.image(),
        size: 100 * MB,
        mountpoint: place.mountpoint(),
        reserve: 0,
    };
    assert!(matches!(Pool::open(config), Err(PoolError::TooSmall { .. })));
    assert_eq!(
        fs::read_dir(place.directory.path()).unwrap().count(),
        0,
        "something was left behind"
    );
}

#[test]
fn a_file_that_is_no_pool_is_never_formatted() {
    let place = TestPlace::new();
    fs::write(place.image(), vec![7; 2 << 20]).unwrap();
    assert!(matches!(Pool::open(place.config()), Err(PoolError::Foreign { .. })));
    assert!(fs::read(place.image()).unwrap().iter().all(|byte| *byte == 7));
}

#[test]
fn an_interrupted_creation_is_begun_again() {
    let place = TestPlace::new();
    let mut unfinished = place.image().into_os_string();
    unfinished.push(".unfinished-1");
    fs::write(&unfinished, b"half").unwrap();
    place.open().close().unwrap();
    assert!(!Path::new(&unfinished).exists());
}

#[test]
fn an_image_grows_while_it_is_in_use() {
    let place = TestPlace::new();
    let pool = place.open();
    let before = pool.usage().unwrap();
    pool.grow(400 * MB).unwrap();
    pool.grow(400 * MB).unwrap();
    let after = pool.usage().unwrap();
    assert_eq!(after.total - before.total, 80 * MB);
    let metadata = fs::metadata(place.image()).unwrap();
    assert!(metadata.blocks() * 512 >= 400 * MB);
    assert!(matches!(pool.grow(300 * MB), Err(PoolError::Shrink { .. })));
    assert!(pool.admit(100 * MB).is_ok());
    assert!(matches!(pool.admit(380 * MB), Err(PoolError::Full { .. })));
    pool.close().unwrap();
}

#[test]
fn a_source_is_filled_sealed_and_cloned() {
    let place = TestPlace::new();
    let pool = place.open();
    let path = pool.source_begin("abc", 1234, 1234).unwrap();
    assert!(!pool.source_exists("abc").unwrap());
    fs::write(path.join("main.py"), "print(1)").unwrap();
    std::os::unix::fs::chown(path.join("main.py"), Some(1234), Some(1234)).unwrap();
    pool.source_seal("abc").unwrap();
    pool.source_seal("abc").unwrap();
    assert_eq!(pool.source_list().unwrap(), ["abc"]);
    let sealed = pool.source_path("abc").unwrap();
    assert!(
        fs::write(sealed.join("main.py"), "changed").is_err(),
        "a sealed source could be written"
    );

    pool.environment_create("pr-1", None).unwrap();
    let origin = Origin::Source("abc".into());
    let volume = pool.volume_create("pr-1", "web", &origin, 10 * MB).unwrap();
    fs::write(volume.join("main.py"), "print(2)").unwrap();
    assert_eq!(pool.volume_create("pr-1", "web", &origin, 20 * MB).unwrap(), volume);
    assert_eq!(
        fs::read_to_string(volume.join("main.py")).unwrap(),
        "print(2)",
        "repeating lost what was written"
    );
    assert_eq!(fs::read_to_string(sealed.join("main.py")).unwrap(), "print(1)");
    assert_eq!(fs::metadata(volume.join("main.py")).unwrap().uid(), 1234);
    pool.source_remove("abc").unwrap();
    pool.source_remove("abc").unwrap();
    assert!(volume.join("main.py").exists());
    assert!(matches!(
        pool.volume_create("pr-2", "web", &origin, MB),
        Err(PoolError::Missing { .. })
    ));
    let error = pool
        .volume_create("pr-1", "web", &Origin::Empty(OWNER), MB)
        .unwrap_err();
    assert!(error.to_string().contains("made from source abc"), "{error}");
    pool.close().unwrap();
}

#[test]
fn what_does_not_belong_into_a_source_is_refused_by_name() {
    let place = TestPlace::new();
    let pool = place.open();
    let refused = |prepare: &dyn Fn(&Path)| {
        let path = pool.source_begin("bad", 0, 0).unwrap();
        fs::create_dir(path.join("deep")).unwrap();
        prepare(&path.join("deep/x"));
        match pool.source_seal("bad") {
            Err(PoolError::SourceRefused { path, .. }) => assert_eq!(path, Path::new("deep/x")),
            other => panic!("{other:?}"),
        }
        assert!(!pool.source_exists("bad").unwrap());
    };
    refused(&|path| {
        fs::write(path, "#!/bin/sh").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap();
    });
    refused(&|path| {
        fs::write(path, "").unwrap();
        std::os::unix::fs::chown(path, Some(5), None).unwrap();
    });
    refused(&|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()));
    refused(&|path| {
        let parent = subvolume::open(path.parent().unwrap()).unwrap();
        ioctl::subvolume_create(parent.as_fd(), "x", None).unwrap();
    });
    // A link may point anywhere: it is resolved inside of a sandbox only.
    let path = pool.source_begin("good", 0, 0).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", path.join("link")).unwrap();
    pool.source_seal("good").unwrap();
    assert!(pool.source_begin("../x", 0, 0).is_err());
    pool.close().unwrap();
}

#[test]
fn a_full_volume_hurts_nobody_else_and_a_golden_stays_as_it_is() {
    let place = TestPlace::new();
    let pool = place.open();
    pool.environment_create("golden", None).unwrap();
    let data = pool
        .volume_create("golden", "data", &Origin::Empty(OWNER), 60 * MB)
        .unwrap();
    write(&data.join("table"), 20).unwrap();
    pool.snapshot_create("golden", "data", "g1").unwrap();
    let golden = pool.snapshot_path("g1").unwrap().join("table");
    let before = fs::read(&golden).unwrap();

    for name in ["pr-1", "pr-2"] {
        pool.environment_create(name, Some(40 * MB)).unwrap();
        pool.volume_create(name, "db", &Origin::Snapshot("g1".into()), 16 * MB)
            .unwrap();
    }
    let (one, two) = (
        pool.volume_path("pr-1", "db").unwrap(),
        pool.volume_path("pr-2", "db").unwrap(),
    );
    assert!(is_full(write(&one.join("bomb"), 30)), "a volume grew past its limit");
    assert!(
        is_full(write(&one.join("table"), 25)),
        "overwriting the clone went past its limit"
    );
    write(&two.join("more"), 8).unwrap();
    write(&data.join("more"), 8).unwrap();
    assert!(fs::write(&golden, "x").is_err());
    assert!(fs::read(&golden).unwrap() == before, "the golden has changed");
    // Deleting makes room again.
    fs::remove_file(one.join("bomb")).unwrap();
    // A process that another test is just starting holds copies of all open files until its exec.
    let begun = Instant::now();
    loop {
        pool.space_reclaim(&[], PATIENCE).unwrap();
        let again = write(&one.join("small"), 4);
        if again.is_ok() {
            break;
        }
        assert!(is_full(again) && begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    pool.close().unwrap();
}

#[test]
fn an_environment_has_a_total_also_over_nested_subvolumes() {
    let place = TestPlace::new();
    let pool = place.open();
    if pool.quota_kind() == QuotaKind::Full {
        return;
    }
    pool.environment_create("pr-1", Some(24 * MB)).unwrap();
    let origin = Origin::Empty(OWNER);
    let one = pool.volume_create("pr-1", "one", &origin, 16 * MB).unwrap();
    let two = pool.volume_create("pr-1", "two", &origin, 16 * MB).unwrap();
    write(&one.join("x"), 12).unwrap();
    let parent = subvolume::open(&two).unwrap();
    ioctl::subvolume_create(parent.as_fd(), "nested", None).unwrap();
    drop(parent);
    assert!(
        is_full(write(&two.join("nested/x"), 20)),
        "a nested subvolume escapes the total"
    );
    assert!(pool.environment_usage("pr-1").unwrap().unwrap() <= 24 * MB);
    // More room on request, at once.
    pool.environment_create("pr-1", Some(60 * MB)).unwrap();
    write(&two.join("y"), 12).unwrap();
    pool.close().unwrap();
}

#[test]
fn an_environment_goes_with_all_that_is_nested_in_it_and_its_space_returns() {
    let place = TestPlace::new();
    let pool = place.open();
    let free = pool.usage().unwrap().free;
    pool.environment_create("pr-1", Some(200 * MB)).unwrap();
    let volume = pool
        .volume_create("pr-1", "db", &Origin::Empty(OWNER), 200 * MB)
        .unwrap();
    write(&volume.join("x"), 60).unwrap();
    let parent = subvolume::open(&volume).unwrap();
    ioctl::subvolume_create(parent.as_fd(), "nested", None).unwrap();
    fs::create_dir(volume.join("nested/dir")).unwrap();
    let deeper = subvolume::open(&volume.join("nested/dir")).unwrap();
    ioctl::snapshot_create(parent.as_fd(), deeper.as_fd(), "read-only", true, None).unwrap();
    drop((parent, deeper));
    pool.snapshot_create("pr-1", "db", "kept").unwrap();

    let removed = pool.environment_remove("pr-1").unwrap();
    assert_eq!(removed.len(), 3);
    assert!(pool.environment_remove("pr-1").unwrap().is_empty());
    pool.space_reclaim(&removed, PATIENCE).unwrap();
    let inventory = pool.inventory(None).unwrap();
    assert!(inventory.groups.is_empty(), "{inventory:?}");
    assert_eq!(files(&pool), ["snapshots/kept/tree"]);
    assert_eq!(
        fs::metadata(pool.snapshot_path("kept").unwrap().join("x"))
            .unwrap()
            .len(),
        60 * MB
    );

    let removed = pool.snapshot_remove("kept").unwrap();
    pool.space_reclaim(&removed, PATIENCE).unwrap();
    let begun = Instant::now();
    while pool.usage().unwrap().free + 4 * MB < free {
        assert!(begun.elapsed() < PATIENCE, "{:?}, before {free}", pool.usage());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(pool);
    let pool = place.open();
    let inventory = pool.inventory(None).unwrap();
    assert!(
        inventory.subvolumes.is_empty() && inventory.leftover_groups.is_empty(),
        "{inventory:?}"
    );
    pool.close().unwrap();
}

#[test]
fn a_full_volume_with_a_deep_nest_in_it_goes_as_well() {
    let place = TestPlace::new();
    let pool = place.open();
    pool.environment_create("pr-1", Some(24 * MB)).unwrap();
    let origin = Origin::Empty(OWNER);
    let volume = pool.volume_create("pr-1", "db", &origin, 16 * MB).unwrap();
    let mut inner = subvolume::open(&volume).unwrap();
    for _ in 0..80 {
        ioctl::subvolume_create(inner.as_fd(), "n", None).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        inner = File::from(rustix::fs::openat(&inner, "n", flags, rustix::fs::Mode::empty()).unwrap());
    }
    drop(inner);
    assert!(is_full(write(&volume.join("x"), 30)));
    assert_eq!(pool.environment_remove("pr-1").unwrap().len(), 81);
    assert!(pool.inventory(None).unwrap().subvolumes.is_empty());
    pool.close().unwrap();
}

#[test]
fn what_a_crash_left_half_made_is_swept() {
    let place = TestPlace::new();
    let pool = place.open();
    pool.environment_create("pr-1", Some(50 * MB)).unwrap();
    pool.volume_create("pr-1", "db", &Origin::Empty(OWNER), MB).unwrap();
    // Every state that a crash in the middle can leave, made by hand.
    pool.source_begin("abc", 0, 0).unwrap();
    let directory = subvolume::open(&place.mountpoint().join("environments/pr-1")).unwrap();
    ioctl::subvolume_create(directory.as_fd(), ".tmp-cache", None).unwrap();
    fs::create_dir(place.mountpoint().join("snapshots/g1")).unwrap();
    fs::create_dir(place.mountpoint().join("environments/pr-2")).unwrap();
    if pool.quota_kind() == QuotaKind::Simple {
        ioctl::qgroup_create(pool.fd(), quota::group_id(999_999), true).unwrap();
    }
    drop((pool, directory));
    let pool = place.open();
    assert_eq!(files(&pool), ["environments/pr-1/db"]);
    assert!(pool.snapshot_list().unwrap().is_empty());
    assert!(!quota::list(pool.fd()).unwrap().contains_key(&quota::group_id(999_999)));
    // An environment of which only the place was made works on, and goes.
    pool.environment_create("pr-2", Some(50 * MB)).unwrap();
    assert_eq!(pool.environment_list().unwrap(), ["pr-1", "pr-2"]);
    pool.environment_remove("pr-2").unwrap();
    pool.close().unwrap();
}

#[test]
fn a_snapshot_knows_its_last_use() {
    let place = TestPlace::new();
    let pool = place.open();
    pool.environment_create("pr-1", None).unwrap();
    pool.volume_create("pr-1", "db", &Origin::Empty(OWNER), MB).unwrap();
    pool.snapshot_create("pr-1", "db", "g1").unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    subvolume::open(&place.mountpoint().join("snapshots/g1"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    assert!(pool.snapshot_list().unwrap()[0].last_used < old + Duration::from_secs(1));
    pool.volume_create("pr-1", "db-2", &Origin::Snapshot("g1".into()), MB)
        .unwrap();
    assert!(pool.snapshot_list().unwrap()[0].last_used > old + Duration::from_secs(3000));
    assert_eq!(pool.volume_list("pr-1").unwrap(), ["db", "db-2"]);
    pool.close().unwrap();
}

#[test]
fn a_directory_of_the_operators_file_system_is_a_pool_too() {
    // The file system of another pool stands for the operator's; its quotas are on already.
    let place = TestPlace::new();
    let host = place.open();
    let directory = place.mountpoint().join("maquette");
    fs::create_dir(&directory).unwrap();
    let config = PoolConfig {
        place: Place::Directory(directory.clone()),
        instance: "test".into(),
        watermark_percent: 5,
    };
    let pool = Pool::open(config.clone()).unwrap();
    pool.environment_create("pr-1", Some(24 * MB)).unwrap();
    let volume = pool.volume_create("pr-1", "db", &Origin::Empty(OWNER), 8 * MB).unwrap();
    assert!(is_full(write(&volume.join("bomb"), 20)));
    assert!(matches!(pool.grow(MB), Err(PoolError::NotAnImage { .. })));
    pool.close().unwrap();
    let pool = Pool::open(config).unwrap();
    assert!(volume.join("bomb").exists());
    pool.environment_remove("pr-1").unwrap();
    pool.close().unwrap();
    let elsewhere = PoolConfig {
        place: Place::Directory(place.directory.path().to_owned()),
        instance: "test".into(),
        watermark_percent: 5,
    };
    if check_is_btrfs(place.directory.path()).is_err() {
        assert!(matches!(Pool::open(elsewhere), Err(PoolError::Foreign { .. })));
    }
    fs::remove_dir_all(&directory).unwrap();
    host.close().unwrap();
}

#[test]
fn a_crash_of_the_machine_makes_volumes_suspect_until_somebody_has_dealt_with_it() {
    let place = TestPlace::new();
    let pool = place.open();
    assert!(!pool.volumes_suspect().unwrap());
    drop(pool);
    // As it would be found after the machine has lost its power in an earlier boot.
    let state = place.mountpoint().join("state.json");
    fs::write(&state, r#"{"boot_id":"earlier","orderly":false,"suspect":false}"#).unwrap();
    let pool = place.open();
    assert!(pool.volumes_suspect().unwrap());
    pool.close().unwrap();
    let pool = place.open();
    assert!(pool.volumes_suspect().unwrap(), "a restart made it forget");
    pool.suspect_clear().unwrap();
    pool.close().unwrap();
    let pool = place.open();
    assert!(!pool.volumes_suspect().unwrap());
    // Still in use: neither closed nor marked.
    let file = fs::File::open(place.mountpoint().join("pool.json")).unwrap();
    assert!(matches!(pool.close(), Err(PoolError::Busy { .. })));
    assert!(fs::read_to_string(&state).unwrap().contains("\"orderly\":false"));
    drop(file);
}
