//! Attacks from inside a cell. Each says what a neighbour or the machine would notice if it worked.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

#[path = "attacks/busy.rs"]
mod busy;
#[path = "attacks/descriptors.rs"]
mod descriptors;
mod support;
#[path = "attacks/version6.rs"]
mod version6;

#[path = "attacks/build.rs"]
mod build;
#[path = "images/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod packed;
#[path = "attacks/python.rs"]
mod python;

use model::{
    EnvironmentId, EnvironmentSpec, Generation, Limits, Mount, MountKind, Restart, ServiceState, Stack, Volume,
    VolumeOrigin,
};
use packed::Packed;
use runtime::{NoSecrets, Runtime as _, Target};
use runtime_cell::{CellRuntime, host::OciKind};
use std::{collections::BTreeMap, net::TcpListener, os::unix::fs::MetadataExt as _, time::Duration};
use support::{CANARY, Rig, all, exec, ready, service, spec, state, up};
use tokio::io::AsyncReadExt as _;

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

#[test]
#[ignore = "run by the cell host to unpack an image"]
fn unpacker_process() {
    // It says itself why it could not.
    let _ = runtime_cell::unpacker::main();
}

/// Where the attacker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a service from the packages of the host.
    Host,
    /// In a service from an image whose entrypoint begins as root.
    Image,
    /// In a build in a checkout, from the packages of the host.
    Build,
    /// The same from an image.
    BuildInImage,
}

impl Place {
    const ALL: [Self; 4] = [Self::Host, Self::Image, Self::Build, Self::BuildInImage];

    fn is_of_image(self) -> bool {
        matches!(self, Self::Image | Self::BuildInImage)
    }

    fn is_build(self) -> bool {
        matches!(self, Self::Build | Self::BuildInImage)
    }
}

const VICTIM: &str = "\
import socket, time
listener = socket.create_server(('', 8123))
inotify = None
while True:
    connection, _ = listener.accept()
    connection.sendall(b'the victim is alive')
    connection.close()
";

/// The first process of a cell has to reap what others leave, or its zombies use up the limit of its own cell.
const REAPER: &str = "\
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True: signal.pause()
";

/// Two environments: `web` of the first serves, `shell` of the second is the attacker's.
struct Town {
    rig: Rig,
    runtime: CellRuntime,
    victim: EnvironmentId,
    attacker: EnvironmentId,
    place: Place,
    image: Option<Packed>,
    /// What the attacker's environment is made of.
    made: EnvironmentSpec,
}

impl Town {
    async fn build() -> Self {
        Self::on(Rig::start(), Place::Host).await
    }

    async fn on(rig: Rig, place: Place) -> Self {
        let runtime = rig.runtime().await;
        let (victim, attacker) = (rig.environment(), rig.environment());
        let image = place.is_of_image().then(python::image);
        if let Some(image) = &image {
            image.put(&runtime, &attacker).await.unwrap();
        }
        up(
            &runtime,
            &spec(victim.clone(), &[("web", service(&["python3", "-c", VICTIM], &[8123]))]),
        )
        .await;
        let argv = ["/usr/bin/python3", "-c", REAPER];
        let mut shell = match &image {
            Some(image) if place == Place::Image => image.service(&argv, &[]),
            _ => service(&argv, &[]),
        };
        if place == Place::Image {
            shell.workload.entrypoint = Some(vec![python::ENTRYPOINT.to_owned()]);
        }
        shell.workload.limits.pids = Some(64);
        shell.aliases = vec!["the-shell".into()];
        let mut made = spec(attacker.clone(), &[("shell", shell)]);
        with_volume(&mut made, 16 << 20);
        up(&runtime, &made).await;
        ready(&runtime, &victim, "web").await;
        ready(&runtime, &attacker, "shell").await;
        Self {
            rig,
            runtime,
            victim,
            attacker,
            place,
            image,
            made,
        }
    }

    /// Runs a Python program as the attacker and returns what it printed.
    async fn attack(&self, program: &str) -> String {
        let argv = ["/usr/bin/python3", "-c", program];
        if self.place.is_build() {
            return build::run(&self.runtime, &self.made, self.image.as_ref(), &argv).await;
        }
        exec(&self.runtime, &self.attacker, "shell", &argv).await.1
    }

