//! What a stack asks of a container beyond its command: bounds of the kernel, names in `/etc/hosts`, its own name.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is a test, outside of a test function too"
)]

mod support;

use futures::StreamExt as _;
use model::{
    EnvironmentId, EnvironmentSpec, Feature, Generation, Mount, MountKind, Options, Restart, ServiceState, Stack,
    Ulimit, Volume, VolumeOrigin,
};
use runtime::{LogQuery, NoSecrets, Runtime as _};
use runtime_cell::{CellRuntime, host::OciKind};
use std::os::unix::fs::MetadataExt as _;
use support::{PATIENCE, Rig, all, exec, ready, service, spec, state, up};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

#[tokio::test]
async fn a_container_sees_what_its_author_asked_for() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let mut web = service(&["sleep", "1000"], &[]);
    web.workload.options = Options {
        hostname: Some("shop-front".into()),
        hosts: vec![("partner.test".into(), "10.99.0.7".into())],
        ulimits: [(
            "nofile".to_owned(),
            Ulimit {
                soft: Some(123),
                hard: Some(456),
            },
        )]
        .into(),
        ..Options::default()
    };
    let made = spec(rig.environment(), &[("web", web)]);
    up(&runtime, &made).await;
    ready(&runtime, &made.environment, "web").await;
    let look = "import socket, resource\nprint(socket.gethostname(), socket.gethostbyname('partner.test'), \
                resource.getrlimit(resource.RLIMIT_NOFILE), open('/proc/1/limits').read().count('123 '))";
    let (status, seen) = exec(&runtime, &made.environment, "web", &["python3", "-c", look]).await;
    assert_eq!((status, seen.trim()), (Some(0), "shop-front 10.99.0.7 (123, 456) 1"));
    runtime.remove(&made.environment, Generation(1)).await.unwrap();
}

