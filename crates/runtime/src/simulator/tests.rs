//! The simulator passes the suite that real runtimes pass, and does what its scripts say.

use super::*;
use crate::{
    NoSecrets, Runtime,
    conformance::{Fixture, Program, cases},
};
use async_trait::async_trait;
use model::{
    Engine, EnvironmentSpec, Generation, Job, JobEvent, Limits, Mount, MountKind, Origin, Power, Restart, Root,
    Service, ServiceStack, ServiceState, Stack, Stage, VersionRange, Volume, VolumeOrigin, Workload,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU32, Ordering},
};

#[derive(Default)]
struct Simulated {
    simulator: Simulator,
    environments: AtomicU32,
}

fn workload(root: Root, command: &[&str]) -> Workload {
    Workload {
        root,
        entrypoint: None,
        command: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        environment: BTreeMap::new(),
        working_dir: None,
        mounts: Vec::new(),
        limits: Limits::default(),
        read_only: true,
        options: model::Options::default(),
    }
}

fn service(command: &[&str]) -> Service {
    Service {
        workload: workload(Root::Host, command),
        aliases: Vec::new(),
        ports: vec![80],
        public_port: None,
        depends_on: BTreeMap::new(),
        health: None,
        restart: Restart::Always,
        stop_signal: "SIGTERM".to_owned(),
        stop_grace_ms: 1000,
        networks: BTreeMap::new(),
        restarts_with: std::collections::BTreeSet::new(),
        restart_limit: None,
        net: model::NetworkMode::default(),
    }
}

#[async_trait]
impl Fixture for Simulated {
    fn runtime(&self) -> &dyn Runtime {
        &self.simulator
    }

    fn environment(&self) -> EnvironmentId {
        let number = self.environments.fetch_add(1, Ordering::Relaxed);
        format!("e{number:09}").parse().unwrap()
    }

    fn workload(&self, program: &Program) -> Workload {
        match program {
            Program::Serve { text } => workload(Root::Host, &["serve", text]),
            Program::Idle => workload(Root::Host, &["idle"]),
            Program::Exit { text, code } => workload(Root::Host, &["exit", text, &code.to_string()]),
            Program::List { directory, into } => workload(Root::Host, &["list", directory, into]),
            Program::Missing => workload(Root::Host, &["missing"]),
        }
    }

    fn port(&self) -> u16 {
        80
    }

    fn outside(&self) -> Option<std::net::SocketAddr> {
        Some(std::net::SocketAddr::from(([10, 0, 0, 5], 9200)))
    }

    fn engine(&self) -> Option<Service> {
        let engine = Engine {
            kind: "postgres".to_owned(),
            image: "postgres:15".to_owned(),
            versions: VersionRange { min: 15, max: 17 },
        };
        let mut service = service(&[]);
        service.workload.root = Root::Engine(engine);
        service.workload.mounts.push(Mount {
            target: "/var/lib/postgresql/data".to_owned(),
            kind: MountKind::Volume {
                volume: "data".parse().unwrap(),
            },
            read_only: false,
        });
        Some(service)
    }

