//! The planner against a small world: whatever happens in between, carrying out what is ready always ends, in order.

#![allow(clippy::unwrap_used, clippy::panic)]

mod ends;

use model::{
    Capabilities, Condition, DataFact, DataSet, Digest, Engine, EnvironmentSpec, Generation, Job, JobEvent, JobFact,
    Limits, Migration, Mount, MountKind, Observation, Origin, Power, Product, Restart, Root, Service, ServiceFact,
    ServiceName, ServiceStack, ServiceState, Stack, Stage, Staging, Timestamp, VersionRange, Volume, VolumeFact,
    VolumeOrigin, Workload,
};
use planner::{Action, Attempt, Desired, Observed, Plan, StepState, plan};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn capabilities(staging: Staging) -> Capabilities {
    Capabilities {
        runtime: "world".into(),
        staging,
        services: true,
        objects: false,
        host_roots: true,
        images: false,
        engines: Vec::new(),
        snapshots: true,
        freeze: true,
        sources: true,
        databases: true,
        features: std::collections::BTreeSet::new(),
    }
}

fn workload(root: Root, command: &str) -> Workload {
    Workload {
        root,
        entrypoint: None,
        command: Some(vec![command.into()]),
        environment: BTreeMap::new(),
        working_dir: None,
        mounts: Vec::new(),
        limits: Limits::default(),
        read_only: true,
        options: model::Options::default(),
    }
}

fn service(root: Root, command: &str, depends_on: &[&str]) -> Service {
    Service {
        workload: workload(root, command),
        aliases: Vec::new(),
        ports: vec![80],
        public_port: None,
        depends_on: depends_on
            .iter()
            .map(|d| (d.parse().unwrap(), Condition::Healthy))
            .collect(),
        health: None,
        restart: Restart::Always,
        stop_signal: "SIGTERM".into(),
        stop_grace_ms: 1000,
        networks: BTreeMap::new(),
        restarts_with: std::collections::BTreeSet::new(),
        restart_limit: None,
        net: model::NetworkMode::default(),
    }
}

fn migration(name: &str) -> Migration {
    Migration {
        path: name.into(),
        digest: Digest::of(name.as_bytes()),
    }
}

/// A database, a job that needs it, and services that depend on each other in a line of the given length.
fn spec(generation: u64, line: usize, code: &str, migrations: &[&str], incarnation: u64) -> EnvironmentSpec {
    let mut services = BTreeMap::new();
    let engine = Engine {
        kind: "postgres".into(),
        image: "postgres:15".into(),
        versions: VersionRange { min: 15, max: 15 },
    };
    let mut db = service(Root::Engine(engine), "", &[]);
    db.workload.mounts = vec![Mount {
        target: "/data".into(),
        kind: MountKind::Volume {
            volume: "db-data".parse().unwrap(),
        },
        read_only: false,
    }];
    services.insert("db".parse().unwrap(), db);
    for n in 0..line {
        let before = if n == 0 { "db".to_owned() } else { format!("s{}", n - 1) };
        services.insert(format!("s{n}").parse().unwrap(), service(Root::Host, code, &[&before]));
    }
    let job = Job {
        name: "warm".parse().unwrap(),
        workload: workload(Root::Host, "warm"),
        on: JobEvent::Create,
        needs: vec!["db".parse().unwrap()],
        timeout_ms: 1000,
        product: None,
        schedule: None,
    };
    let set = DataSet {
        volume: "db-data".parse().unwrap(),
        database: "app".into(),
        user: "app".into(),
        password: "x".into(),
        migrations: migrations.iter().map(|m| migration(m)).collect(),
        seeds: Vec::new(),
    };
    let volume = Volume {
        origin: VolumeOrigin::Empty,
        incarnation: Generation(incarnation),
        limit_bytes: None,
    };
    EnvironmentSpec {
        environment: "e123456789".parse().unwrap(),
        generation: Generation(generation),
        project: "shop".parse().unwrap(),
        origin: Origin::PullRequest { number: 1 },
        sources: BTreeMap::from([("shop".parse().unwrap(), "a".repeat(40).parse().unwrap())]),
        stack: Stack::Services(ServiceStack {
            services,
            jobs: BTreeMap::from([(job.name.clone(), job)]),
            volumes: BTreeMap::from([("db-data".parse().unwrap(), volume)]),
            data: BTreeMap::from([("db".parse().unwrap(), set)]),
            ..ServiceStack::default()
        }),
        limits: Limits::default(),
        egress: model::Egress::default(),
        secrets: BTreeMap::new(),
    }
}

