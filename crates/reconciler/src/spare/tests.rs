//! Which part of a stack a spare runs, and when there is memory for it.

use super::*;
use serde_json::{Value, json};

/// A stack of these services; a service mounts the volume that bears its name.
pub(crate) fn stack(services: &[(&str, Value)]) -> ServiceStack {
    let mut all = serde_json::Map::new();
    let mut volumes = serde_json::Map::new();
    for (name, root) in services {
        let mount = json!({"target": "/data", "kind": {"volume": {"volume": name}}, "read_only": false});
        let service = json!({
            "workload": {
                "root": root, "entrypoint": null, "command": null, "environment": {}, "working_dir": null, "mounts": [mount],
                "limits": {"memory_bytes": null, "cpu_millis": null, "pids": null, "disk_bytes": null}, "read_only": false,
            },
            "aliases": [], "ports": [], "public_port": null, "depends_on": {}, "health": null, "restart": "always",
            "stop_signal": "SIGTERM", "stop_grace_ms": 1000,
        });
        all.insert((*name).to_owned(), service);
        volumes.insert(
            (*name).to_owned(),
            json!({"origin": "empty", "incarnation": 1, "limit_bytes": null}),
        );
    }
    serde_json::from_value(json!({"services": all, "jobs": {}, "volumes": volumes, "data": {}})).unwrap()
}

pub(crate) fn engine(kind: &str) -> Value {
    json!({"engine": {"kind": kind, "image": kind, "versions": {"min": 1, "max": 99}}})
}

fn names(stack: &ServiceStack) -> Vec<&str> {
    stack.services.keys().map(ServiceName::as_str).collect()
}

fn settings(wanted_for: SpareFor) -> SpareSettings {
    SpareSettings {
        per_project: 1,
        wanted_for,
        ..SpareSettings::default()
    }
}

#[test]
fn a_spare_runs_all_engines_when_one_of_them_is_slow() {
    let shop = stack(&[
        ("web", json!("host")),
        ("cache", engine("redis")),
        ("db", engine("postgres")),
        ("queue", engine("rabbitmq")),
    ]);
    let part = settings(SpareFor::SlowEngines).of_stack(&shop).unwrap();
    assert_eq!(names(&part), ["cache", "db", "queue"]);
    assert_eq!(part.volumes.len(), 3, "the volume of web is none of its");
    assert!(
        part.services
            .iter()
            .all(|(name, service)| shop.services.get(name) == Some(service))
    );
    let small = stack(&[("web", json!("host")), ("cache", engine("redis"))]);
    assert_eq!(settings(SpareFor::SlowEngines).of_stack(&small), None);
    let part = settings(SpareFor::AnyEngine).of_stack(&small).unwrap();
    assert_eq!(names(&part), ["cache"]);
    let none = stack(&[("web", json!("host"))]);
    assert_eq!(settings(SpareFor::AnyEngine).of_stack(&none), None);
}

#[test]
fn an_engine_that_needs_a_commit_or_a_service_is_left_out() {
    let mut shop = stack(&[
        ("web", json!("host")),
        ("a", engine("redis")),
        ("b", engine("redis")),
        ("c", engine("redis")),
        ("queue", engine("rabbitmq")),
    ]);
    let mut change = |name: &str, change: fn(&mut Service)| {
        change(shop.services.get_mut(&name.parse::<ServiceName>().unwrap()).unwrap());
    };
    change("a", |service| {
        let kind = MountKind::Source {
            source: "shop".parse().unwrap(),
            subpath: String::new(),
        };
        service.workload.mounts[0].kind = kind;
    });
    change("b", |service| {
        let on = "web".parse().unwrap();
        service.depends_on.insert(on, model::Condition::Started);
    });
    change("c", |service| {
        service.restarts_with.insert("b".parse().unwrap());
    });
    let part = settings(SpareFor::SlowEngines).of_stack(&shop).unwrap();
    assert_eq!(names(&part), ["queue"]);
}

#[derive(Debug)]
struct Injected(MemoryReading);

impl Memory for Injected {
    fn read(&self) -> Option<MemoryReading> {
        Some(self.0)
    }
}

#[test]
fn more_memory_is_wanted_to_begin_one_than_to_keep_one() {
    let pressure = |available: u64, stalled: Option<f64>, for_new| {
        let reading = MemoryReading {
            total: 4 << 30,
            available,
            stalled_percent: stalled,
        };
        let settings = SpareSettings {
            memory: Arc::new(Injected(reading)),
            ..settings(SpareFor::SlowEngines)
        };
        settings.pressure(for_new)
    };
    let (low, enough) = (600 << 20, 2 << 30);
    assert_eq!(pressure(low, None, false), None);
    let why = pressure(low, None, true).unwrap();
    assert_eq!(why, "memory is short: 600 MiB are available, 896 are wanted");
    assert!(pressure(low / 2, None, false).is_some());
    assert_eq!(pressure(enough, Some(4.0), true), None);
    assert!(pressure(enough, Some(6.0), true).is_some());
    assert_eq!(pressure(enough, Some(6.0), false), None);
    assert!(
        pressure(enough, Some(60.0), false)
            .unwrap()
            .contains("60 % of the time")
    );
    assert_eq!(settings(SpareFor::SlowEngines).pressure(true), None, "nothing is known");
}
