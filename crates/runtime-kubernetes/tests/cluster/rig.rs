//! A runtime on the cluster that `KUBECONFIG` names, with an installation id of its own, and programs for its pods.

use crate::repository::Team;
use async_trait::async_trait;
use model::{
    EnvironmentId, EnvironmentSpec, Generation, Limits, Mount, MountKind, NetworkMode, Options, Origin, Restart, Root,
    Service, ServiceStack, ServiceState, Stack, Stage, Workload,
};
use runtime::{
    NoSecrets, Runtime,
    conformance::{Fixture, Program},
};
use runtime_kubernetes::{Cluster, Delivery, KubernetesRuntime, PodSecurity};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) const IMAGE: &str = "cluster.invalid/busybox:1";
pub(crate) const PORT: u16 = 8080;

/// Waits until somebody can connect, then prints the text. `$0` is the text, `$1` the port.
const SERVE: &str = r#"
trap 'kill $!; exit 0' TERM
nc -ll -p "$1" -e ash -c 'printf "%s\n" "$0"; exec cat 2>/dev/null' "$0" &
until grep -q "$(printf ':%04X 0' "$1")" /proc/net/tcp /proc/net/tcp6; do usleep 10000; done
printf '%s\n' "$0"
wait
"#;
/// A program that the image does not have.
const PRINTENV: &str = r#"#!/bin/ash
eval "printf '%s\\n' \"\${$1?}\""
"#;
const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
const EXIT: &str = r#"printf '%s\n' "$0"; exit "$1""#;
const LIST: &str = r#"mkdir -p "$(dirname "$1")"; ls -1A "$0" | sort >"$1""#;

/// Prints what the server `$0` at the port `$1` says. This image's programs can not look names up by themselves.
const FETCH: &str = r#"
domain=$(sed -n 's/^search \([^ ]*\).*/\1/p' /etc/resolv.conf)
address=$(nslookup -type=a "$0.$domain" | sed -n '/^Name/,$s/^Address[^:]*: *//p' | head -n 1)
[ -n "$address" ] && exec nc -w 3 "$address" "$1" </dev/null
"#;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// What a test has of a cluster.
pub(crate) struct Rig {
    pub(crate) runtime: KubernetesRuntime,
    run: String,
    /// The repository, if commits are what is delivered.
    pub(crate) team: Option<Team>,
}

impl Rig {
    /// Connects to the cluster, where volumes have no class.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Connects to the cluster.
    pub(crate) async fn with(change: impl Fn(&mut Cluster)) -> Self {
        Self::connect(&kubeconfig(), None, change).await
    }

    /// Connects to the cluster and its Argo CD, and gives it a repository.
    pub(crate) async fn gitops(change: impl Fn(&mut Cluster)) -> Self {
        Self::with_team(Team::new().await, change).await
    }

    /// The same with a repository that is there.
    pub(crate) async fn with_team(team: Team, change: impl Fn(&mut Cluster)) -> Self {
        Self::connect(&kubeconfig(), Some(team), change).await
    }

    /// Connects to the cluster in the way that this says.
    pub(crate) async fn through(kubeconfig: &str) -> Self {
        Self::connect(kubeconfig, None, |_| {}).await
    }

    async fn connect(kubeconfig: &str, team: Option<Team>, change: impl Fn(&mut Cluster)) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let run = format!("{:06x}{number:02x}", now.as_secs() & 0xff_ffff);
        let mut cluster = cluster(&run);
        change(&mut cluster);
        Self {
            runtime: KubernetesRuntime::connect(cluster, delivery(team.as_ref()), kubeconfig)
                .await
                .unwrap(),
            run,
            team,
        }
    }

    /// The API server without a runtime in between.
    pub(crate) async fn client(&self) -> kube::Client {
        kube::Client::try_default().await.unwrap()
    }

    /// What tells this from all others.
    pub(crate) fn id(&self) -> &str {
        &self.run
    }

    /// The namespace of an environment.
    pub(crate) fn namespace(&self, spec: &EnvironmentSpec) -> String {
        runtime_kubernetes::names::namespace(&cluster(&self.run).instance, &spec.environment)
    }

    /// A second runtime of the same installation, as after a restart.
    pub(crate) async fn again(&self) -> Self {
        Self {
            runtime: KubernetesRuntime::connect(cluster(&self.run), Delivery::Apply, &kubeconfig())
                .await
                .unwrap(),
            run: self.run.clone(),
            team: None,
        }
    }
}

