//! What a cluster can not do as a stack says it: each is told, by name, with the place and the reason.

use super::fixture::{
    OneSecret, cluster, file, image, job, mount, named, secret, service, shop, small, stack_of, volume,
};
use crate::{Cluster, Decision, Finding, Severity, build::environment};
use model::{
    Build, Dockerfile, EnvironmentSpec, HealthCheck, HealthTest, JobEvent, MountKind, Network, ObjectStack, Origin,
    Product, Renderer, Restart, Root, SecretRef, Service, Stack, Ulimit, Value, VolumeOrigin, Workload,
};
use std::collections::BTreeMap;

/// What is found in a generation.
fn findings_on(cluster: &Cluster, spec: &EnvironmentSpec) -> Vec<Finding> {
    match environment(cluster, spec, &OneSecret) {
        Ok(built) => built.warnings,
        Err(refused) => refused.0,
    }
}

fn findings(spec: &EnvironmentSpec) -> Vec<Finding> {
    findings_on(&cluster(), spec)
}

fn with_spec(change: impl FnOnce(&mut EnvironmentSpec)) -> Vec<Finding> {
    let mut spec = small();
    change(&mut spec);
    findings(&spec)
}

fn with_service(change: impl FnOnce(&mut Service)) -> Vec<Finding> {
    with_spec(|spec| change(named(stack_of(spec), "web")))
}

fn with_workload(change: impl FnOnce(&mut Workload)) -> Vec<Finding> {
    with_service(|service| change(&mut service.workload))
}

fn build() -> Root {
    Root::Build(Box::new(Build {
        source: "shop".parse().unwrap(),
        context: String::new(),
        dockerfile: Dockerfile::Path("Dockerfile".to_owned()),
        args: BTreeMap::new(),
        target: None,
        contexts: BTreeMap::new(),
        secrets: BTreeMap::new(),
        labels: BTreeMap::new(),
        no_cache: false,
        no_health: false,
        made: None,
        private_to: None,
        tags: std::collections::BTreeSet::new(),
    }))
}

fn roots() -> Vec<Finding> {
    let unpinned = Root::Image {
        reference: "ghcr.io/acme/web:1.2".to_owned(),
        pinned: None,
    };
    let mut found: Vec<Finding> = [Root::Host, build(), unpinned]
        .into_iter()
        .flat_map(|root| with_workload(|workload| workload.root = root))
        .collect();
    let mut spec = small();
    named(stack_of(&mut spec), "web").workload.root = build();
    let without_registry = Cluster {
        built_images: None,
        ..cluster()
    };
    found.extend(findings_on(&without_registry, &spec));
    found.extend(with_spec(|spec| {
        spec.stack = Stack::Objects(ObjectStack {
            source: "shop".parse().unwrap(),
            path: "chart".to_owned(),
            renderer: Renderer::Helm,
        });
    }));
    found
}

fn mounts() -> Vec<Finding> {
    let source = MountKind::Source {
        source: "shop".parse().unwrap(),
        subpath: String::new(),
    };
    let product = MountKind::Built {
        job: "assets".parse().unwrap(),
        subpath: String::new(),
    };
    let owned = MountKind::Tmpfs {
        size_bytes: None,
        mode: Some(0o700),
        uid: None,
        gid: None,
    };
    let owned_file = MountKind::Content {
        content: "x".into(),
        mode: 0o444,
        uid: Some(5),
        gid: None,
    };
    let other = MountKind::Volume {
        volume: "other".parse().unwrap(),
    };
    let large = file("x".repeat(1_000_001).into());
    let kinds = [source, product, MountKind::Program, owned, owned_file, other, large];
    let mut found: Vec<Finding> = kinds
        .into_iter()
        .flat_map(|kind| with_workload(|workload| workload.mounts.push(mount("/data", kind))))
        .collect();
    found.extend(with_spec(|spec| {
        let stack = stack_of(spec);
        let mut kept = volume(1);
        kept.origin = VolumeOrigin::Snapshot("g1".parse().unwrap());
        stack.volumes.insert("data".parse().unwrap(), kept);
        stack.services.insert("other".parse().unwrap(), service(image("other")));
        for service in stack.services.values_mut() {
            let kind = MountKind::VolumePath {
                volume: "data".parse().unwrap(),
                subpath: "a".to_owned(),
            };
            service.workload.mounts.push(mount("/data", kind));
        }
    }));
    found
}

fn options() -> Vec<Finding> {
    let mut found = with_workload(|workload| {
        workload.limits.pids = Some(10);
        let options = &mut workload.options;
        options.user = Some("nginx".to_owned());
        options.groups = vec!["wheel".to_owned(), "-1".to_owned()];
        options.hostname = Some("Shop_1".to_owned());
        options.hosts = vec![
            ("a\nb".to_owned(), "10.0.0.1".to_owned()),
            ("a".to_owned(), "here".to_owned()),
        ];
        let bound = Ulimit { soft: None, hard: None };
        options.ulimits = [("nofile".to_owned(), bound)].into();
        options.sysctls = [("kernel.shmmax".to_owned(), "1".to_owned())].into();
        options.add_capabilities = vec!["SYS_ADMIN".to_owned()];
        options.platform = Some("windows/amd64".to_owned());
    });
    for user in [None, Some("0"), Some("0:0")] {
        found.extend(with_workload(|workload| {
            workload.options.user = user.map(str::to_owned)
        }));
    }
    found.extend(with_workload(|workload| {
        let unknown = Value::Secret(SecretRef("unknown".to_owned()));
        workload.environment.insert("KEY".to_owned(), unknown);
    }));
    found
}

