//! A real cell host in a process of its own, with a pool of its own, and everything of it removed at the end.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test program uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function"
)]

use model::{
    EnvironmentId, EnvironmentSpec, Generation, InstanceId, Limits, Origin, Restart, Root, Service, ServiceStack,
    Stack, Stage, Workload,
};
use runtime::{NoSecrets, Runtime as _};
use runtime_cell::{
    CellDialer, CellRuntime,
    host::{HostConfig, OciKind, run},
    pool::{Place, PoolConfig},
};
use rustix::mount::{UnmountFlags, unmount};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

pub const CANARY: &str = "canary-7c1f";
const DIRECTORY: &str = "CELL_TEST_DIRECTORY";
const INSTANCE: &str = "CELL_TEST_INSTANCE";
const CONTROL: &str = "CELL_TEST_CONTROL";
/// Also for people: with `runc` or `crun` all tests of a program run on that one.
const OCI: &str = "CELL_TEST_OCI";
const DOOR: &str = "CELL_TEST_DOOR";
const DOOR_BYTES: &str = "CELL_TEST_DOOR_BYTES";
const BUILD_SECONDS: &str = "CELL_TEST_BUILD_SECONDS";
/// For all that happens by itself: a machine that has much else to do takes its time.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// To be called by an ignored test of each test program: the rig runs that test as its cell host.
pub fn host_process() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let instance: InstanceId = std::env::var(INSTANCE).unwrap().parse().unwrap();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(tracing::Level::INFO)
        .init();
    let directory = Path::new(&directory);
    if std::env::var_os(DOOR).is_some() {
        let mut bounds = runtime_cell::door::Bounds {
            loopback: true,
            ..Default::default()
        };
        if let Some(bytes) = std::env::var(DOOR_BYTES).ok().and_then(|text| text.parse().ok()) {
            bounds.bytes_an_hour = bytes;
        }
        return runtime_cell::door::run(&directory.join("run"), bounds).unwrap();
    }
    run(config(directory, instance)).unwrap();
}

fn config(directory: &Path, instance: InstanceId) -> HostConfig {
    let pool = PoolConfig {
        place: Place::Image {
            path: directory.join("pool.img"),
            size: 1 << 30,
            mountpoint: directory.join("pool"),
            reserve: 0,
        },
        instance: instance.to_string(),
        watermark_percent: 2,
    };
    let mut config = HostConfig::new(instance, directory.join("run"), directory.join("state"), pool);
    config.dial_uids = vec![DIALER];
    config.door_uid = Some(DOORKEEPER);
    config.images.unpacker = ["--exact", "unpacker_process", "--ignored", "--nocapture"]
        .map(str::to_owned)
        .to_vec();
    config.images.bytes = 256 << 20;
    config.builds.memory_bytes = 512 << 20;
    config.builds.pids = 300;
    config.builds.disk_bytes = 300 << 20;
    // Only whoever tests how a build is ended that takes too long wants it to be short.
    let seconds = std::env::var(BUILD_SECONDS).ok().map(|text| text.parse().unwrap());
    config.builds.patience = Duration::from_secs(seconds.unwrap_or(600));
    config.oci = std::env::var(OCI).ok().map(|name| name.parse().unwrap());
    if let Some(uid) = std::env::var(CONTROL)
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|uid| *uid != 0)
    {
        (config.control_uid, config.control_gid) = (uid, uid + 1);
    }
    config
}

/// A user that may only dial.
pub const DIALER: u32 = 54_321;
/// The user of the door.
pub const DOORKEEPER: u32 = 54_322;

pub struct Rig {
    pub directory: PathBuf,
    pub instance: InstanceId,
    host: Option<Child>,
    door: Option<Child>,
    next: AtomicU32,
    control: u32,
    wrapper: Vec<String>,
    /// The OCI runtime of the next host that is started, if it is to be one in particular.
    pub oci: Option<OciKind>,
    build_seconds: Option<u64>,
}

impl Rig {
    pub fn start() -> Self {
        Self::start_for(0)
    }

    /// With a control plane that runs as this user.
    pub fn start_for(control: u32) -> Self {
        Self::start_with(control, &[], None, None)
    }

    /// With this OCI runtime.
    pub fn start_on(oci: OciKind) -> Self {
        Self::start_with(0, &[], Some(oci), None)
    }

    /// With a host that lets a build take so long.
    pub fn start_for_builds_of(seconds: u64) -> Self {
        Self::start_with(0, &[], None, Some(seconds))
    }

    /// With a program that becomes the cell host; it gets what to run as its last arguments.
    pub fn start_within(wrapper: &[&str]) -> Self {
        Self::start_with(0, wrapper, None, None)
    }