/// Waits until a service has printed a line that begins so, and returns the rest of it.
async fn printed(runtime: &CellRuntime, environment: &EnvironmentId, name: &str, start: &str) -> String {
    let query = LogQuery {
        tail: None,
        follow: true,
    };
    let mut lines = runtime.logs(environment, name, query).await.unwrap();
    let look = async {
        while let Some(line) = lines.next().await {
            if let Some(rest) = line.text.strip_prefix(start) {
                return rest.to_owned();
            }
        }
        panic!("{name} ended without a line `{start}`");
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap()
}

/// Leaves a process without a parent that ends at once, and tells whether somebody takes notice of its end.
const ORPHAN: &str = "
import os, time
ours, theirs = os.pipe()
child = os.fork()
if child == 0:
    if os.fork() == 0:
        os.write(theirs, str(os.getpid()).encode())
    os._exit(0)
os.close(theirs)
os.waitpid(child, 0)
orphan = os.read(ours, 20).decode()
for _ in range(600):
    if not os.path.exists(f'/proc/{orphan}'):
        print('reaped by', open('/proc/1/comm').read().strip())
        break
    time.sleep(0.05)
";

#[tokio::test]
async fn an_init_process_reaps_what_others_leave_and_passes_signals_on() {
    for oci in OciKind::ALL {
        let rig = Rig::start_on(oci);
        let runtime = rig.runtime().await;
        assert!(
            runtime.capabilities().features.contains(&Feature::Init),
            "this machine has catatonit"
        );
        let main = "
import signal, sys
def end(*_):
    print('asked to end', flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('waits', flush=True)
while True: signal.pause()
";
        let mut web = service(&["python3", "-c", main], &[]);
        web.stop_grace_ms = 60_000;
        web.workload.options.init = Some(true);
        let made = spec(rig.environment(), &[("web", web)]);
        up(&runtime, &made).await;
        printed(&runtime, &made.environment, "web", "waits").await;
        let (_, seen) = exec(&runtime, &made.environment, "web", &["python3", "-c", ORPHAN]).await;
        assert_eq!(seen.trim(), "reaped by init");
        runtime
            .services_stop(&made.environment, made.generation, &["web".parse().unwrap()])
            .await
            .unwrap();
        printed(&runtime, &made.environment, "web", "asked to end").await;
        runtime.remove(&made.environment, Generation(1)).await.unwrap();
    }
}

#[tokio::test]
async fn settings_of_the_kernel_are_the_containers_own() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let of_machine = || std::fs::read_to_string("/proc/sys/kernel/shmmni").unwrap();
    let before = of_machine();
    let mut web = service(&["sleep", "1000"], &[]);
    let other = web.clone();
    let wanted = [
        ("net.ipv4.tcp_keepalive_time", "1234"),
        ("kernel.shmmni", "123"),
        ("fs.mqueue.queues_max", "12"),
        ("net.ipv4.tcp_fin_timeout", "soon"),
    ];
    web.workload.options.sysctls = wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    web.workload.options.shm_bytes = Some(96 << 20);
    let made = spec(rig.environment(), &[("web", web), ("other", other)]);
    up(&runtime, &made).await;
    let look = "import os\n\
                for name in ['net/ipv4/tcp_keepalive_time', 'kernel/shmmni', 'fs/mqueue/queues_max']:\n    \
                print(open(f'/proc/sys/{name}').read().strip(), end=' ')\n\
                shared = os.statvfs('/dev/shm')\nprint(shared.f_blocks * shared.f_bsize >> 20)";
    let mut seen = Vec::new();
    for name in ["web", "other"] {
        ready(&runtime, &made.environment, name).await;
        seen.push(
            exec(&runtime, &made.environment, name, &["python3", "-c", look])
                .await
                .1,
        );
    }
    assert_eq!(seen[0].trim(), "1234 123 12 96");
    assert!(!seen[1].contains("1234 123"), "{}", seen[1]);
    assert_eq!(of_machine(), before);
    let fact = state(&runtime, &made.environment, "web", |_| true).await;
    let told = "this kernel does not set `net.ipv4.tcp_fin_timeout` for a container";
    assert_eq!(fact.message.as_deref(), Some(told));
    for name in [
        "vm.overcommit_memory",
        "net.ipv4.ip_nonlocal_bind",
        "net.ipv4.ip_forward",
    ] {
        let mut bad = service(&["sleep", "1000"], &[]);
        bad.workload.options.sysctls = [(name.to_owned(), "1".to_owned())].into();
        let bad = EnvironmentSpec {
            generation: Generation(2),
            ..spec(made.environment.clone(), &[("web", bad)])
        };
        let refused = runtime.apply(&bad, &all(&bad), &NoSecrets).await.unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
    }
    runtime.remove(&made.environment, Generation(2)).await.unwrap();
}

/// Whether its input has come to its end, and whether it is a terminal.
const INPUT: &str = "
import os, select, sys, time
over = bool(select.select([0], [], [], float(sys.argv[1]))[0])
print('input', 'over' if over else 'open', os.isatty(0), os.isatty(1), flush=True)
while True: time.sleep(1000)
";

#[tokio::test]
async fn whoever_asks_for_a_terminal_gets_none_and_nothing_of_the_machine() {
    let null = || {
        let seen = std::fs::metadata("/dev/null").unwrap();
        (seen.uid(), seen.gid(), seen.mode())
    };
    let before = null();
    for oci in OciKind::ALL {
        let rig = Rig::start_on(oci);
        let runtime = rig.runtime().await;
        // The end of an input may take its time to come.
        let plain = service(&["python3", "-c", INPUT, "60"], &[]);
        let (mut terminal, mut both) = (plain.clone(), plain.clone());
        terminal.workload.options.terminal = true;
        (both.workload.options.terminal, both.workload.options.stdin_open) = (true, true);
        let services = [("plain", plain), ("terminal", terminal), ("both", both)];
        let made = spec(rig.environment(), &services);
        up(&runtime, &made).await;
        for (name, _) in &services {
            let seen = printed(&runtime, &made.environment, name, "input ").await;
            assert_eq!(seen, "over False False", "{name} with {oci}");
        }
        assert_eq!(null(), before, "{oci} gives the machine's /dev/null away");
        runtime.remove(&made.environment, Generation(1)).await.unwrap();
    }
}

#[tokio::test]
async fn what_fails_again_and_again_is_left_alone_after_so_many_times() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let mut web = service(&["false"], &[]);
    web.restart = Restart::OnFailure;
    web.restart_limit = Some(2);
    let made = spec(rig.environment(), &[("web", web)]);
    up(&runtime, &made).await;
    let ended = |state: &ServiceState| matches!(state, ServiceState::Exited { code: 1 });
    let fact = state(&runtime, &made.environment, "web", ended).await;
    assert_eq!(fact.restarts, 2);
    let told = fact.message.unwrap();
    assert!(told.contains("started again 2 times"), "{told}");
    runtime.remove(&made.environment, Generation(1)).await.unwrap();
}

