//! What kernel and service manager of the machine do with cells, on control groups of either version.
//!
//! `make test-v2` runs this on version 2 under systemd.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod support;

use model::{EnvironmentId, Generation, Limits, Power, Restart, ServiceState};
use runtime::{NoSecrets, Runtime as _};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use support::{PATIENCE, Rig, exec, ready, service, spec, state, up};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

const ROOT: &str = "/sys/fs/cgroup";

fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The group of an environment, in the hierarchy of a controller where each has its own.
fn group(rig: &Rig, controller: &str, environment: &EnvironmentId) -> PathBuf {
    let root = Path::new(ROOT).join(if unified() { "" } else { controller });
    root.join(format!("maquette-{}", rig.instance))
        .join(environment.as_str())
}

fn read(path: &Path) -> String {
    let text = fs::read_to_string(path);
    text.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .trim()
        .to_owned()
}

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_knows_every_limit_and_nothing_is_swapped_out() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let mut one = service(&["sleep", "1000"], &[]);
    one.workload.limits = Limits {
        memory_bytes: Some(64 * MIB),
        cpu_millis: Some(500),
        pids: Some(40),
        disk_bytes: None,
    };
    let mut made = spec(rig.environment(), &[("one", one)]);
    made.limits = Limits {
        memory_bytes: Some(96 * MIB),
        cpu_millis: Some(1500),
        pids: Some(70),
        disk_bytes: None,
    };
    let id = made.environment.clone();
    up(&runtime, &made).await;
    for (below, memory, cpu, pids) in [("", 96, 150_000, 70), ("s-one", 64, 50_000, 40)] {
        let path = |controller| group(&rig, controller, &id).join(below);
        let swap = |name| path("memory").join(name);
        assert_eq!(read(&path("pids").join("pids.max")), pids.to_string());
        let memory = (memory * MIB).to_string();
        if unified() {
            assert_eq!(read(&path("memory").join("memory.max")), memory);
            assert_eq!(read(&swap("memory.swap.max")), "0");
            assert_eq!(read(&path("cpu").join("cpu.max")), format!("{cpu} 100000"));
        } else {
            assert_eq!(read(&path("memory").join("memory.limit_in_bytes")), memory);
            let both = swap("memory.memsw.limit_in_bytes");
            if both.exists() {
                assert_eq!(read(&both), memory, "memory and swap together");
            }
            assert_eq!(read(&path("cpu").join("cpu.cfs_quota_us")), cpu.to_string());
        }
    }
    // Raised and lowered again: the kernel refuses some orders of doing that.
    for megabytes in [256, 128] {
        made.generation = Generation(made.generation.0 + 1);
        made.limits.memory_bytes = Some(megabytes * MIB);
        runtime.apply(&made, &model::Stage::Envelope, &NoSecrets).await.unwrap();
        let file = if unified() {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        assert_eq!(
            read(&group(&rig, "memory", &id).join(file)),
            (megabytes * MIB).to_string()
        );
    }
    runtime.remove(&id, Generation(9)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_services_use_together_is_bounded_by_their_environment() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let eater = "x = bytearray(b'x') * (70 << 20)\nprint('fed', flush=True)\nimport time\ntime.sleep(1000)";
    let mut one = service(&["python3", "-c", eater], &[]);
    one.restart = Restart::Never;
    one.workload.limits.memory_bytes = Some(128 * MIB);
    let mut made = spec(rig.environment(), &[("one", one.clone()), ("two", one)]);
    made.limits.memory_bytes = Some(110 * MIB);
    let id = made.environment.clone();
    up(&runtime, &made).await;
    let begun = Instant::now();
    let killed = loop {
        let seen = runtime.observe(&id).await.unwrap().unwrap();
        let is = |s: &&model::ServiceFact| matches!(s.state, ServiceState::Exited { code: 137 });
        if let Some(fact) = seen.services.values().find(is) {
            break fact.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let told = killed.message.as_deref().unwrap_or_default();
    assert!(told.contains("memory limit"), "{killed:?}");
    runtime.remove(&id, Generation(1)).await.unwrap();
}

/// How far a counter gets in the same time, as a share of a processor.
const BUSY: &str = "\
import time
begun, used = time.monotonic(), time.process_time()
while time.monotonic() - begun < 2: pass
print((time.process_time() - used) / (time.monotonic() - begun))
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_service_gets_no_more_of_a_processor_than_its_limit() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let mut one = service(&["sleep", "1000"], &[]);
    one.workload.limits.cpu_millis = Some(100);
    let made = spec(rig.environment(), &[("one", one)]);
    let id = &made.environment;
    up(&runtime, &made).await;
    let (_, text) = exec(&runtime, id, "one", &["python3", "-c", BUSY]).await;
    let share: f64 = text.trim().parse().unwrap_or_else(|_| panic!("{text}"));
    assert!(share < 0.3, "a tenth of a processor was allowed: {share}");
    runtime.remove(id, Generation(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_environment_uses_no_processor_and_a_fork_bomb_in_it_ends_with_it() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let bomb = "import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n\
                while True:\n try: os.fork()\n except OSError: pass";
    let mut one = service(&["python3", "-c", bomb], &[]);
    one.workload.limits.pids = Some(24);
    let made = spec(rig.environment(), &[("one", one)]);
    let id = &made.environment;
    up(&runtime, &made).await;
    let used = || {
        let group = group(&rig, "cpuacct", id);
        if unified() {
            read(&group.join("cpu.stat")).lines().next().unwrap().to_owned()
        } else {
            read(&group.join("cpuacct.usage"))
        }
    };
    runtime.power(id, Generation(1), Power::Frozen).await.unwrap();
    // A process counts as frozen a moment before it leaves the processor, and on a busy machine that moment may be long.
    let begun = Instant::now();
    let still = loop {
        let before = used();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if used() == before {
            break before;
        }
        assert!(begun.elapsed() < PATIENCE, "a frozen environment works");
    };
    runtime.power(id, Generation(1), Power::Running).await.unwrap();
    let begun = Instant::now();
    while used() == still {
        assert!(begun.elapsed() < PATIENCE, "a thawed environment does not work");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    runtime.remove(id, Generation(1)).await.unwrap();
    assert_eq!(runtime.inventory(None).await.unwrap(), []);
}

/// What an operator has mounted below `/usr` is no less read-only than `/usr` itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_mounted_below_the_hosts_directories_can_not_be_written_either() {
    // In a mount namespace that nobody else is in.
    let script =
        "mount -t tmpfs -o mode=777 tmpfs /usr/local/share && mkdir -m 777 /usr/local/share/open && exec \"$@\"";
    let rig = Rig::start_within(&[
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    let runtime = rig.runtime().await;
    let made = spec(rig.environment(), &[("one", service(&["sleep", "1000"], &[]))]);
    let id = &made.environment;
    up(&runtime, &made).await;
    let program = "import os\nprint(os.listdir('/usr/local/share'))\nopen('/usr/local/share/open/file', 'w')";
    let (status, text) = exec(&runtime, id, "one", &["python3", "-c", program]).await;
    assert!(text.starts_with("['open']"), "it is not there at all: {text}");
    assert!(status == Some(1) && text.contains("Read-only file system"), "{text}");
    runtime.remove(id, Generation(1)).await.unwrap();
}

fn systemctl(arguments: &[&str]) {
    let output = Command::new("systemctl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// The unit of a cell host that systemd runs; gone at the end of the test.
struct Unit(String);

impl Unit {
    fn start(rig: &Rig) -> Self {
        let unit = Self(format!("cell-test-{}.service", rig.instance));
        let mut command = Command::new("systemd-run");
        command.arg("--quiet").arg(format!("--unit={}", unit.0));
        for (name, value) in rig.variables() {
            command.arg(format!("--setenv={name}={value}"));
        }
        let status = command
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "host_process", "--ignored", "--nocapture"])
            .status()
            .unwrap();
        assert!(status.success());
        unit
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = Command::new("systemctl").args(["stop", &self.0]).status();
    }
}

/// A service manager ends every process of a unit's control group, and tidies the tree of groups when it reads its settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_that_restarts_the_host_leaves_environments_alone() {
    if !Path::new("/run/systemd/system").exists() {
        eprintln!("systemd does not run here: see `make test-v2`");
        return;
    }
    let mut rig = Rig::start();
    let _ = rig.runtime().await;
    rig.kill_host();
    let unit = Unit::start(&rig);
    let runtime = rig.runtime().await;
    let born = "import os, time\nopen('/tmp/born', 'w').write(os.urandom(8).hex())\ntime.sleep(1000)";
    let mut web = service(&["python3", "-c", born], &[]);
    web.workload.limits.memory_bytes = Some(64 * MIB);
    let made = spec(rig.environment(), &[("web", web)]);
    let id = &made.environment;
    up(&runtime, &made).await;
    ready(&runtime, id, "web").await;
    let begun = Instant::now();
    let before = loop {
        let (status, text) = exec(&runtime, id, "web", &["cat", "/tmp/born"]).await;
        // Started is not yet written.
        if status == Some(0) && !text.is_empty() {
            break text;
        }
        assert!(begun.elapsed() < PATIENCE, "{text}");
    };

    for arguments in [&["daemon-reload"][..], &["daemon-reexec"], &["restart", &unit.0]] {
        systemctl(arguments);
        let _ = rig.runtime().await;
        let fact = state(&runtime, id, "web", |s| *s == ServiceState::Ready).await;
        assert_eq!(fact.restarts, 0, "after {arguments:?}");
        let (_, after) = exec(&runtime, id, "web", &["cat", "/tmp/born"]).await;
        assert_eq!(after, before, "after {arguments:?}");
        let file = if unified() {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        let limit = read(&group(&rig, "memory", id).join("s-web").join(file));
        assert_eq!(limit, (64 * MIB).to_string(), "after {arguments:?}");
    }
    runtime.remove(id, Generation(1)).await.unwrap();
    assert_eq!(runtime.inventory(None).await.unwrap(), []);
}