    fn start_with(control: u32, wrapper: &[&str], oci: Option<OciKind>, build_seconds: Option<u64>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (instance, directory) = loop {
            let number = std::process::id() % 40_000 * 36 + NUMBER.fetch_add(1, Ordering::Relaxed) % 36;
            let instance: InstanceId = format!("t{:0>5}", base36(number)).parse().unwrap();
            let directory = std::env::temp_dir().join(format!("cell-{instance}"));
            match fs::create_dir(&directory) {
                Ok(()) => break (instance, directory),
                // Of a run that was killed, whose number this one has.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", directory.display()),
            }
        };
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711)).unwrap();
        let mut rig = Self {
            directory,
            instance,
            host: None,
            door: None,
            next: AtomicU32::new(0),
            control,
            wrapper: wrapper.iter().map(|word| (*word).to_owned()).collect(),
            oci,
            build_seconds,
        };
        rig.start_host();
        rig
    }

    pub fn start_host(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join("host.log"))
            .unwrap();
        let mut words = self.wrapper.clone();
        words.push(std::env::current_exe().unwrap().to_str().unwrap().to_owned());
        let host = Command::new(&words[0])
            .args(&words[1..])
            .args(["--exact", "host_process", "--ignored", "--nocapture"])
            .envs(self.variables())
            .envs(self.oci.map(|kind| (OCI, kind.name())))
            .envs(self.build_seconds.map(|seconds| (BUILD_SECONDS, seconds.to_string())))
            .env("CELL_CANARY", CANARY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.host = Some(host);
    }

    /// What `host_process` is to find in its environment.
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            (DIRECTORY, self.directory.display().to_string()),
            (INSTANCE, self.instance.to_string()),
            (CONTROL, self.control.to_string()),
        ]
    }

    pub fn run_dir(&self) -> PathBuf {
        self.directory.join("run")
    }

    pub fn host_pid(&self) -> u32 {
        self.host.as_ref().unwrap().id()
    }

    pub fn kill_host(&mut self) {
        if let Some(mut host) = self.host.take() {
            host.kill().unwrap();
            host.wait().unwrap();
        }
    }

    /// Starts the door, which is no part of a rig by itself.
    pub fn start_door(&mut self) {
        self.door = Some(self.door_command().spawn().unwrap());
    }

    /// Starts one through which each environment moves so many bytes in an hour.
    pub fn start_door_for(&mut self, bytes_an_hour: u64) {
        let mut command = self.door_command();
        command.env(DOOR_BYTES, bytes_an_hour.to_string());
        self.door = Some(command.spawn().unwrap());
    }

    /// Starts it by a program that becomes it; it gets what to run as its last arguments.
    pub fn start_door_within(&mut self, wrapper: &[&str]) {
        // The directory of this one may be closed to that user.
        let program = self.directory.join("door");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program);
        self.door = Some(self.as_door(command).spawn().unwrap());
    }

    fn door_command(&self) -> Command {
        // The directory of the program may be closed to that user.
        let mut command = Command::new("/proc/self/exe");
        command.uid(DOORKEEPER).gid(DOORKEEPER);
        self.as_door(command)
    }

    fn as_door(&self, mut command: Command) -> Command {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.join("host.log"))
            .unwrap();
        command
            .args(["--exact", "host_process", "--ignored", "--nocapture"])
            .envs(self.variables())
            .env(DOOR, "1")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    pub fn door_pid(&self) -> u32 {
        self.door.as_ref().unwrap().id()
    }

    pub fn kill_door(&mut self) {
        if let Some(mut door) = self.door.take() {
            door.kill().unwrap();
            door.wait().unwrap();
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("host.log")).unwrap_or_default()
    }

    pub async fn runtime(&self) -> CellRuntime {
        let begun = Instant::now();
        loop {
            match CellRuntime::connect(&self.run_dir(), self.instance.clone()).await {
                Ok(runtime) => return runtime,
                Err(_) if begun.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}; the host said: {}", self.log()),
            }
        }
    }

    pub fn dialer(&self) -> CellDialer {
        CellDialer::new(&self.run_dir())
    }

    pub fn environment(&self) -> EnvironmentId {
        format!("e{:0>9}", base36(self.next.fetch_add(1, Ordering::Relaxed)))
            .parse()
            .unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the host said: {}", self.log());
        }
        self.kill_host();
        self.kill_door();
        let groups = || {
            fs::read_dir("/sys/fs/cgroup")
                .unwrap()
                .flatten()
                .map(|e| e.path().join(format!("maquette-{}", self.instance)))
        };
        for _ in 0..200 {
            let mut left = Vec::new();
            groups().for_each(|group| collect(&group, &mut left));
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = rustix::process::kill_process(
                    rustix::process::Pid::from_raw(pid).unwrap(),
                    rustix::process::Signal::KILL,
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        groups().for_each(|group| remove_groups(&group));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let below = |line: &&str| {
            line.split(' ')
                .nth(1)
                .is_some_and(|p| Path::new(p).starts_with(&self.directory))
        };
        let mut points: Vec<&str> = mounts
            .lines()
            .filter(below)
            .filter_map(|l| l.split(' ').nth(1))
            .collect();
        points.reverse();
        for point in points {
            let _ = unmount(point, UnmountFlags::DETACH);
        }
        detach_loop(&self.directory.join("pool.img"));
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn detach_loop(image: &Path) {
    let Ok(output) = Command::new("losetup").arg("-j").arg(image).output() else {
        return;
    };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((device, _)) = line.split_once(':') {
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
    }
}

fn collect(group: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), pids);
        }
    }
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

