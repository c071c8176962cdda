//! Attacks by way of what a cell shares with the cell host: its volumes, and the directory of an engine's administrator.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

mod support;

use model::{EnvironmentSpec, Generation, Mount, MountKind, Service, Stack, Stage, Volume, VolumeOrigin};
use runtime::{NoSecrets, Runtime as _};
use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _};
use support::{Rig, exec, ready, service, spec, up};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

fn with_disk(mut service: Service) -> Service {
    let kind = MountKind::Volume {
        volume: "disk".parse().unwrap(),
    };
    service.workload.mounts.push(Mount {
        target: "/disk".into(),
        kind,
        read_only: false,
    });
    service
}

fn postgres() -> Service {
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
    with_disk(engine)
}

fn disk(mut spec: EnvironmentSpec, limit: u64) -> EnvironmentSpec {
    let Stack::Services(stack) = &mut spec.stack else {
        unreachable!()
    };
    let volume = Volume {
        origin: VolumeOrigin::Empty,
        incarnation: Generation(1),
        limit_bytes: Some(limit),
    };
    stack.volumes.insert("disk".parse().unwrap(), volume);
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_can_not_be_given_parts_that_no_limit_counts() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let made = disk(
        spec(
            rig.environment(),
            &[("shell", with_disk(service(&["sleep", "1000"], &[])))],
        ),
        16 << 20,
    );
    up(&runtime, &made).await;
    let program = "
import fcntl, os, struct
disk = os.open('/disk', os.O_RDONLY)
for name, call in [('create', 0x5000940e), ('create 2', 0x50009418), ('snapshot', 0x50009401), ('snapshot 2', 0x50009417), ('high', 0x15000940e)]:
    try: fcntl.ioctl(disk, call & 0xffffffff, bytearray(struct.pack('q4088s', disk, name.encode()))); print(name, 'MADE')
    except OSError as e: print(name, 'refused')
open('/disk/a', 'w').write('text')
with open('/disk/a') as a, open('/disk/b', 'w') as b: fcntl.ioctl(b, 0x40049409, a.fileno())
print(open('/disk/b').read(), sorted(os.listdir('/disk')))
";
    let seen = exec(&runtime, &made.environment, "shell", &["python3", "-c", program])
        .await
        .1;
    assert!(!seen.contains("MADE") && seen.matches("refused").count() == 5, "{seen}");
    assert!(seen.contains("text ['a', 'b']"), "files can still be cloned: {seen}");
    runtime.remove(&made.environment, Generation(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_can_neither_fill_the_run_directory_nor_make_its_removal_fail() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let made = disk(spec(rig.environment(), &[("db", postgres())]), 256 << 20);
    let id = &made.environment;
    up(&runtime, &made).await;
    ready(&runtime, id, "db").await;
    let program = "
import errno, os
written = 0
try:
    with open('/run/maquette/bomb', 'wb', buffering=0) as f:
        while written < 128 << 20: written += f.write(b'x' * (1 << 20))
except OSError as e: print(errno.errorcode[e.errno], written >> 20)
os.unlink('/run/maquette/bomb')
def deep(place):
    os.chdir(place)
    made = 0
    try:
        while made < 30000: os.mkdir('d'); os.chdir('d'); made += 1
    except OSError as e: print(errno.errorcode[e.errno])
    print(place, made)
deep('/run/maquette')
deep('/disk')
os.unlink('/disk/maquette-initialised')
";
    let seen = exec(&runtime, id, "db", &["python3", "-c", program]).await.1;
    assert!(seen.starts_with("ENOSPC ") && seen.contains("/disk 30000"), "{seen}");
    let before = rig.host_pid();
    // The data directory is not one any more: it is emptied and made anew, at whatever depth something is.
    let mut again = made.clone();
    again.generation = Generation(2);
    let Stack::Services(stack) = &mut again.stack else {
        unreachable!()
    };
    let service = stack.services.get_mut(&"db".parse().unwrap()).unwrap();
    service
        .workload
        .environment
        .insert("POSTGRES_USER".into(), "other".into());
    up(&runtime, &again).await;
    ready(&runtime, id, "db").await;
    runtime.remove(id, Generation(2)).await.unwrap();
    assert!(
        fs::metadata(format!("/proc/{before}")).is_ok(),
        "the host went with it: {}",
        rig.log()
    );
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&format!("cells/{id}")), "{mounts}");
}

/// Waits until the host has emptied the directory and initialises it, and puts a link where the host will leave its mark.
const PLANT: &str = "
import os, time
mark = '/disk/maquette-initialised'
os.unlink(mark)
print('ready', flush=True)
def new():
    # Between two looks it may be removed.
    try: return os.stat('/disk/PG_VERSION').st_ino != OLD
    except FileNotFoundError: return False
while not (new() and os.path.exists('/disk/postgresql.conf')): time.sleep(0.001)
os.symlink('VICTIM', mark)
print('planted', flush=True)
time.sleep(60)
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_in_place_of_the_hosts_mark_is_not_followed() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let victim = rig.directory.join("victim");
    fs::write(&victim, "precious").unwrap();
    let mut made = disk(spec(rig.environment(), &[("db", postgres())]), 512 << 20);
    let id = made.environment.clone();
    up(&runtime, &made).await;
    ready(&runtime, &id, "db").await;
    let program = PLANT.replace("VICTIM", &victim.display().to_string());
    let program = format!("import os\nOLD = os.stat('/disk/PG_VERSION').st_ino\n{program}");
    let argv = ["python3".to_owned(), "-c".to_owned(), program];
    let mut attack = runtime
        .exec(&id, &"db".parse().unwrap(), &argv, &BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(attack.stdout.recv().await.as_deref(), Some(&b"ready\n"[..]));
    made.generation = Generation(2);
    let Stack::Services(stack) = &mut made.stack else {
        unreachable!()
    };
    stack.services.insert("second".parse().unwrap(), postgres());
    runtime.apply(&made, &Stage::Envelope, &NoSecrets).await.unwrap();
    let second = Stage::Services(["second".parse().unwrap()].into());
    let applied = runtime.apply(&made, &second, &NoSecrets).await;
    assert_eq!(
        attack.stdout.recv().await.as_deref(),
        Some(&b"planted\n"[..]),
        "the attack came too late to show anything"
    );
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(fs::metadata(&victim).unwrap().uid(), 0);
    assert!(applied.is_err(), "the mark is not the host's");
    runtime.remove(&id, Generation(2)).await.unwrap();
}
