//! The pool on a file system with full qgroups, as an operator's own may have, and as kernels before 6.7 make them.

use super::*;

#[test]
fn volumes_are_bounded_with_full_quotas_too() {
    let place = TestPlace::new();
    image::image_create(&place.image(), 320 * MB, 0, "operator").unwrap();
    fs::create_dir(place.mountpoint()).unwrap();
    let device = image::loop_attach(&place.image()).unwrap();
    image::mount(&device.path, &place.mountpoint()).unwrap();
    drop(device);
    let directory = place.mountpoint().join("maquette");
    fs::create_dir(&directory).unwrap();

    let config = PoolConfig {
        place: Place::Directory(directory),
        instance: "test".into(),
        watermark_percent: 5,
    };
    let pool = Pool::open(config.clone()).unwrap();
    assert_eq!(pool.quota_kind(), QuotaKind::Full);
    pool.environment_create("golden", None).unwrap();
    let data = pool
        .volume_create("golden", "data", &Origin::Empty(OWNER), 60 * MB)
        .unwrap();
    write(&data.join("table"), 20).unwrap();
    pool.snapshot_create("golden", "data", "g1").unwrap();
    let golden = pool.snapshot_path("g1").unwrap().join("table");
    let before = fs::read(&golden).unwrap();
    pool.environment_create("pr-1", Some(40 * MB)).unwrap();
    assert_eq!(pool.environment_usage("pr-1").unwrap(), None);
    let one = pool
        .volume_create("pr-1", "db", &Origin::Snapshot("g1".into()), 16 * MB)
        .unwrap();
    let two = pool
        .volume_create("pr-1", "more", &Origin::Snapshot("g1".into()), 16 * MB)
        .unwrap();
    write(&one.join("fits"), 8).unwrap();
    assert!(is_full(write(&one.join("bomb"), 20)), "a volume grew past its limit");
    write(&two.join("fits"), 8).unwrap();
    assert!(fs::read(&golden).unwrap() == before);
    let removed = pool.environment_remove("pr-1").unwrap();
    pool.space_reclaim(&removed, PATIENCE).unwrap();
    drop(pool);
    let pool = Pool::open(config).unwrap();
    assert_eq!(files(&pool), ["environments/golden/data", "snapshots/g1/tree"]);
    pool.close().unwrap();
}
