//! A shop with all that a cluster can do, and a small one to which a test adds what it is about.

use crate::{Cluster, PodSecurity, Sensitive, build::Object};
use model::{
    Condition, Engine, EnvironmentSpec, Generation, HealthCheck, HealthTest, Job, JobEvent, Limits, Mount, MountKind,
    Options, Origin, Restart, Root, SecretRef, Service, ServiceStack, Stack, Value, VersionRange, Volume, VolumeOrigin,
    Workload,
};
use std::collections::{BTreeMap, BTreeSet};

/// A value that must stand in no text.
pub(super) const CANARY: &str = "canary-3141";

/// Knows one secret.
pub(super) struct OneSecret;

impl runtime::Secrets for OneSecret {
    fn value(&self, secret: &SecretRef) -> Option<&[u8]> {
        (secret.0 == "key").then_some(CANARY.as_bytes())
    }
}

pub(super) fn cluster() -> Cluster {
    Cluster {
        instance: "a1b2c3".parse().unwrap(),
        pod_security: PodSecurity::Restricted,
        gateway_namespace: Some("maquette".to_owned()),
        storage_class: None,
        shared_storage_class: None,
        built_images: Some("registry.example.com/previews".to_owned()),
        pull_secret: None,
        priority_class: Some("previews".to_owned()),
    }
}

pub(super) fn secret() -> Value {
    Value::Secret(SecretRef("key".to_owned()))
}

pub(super) fn image(name: &str) -> Root {
    Root::Image {
        reference: format!("ghcr.io/acme/{name}:1.2"),
        pinned: Some(format!("sha256:{}", "0f".repeat(32)).parse().unwrap()),
    }
}

pub(super) fn workload(root: Root) -> Workload {
    Workload {
        root,
        entrypoint: None,
        command: None,
        environment: BTreeMap::new(),
        working_dir: None,
        mounts: Vec::new(),
        limits: Limits::default(),
        read_only: false,
        options: Options {
            user: Some("1000".to_owned()),
            ..Options::default()
        },
    }
}

pub(super) fn service(root: Root) -> Service {
    Service {
        workload: workload(root),
        aliases: Vec::new(),
        ports: Vec::new(),
        public_port: None,
        depends_on: BTreeMap::new(),
        health: None,
        restart: Restart::Always,
        stop_signal: "SIGTERM".to_owned(),
        stop_grace_ms: 10_000,
        networks: BTreeMap::new(),
        net: model::NetworkMode::Networks,
        restarts_with: BTreeSet::new(),
        restart_limit: None,
    }
}

pub(super) fn job(name: &str, on: JobEvent) -> Job {
    Job {
        name: name.parse().unwrap(),
        workload: workload(image("shop")),
        on,
        needs: Vec::new(),
        timeout_ms: 60_000,
        product: None,
        schedule: None,
    }
}

pub(super) fn volume(incarnation: u64) -> Volume {
    Volume {
        origin: VolumeOrigin::Empty,
        incarnation: Generation(incarnation),
        limit_bytes: Some(1 << 30),
    }
}

pub(super) fn mount(target: &str, kind: MountKind) -> Mount {
    Mount {
        target: target.to_owned(),
        kind,
        read_only: false,
    }
}

pub(super) fn file(content: Value) -> MountKind {
    MountKind::Content {
        content,
        mode: 0o444,
        uid: None,
        gid: None,
    }
}

pub(super) fn engine(kind: &str, tag: &str) -> Root {
    Root::Engine(Engine {
        kind: kind.to_owned(),
        image: format!("{kind}:{tag}"),
        versions: VersionRange { min: 16, max: 16 },
    })
}

pub(super) fn spec(stack: ServiceStack) -> EnvironmentSpec {
    EnvironmentSpec {
        environment: "e123456789".parse().unwrap(),
        generation: Generation(12),
        project: "shop".parse().unwrap(),
        origin: Origin::PullRequest { number: 7 },
        sources: BTreeMap::from([("shop".parse().unwrap(), "a".repeat(40).parse().unwrap())]),
        stack: Stack::Services(stack),
        limits: Limits::default(),
        egress: model::Egress::default(),
        secrets: BTreeMap::from([(SecretRef("key".to_owned()), "v1".to_owned())]),
    }
}

pub(super) fn stack_of(spec: &mut EnvironmentSpec) -> &mut ServiceStack {
    match &mut spec.stack {
        Stack::Services(stack) => stack,
        Stack::Objects(_) => panic!("these are services"),
    }
}

