//! What an image could try against the machine and against others.

use crate::{
    rig::Packed,
    support::{Rig, exec, ready, spec, up},
};
use model::Generation;
use runtime::Runtime as _;
use test_support::image::Entry;

#[tokio::test]
async fn an_image_gets_no_device_no_mount_and_no_rights_by_a_set_uid_file() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let packed = Packed::with(&[
        Entry::device("dev/kmsg-too"),
        Entry::program("opt/rooted/id", std::fs::read("/usr/bin/busybox").unwrap()).mode(0o4755),
        Entry::symlink("escape", "/../../../../../../etc"),
        Entry::symlink("etc/resolv.conf", "/../../../run/nowhere/resolv.conf"),
    ]);
    let environment = rig.environment();
    packed.put(&runtime, &environment).await.unwrap();
    let mut app = packed.service(&["sleep", "1000"], &[]);
    let root = app.clone();
    app.workload.options.user = Some("1000".into());
    let made = spec(environment.clone(), &[("app", app), ("root", root)]);
    up(&runtime, &made).await;
    ready(&runtime, &environment, "app").await;
    ready(&runtime, &environment, "root").await;
    let run = |service: &'static str, line: &'static str| {
        let (runtime, environment) = (&runtime, &environment);
        async move { exec(runtime, environment, service, &["sh", "-c", line]).await }
    };
    let (_, id) = run("app", "/opt/rooted/id -u").await;
    assert_eq!(id.trim(), "1000", "the set-user-id bit has no effect");
    for (line, why) in [
        ("mknod /tmp/d b 8 0", "a block device"),
        ("mknod /tmp/d c 1 1", "the machine's memory"),
        ("mount -t tmpfs none /mnt", "a mount"),
        ("mount -o remount,rw /proc/sys", "the kernel's settings"),
        ("echo 1 > /proc/sysrq-trigger", "the kernel's keys"),
        ("echo x > /sys/kernel/uevent_helper", "a helper of the kernel"),
        ("ls /escape/maquette-canary", "a link that climbs"),
        ("cat /etc/shadow", "the machine's passwords"),
        ("chown 70000 /tmp", "an id that is nobody's here"),
    ] {
        let (status, said) = run("root", line).await;
        assert_ne!(status, Some(0), "{why}: {said}");
    }
    let (_, status) = run("root", "cat /proc/self/status; cat /proc/self/uid_map").await;
    for capability in [21, 16, 27, 13, 12, 19] {
        let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
        let bits = u64::from_str_radix(bits, 16).unwrap();
        assert_eq!(bits & (1 << capability), 0, "capability {capability} in {bits:x}");
    }
    let (_, devices) = run("root", "ls /dev").await;
    assert!(!devices.contains("kmsg"), "{devices}");
    runtime.remove(&environment, Generation(1)).await.unwrap();
}

#[tokio::test]
async fn layers_that_are_no_image_are_refused_by_name_and_leave_nothing() {
    use test_support::image::layer;
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let environment = rig.environment();
    let outside = tempfile::tempdir().unwrap();
    let target = format!("../../../../..{}/x", outside.path().display());
    let bomb = layer(&[Entry::file("big", vec![0; 300 << 20])]).unwrap();
    for (what, bytes, says) in [
        (
            "a path that climbs",
            layer(&[Entry::file(&target, "x")]).unwrap(),
            "can not be in an image",
        ),
        (
            "an owner beyond",
            layer(&[Entry::file("x", "x").owned(70_000, 0)]).unwrap(),
            "belongs to user 70000",
        ),
        ("no archive", vec![7; 4096], "can not be read"),
        ("more than is allowed", bomb, "larger than"),
    ] {
        let packed = Packed::of(&[bytes]);
        let error = packed.put(&runtime, &environment).await.unwrap_err();
        assert!(error.to_string().contains(says), "{what}: {error}");
        assert!(!error.is_transient(), "{what}: {error:?}");
        assert_eq!(crate::rig::in_pool(&rig), Vec::<String>::new(), "{what}");
    }
    // Through links of its own a layer comes back to its own root.
    let linked = Packed::of(&[
        layer(&[Entry::symlink("out", &outside.path().display().to_string())]).unwrap(),
        layer(&[Entry::file("out/x", "x")]).unwrap(),
    ]);
    let _ = linked.put(&runtime, &environment).await;
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}