fn services() -> Vec<Finding> {
    let mut found = with_service(|service| {
        service.stop_signal = "SIGQUIT".to_owned();
        service.restart = Restart::OnFailure;
        service.restart_limit = Some(3);
        service.aliases = vec!["my_web".to_owned()];
        service.health = Some(HealthCheck {
            test: HealthTest::Tcp(80),
            interval_ms: 1_500,
            timeout_ms: 1_000,
            retries: 1,
            start_period_ms: 0,
            start_interval_ms: Some(200),
        });
    });
    found.extend(with_spec(|spec| {
        let services = &mut stack_of(spec).services;
        services.insert("my_worker".parse().unwrap(), service(image("worker")));
    }));
    found.extend(with_spec(|spec| {
        let stack = stack_of(spec);
        let mut other = service(image("other"));
        other.aliases = vec!["WEB".to_owned()];
        stack.services.insert("other".parse().unwrap(), other);
        for network in ["a", "b"] {
            stack.networks.insert(network.parse().unwrap(), Network::default());
        }
        let web = named(stack, "web");
        web.networks = [("c".parse().unwrap(), Vec::new())].into();
    }));
    found
}

fn jobs_and_all_else() -> Vec<Finding> {
    let mut found = with_spec(|spec| {
        let mut assets = job("assets", JobEvent::Build);
        assets.product = Some(Product {
            source: "shop".parse().unwrap(),
            inputs: None,
            private_to: None,
        });
        stack_of(spec).jobs.insert(assets.name.clone(), assets);
    });
    found.extend(with_spec(|spec| {
        spec.limits.pids = Some(100);
        spec.limits.memory_bytes = Some(32 << 20);
        let name = "api.example.com".parse().unwrap();
        spec.egress.hosts.insert(name, [443].into());
        let set = model::DataSet {
            volume: "data".parse().unwrap(),
            database: "app".to_owned(),
            user: "app".to_owned(),
            password: secret(),
            migrations: Vec::new(),
            seeds: Vec::new(),
        };
        stack_of(spec).data.insert("web".parse().unwrap(), set);
    }));
    found
}

fn everything() -> Vec<Finding> {
    [roots(), mounts(), options(), services(), jobs_and_all_else()].concat()
}

#[test]
fn every_decision_is_told_where_it_applies() {
    let found = everything();
    for decision in Decision::ALL {
        assert!(
            found.iter().any(|finding| finding.decision == *decision),
            "{decision:?} is never told"
        );
    }
    let mut lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    lines.sort();
    lines.dedup();
    insta::assert_snapshot!("findings", lines.join("\n"));
}

#[test]
fn messages_hold_no_line_of_their_own() {
    for finding in everything() {
        let text = finding.to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.len() < 600, "{text}");
    }
}

#[test]
fn the_list_of_decisions_says_each_thing_once() {
    let words = |severity| match severity {
        Severity::Refused => "refused",
        Severity::Warned => "warned of",
    };
    let rows = Decision::ALL.iter().map(|decision| {
        format!(
            "{} | {} | {}",
            decision.key(),
            words(decision.severity()),
            decision.reason()
        )
    });
    let mut rows: Vec<String> = rows.collect();
    insta::assert_snapshot!("decisions", rows.join("\n"));
    let count = rows.len();
    rows.sort();
    rows.dedup();
    // Bounds of processes are said twice, of a service and of everything.
    assert_eq!(rows.len() + 1, count);
}

#[test]
fn what_a_cluster_can_do_is_not_warned_of() {
    let found = findings(&shop());
    assert!(found.is_empty(), "{found:?}");
    let mut spec = shop();
    spec.origin = Origin::Golden;
    assert!(findings(&spec).is_empty());
}

#[test]
fn limits_are_told_from_what_has_none_and_from_too_much() {
    let with = |memory: Option<u64>, all: u64| {
        let found = with_spec(|spec| {
            spec.limits.memory_bytes = Some(all);
            let stack = stack_of(spec);
            stack.services.insert("other".parse().unwrap(), service(image("other")));
            named(stack, "other").workload.limits.memory_bytes = memory;
        });
        found.iter().any(|finding| finding.decision == Decision::NoRoom)
    };
    assert!(!with(None, 128 << 20), "64 MiB each");
    assert!(with(None, 127 << 20));
    assert!(!with(Some(192 << 20), 256 << 20), "64 MiB are left for the other one");
    assert!(with(Some(256 << 20), 256 << 20), "nothing is left for the other one");
    assert!(with(Some(u64::MAX), 256 << 20));
}
