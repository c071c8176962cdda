//! What goes wrong around a container is made good by the next start of it, and concerns no other one.

use crate::{
    SERVER, kill, processes,
    support::{PATIENCE, Rig, exec, ready, service, spec, state, up},
};
use model::{Generation, Mount, MountKind, Power, Restart, ServiceState, Stack, Volume, VolumeOrigin};
use runtime::Runtime as _;
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_start_left_does_not_keep_the_next_one_from_starting() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let mut web = service(&["python3", "-c", "import time; time.sleep(0.2); exit(3)"], &[]);
    web.restart = Restart::Always;
    let made = spec(rig.environment(), &[("web", web)]);
    let id = &made.environment;
    up(&runtime, &made).await;
    let fact = state(&runtime, id, "web", |s| matches!(s, ServiceState::BackingOff { .. })).await;
    // What a start leaves that was cut after the container was created: its name is taken.
    let cell = rig.run_dir().join("cells").join(id.as_str());
    for runtime in ["crun", "runc"]
        .map(|name| cell.join(name))
        .iter()
        .filter(|path| path.is_dir())
    {
        fs::create_dir_all(runtime.join(format!("{}-{id}-s-web", rig.instance))).unwrap();
    }
    let since = Instant::now();
    loop {
        let now = state(&runtime, id, "web", |s| matches!(s, ServiceState::BackingOff { .. })).await;
        if now.restarts > fact.restarts + 1 {
            assert_eq!(now.message.as_deref(), Some("ended with status 3"));
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{now:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    runtime.remove(id, Generation(1)).await.unwrap();
    assert_eq!(runtime.inventory(None).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_in_a_frozen_environment_wakes_nothing_else() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let services = [
        ("web", service(&["python3", "-c", SERVER], &[8000])),
        ("other", service(&["sleep", "1000"], &[])),
    ];
    let made = spec(rig.environment(), &services);
    let id = &made.environment;
    up(&runtime, &made).await;
    ready(&runtime, id, "web").await;
    runtime.power(id, Generation(1), Power::Frozen).await.unwrap();
    assert!(is_frozen(&rig, id.as_str()));
    for monitor in processes(&format!("{}-{id}-s-other", rig.instance)) {
        kill(monitor);
    }
    state(&runtime, id, "other", |s| matches!(s, ServiceState::Exited { .. })).await;
    assert!(is_frozen(&rig, id.as_str()));
    runtime.power(id, Generation(1), Power::Running).await.unwrap();
    assert_eq!(exec(&runtime, id, "web", &["true"]).await.0, Some(0));
    runtime.remove(id, Generation(1)).await.unwrap();
}

/// As the kernel says it.
fn is_frozen(rig: &Rig, id: &str) -> bool {
    let group = format!("maquette-{}/{id}", rig.instance);
    let says =
        |path: String, word: &str| fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line == word));
    says(format!("/sys/fs/cgroup/freezer/{group}/freezer.state"), "FROZEN")
        || says(format!("/sys/fs/cgroup/{group}/cgroup.events"), "frozen 1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_the_next_host_can_not_find_is_made_anew() {
    let mut rig = Rig::start();
    let runtime = rig.runtime().await;
    let made = spec(
        rig.environment(),
        &[("web", service(&["python3", "-c", SERVER], &[8000]))],
    );
    let id = &made.environment;
    up(&runtime, &made).await;
    ready(&runtime, id, "web").await;
    rig.kill_host();
    let file = rig
        .run_dir()
        .join("cells")
        .join(id.as_str())
        .join("s-web/container.pid");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    rig.start_host();
    let runtime = rig.runtime().await;
    let fact = state(&runtime, id, "web", |s| matches!(s, ServiceState::Exited { .. })).await;
    assert!(fact.message.is_some_and(|text| text.contains("not found again")));
    up(&runtime, &made).await;
    ready(&runtime, id, "web").await;
    runtime.remove(id, Generation(1)).await.unwrap();
    assert_eq!(runtime.inventory(None).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_ran_when_the_power_went_is_told_to_be_damaged_and_not_after_an_orderly_reboot() {
    for orderly in [false, true] {
        let mut rig = Rig::start();
        let runtime = rig.runtime().await;
        let mut made = with_data(&rig);
        let id = &made.environment;
        up(&runtime, &made).await;
        ready(&runtime, id, "db").await;
        rig.kill_host();
        // As the next boot finds what an engine with an administrator left.
        let file = rig
            .directory
            .join("state/environments")
            .join(id.as_str())
            .join("record.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        record["boot"] = "earlier".into();
        record["units"]["s-db"]["manner"]["administration"] = ".s.PGSQL.5432".into();
        fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
        let state_of_pool = format!(r#"{{"boot_id":"earlier","orderly":{orderly},"suspect":false}}"#);
        fs::write(rig.directory.join("pool/state.json"), state_of_pool).unwrap();
        for _ in 0..2 {
            rig.start_host();
            let runtime = rig.runtime().await;
            up(&runtime, &made).await;
            let fact = state(&runtime, id, "db", |s| *s == ServiceState::Ready).await;
            let told = fact.message.is_some_and(|text| text.contains("without warning"));
            assert_eq!(told, !orderly);
            rig.kill_host();
        }
        rig.start_host();
        let runtime = rig.runtime().await;
        let Stack::Services(stack) = &mut made.stack else {
            return;
        };
        let anew = stack.volumes.get_mut(&"data".parse().unwrap()).unwrap();
        anew.incarnation = Generation(2);
        made.generation = Generation(2);
        // What is made anew is whole.
        up(&runtime, &made).await;
        let id = &made.environment;
        let fact = state(&runtime, id, "db", |s| *s == ServiceState::Ready).await;
        assert_eq!(fact.message, None);
        runtime.remove(id, Generation(2)).await.unwrap();
    }
}

/// A pool writes what is new to disk within half a minute; a power cut comes when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_did_not_come_back_with_the_machine_is_not_observed_and_told_once_it_is_made_anew() {
    let mut rig = Rig::start();
    let runtime = rig.runtime().await;
    let made = with_data(&rig);
    let id = &made.environment;
    up(&runtime, &made).await;
    ready(&runtime, id, "db").await;
    rig.kill_host();
    let file = rig
        .directory
        .join("state/environments")
        .join(id.as_str())
        .join("record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["boot"] = "earlier".into();
    fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
    let volumes = rig.directory.join("pool/environments").join(id.as_str());
    fs::rename(volumes.join("v1-data"), volumes.join("v9-other")).unwrap();
    rig.start_host();
    let runtime = rig.runtime().await;
    let seen = runtime.observe(id).await.unwrap().unwrap();
    assert!(seen.volumes.is_empty(), "{seen:?}");
    for _ in 0..2 {
        up(&runtime, &made).await;
        let seen = runtime.observe(id).await.unwrap().unwrap();
        assert_eq!(seen.volumes[&"data".parse().unwrap()].incarnation, Generation(1));
        let fact = state(&runtime, id, "db", |s| *s == ServiceState::Ready).await;
        assert!(fact.message.is_some_and(|text| text.contains("made anew")));
        runtime
            .services_stop(id, Generation(1), &["db".parse().unwrap()])
            .await
            .unwrap();
    }
    runtime.remove(id, Generation(1)).await.unwrap();
    assert_eq!(runtime.inventory(None).await.unwrap(), []);
}

/// A service with a volume.
fn with_data(rig: &Rig) -> model::EnvironmentSpec {
    let mut db = service(&["sleep", "1000"], &[]);
    db.workload.mounts.push(Mount {
        target: "/disk".into(),
        kind: MountKind::Volume {
            volume: "data".parse().unwrap(),
        },
        read_only: false,
    });
    let mut made = spec(rig.environment(), &[("db", db)]);
    let volume = Volume {
        origin: VolumeOrigin::Empty,
        incarnation: Generation(1),
        limit_bytes: None,
    };
    if let Stack::Services(stack) = &mut made.stack {
        stack.volumes.insert("data".parse().unwrap(), volume);
    }
    made
}