/// A service that runs to its end.
const ONCE: &str = "once";

/// Carries steps out and complains when they come too early.
#[derive(Default)]
struct World {
    observed: Observed,
    now: Timestamp,
}

impl World {
    fn runtime(&mut self, spec: &EnvironmentSpec) -> &mut Observation {
        let now = self.now;
        let runtime = self.observed.runtime.get_or_insert_with(|| Observation {
            environment: spec.environment.clone(),
            at: now,
            generation: spec.generation,
            envelope: None,
            power: Power::Running,
            services: BTreeMap::new(),
            jobs: BTreeMap::new(),
            volumes: BTreeMap::new(),
            door: model::DoorFact::default(),
        });
        runtime.generation = spec.generation;
        runtime
    }

    fn carry_out(&mut self, spec: &EnvironmentSpec, action: &Action) {
        let now = self.now;
        let stack = spec.services().unwrap();
        match action {
            Action::Source(source) => drop(self.observed.sources.insert(source.clone())),
            Action::Image { image, .. } => drop(self.observed.images.insert(image.clone())),
            Action::Dockerfile(service) => panic!("{service}: no stack of these has a Dockerfile"),
            Action::AwaitSnapshot(id) => panic!("{id} can not be carried out"),
            Action::Wake => self.runtime(spec).power = Power::Running,
            Action::Keep { service, snapshot, .. } => {
                self.stop(spec, service);
                self.observed.snapshots.insert(snapshot.clone());
            }
            Action::Release(services) => services.iter().for_each(|service| self.stop(spec, service)),
            Action::Apply(Stage::Envelope) => {
                let files = self.has_files(spec);
                assert!(
                    files || self.observed.unused,
                    "what people use is touched without the files"
                );
                self.envelope(spec);
            }
            Action::Apply(Stage::Services(names)) => names.iter().for_each(|name| self.start(spec, name)),
            Action::Apply(Stage::Prune) => {
                self.runtime(spec)
                    .services
                    .retain(|name, _| stack.services.contains_key(name));
            }
            Action::Apply(Stage::Whole) => {
                // The delivery stops what it replaces.
                self.runtime(spec).services.clear();
                self.envelope(spec);
                for name in stack.services.keys() {
                    let digest = spec.service_digest(name).unwrap();
                    self.runtime(spec)
                        .services
                        .insert(name.clone(), fact(digest, ServiceState::Ready, now));
                }
            }
            Action::Data(service) => {
                assert!(self.is_ready(service), "{service} is migrated before it is ready");
                let set = &stack.data[service];
                let incarnation = stack.volumes[&set.volume].incarnation;
                let applied = set.migrations.clone();
                let fact = DataFact {
                    incarnation,
                    golden: None,
                    prepared: true,
                    password: Some(spec.password_digest(set)),
                    applied,
                    seeded: true,
                };
                self.observed.data.insert(service.clone(), fact);
            }
            Action::Job(name) => {
                assert_eq!(self.runtime(spec).power, Power::Running, "{name} runs while all sleeps");
                for need in &stack.jobs[name].needs {
                    assert!(
                        self.is_ready(need) && self.observed.data.contains_key(need),
                        "{name} runs before {need}"
                    );
                }
                let digest = spec.job_digest(name).unwrap();
                let fact = JobFact {
                    digest,
                    exit: Some(0),
                    started: now,
                    ended: Some(now),
                };
                self.runtime(spec).jobs.insert(name.clone(), fact);
            }
            Action::Build(name) => {
                assert!(self.has_files(spec), "{name} is built without its files");
                self.observed.snapshots.insert(spec.product(name).unwrap());
            }
            Action::Verify => {
                self.observed.verified = Some(spec.generation);
                self.observed.unused = false;
            }
            Action::Power(power) => self.runtime(spec).power = *power,
            Action::Remove => self.observed.runtime = None,
            Action::Receipt => self.observed.receipted = true,
        }
    }

    fn envelope(&mut self, spec: &EnvironmentSpec) {
        let volumes: Vec<_> = spec
            .services()
            .unwrap()
            .volumes
            .iter()
            .map(|(n, v)| (n.clone(), v.incarnation))
            .collect();
        for (name, incarnation) in volumes {
            let found = self.runtime(spec).volumes.get(&name).map(|fact| fact.incarnation);
            if found.is_some_and(|found| found != incarnation) {
                let stopped = |f: &ServiceFact| f.state == ServiceState::Stopped;
                let db = self.runtime(spec).services.get(&"db".parse().unwrap());
                assert!(db.is_none_or(stopped), "a volume is replaced under a running engine");
            }
            self.runtime(spec).volumes.insert(
                name,
                VolumeFact {
                    incarnation,
                    torn: false,
                },
            );
        }
        self.runtime(spec).envelope = Some(spec.generation);
    }