/// What `KUBECONFIG` names.
pub(crate) fn kubeconfig() -> String {
    let path = env::var("KUBECONFIG").unwrap_or_default();
    assert!(
        !path.is_empty(),
        "KUBECONFIG is not set, so there is no cluster to test on; `make test-cluster` starts one"
    );
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn delivery(team: Option<&Team>) -> Delivery {
    team.map_or(Delivery::Apply, |team| Delivery::GitOps(Box::new(team.gitops())))
}

fn cluster(run: &str) -> Cluster {
    Cluster {
        instance: run[run.len() - 6..].parse().unwrap(),
        pod_security: PodSecurity::Restricted,
        gateway_namespace: None,
        storage_class: None,
        shared_storage_class: None,
        built_images: None,
        pull_secret: None,
        priority_class: None,
    }
}

/// The first generation of a new environment, with nothing in it.
pub(crate) fn spec(rig: &Rig) -> EnvironmentSpec {
    EnvironmentSpec {
        environment: rig.environment(),
        generation: Generation(1),
        project: "shop".parse().unwrap(),
        origin: Origin::PullRequest { number: 7 },
        sources: BTreeMap::new(),
        stack: Stack::Services(ServiceStack::default()),
        limits: Limits::default(),
        egress: model::Egress::default(),
        secrets: BTreeMap::new(),
    }
}

/// Adds a service.
pub(crate) fn with(spec: &mut EnvironmentSpec, name: &str, workload: Workload, ports: &[u16]) {
    let service = Service {
        workload,
        aliases: Vec::new(),
        ports: ports.to_vec(),
        public_port: ports.first().copied(),
        depends_on: BTreeMap::new(),
        health: None,
        restart: Restart::Always,
        stop_signal: "SIGTERM".to_owned(),
        stop_grace_ms: 5_000,
        networks: BTreeMap::new(),
        net: NetworkMode::Networks,
        restarts_with: BTreeSet::new(),
        restart_limit: None,
    };
    if let Stack::Services(stack) = &mut spec.stack {
        stack.services.insert(name.parse().unwrap(), service);
    }
}

/// Applies the envelope and all services.
pub(crate) async fn begin(rig: &Rig, spec: &EnvironmentSpec) {
    rig.runtime.apply(spec, &Stage::Envelope, &NoSecrets).await.unwrap();
    let names = spec.services().unwrap().services.keys().cloned().collect();
    rig.runtime
        .apply(spec, &Stage::Services(names), &NoSecrets)
        .await
        .unwrap();
}

/// Waits until all services are ready.
pub(crate) async fn ready(rig: &Rig, spec: &EnvironmentSpec) {
    for _ in 0..600 {
        let seen = rig.runtime.observe(&spec.environment).await.unwrap().unwrap();
        if seen.services.values().all(|fact| fact.state == ServiceState::Ready) {
            return;
        }
        rig.pause().await;
    }
    panic!(
        "it does not get ready: {:?}",
        rig.runtime.observe(&spec.environment).await
    );
}

/// A workload of the test image.
pub(crate) fn workload(command: &[&str]) -> Workload {
    Workload {
        root: Root::Image {
            reference: IMAGE.to_owned(),
            pinned: None,
        },
        entrypoint: Some(command.iter().map(|&word| word.to_owned()).collect()),
        command: None,
        environment: BTreeMap::new(),
        working_dir: None,
        mounts: vec![Mount {
            target: "/bin/printenv".to_owned(),
            kind: MountKind::Content {
                content: PRINTENV.into(),
                mode: 0o555,
                uid: None,
                gid: None,
            },
            read_only: true,
        }],
        limits: Limits::default(),
        read_only: false,
        options: Options::default(),
    }
}

#[async_trait]
impl Fixture for Rig {
    fn runtime(&self) -> &dyn Runtime {
        &self.runtime
    }

    fn environment(&self) -> EnvironmentId {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("e{}{number:03}", &self.run[2..8]).parse().unwrap()
    }

    fn workload(&self, program: &Program) -> Workload {
        match program {
            Program::Serve { text } => workload(&["ash", "-c", SERVE, text, &PORT.to_string()]),
            Program::Idle => workload(&["ash", "-c", IDLE]),
            Program::Exit { text, code } => workload(&["ash", "-c", EXIT, text, &code.to_string()]),
            Program::List { directory, into } => workload(&["ash", "-c", LIST, directory, into]),
            Program::Missing => workload(&["this-command-does-not-exist"]),
        }
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn fetch(&self, name: &str, port: u16) -> Vec<String> {
        ["ash", "-c", FETCH, name, &port.to_string()].map(str::to_owned).into()
    }

    /// The kubelet's pauses between restarts grow to minutes.
    fn patience(&self) -> u32 {
        3000
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