    async fn victim_lives(&self) {
        let mut connection = self
            .runtime
            .dial(&self.victim, &"web".parse().unwrap(), Target::Port(8123))
            .await
            .unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "the victim is alive");
    }

    async fn end(self) {
        for id in [&self.victim, &self.attacker] {
            self.runtime.remove(id, Generation(1000)).await.unwrap();
        }
        assert_eq!(self.runtime.inventory(None).await.unwrap(), []);
    }
}

fn with_volume(spec: &mut EnvironmentSpec, limit: u64) {
    let Stack::Services(stack) = &mut spec.stack else {
        unreachable!()
    };
    let volume = Volume {
        origin: VolumeOrigin::Empty,
        incarnation: Generation(1),
        limit_bytes: Some(limit),
    };
    stack.volumes.insert("disk".parse().unwrap(), volume);
    for service in stack.services.values_mut() {
        let kind = MountKind::Volume {
            volume: "disk".parse().unwrap(),
        };
        service.workload.mounts.push(Mount {
            target: "/disk".into(),
            kind,
            read_only: false,
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outside_of_the_environment_can_be_reached_or_seen() {
    for oci in OciKind::ALL {
        nothing_outside_can_be_reached(oci, Place::Host).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_more_can_be_reached_or_seen_from_an_image_or_a_build() {
    for place in Place::ALL.into_iter().filter(|place| *place != Place::Host) {
        for oci in OciKind::ALL {
            nothing_outside_can_be_reached(oci, place).await;
        }
    }
}

async fn nothing_outside_can_be_reached(oci: OciKind, place: Place) {
    eprintln!("{oci:?}, {place:?}");
    let town = Town::on(Rig::start_on(oci), place).await;
    network(&town).await;
    names(&town).await;
    files(&town).await;
    privileges(&town).await;
    town.victim_lives().await;
    town.end().await;
}

async fn network(town: &Town) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let name = format!("cell-attack-{}", town.rig.instance);
    let abstract_name =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name.as_bytes())
            .unwrap();
    let _abstract: std::os::unix::net::UnixListener =
        std::os::unix::net::UnixListener::bind_addr(&abstract_name).unwrap();
    let (port, other) = (
        listener.local_addr().unwrap().port(),
        everywhere.local_addr().unwrap().port(),
    );
    let seen = town
        .attack(&format!(
            "
import socket, errno
def reach(address, port):
    with socket.socket() as s:
        s.settimeout(0.3)
        try: s.connect((address, port)); return 'CONNECTED'
        except OSError as e: return errno.errorcode.get(e.errno, 'TIMEOUT')
for address in ['127.0.0.1', '10.77.0.1']: print('host', address, reach(address, {port}), reach(address, {other}))
for n in range(1, 5): print('neighbour', reach(f'10.77.1.{{n}}', 8123))
for address in ['169.254.169.254', '192.0.2.1', '172.17.0.1', '10.0.0.1']: print('outside', reach(address, 80))
with socket.socket(socket.AF_UNIX) as s:
    try: s.connect('\\0{name}'); print('abstract CONNECTED')
    except OSError as e: print('abstract', errno.errorcode[e.errno])
for family, kind in [(socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW), (40, socket.SOCK_STREAM)]:
    try: socket.socket(family, kind); print('raw MADE')
    except OSError as e: print('raw', errno.errorcode[e.errno])
for protocol in range(32):
    try: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol); print('netlink', protocol)
    except OSError: pass
for address in ['192.0.2.1', '10.0.0.1']:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(20)
        try: s.connect((address, 53)); s.send(b'word'); s.recv(1); print('datagram CONNECTED')
        except OSError as e: print('datagram', errno.errorcode.get(e.errno, 'TIMEOUT'))
print('interfaces', sorted(name for _, name in socket.if_nameindex()))
with socket.create_server(('', 80)): print('port 80 is mine')
"
        ))
        .await;
    assert_eq!(seen.matches("datagram ECONNREFUSED").count(), 2, "{seen}");
    assert!(!seen.contains("CONNECTED") && !seen.contains("MADE"), "{seen}");
    let netlink: Vec<&str> = seen.lines().filter(|line| line.starts_with("netlink")).collect();
    assert_eq!(netlink, ["netlink 0"], "only routes may be asked for");
    assert_eq!(
        seen.matches("outside ECONNREFUSED").count(),
        4,
        "whatever the address, nobody is there: {seen}"
    );
    assert!(
        seen.contains("interfaces ['eth0', 'lo']") && seen.contains("port 80 is mine"),
        "{seen}"
    );
}

async fn names(town: &Town) {
    let seen = town
        .attack(
            "
import socket, time
for name in ['shell', 'the-shell', 'web', 'example.com', 'localhost']:
    # Who is not answered waits for its resolver's patience each time; whoever is answered waits on a busy machine now and then.
    for n in range(20):
        begun = time.monotonic()
        try: answer = socket.gethostbyname(name)
        except OSError: answer = 'unknown'
        fast = time.monotonic() - begun < 0.9
        if fast: break
    print(name, answer, 'fast' if fast else 'SLOW')
",
        )
        .await;
    for line in [
        "shell 10.77.1.2 fast",
        "the-shell 10.77.1.2 fast",
        "web unknown fast",
        "example.com unknown fast",
        "localhost 127.0.0.1 fast",
    ] {
        assert!(
            seen.contains(line) || seen.contains(&line.replace("10.77.1.2", "10.77.1.3")),
            "{line}: {seen}"
        );
    }
}

async fn files(town: &Town) {
    let directory = town.rig.directory.display();
    // The root of an image is its own.
    let roots = if town.place.is_of_image() {
        "[]"
    } else {
        "['/usr/x', '/etc/x', '/x']"
    };
    let seen = town
        .attack(&format!(
            "
import os
for path in ['/etc/shadow', '/etc/gshadow', '/etc/sudoers', '/etc/ssh', '/etc/machine-id', '/root/.bashrc', '/root/.ssh', '/var/run/docker.sock',
             '{directory}', '{directory}/run/control.sock', '/sys/fs/cgroup/memory', '/proc/1/root/{directory}', '/boot', '/var/lib/dpkg']:
    try: os.stat(path); print('SEEN', path)
    except OSError: pass
for path in {roots} + ['/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/sys/net/core/somaxconn', '/sys/kernel/x']:
    try: open(path, 'w').write('x'); print('WRITTEN', path)
    except OSError: pass
for pid in filter(str.isdigit, os.listdir('/proc')):
    try: environment = open(f'/proc/{{pid}}/environ').read()
    except OSError: continue
    if '{CANARY}' in environment or 'CARGO' in environment: print('CANARY', pid)
print('processes', len(list(filter(str.isdigit, os.listdir('/proc')))))
print('devices', sorted(set(os.listdir('/dev')) - {{'null', 'zero', 'full', 'random', 'urandom', 'tty', 'fd', 'stdin', 'stdout', 'stderr', 'ptmx', 'pts', 'shm', 'mqueue', 'core', 'console'}}))
print('environment', sorted(os.environ))
"
        ))
        .await;
    for bad in ["SEEN", "WRITTEN", "CANARY"] {
        assert!(!seen.contains(bad), "{seen}");
    }
    // Of a service it is the second one; an init may be in front of a job.
    let processes = if town.place.is_build() {
        ["processes 1", "processes 2"]
    } else {
        ["processes 2"; 2]
    };
    assert!(
        processes.iter().any(|count| seen.lines().any(|line| line == *count)),
        "{seen}"
    );
    assert!(seen.contains("devices []"), "{seen}");
    let variables = ["['HOME', 'LC_CTYPE', 'PATH']", "['HOME', 'PATH']"];
    assert!(
        variables
            .iter()
            .any(|names| seen.contains(&format!("environment {names}"))),
        "{seen}"
    );
}

/// What the root user of an image may do at most, inside of its own user namespace: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID,
/// SETUID, SETPCAP, NET_BIND_SERVICE and SYS_CHROOT.
const OF_IMAGES: u64 = 0b101_1111_1011 | 1 << 18;

async fn privileges(town: &Town) {
    let seen = town
        .attack(
            "
import ctypes, os, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    result = libc.syscall(number, *arguments)
    print(name, errno.errorcode[ctypes.get_errno()] if result < 0 else 'ALLOWED')
if os.uname().machine == 'x86_64':
    call('mount', 165, b'none', b'/tmp', b'tmpfs', 0, 0)
    call('unshare', 272, 0x10000000)
    call('setns', 308, 0, 0)
    call('ptrace', 101, 0, 0, 0, 0)
    call('keyctl', 250, 0, 0)
    call('bpf', 321, 0, 0, 0)
    call('io_uring_setup', 425, 1, 0)
    call('open_by_handle_at', 304, 0, 0, 0)
    call('pivot_root', 155, b'/', b'/')
    call('clone3', 435, 0, 0)
    call('an unknown one', 9999)
for name in ['/tmp/device']:
    try: os.mknod(name, 0o600 | 0o060000, os.makedev(8, 0)); print('device ALLOWED')
    except OSError as e: print('device', errno.errorcode[e.errno])
for line in open('/proc/self/status'):
    if line.startswith(('CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp:')): print(' '.join(line.split()))
print('map', ' '.join(open('/proc/self/uid_map').read().split()))
",
        )
        .await;
    assert!(!seen.contains("ALLOWED"), "{seen}");
    for line in ["CapEff: ", "CapBnd: "] {
        let bits = seen.lines().find_map(|seen| seen.strip_prefix(line)).unwrap();
        let bits = u64::from_str_radix(bits, 16).unwrap();
        let allowed = if town.place.is_of_image() { OF_IMAGES } else { 0 };
        assert_eq!(bits & !allowed, 0, "{line}: {seen}");
    }
    for line in [
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "clone3 ENOSYS",
        "an unknown one ENOSYS",
        "mount EPERM",
    ] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
    let first = seen
        .lines()
        .find_map(|l| l.strip_prefix("map 0 "))
        .and_then(|l| l.split(' ').next()?.parse::<u32>().ok())
        .unwrap();
    let other = exec(&town.runtime, &town.victim, "web", &["cat", "/proc/self/uid_map"])
        .await
        .1;
    let second: u32 = other.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(
        first > 0 && second > 0 && first.abs_diff(second) >= 65_536,
        "each environment has ids of its own: {first} {second}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_hurt_nobody_else() {
    let town = Town::build().await;
    let forks = town
        .attack(
            "
import os, time
children = 0
try:
    for n in range(500):
        if os.fork() == 0: time.sleep(3); os._exit(0)
        children += 1
except OSError as e: print('stopped at', children, e.errno)
",
        )
        .await;
    let count: u32 = forks
        .split(' ')
        .nth(2)
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("{forks}"));
    assert!((30..64).contains(&count), "{forks}");
    town.victim_lives().await;

    let watches = "
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
count = 0
while count < 2000 and libc.inotify_init1(0) >= 0: count += 1
print('instances', count)
";
    let seen = town.attack(watches).await;
    let count: u32 = seen.trim().strip_prefix("instances ").unwrap().parse().unwrap();
    let all: u32 = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(
        (1..=all / 16 + 8).contains(&count),
        "one environment takes {count} of {all} that the whole machine shares"
    );

    let disk = town
        .attack(
            "
import errno
written = 0
try:
    with open('/disk/bomb', 'wb', buffering=0) as f:
        while written < 1 << 30: written += f.write(b'x' * (1 << 20))
except OSError as e: print(errno.errorcode[e.errno], written >> 20)
",
        )
        .await;
    assert!(disk.starts_with("EDQUOT") || disk.starts_with("ENOSPC"), "{disk}");
    let megabytes: u64 = disk.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(megabytes <= 17, "{disk}");
    town.victim_lives().await;
    memory(&town).await;
    noise(&town).await;
    town.victim_lives().await;
    town.end().await;
}

async fn memory(town: &Town) {
    let mut bomb = service(
        &[
            "python3",
            "-c",
            "x = []\nwhile True: x.append(bytearray(b'x') * (1 << 20))",
        ],
        &[],
    );
    bomb.restart = Restart::Always;
    bomb.workload.limits = Limits {
        memory_bytes: Some(48 << 20),
        ..Limits::default()
    };
    let id = town.rig.environment();
    up(&town.runtime, &spec(id.clone(), &[("bomb", bomb)])).await;
    let fact = state(&town.runtime, &id, "bomb", |s| {
        matches!(s, ServiceState::BackingOff { code: 137, .. })
    })
    .await;
    assert!(
        fact.message.as_deref().is_some_and(|m| m.contains("memory limit")),
        "{fact:?}"
    );
    town.victim_lives().await;
    town.runtime.remove(&id, Generation(1)).await.unwrap();
}

async fn noise(town: &Town) {
    let id = town.rig.environment();
    up(
        &town.runtime,
        &spec(
            id.clone(),
            &[("noise", service(&["yes", "noise noise noise noise noise noise"], &[]))],
        ),
    )
    .await;
    let logs = town
        .rig
        .directory
        .join("state/environments")
        .join(id.as_str())
        .join("logs");
    let size = || -> u64 {
        let files = std::fs::read_dir(&logs).unwrap().flatten();
        // A file that has two names takes its room once.
        let sizes: BTreeMap<u64, u64> = files
            .filter_map(|e| e.metadata().ok())
            .map(|m| (m.ino(), m.len()))
            .collect();
        sizes.values().sum()
    };
    // It begins anew when it is full, so the size goes up and down.
    let mut largest = 0;
    for sample in 0..3600 {
        largest = size().max(largest);
        // The part that is written, the one before it, and until a busy host has seen that it is full the one before that have
        // the bound each, and no more however busy it is: nothing else has a name.
        assert!(largest < (13 << 20), "a log is bounded: {largest}");
        if sample >= 20 && largest > 100_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(largest > 100_000, "nothing was logged: {largest}");
    town.runtime.remove(&id, Generation(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_can_not_send_its_administrator_elsewhere() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let mut engine = service(&[], &[5432]);
    engine.workload.command = None;
    engine.workload.root = model::Root::Engine(model::Engine {
        kind: "postgres".into(),
        image: "postgres".into(),
        versions: model::VersionRange { min: 0, max: u32::MAX },
    });
    engine
        .workload
        .environment
        .insert("POSTGRES_PASSWORD".into(), "pw".into());
    let mut made = spec(rig.environment(), &[("db", engine)]);
    with_volume(&mut made, 256 << 20);
    let id = made.environment.clone();
    up(&runtime, &made).await;
    ready(&runtime, &id, "db").await;
    let (name, way_in) = ("db".parse().unwrap(), Target::Administration);
    runtime.dial(&id, &name, way_in).await.unwrap();
    let secret = rig.directory.join("secret.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&secret).unwrap();
    let program = format!(
        "import os\np = '/run/maquette/postgres/.s.PGSQL.5432'\nos.unlink(p)\nos.symlink('{}', p)\nprint(os.getuid(), os.readlink(p))",
        secret.display()
    );
    let (status, text) = exec(&runtime, &id, "db", &["python3", "-c", &program]).await;
    assert_eq!(status, Some(0), "{text}");
    assert!(text.starts_with("999 "), "the engine is not root in its cell: {text}");
    let dialled = runtime.dial(&id, &name, way_in).await;
    assert!(dialled.is_err(), "the host followed a link of the engine's");
    runtime.remove(&id, Generation(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_environment_is_not_dialled_and_wakes_with_its_memory() {
    let town = Town::build().await;
    town.runtime
        .power(&town.victim, Generation(1), model::Power::Frozen)
        .await
        .unwrap();
    let name = "web".parse().unwrap();
    // A frozen listener's kernel would accept, and whoever connects would hang.
    assert!(town.rig.dialer().dial(&town.victim, &name, 8123).await.is_err());
    assert!(
        town.runtime
            .exec(
                &town.victim,
                &name,
                &["true".into()],
                &std::collections::BTreeMap::new()
            )
            .await
            .is_err()
    );
    town.runtime
        .power(&town.victim, Generation(1), model::Power::Running)
        .await
        .unwrap();
    town.victim_lives().await;
    let made = spec(
        town.victim.clone(),
        &[("web", service(&["python3", "-c", VICTIM], &[8123]))],
    );
    town.runtime
        .power(&town.victim, Generation(1), model::Power::Frozen)
        .await
        .unwrap();
    town.runtime.apply(&made, &all(&made), &NoSecrets).await.unwrap();
    town.victim_lives().await;
    town.end().await;
}
