//! Secrets reach the process that they are for, and are nowhere else: no disk, no argument, no log of the host, no core dump.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod support;

use model::{
    EnvironmentSpec, Generation, Mount, MountKind, Options, Restart, SecretRef, Service, Stage, Ulimit, Value,
};
use runtime::{NoSecrets, Runtime as _, Secrets};
use runtime_cell::CellRuntime;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use support::{PATIENCE, Rig, all, exec, ready, service, spec, state};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

const IN_VARIABLE: &str = "canary-variable-51ab";
const IN_FILE: &str = "canary-file-9e07";

struct Known(BTreeMap<&'static str, Vec<u8>>);

impl Secrets for Known {
    fn value(&self, secret: &SecretRef) -> Option<&[u8]> {
        self.0.get(secret.0.as_str()).map(Vec::as_slice)
    }
}

/// A text of two lines, and a megabyte of everything.
fn known() -> Known {
    let mut large = format!("{IN_FILE}\n").into_bytes();
    large.extend((0..(1 << 20) - large.len()).map(|n| (n % 256).to_le_bytes()[0]));
    let lines = format!("{IN_VARIABLE}\nsecond line").into_bytes();
    Known([("token", lines), ("large", large)].into())
}

fn secret(name: &str) -> Value {
    Value::Secret(SecretRef(name.to_owned()))
}

fn file(target: &str, content: Value, mode: u32) -> Mount {
    Mount {
        target: target.to_owned(),
        kind: MountKind::Content {
            content,
            mode,
            uid: None,
            gid: None,
        },
        read_only: true,
    }
}

/// It ends with status 0 when it is asked to, and prints nothing of what it knows.
const SERVER: &str = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nprint('up', flush=True)\ntime.sleep(10000)";

fn web() -> Service {
    let mut web = service(&["python3", "-c", SERVER], &[]);
    web.restart = Restart::Always;
    web.workload.environment.insert("TOKEN".into(), secret("token"));
    web.workload.mounts = vec![file("/run/secrets/large", secret("large"), 0o400)];
    web
}

async fn bring_up(runtime: &CellRuntime, made: &EnvironmentSpec) {
    runtime.apply(made, &Stage::Envelope, &NoSecrets).await.unwrap();
    runtime.apply(made, &all(made), &known()).await.unwrap();
    ready(runtime, &made.environment, "web").await;
}

const LOOK: &str = "\
import hashlib, os, resource
large = open('/run/secrets/large', 'rb').read()
print(os.environ['TOKEN'], len(large), hashlib.sha256(large).hexdigest(), resource.getrlimit(resource.RLIMIT_CORE))
";

async fn sees_all(runtime: &CellRuntime, made: &EnvironmentSpec) {
    use std::fmt::Write as _;
    let (status, seen) = exec(runtime, &made.environment, "web", &["python3", "-c", LOOK]).await;
    let large = known().0.remove("large").unwrap();
    let mut told = Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut told.stdin.take().unwrap(), &large).unwrap();
    let digest = String::from_utf8(told.wait_with_output().unwrap().stdout).unwrap();
    let digest = digest.split(' ').next().unwrap().to_owned();
    let mut wanted = String::new();
    let _ = write!(wanted, "{IN_VARIABLE}\nsecond line {} {digest} (1, 1)\n", large.len());
    assert_eq!((status, seen), (Some(0), wanted));
}

/// Files below a directory that hold one of the values, but for those on file systems in memory.
fn on_disk(directory: &Path, found: &mut Vec<String>) {
    const TMPFS: rustix::fs::FsWord = 0x0102_1994;
    // What the host clears away meanwhile holds nothing any more.
    let Ok(place) = rustix::fs::statfs(directory) else {
        return;
    };
    if place.f_type == TMPFS {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            on_disk(&entry.path(), found);
        } else if kind.is_file() {
            let grep = Command::new("grep")
                .args(["-aqFe", IN_VARIABLE, "-e", IN_FILE])
                .arg(entry.path())
                .status()
                .unwrap();
            if grep.success() {
                found.push(entry.path().display().to_string());
            }
        }
    }
}

fn in_arguments() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines
        .filter(|line| !line.contains("grep") && (line.contains(IN_VARIABLE) || line.contains(IN_FILE)))
        .collect()
}

/// Everything that the host has made, the image of its pool and its own log included.
fn is_nowhere_else(rig: &Rig) {
    let mut found = Vec::new();
    // Whatever the kernel has not written yet.
    rustix::fs::sync();
    on_disk(&rig.directory, &mut found);
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(in_arguments(), Vec::<String>::new());
}