fn memory(target: &str, kind: MountKind, read_only: bool) -> Mount {
    Mount {
        target: target.into(),
        kind,
        read_only,
    }
}

#[tokio::test]
async fn memory_and_parts_of_volumes_are_mounted_as_they_are_described() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let volume: model::VolumeName = "data".parse().unwrap();
    let mut whole = service(&["sleep", "1000"], &[]);
    let own = MountKind::Tmpfs {
        size_bytes: Some(1 << 20),
        mode: Some(0o750),
        uid: Some(1000),
        gid: Some(100),
    };
    whole.workload.mounts = vec![
        memory("/data", MountKind::Volume { volume: volume.clone() }, false),
        memory("/scratch", own, false),
        memory("/empty", MountKind::memory(None), true),
    ];
    let part = |subpath: &str| {
        let mut part = service(&["sleep", "1000"], &[]);
        let kind = MountKind::VolumePath {
            volume: volume.clone(),
            subpath: subpath.into(),
        };
        part.workload.mounts = vec![memory("/part", kind, false)];
        part
    };
    let services = [("whole", whole), ("part", part("a/b")), ("absent", part("nowhere"))];
    let mut made = spec(rig.environment(), &services);
    if let Stack::Services(stack) = &mut made.stack {
        let fresh = Volume {
            origin: VolumeOrigin::Empty,
            incarnation: Generation(1),
            limit_bytes: None,
        };
        stack.volumes.insert(volume.clone(), fresh);
    }
    let id = &made.environment;
    let only = |name: &str| model::Stage::Services([name.parse().unwrap()].into());
    runtime.apply(&made, &model::Stage::Envelope, &NoSecrets).await.unwrap();
    runtime.apply(&made, &only("whole"), &NoSecrets).await.unwrap();
    ready(&runtime, id, "whole").await;
    let (_, seen) = exec(&runtime, id, "whole", &["stat", "-c", "%a %u %g", "/scratch", "/empty"]).await;
    assert_eq!(seen, "750 1000 100\n1777 0 0\n");
    let (_, seen) = exec(&runtime, id, "whole", &["touch", "/empty/x"]).await;
    assert!(seen.contains("Read-only file system"), "{seen}");
    let (status, seen) = exec(&runtime, id, "whole", &["mkdir", "-p", "/data/a/b/c"]).await;
    assert_eq!(status, Some(0), "{seen}");
    runtime.apply(&made, &only("part"), &NoSecrets).await.unwrap();
    ready(&runtime, id, "part").await;
    assert_eq!(exec(&runtime, id, "part", &["ls", "/part"]).await.1, "c\n");
    let refused = runtime.apply(&made, &only("absent"), &NoSecrets).await.unwrap_err();
    assert!(
        refused.to_string().contains("there is no `nowhere` in the volume"),
        "{refused}"
    );
    runtime.remove(id, Generation(1)).await.unwrap();
}