    fn start(&mut self, spec: &EnvironmentSpec, name: &ServiceName) {
        let wanted = &spec.services().unwrap().services[name];
        for mount in &wanted.workload.mounts {
            if let MountKind::Built { job, .. } = &mount.kind {
                let product = spec.product(job).unwrap();
                assert!(
                    self.observed.snapshots.contains(&product),
                    "{name} starts before {job} has run"
                );
            }
        }
        for (dependency, condition) in &wanted.depends_on {
            let met = match condition {
                Condition::Completed => self.has_completed(spec, dependency),
                _ => self.is_ready(dependency),
            };
            assert!(met, "{name} starts before {dependency} is as {condition:?} says");
        }
        let engine = matches!(wanted.workload.root, Root::Engine(_));
        assert!(engine || self.has_files(spec), "{name} starts without its files");
        let digest = spec.service_digest(name).unwrap();
        let now = self.now;
        self.runtime(spec)
            .services
            .insert(name.clone(), fact(digest, ServiceState::Starting, now));
    }

    fn has_files(&self, spec: &EnvironmentSpec) -> bool {
        spec.sources.keys().all(|source| self.observed.sources.contains(source))
    }

    fn stop(&mut self, spec: &EnvironmentSpec, name: &ServiceName) {
        if let Some(fact) = self.runtime(spec).services.get_mut(name) {
            fact.state = ServiceState::Stopped;
        }
    }

    fn is_ready(&self, name: &ServiceName) -> bool {
        self.observed
            .runtime
            .as_ref()
            .and_then(|o| o.services.get(name))
            .is_some_and(|fact| fact.state == ServiceState::Ready)
    }

    /// Whether what this generation wants of a service has run to its end.
    fn has_completed(&self, spec: &EnvironmentSpec, name: &ServiceName) -> bool {
        let fact = self.observed.runtime.as_ref().and_then(|o| o.services.get(name));
        let wanted = spec.service_digest(name).unwrap();
        fact.is_some_and(|fact| fact.digest == wanted && fact.state == ServiceState::Exited { code: 0 })
    }

    /// Time passes: what was started gets ready, and `once` then ends well.
    fn everything_started_gets_ready(&mut self) {
        let services = self.observed.runtime.iter_mut().flat_map(|o| &mut o.services);
        for (name, fact) in services {
            match fact.state {
                ServiceState::Starting => fact.state = ServiceState::Ready,
                ServiceState::Ready if name.as_str() == ONCE => fact.state = ServiceState::Exited { code: 0 },
                _ => {}
            }
        }
    }

    /// Carries out one ready step at a time, chosen by `choices`, until the plan is done.
    fn settle(&mut self, desired: &Desired<'_>, spec: &EnvironmentSpec, staging: Staging, choices: &mut Choices) {
        for _ in 0..200 {
            let now = plan(desired, &self.observed, &capabilities(staging), self.now);
            assert_eq!(
                now,
                plan(desired, &self.observed, &capabilities(staging), self.now),
                "plans differ"
            );
            assert_order(&now);
            if now.is_done() {
                return;
            }
            let ready: Vec<_> = now.ready().collect();
            if ready.is_empty() {
                self.everything_started_gets_ready();
            } else {
                let action = ready[choices.next() % ready.len()].action.clone();
                self.carry_out(spec, &action);
            }
            self.now.0 += 1;
        }
        panic!(
            "it does not end: {:#?}",
            plan(desired, &self.observed, &capabilities(staging), self.now)
        );
    }
}

struct Choices(Vec<usize>, usize);

impl Choices {
    fn next(&mut self) -> usize {
        self.1 += 1;
        self.0[self.1 % self.0.len()]
    }
}

fn fact(digest: Digest, state: ServiceState, since: Timestamp) -> ServiceFact {
    ServiceFact {
        digest,
        state,
        since,
        restarts: 0,
        message: None,
    }
}

fn assert_order(plan: &Plan) {
    let mut seen = BTreeSet::new();
    for step in &plan.steps {
        assert!(
            step.after.iter().all(|id| seen.contains(id)),
            "{} comes before {:?}",
            step.id,
            step.after
        );
        assert!(seen.insert(step.id.clone()), "{} twice", step.id);
    }
}