pub(super) fn named<'a>(stack: &'a mut ServiceStack, service: &str) -> &'a mut Service {
    stack.services.get_mut(&service.parse().unwrap()).unwrap()
}

/// One service, called `web`.
pub(super) fn small() -> EnvironmentSpec {
    let stack = ServiceStack {
        services: BTreeMap::from([("web".parse().unwrap(), service(image("web")))]),
        ..ServiceStack::default()
    };
    spec(stack)
}

fn database() -> Service {
    let mut db = service(engine("postgres", "16-alpine"));
    db.workload.options = Options::default();
    db.workload.environment.insert("POSTGRES_PASSWORD".to_owned(), secret());
    let data = MountKind::Volume {
        volume: "db_data".parse().unwrap(),
    };
    db.workload.mounts.push(mount("/var/lib/postgresql/data", data));
    db.ports = vec![5432];
    db.health = Some(HealthCheck {
        test: HealthTest::Exec(vec!["pg_isready".to_owned()]),
        interval_ms: 5_000,
        timeout_ms: 3_000,
        retries: 3,
        start_period_ms: 0,
        start_interval_ms: None,
    });
    db
}

fn web() -> Service {
    let mut web = service(image("web"));
    let environment = &mut web.workload.environment;
    environment.insert("GREETING".to_owned(), "costs $(HOME) $5".into());
    let url = vec!["postgres://app:".into(), secret(), "@db/app".into()];
    environment.insert("DATABASE_URL".to_owned(), Value::Joined(url));
    web.workload.command = Some(vec!["serve".to_owned(), "--price=$5".to_owned()]);
    web.workload.mounts = vec![
        mount("/etc/shop/settings.toml", file("title = \"Shop\"\n".into())),
        mount("/run/secrets/key", file(secret())),
        mount("/tmp", MountKind::memory(Some(64 << 20))),
    ];
    web.workload.limits = Limits {
        memory_bytes: Some(256 << 20),
        cpu_millis: Some(500),
        pids: None,
        disk_bytes: None,
    };
    web.workload.read_only = true;
    web.workload.options = Options {
        user: Some("1000:1001".to_owned()),
        groups: vec!["2000".to_owned()],
        init: Some(true),
        hostname: Some("shop".to_owned()),
        hosts: vec![("legacy.example.com".to_owned(), "192.0.2.7".to_owned())],
        sysctls: [("net.ipv4.tcp_keepalive_time".to_owned(), "60".to_owned())].into(),
        add_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
        shm_bytes: Some(128 << 20),
        platform: Some("linux/amd64".to_owned()),
        ..Options::default()
    };
    web.aliases = vec!["shop".to_owned()];
    web.ports = vec![8080];
    web.public_port = Some(8080);
    web.depends_on = BTreeMap::from([("migrate".parse().unwrap(), Condition::Completed)]);
    web
}

/// A shop with a database, a migration that others wait for, a page for visitors, a worker, and jobs.
pub(super) fn shop() -> EnvironmentSpec {
    let mut migrate = service(image("shop"));
    migrate.restart = Restart::Never;
    let services = [
        ("db", database()),
        ("migrate", migrate),
        ("web", web()),
        ("worker", service(image("worker"))),
    ];
    let jobs = [
        job("warm", JobEvent::Create),
        job("seed", JobEvent::Start),
        job("bye", JobEvent::Delete),
    ];
    let mut spec = spec(ServiceStack {
        services: services.map(|(name, service)| (name.parse().unwrap(), service)).into(),
        jobs: jobs.map(|job| (job.name.clone(), job)).into(),
        volumes: BTreeMap::from([("db_data".parse().unwrap(), volume(3))]),
        ..ServiceStack::default()
    });
    spec.limits = Limits {
        memory_bytes: Some(2 << 30),
        cpu_millis: Some(2_000),
        pids: None,
        disk_bytes: Some(10 << 30),
    };
    spec
}

/// A cluster that also fetches images with a secret.
pub(super) fn private_cluster() -> Cluster {
    Cluster {
        pull_secret: Some(Sensitive::new(format!("{{\"auths\":\"{CANARY}\"}}"))),
        ..cluster()
    }
}

/// The objects of a kind, as people may see them.
pub(super) fn of_kind(objects: &[Object], kind: &str) -> Vec<serde_json::Value> {
    let shown = objects.iter().map(|object| object.shown().unwrap());
    shown.filter(|object| object["kind"] == kind).collect()
}