fn first_process(rig: &Rig, made: &EnvironmentSpec) -> i32 {
    let file = rig
        .run_dir()
        .join("cells")
        .join(made.environment.as_str())
        .join("s-web/container.pid");
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_reach_the_process_and_nothing_else_through_restarts_of_everything() {
    let mut rig = Rig::start();
    let runtime = rig.runtime().await;
    let made = spec(rig.environment(), &[("web", web())]);
    let id = &made.environment;
    bring_up(&runtime, &made).await;
    sees_all(&runtime, &made).await;
    is_nowhere_else(&rig);

    // On the machine, nobody but root and the container's own root gets at them.
    let cell = rig.run_dir().join("cells").join(id.as_str());
    let content = fs::metadata(cell.join("s-web/content")).unwrap().permissions().mode() & 0o777;
    let config = fs::metadata(cell.join("s-web/config.json"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!((content, config), (0o700, 0o600));
    for hidden in ["content/0", "config.json"] {
        let nobody = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat"])
            .arg(cell.join("s-web").join(hidden))
            .output()
            .unwrap();
        assert!(
            !nobody.status.success() && nobody.stdout.is_empty(),
            "{hidden} can be read"
        );
    }

    // It is killed and comes back by itself; nobody asks for the values again.
    let before = first_process(&rig, &made);
    kill(before);
    restarted(&runtime, &rig, &made, before).await;
    sees_all(&runtime, &made).await;

    // So it does when the host is killed together with it.
    rig.kill_host();
    let before = first_process(&rig, &made);
    kill(before);
    rig.start_host();
    let runtime = rig.runtime().await;
    restarted(&runtime, &rig, &made, before).await;
    sees_all(&runtime, &made).await;
    is_nowhere_else(&rig);

    runtime.remove(id, Generation(1)).await.unwrap();
    assert!(!cell.exists(), "what held them is gone with the environment");
}

fn kill(pid: i32) {
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

async fn restarted(runtime: &CellRuntime, rig: &Rig, made: &EnvironmentSpec, before: i32) {
    let begun = Instant::now();
    loop {
        let fact = state(runtime, &made.environment, "web", |_| true).await;
        if fact.state == model::ServiceState::Ready && first_process(rig, made) != before {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{fact:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_lie_where_the_stack_says_and_no_more_than_fits_into_memory() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let mut web = web();
    // In a directory of the image, in one that another mount covers, and beside each other.
    web.workload.mounts.push(Mount {
        target: "/data".into(),
        kind: MountKind::memory(None),
        read_only: false,
    });
    web.workload
        .mounts
        .push(file("/data/deep/er/a.conf", "a = 1\n".into(), 0o444));
    web.workload.mounts.push(file("/srv/b.conf", secret("token"), 0o444));
    let made = spec(rig.environment(), &[("web", web.clone())]);
    bring_up(&runtime, &made).await;
    let (_, seen) = exec(
        &runtime,
        &made.environment,
        "web",
        &["cat", "/data/deep/er/a.conf", "/srv/b.conf"],
    )
    .await;
    assert_eq!(seen, format!("a = 1\n{IN_VARIABLE}\nsecond line"));

    let many = (0..9).map(|n| file(&format!("/srv/{n}"), secret("large"), 0o444));
    let mut large = web.clone();
    large.workload.mounts.extend(many);
    let mut next = spec(made.environment.clone(), &[("web", large)]);
    next.generation = Generation(2);
    runtime.apply(&next, &Stage::Envelope, &NoSecrets).await.unwrap();
    let refused = runtime
        .apply(&next, &all(&next), &known())
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("more than 8388608 bytes"), "{refused}");

    // A dump would hold what the process was given, and would lie on a disk.
    let mut dumps = web.clone();
    let bound = Ulimit { soft: None, hard: None };
    dumps.workload.options = Options {
        ulimits: [("core".to_owned(), bound)].into(),
        ..Options::default()
    };
    next = spec(made.environment.clone(), &[("web", dumps)]);
    next.generation = Generation(2);
    let refused = runtime
        .apply(&next, &all(&next), &known())
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("core dumps"), "{refused}");
    // Nothing of that has touched what runs.
    sees_all(&runtime, &made).await;
    runtime.remove(&made.environment, Generation(2)).await.unwrap();
}