fn staging() -> impl Strategy<Value = Staging> {
    prop_oneof![Just(Staging::Levels), Just(Staging::Whole)]
}

proptest! {
    #[test]
    fn open_push_sleep_wake_close_always_end(
        line in 0usize..5,
        choices in prop::collection::vec(0usize..7, 1..40),
        staging in staging(),
        clone_anew in any::<bool>(),
    ) {
        let mut world = World::default();
        world.observed.unused = true;
        let mut choices = Choices(choices, 0);
        let first = spec(1, line, "one", &["1"], 1);
        world.settle(&Desired::Present { spec: &first, power: Power::Running }, &first, staging, &mut choices);
        let pushed = spec(2, line, "two", &["1", "2"], if clone_anew { 2 } else { 1 });
        world.settle(&Desired::Present { spec: &pushed, power: Power::Running }, &pushed, staging, &mut choices);
        if staging == Staging::Levels {
            prop_assert_eq!(world.observed.snapshots.len(), 1, "what people did was not kept");
        }
        world.settle(&Desired::Present { spec: &pushed, power: Power::Frozen }, &pushed, staging, &mut choices);
        world.settle(&Desired::Present { spec: &pushed, power: Power::Stopped }, &pushed, staging, &mut choices);
        prop_assert_eq!(world.observed.runtime.as_ref().map(|o| o.power), Some(Power::Stopped));
        world.settle(&Desired::Present { spec: &pushed, power: Power::Running }, &pushed, staging, &mut choices);
        let gone = Desired::Absent { last: Some(&pushed), generation: Generation(3) };
        world.settle(&gone, &pushed, staging, &mut choices);
        prop_assert!(world.observed.runtime.is_none() && world.observed.receipted);
    }

    #[test]
    fn a_close_at_any_moment_ends(
        steps in 0usize..20,
        choices in prop::collection::vec(0usize..7, 1..40),
        staging in staging(),
    ) {
        let mut world = World::default();
        let mut choices = Choices(choices, 0);
        let spec = spec(1, 3, "one", &["1"], 1);
        let desired = Desired::Present { spec: &spec, power: Power::Running };
        for _ in 0..steps {
            let now = plan(&desired, &world.observed, &capabilities(staging), world.now);
            let ready: Vec<_> = now.ready().collect();
            if ready.is_empty() {
                world.everything_started_gets_ready();
            } else {
                let action = ready[choices.next() % ready.len()].action.clone();
                world.carry_out(&spec, &action);
            }
        }
        let gone = Desired::Absent { last: Some(&spec), generation: Generation(2) };
        world.settle(&gone, &spec, staging, &mut choices);
    }
}

#[test]
fn engines_do_not_wait_for_files_that_they_do_not_need() {
    let spec = spec(1, 1, "one", &["1"], 1);
    let desired = Desired::Present {
        spec: &spec,
        power: Power::Running,
    };
    let mut world = World::default();
    world.observed.unused = true;
    let ready = |world: &World| -> Vec<String> {
        let plan = plan(&desired, &world.observed, &capabilities(Staging::Levels), world.now);
        plan.ready().map(|step| step.id.clone()).collect()
    };
    assert_eq!(ready(&world), ["source:shop", "envelope"]);
    world.carry_out(&spec, &Action::Apply(Stage::Envelope));
    assert_eq!(ready(&world), ["source:shop", "service:db"]);
    world.start(&spec, &"db".parse().unwrap());
    world.everything_started_gets_ready();
    world.carry_out(&spec, &Action::Data("db".parse().unwrap()));
    assert_eq!(ready(&world), ["source:shop"], "its job and its service run files");
    world.carry_out(&spec, &Action::Source("shop".parse().unwrap()));
    assert_eq!(ready(&world), ["job:warm"]);
}

