//! A service with a Dockerfile waits for its image; whoever does not depend on it does not.

#![allow(clippy::unwrap_used, clippy::panic)]

use model::{
    Build, Capabilities, Dockerfile, EnvironmentSpec, Feature, Generation, ImageDigest, Limits, Observation, Options,
    Origin, Power, Restart, Root, Service, ServiceStack, Stack, Staging, Timestamp, Workload,
};
use planner::{Action, Desired, Observed, Plan, StepState, plan};
use std::collections::{BTreeMap, BTreeSet};

fn build() -> Build {
    Build {
        source: "app".parse().unwrap(),
        context: "site".into(),
        dockerfile: Dockerfile::Path("site/Dockerfile".into()),
        args: BTreeMap::new(),
        target: None,
        contexts: BTreeMap::new(),
        secrets: BTreeMap::new(),
        labels: BTreeMap::new(),
        no_cache: false,
        no_health: false,
        made: None,
        private_to: None,
        tags: BTreeSet::new(),
    }
}

fn service(root: Root) -> Service {
    Service {
        workload: Workload {
            root,
            entrypoint: None,
            command: Some(vec!["run".into()]),
            environment: BTreeMap::new(),
            working_dir: None,
            mounts: Vec::new(),
            limits: Limits::default(),
            read_only: true,
            options: Options::default(),
        },
        aliases: Vec::new(),
        ports: Vec::new(),
        public_port: None,
        depends_on: BTreeMap::new(),
        health: None,
        restart: Restart::Never,
        stop_signal: "SIGTERM".into(),
        stop_grace_ms: 1000,
        networks: BTreeMap::new(),
        restarts_with: BTreeSet::new(),
        restart_limit: None,
        net: model::NetworkMode::default(),
    }
}

/// `web` and `worker` have the same Dockerfile, `other` has none.
fn planned(made: Option<&ImageDigest>, there: bool) -> Plan {
    planned_with(made, there, true)
}

/// The same, with the files of the commit there or not.
fn planned_with(made: Option<&ImageDigest>, there: bool, fetched: bool) -> Plan {
    let app: model::SourceName = "app".parse().unwrap();
    let build = Build {
        made: made.cloned(),
        ..build()
    };
    let built = service(Root::Build(Box::new(build)));
    let services = [
        ("web", built.clone()),
        ("worker", built),
        ("other", service(Root::Host)),
    ];
    let spec = EnvironmentSpec {
        environment: "e00000000a".parse().unwrap(),
        generation: Generation(1),
        project: "shop".parse().unwrap(),
        origin: Origin::PullRequest { number: 1 },
        sources: [(app.clone(), "a".repeat(40).parse().unwrap())].into(),
        stack: Stack::Services(ServiceStack {
            services: services
                .into_iter()
                .map(|(name, s)| (name.parse().unwrap(), s))
                .collect(),
            ..ServiceStack::default()
        }),
        limits: Limits::default(),
        egress: model::Egress::default(),
        secrets: BTreeMap::new(),
    };
    let capabilities = Capabilities {
        runtime: "test".into(),
        staging: Staging::Levels,
        services: true,
        objects: false,
        host_roots: true,
        images: true,
        engines: Vec::new(),
        snapshots: true,
        freeze: true,
        sources: true,
        databases: true,
        features: [Feature::Builds, Feature::BroughtImages].into(),
    };
    let observed = Observed {
        runtime: Some(Observation {
            environment: spec.environment.clone(),
            at: Timestamp(1_000_000),
            generation: Generation(1),
            envelope: Some(Generation(1)),
            power: Power::Running,
            services: BTreeMap::new(),
            jobs: BTreeMap::new(),
            volumes: BTreeMap::new(),
            door: model::DoorFact::default(),
        }),
        images: made.filter(|_| there).cloned().into_iter().collect(),
        sources: fetched.then_some(app).into_iter().collect(),
        ..Observed::default()
    };
    let desired = Desired::Present {
        spec: &spec,
        power: Power::Running,
    };
    plan(&desired, &observed, &capabilities, Timestamp(1_000_000))
}

fn state(plan: &Plan, id: &str) -> StepState {
    plan.steps
        .iter()
        .find(|step| step.id == id)
        .unwrap_or_else(|| panic!("{id}"))
        .state
        .clone()
}

#[test]
fn it_waits_for_the_files_that_it_reads() {
    let plan = planned_with(None, false, false);
    let by = vec!["source:app".to_owned()];
    assert_eq!(state(&plan, "build:web"), StepState::Blocked { by });
}

#[test]
fn the_same_work_is_one_step_that_only_its_services_wait_for() {
    let plan = planned(None, false);
    assert_eq!(state(&plan, "build:web"), StepState::Ready);
    assert!(
        plan.steps
            .iter()
            .all(|step| step.id != "build:worker" && !matches!(step.action, Action::Image { .. }))
    );
    for name in ["service:web", "service:worker"] {
        let StepState::Blocked { by } = state(&plan, name) else {
            panic!("{name} is not blocked")
        };
        assert_eq!(by, ["build:web"]);
    }
    assert_eq!(state(&plan, "service:other"), StepState::Ready);
}

#[test]
fn what_is_built_and_there_is_done_and_what_was_lost_is_built_again() {
    let image: ImageDigest = format!("sha256:{}", "0a".repeat(32)).parse().unwrap();
    let plan = planned(Some(&image), true);
    assert_eq!(state(&plan, "build:web"), StepState::Done);
    assert_eq!(state(&plan, "service:web"), StepState::Ready);
    assert_eq!(state(&planned(Some(&image), false), "build:web"), StepState::Ready);
}