fn base36(mut number: u32) -> String {
    let mut text = String::new();
    loop {
        text.insert(0, char::from_digit(number % 36, 36).unwrap());
        number /= 36;
        if number == 0 {
            return text;
        }
    }
}

/// A workload from the host's packages.
pub fn workload(argv: &[&str]) -> Workload {
    Workload {
        root: Root::Host,
        entrypoint: None,
        command: Some(argv.iter().map(|a| (*a).to_owned()).collect()),
        environment: BTreeMap::new(),
        working_dir: None,
        mounts: Vec::new(),
        limits: Limits {
            memory_bytes: Some(256 << 20),
            cpu_millis: None,
            pids: Some(128),
            disk_bytes: None,
        },
        read_only: true,
        options: model::Options::default(),
    }
}

/// A service that runs this.
pub fn service(argv: &[&str], ports: &[u16]) -> Service {
    Service {
        workload: workload(argv),
        aliases: Vec::new(),
        ports: ports.to_vec(),
        public_port: None,
        depends_on: BTreeMap::new(),
        health: None,
        restart: Restart::Never,
        stop_signal: "SIGTERM".into(),
        stop_grace_ms: 3000,
        networks: BTreeMap::new(),
        restarts_with: std::collections::BTreeSet::new(),
        restart_limit: None,
        net: model::NetworkMode::default(),
    }
}

/// The first generation of an environment with these services.
pub fn spec(environment: EnvironmentId, services: &[(&str, Service)]) -> EnvironmentSpec {
    let services = services
        .iter()
        .map(|(name, service)| (name.parse().unwrap(), service.clone()))
        .collect();
    EnvironmentSpec {
        environment,
        generation: Generation(1),
        project: "test".parse().unwrap(),
        origin: Origin::PullRequest { number: 1 },
        sources: BTreeMap::new(),
        stack: Stack::Services(ServiceStack {
            services,
            ..ServiceStack::default()
        }),
        limits: Limits::default(),
        egress: model::Egress::default(),
        secrets: BTreeMap::new(),
    }
}

pub fn all(spec: &EnvironmentSpec) -> Stage {
    Stage::Services(spec.services().unwrap().services.keys().cloned().collect())
}

pub async fn up(runtime: &CellRuntime, spec: &EnvironmentSpec) {
    runtime.apply(spec, &Stage::Envelope, &NoSecrets).await.unwrap();
    runtime.apply(spec, &all(spec), &NoSecrets).await.unwrap();
}

pub async fn ready(runtime: &CellRuntime, environment: &EnvironmentId, service: &str) {
    state(runtime, environment, service, |s| *s == model::ServiceState::Ready).await;
}

pub async fn state(
    runtime: &CellRuntime,
    environment: &EnvironmentId,
    service: &str,
    is: impl Fn(&model::ServiceState) -> bool,
) -> model::ServiceFact {
    fact(runtime, environment, service, |fact| is(&fact.state)).await
}

/// Waits until what is observed of a service holds.
pub async fn fact(
    runtime: &CellRuntime,
    environment: &EnvironmentId,
    service: &str,
    holds: impl Fn(&model::ServiceFact) -> bool,
) -> model::ServiceFact {
    let begun = Instant::now();
    loop {
        let seen = runtime.observe(environment).await.unwrap().unwrap();
        let fact = seen.services.get(&service.parse().unwrap()).cloned();
        if let Some(fact) = &fact
            && holds(fact)
        {
            return fact.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{service}: {fact:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs a command in a service; exit status and everything that it printed.
pub async fn exec(
    runtime: &CellRuntime,
    environment: &EnvironmentId,
    service: &str,
    argv: &[&str],
) -> (Option<i32>, String) {
    let argv: Vec<String> = argv.iter().map(|a| (*a).to_owned()).collect();
    let mut exec = runtime
        .exec(environment, &service.parse().unwrap(), &argv, &BTreeMap::new())
        .await
        .unwrap();
    drop(exec.stdin);
    let mut text = Vec::new();
    while let Some(bytes) = exec.stdout.recv().await {
        text.extend_from_slice(&bytes);
    }
    while let Some(bytes) = exec.stderr.recv().await {
        text.extend_from_slice(&bytes);
    }
    let status = match exec.exit.await.unwrap() {
        runtime::ExecExit::Status(status) => Some(status),
        runtime::ExecExit::Failed(_) => None,
    };
    (status, String::from_utf8_lossy(&text).into_owned())
}