#[test]
fn a_step_that_fails_backs_off_and_then_has_failed() {
    let spec = spec(1, 1, "one", &[], 1);
    let desired = Desired::Present {
        spec: &spec,
        power: Power::Running,
    };
    let mut observed = Observed::default();
    let attempt = |count, next| Attempt {
        count,
        next,
        failure: "no room".into(),
        waits: false,
    };
    let state = |observed: &Observed| {
        plan(&desired, observed, &capabilities(Staging::Levels), Timestamp(100)).steps[0]
            .state
            .clone()
    };
    observed
        .attempts
        .insert("source:shop".into(), attempt(1, Some(Timestamp(200))));
    assert_eq!(
        state(&observed),
        StepState::BackingOff {
            count: 1,
            until: Timestamp(200),
            failure: "no room".into()
        }
    );
    observed
        .attempts
        .insert("source:shop".into(), attempt(1, Some(Timestamp(50))));
    assert_eq!(state(&observed), StepState::Ready);
    observed.attempts.insert(
        "source:shop".into(),
        attempt(planner::ATTEMPTS_MAX, Some(Timestamp(50))),
    );
    assert_eq!(
        state(&observed),
        StepState::Failed {
            failure: "no room".into()
        }
    );
    observed.attempts.insert("source:shop".into(), attempt(1, None));
    assert_eq!(
        state(&observed),
        StepState::Failed {
            failure: "no room".into()
        }
    );
}

#[test]
fn a_service_that_keeps_ending_fails_the_start_but_not_a_live_environment() {
    let spec = spec(1, 1, "one", &[], 1);
    let desired = Desired::Present {
        spec: &spec,
        power: Power::Running,
    };
    let mut world = World::default();
    world.settle(&desired, &spec, Staging::Levels, &mut Choices(vec![0], 0));
    let name: ServiceName = "s0".parse().unwrap();
    let fact = world
        .observed
        .runtime
        .as_mut()
        .unwrap()
        .services
        .get_mut(&name)
        .unwrap();
    fact.state = ServiceState::BackingOff {
        code: 1,
        until: Timestamp(1_000),
    };
    fact.restarts = 5;
    let settled = plan(&desired, &world.observed, &capabilities(Staging::Levels), world.now);
    assert!(
        settled.failed().is_none(),
        "a live service is the runtime's to start again"
    );
    world.observed.verified = None;
    world.observed.carried_out.insert("service:s0".to_owned());
    let starting = plan(&desired, &world.observed, &capabilities(Staging::Levels), world.now);
    assert_eq!(starting.failed().map(|step| step.id.as_str()), Some("service:s0"));
}

#[test]
fn what_ended_under_an_older_generation_is_started_once_by_the_next() {
    let older = spec(1, 1, "one", &[], 1);
    let mut world = World::default();
    let desired = Desired::Present {
        spec: &older,
        power: Power::Running,
    };
    world.settle(&desired, &older, Staging::Levels, &mut Choices(vec![0], 0));
    let name: ServiceName = "db".parse().unwrap();
    let runtime = world.observed.runtime.as_mut().unwrap();
    let state = &mut runtime.services.get_mut(&name).unwrap().state;
    *state = ServiceState::Exited { code: 137 };
    let newer = EnvironmentSpec {
        generation: Generation(2),
        ..older.clone()
    };
    assert_eq!(newer.service_digest(&name), older.service_digest(&name));
    let desired = Desired::Present {
        spec: &newer,
        power: Power::Running,
    };
    world.observed.verified = Some(Generation(1));
    let step = |observed: &Observed| {
        let plan = plan(&desired, observed, &capabilities(Staging::Levels), world.now);
        plan.steps
            .into_iter()
            .find(|step| step.id == "service:db")
            .unwrap()
            .state
    };
    assert!(!matches!(step(&world.observed), StepState::Failed { .. }));
    world.observed.carried_out.insert("service:db".to_owned());
    assert!(matches!(step(&world.observed), StepState::Failed { .. }));
}

