//! The doctor's judgement of hosts that differ from this one, and a look at this one that leaves nothing behind.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::engine::{EngineKind, HostEngines};
use crate::pool::Place;

fn config(directory: &Path) -> PoolConfig {
    let place = Place::Image {
        path: directory.join("pool.img"),
        size: 1 << 30,
        mountpoint: directory.join("pool"),
        reserve: 1 << 30,
    };
    PoolConfig {
        place,
        instance: "test".into(),
        watermark_percent: 10,
    }
}

#[test]
fn every_finding_explains_itself_and_nothing_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let findings = examine(&config(directory.path()), None);
    assert!(findings.len() > 12);
    for finding in &findings {
        assert!(!finding.meaning.is_empty(), "{finding:?}");
        println!("{finding:?}");
    }
    let names: BTreeSet<&str> = findings.iter().map(|finding| finding.check.as_str()).collect();
    assert_eq!(names.len(), findings.len(), "two findings have the same name");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(directory.path().to_str().unwrap()));
    let json = serde_json::to_string(&findings).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Finding>>(&json).unwrap(), findings);
}

#[test]
fn a_pool_too_large_for_the_disk_fails() {
    let directory = tempfile::tempdir().unwrap();
    let mut pool = config(directory.path());
    if let Place::Image { size, .. } = &mut pool.place {
        *size = 1 << 60;
    }
    let findings = examine(&pool, None);
    let room = findings
        .iter()
        .find(|finding| finding.check == "room for the pool")
        .unwrap();
    assert_eq!(room.status, Status::Fail);
    assert_eq!(worst(&findings), Status::Fail);
}

#[test]
fn a_sparse_image_fails_and_the_command_allocates_it() {
    let finding = storage::judge_image(
        Path::new("/var/lib/maquette/pool.img"),
        8 << 30,
        1 << 30,
        100 << 30,
        1 << 30,
    );
    assert_eq!(finding.status, Status::Fail);
    assert_eq!(
        finding.mend.unwrap(),
        "fallocate --length 8589934592 /var/lib/maquette/pool.img"
    );
    let finding = storage::judge_image(Path::new("/p"), 8 << 30, 8 << 30, 0, 1 << 30);
    assert_eq!(finding.status, Status::Warn);
}

#[test]
fn hosts_are_judged() {
    assert_eq!(
        kernel::judge_controllers(2, &["cpu", "memory", "pids", "io"]).status,
        Status::Ok
    );
    assert_eq!(
        kernel::judge_controllers(1, &["cpu", "memory", "pids", "freezer"]).status,
        Status::Warn
    );
    let finding = kernel::judge_controllers(2, &["cpu", "pids"]);
    assert_eq!(finding.status, Status::Fail);
    assert!(finding.meaning.contains("memory"), "{finding:?}");
    assert_eq!(kernel::judge_inotify(128, 192_536).status, Status::Warn);
    assert_eq!(kernel::judge_inotify(8192, 524_288).status, Status::Ok);
    let finding = programs::judge_engine(EngineKind::Rabbitmq, &HostEngines::default());
    assert_eq!(
        (finding.status, finding.mend.as_deref()),
        (Status::Warn, Some("apt install rabbitmq-server"))
    );
}

#[test]
fn the_runtime_that_will_be_used_is_named_with_what_the_other_would_cost() {
    use crate::host::OciKind::{Crun, Runc};
    let took = |ms| Ok(std::time::Duration::from_millis(ms));
    let both = [(Crun, took(14)), (Runc, took(45))];
    let finding = oci::judge(None, &both);
    assert_eq!(finding.status, Status::Ok);
    assert!(finding.meaning.contains("crun") && finding.meaning.contains("14 ms") && finding.meaning.contains("runc"));
    assert!(finding.meaning.contains("45 ms"), "{}", finding.meaning);

    let finding = oci::judge(Some(Runc), &both);
    assert_eq!(finding.status, Status::Ok, "the operator has decided");
    assert!(finding.meaning.starts_with("runc"), "{}", finding.meaning);
    assert!(finding.meaning.contains("crun") && finding.meaning.contains("14 ms"));

    let finding = oci::judge(None, &[(Runc, took(45))]);
    assert_eq!(finding.status, Status::Warn);
    assert_eq!(finding.mend.as_deref(), Some("apt install crun"));

    let finding = oci::judge(None, &[(Crun, Err("it runs as it likes".into())), (Runc, took(45))]);
    assert_eq!(finding.status, Status::Warn);
    assert!(finding.meaning.contains("it runs as it likes"), "the reason is told");

    let finding = oci::judge(Some(Crun), &[(Runc, took(45))]);
    assert_eq!(finding.status, Status::Fail, "what the operator wants is not there");
    assert_eq!(oci::judge(None, &[]).status, Status::Fail);
}