    async fn pause(&self) {
        self.simulator.advance(Duration::from_millis(20));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_simulator_conforms() {
    let fixture = Simulated::default();
    let mut failures = Vec::new();
    for case in cases() {
        failures.extend(case.run(&fixture).await.err().map(|failure| failure.to_string()));
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        cases().len(),
        failures.join("\n")
    );
}

#[tokio::test]
async fn a_case_can_fail() {
    // A runtime that can not run services fails nearly every case, with a message that says what was expected.
    let mut capabilities = Simulator::new().capabilities().clone();
    capabilities.services = false;
    let fixture = Simulated {
        simulator: Simulator::with(capabilities),
        ..Simulated::default()
    };
    let failures = crate::conformance::suite(&fixture).await.unwrap_err();
    assert!(failures.len() > cases().len() / 2, "{failures:?}");
    assert!(
        failures.iter().all(|failure| failure.message.contains("expected")),
        "{failures:?}"
    );
}

#[test]
fn each_case_has_a_name_of_its_own() {
    let names: BTreeSet<_> = cases().iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases().len());
}

fn spec(command: &[&str]) -> EnvironmentSpec {
    let mut stack = ServiceStack::default();
    let mut web = service(command);
    let volume = MountKind::Volume {
        volume: "disk".parse().unwrap(),
    };
    web.workload.mounts.push(Mount {
        target: "/data".to_owned(),
        kind: volume,
        read_only: false,
    });
    stack.services.insert("web".parse().unwrap(), web);
    let disk = Volume {
        origin: VolumeOrigin::Empty,
        incarnation: Generation(1),
        limit_bytes: None,
    };
    stack.volumes.insert("disk".parse().unwrap(), disk);
    let job = Job {
        name: "job".parse().unwrap(),
        workload: workload(Root::Host, &["true"]),
        on: JobEvent::Create,
        needs: Vec::new(),
        timeout_ms: 1000,
        product: None,
        schedule: None,
    };
    stack.jobs.insert(job.name.clone(), job);
    EnvironmentSpec {
        environment: "e000000001".parse().unwrap(),
        generation: Generation(1),
        project: "shop".parse().unwrap(),
        origin: Origin::PullRequest { number: 1 },
        sources: BTreeMap::new(),
        stack: Stack::Services(stack),
        limits: Limits::default(),
        egress: model::Egress::default(),
        secrets: BTreeMap::new(),
    }
}

async fn up(simulator: &Simulator, spec: &EnvironmentSpec) {
    for stage in [
        Stage::Envelope,
        Stage::Services(BTreeSet::from(["web".parse().unwrap()])),
    ] {
        simulator.apply(spec, &stage, &NoSecrets).await.unwrap();
    }
}

async fn state(simulator: &Simulator, spec: &EnvironmentSpec) -> ServiceState {
    let seen = simulator.observe(&spec.environment).await.unwrap().unwrap();
    seen.services.values().next().unwrap().state.clone()
}

#[tokio::test]
async fn services_follow_their_scripts_and_time_is_told() {
    let simulator = Simulator::new();
    let spec = spec(&["ready-after", "500"]);
    up(&simulator, &spec).await;
    let mut changes = simulator.changes();
    assert_eq!(state(&simulator, &spec).await, ServiceState::Starting);
    simulator.advance(Duration::from_millis(100));
    assert!(changes.try_recv().is_err(), "nothing changed");
    simulator.advance(Duration::from_millis(500));
    assert_eq!(changes.try_recv().unwrap(), spec.environment);
    assert_eq!(state(&simulator, &spec).await, ServiceState::Ready);
    simulator.behave("web", Behaviour::Exits(2));
    assert!(matches!(
        state(&simulator, &spec).await,
        ServiceState::BackingOff { code: 2, .. }
    ));
    simulator.behave("web", Behaviour::Ready);
    simulator.kill(&spec.environment, &"web".parse().unwrap(), 137);
    let seen = simulator.observe(&spec.environment).await.unwrap().unwrap();
    assert_eq!(
        seen.services
            .values()
            .next()
            .map(|fact| (fact.state.clone(), fact.restarts)),
        Some((ServiceState::Ready, 1))
    );
}

#[tokio::test]
async fn a_call_fails_before_or_after_its_effect() {
    let simulator = Simulator::new();
    let spec = spec(&["serve", "web"]);
    let lost = || RuntimeError::Unreachable {
        runtime: "simulator".to_owned(),
        reason: "told to".to_owned(),
    };
    simulator.fail_next(Operation::Apply, lost());
    assert!(simulator.apply(&spec, &Stage::Envelope, &NoSecrets).await.is_err());
    assert_eq!(simulator.observe(&spec.environment).await.unwrap(), None);
    simulator.fail_after_at(1, lost());
    assert!(simulator.apply(&spec, &Stage::Envelope, &NoSecrets).await.is_err());
    assert!(simulator.observe(&spec.environment).await.unwrap().is_some());
    let operations: Vec<_> = simulator.calls().iter().map(|call| call.operation).collect();
    assert_eq!(
        operations,
        [
            Operation::Apply,
            Operation::Observe,
            Operation::Apply,
            Operation::Observe
        ]
    );
}

#[tokio::test]
async fn jobs_follow_their_scripts() {
    let simulator = Simulator::new();
    let spec = spec(&["serve", "web"]);
    let job: JobName = "job".parse().unwrap();
    up(&simulator, &spec).await;
    simulator.script_job("job", [JobBehaviour::Exits(4), JobBehaviour::Held]);
    assert_eq!(simulator.job_run(&spec, &job, &NoSecrets).await.unwrap().exit, 4);
    let release = async {
        while simulator.observe(&spec.environment).await.unwrap().unwrap().jobs[&job]
            .exit
            .is_some()
        {
            tokio::task::yield_now().await;
        }
        simulator.release_job(&spec.environment, &job, 0);
    };
    let (outcome, ()) = tokio::join!(simulator.job_run(&spec, &job, &NoSecrets), release);
    assert_eq!(outcome.unwrap().exit, 0);
}

#[tokio::test]
async fn a_volume_in_use_is_neither_replaced_nor_snapshotted() {
    let simulator = Simulator::new();
    let mut spec = spec(&["serve", "web"]);
    let disk: VolumeName = "disk".parse().unwrap();
    up(&simulator, &spec).await;
    assert!(simulator.volume_write(&spec.environment, &disk, "note", b"one"));
    let key: SnapshotId = "kone".parse().unwrap();
    let refused = simulator
        .snapshot_create(&spec.environment, spec.generation, &disk, &key)
        .await;
    assert!(matches!(refused, Err(RuntimeError::Invalid { .. })), "{refused:?}");
    spec.generation = Generation(2);
    let Stack::Services(stack) = &mut spec.stack else {
        panic!("no services")
    };
    stack.volumes.get_mut(&disk).unwrap().incarnation = Generation(2);
    let refused = simulator.apply(&spec, &Stage::Envelope, &NoSecrets).await;
    assert!(matches!(refused, Err(RuntimeError::Invalid { .. })), "{refused:?}");
    simulator
        .power(&spec.environment, Generation(2), Power::Stopped)
        .await
        .unwrap();
    simulator
        .snapshot_create(&spec.environment, spec.generation, &disk, &key)
        .await
        .unwrap();
    simulator.apply(&spec, &Stage::Envelope, &NoSecrets).await.unwrap();
    assert_eq!(simulator.volume(&spec.environment, &disk), Some(Content::new()));
    assert_eq!(simulator.snapshot(&key).unwrap()["note"], b"one");
}