#[test]
fn what_is_built_is_built_once_and_before_whatever_mounts_it() {
    let with_build = |generation, input: &str| {
        let mut spec = spec(generation, 2, "code", &[], 1);
        let Stack::Services(stack) = &mut spec.stack else {
            unreachable!()
        };
        let built = MountKind::Built {
            job: "build-s0".parse().unwrap(),
            subpath: "out".into(),
        };
        let user = stack.services.get_mut(&"s0".parse::<ServiceName>().unwrap()).unwrap();
        user.workload.mounts.push(Mount {
            target: "/app/out".into(),
            kind: built,
            read_only: false,
        });
        let job = Job {
            name: "build-s0".parse().unwrap(),
            workload: workload(Root::Host, "make"),
            on: JobEvent::Build,
            needs: Vec::new(),
            timeout_ms: 1000,
            product: Some(Product {
                source: "shop".parse().unwrap(),
                inputs: Some(BTreeMap::from([("lock".to_owned(), input.to_owned())])),
                private_to: None,
            }),
            schedule: None,
        };
        stack.jobs.insert(job.name.clone(), job);
        spec
    };
    let mut world = World::default();
    let steps = |world: &World, spec: &EnvironmentSpec| {
        let desired = Desired::Present {
            spec,
            power: Power::Running,
        };
        plan(&desired, &world.observed, &capabilities(Staging::Levels), world.now)
    };
    let first = with_build(1, "1");
    let planned = steps(&world, &first);
    let user = planned.steps.iter().find(|step| step.id == "service:s0").unwrap();
    assert!(user.after.contains(&"job:build-s0".to_owned()), "{user:?}");
    let other = planned.steps.iter().find(|step| step.id == "service:db").unwrap();
    assert!(!other.after.contains(&"job:build-s0".to_owned()), "{other:?}");
    let build = planned.steps.iter().find(|step| step.id == "job:build-s0").unwrap();
    assert_eq!(build.title(), "Build s0");

    let desired = Desired::Present {
        spec: &first,
        power: Power::Running,
    };
    world.settle(&desired, &first, Staging::Levels, &mut Choices(vec![0], 0));
    for (input, state) in [
        ("1", StepState::Done),
        (
            "2",
            StepState::Blocked {
                by: vec!["envelope".into()],
            },
        ),
    ] {
        let planned = steps(&world, &with_build(2, input));
        let build = planned.steps.iter().find(|step| step.id == "job:build-s0").unwrap();
        assert_eq!(build.state, state, "input {input}");
    }
}

#[test]
fn what_hangs_since_an_older_generation_is_stopped_and_started_once_by_the_next() {
    let older = spec(1, 1, "one", &[], 1);
    let newer = EnvironmentSpec {
        generation: Generation(2),
        ..older.clone()
    };
    let name: ServiceName = "db".parse().unwrap();
    let until = Timestamp(u64::MAX);
    for state in [
        ServiceState::Starting,
        ServiceState::Unhealthy,
        ServiceState::BackingOff { code: 137, until },
    ] {
        let mut world = World::default();
        let mut desired = Desired::Present {
            spec: &older,
            power: Power::Running,
        };
        world.settle(&desired, &older, Staging::Levels, &mut Choices(vec![0], 0));
        world.now.0 += 3_600_000;
        let hang = |world: &mut World, since| {
            let runtime = world.observed.runtime.as_mut().unwrap();
            let fact = runtime.services.get_mut(&name).unwrap();
            (fact.state, fact.restarts, fact.since) = (state.clone(), 3, Timestamp(since));
        };
        hang(&mut world, 0);
        desired = Desired::Present {
            spec: &newer,
            power: Power::Running,
        };
        for id in ["release", "envelope", "service:db"] {
            let now = plan(&desired, &world.observed, &capabilities(Staging::Levels), world.now);
            assert_eq!(now.failed(), None, "{state:?}");
            let ready: Vec<_> = now.ready().map(|step| step.id.as_str()).collect();
            assert!(
                !ready.contains(&"service:db") || id == "service:db",
                "{state:?}: it is not stopped first"
            );
            let step = now.steps.iter().find(|step| step.id == id).unwrap();
            assert_eq!(step.state, StepState::Ready, "{state:?} {id}");
            world.carry_out(&newer, &step.action);
        }
        // From here on it is this generation's.
        world.observed.carried_out.insert("service:db".to_owned());
        hang(&mut world, 0);
        let now = plan(&desired, &world.observed, &capabilities(Staging::Levels), world.now);
        assert_eq!(
            now.failed().map(|step| step.id.as_str()),
            Some("service:db"),
            "{state:?}"
        );
    }
}

#[test]
fn slow_engines_hold_up_only_what_depends_on_them() {
    let mut spec = spec(1, 1, "one", &[], 1);
    let Stack::Services(stack) = &mut spec.stack else {
        panic!("services")
    };
    stack.jobs.clear();
    stack
        .services
        .insert("static".parse().unwrap(), service(Root::Host, "static", &[]));
    let mut world = World::default();
    let desired = Desired::Present {
        spec: &spec,
        power: Power::Running,
    };
    for id in ["source:shop", "envelope"] {
        let now = plan(&desired, &world.observed, &capabilities(Staging::Levels), world.now);
        let step = now.steps.iter().find(|step| step.id == id).unwrap();
        assert_eq!(step.state, StepState::Ready, "{id}");
        world.carry_out(&spec, &step.action);
    }
    let now = plan(&desired, &world.observed, &capabilities(Staging::Levels), world.now);
    let ready: Vec<_> = now.ready().map(|step| step.id.as_str()).collect();
    assert_eq!(ready, ["service:db", "service:static"]);
}
