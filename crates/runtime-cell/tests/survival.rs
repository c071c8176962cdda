//! Containers do not notice the end of the cell host, and whatever it was doing when it was killed can be done again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

#[path = "survival/closed.rs"]
mod closed;
#[path = "survival/cut.rs"]
mod cut;
#[path = "survival/pipe.rs"]
mod pipe;
#[path = "survival/repaired.rs"]
mod repaired;
mod support;

use model::{
    CommitId, EnvironmentSpec, Generation, Mount, MountKind, Power, Restart, ServiceFact, ServiceState, Stage,
};
use runtime::{Checkout, LogQuery, NoSecrets, Runtime as _, Sake, SourceKey, Target};
use runtime_cell::CellRuntime;
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use support::{PATIENCE, Rig, all, exec, fact, ready, service, spec, up};
use tokio::io::AsyncReadExt as _;

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

/// Tells a text that it makes up at its start.
pub(crate) const SERVER: &str = "\
import socket, os
listener = socket.create_server(('', 8000))
born = os.urandom(8).hex()
print('born', born, flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(born.encode())
    connection.close()
";

async fn born(runtime: &CellRuntime, made: &EnvironmentSpec) -> String {
    let mut connection = runtime
        .dial(&made.environment, &"web".parse().unwrap(), Target::Port(8000))
        .await
        .unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    text
}

fn server(rig: &Rig) -> EnvironmentSpec {
    let mut web = service(&["python3", "-c", SERVER], &[8000]);
    web.restart = Restart::Always;
    spec(rig.environment(), &[("web", web)])
}

/// Processes of the environment's group, or of the host's, whose command line has this word.
fn processes(word: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(word) {
            found.push(pid);
        }
    }
    found
}

/// The container has one monitor. What a killed host was carrying out may still be on its way to its end.
async fn one_monitor(rig: &Rig, made: &EnvironmentSpec, what: &str) {
    let begun = Instant::now();
    loop {
        let found = processes(&format!("{}-{}-s-web", rig.instance, made.environment));
        if found.len() == 1 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// It runs after it was started again so often. Whoever asks earlier may be told of what was before: a host that finds a monitor
/// takes its container for one that runs until the monitor says that it does not.
fn again(restarts: u32) -> impl Fn(&ServiceFact) -> bool {
    move |fact| fact.state == ServiceState::Ready && fact.restarts >= restarts
}

fn kill(pid: i32) {
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

/// The container's first process: the only child of its monitor.
fn first_process(rig: &Rig, made: &EnvironmentSpec) -> i32 {
    let file = rig
        .run_dir()
        .join("cells")
        .join(made.environment.as_str())
        .join("s-web/container.pid");
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_outlive_the_host_and_are_found_again() {
    let mut rig = Rig::start();
    let runtime = rig.runtime().await;
    let made = server(&rig);
    let id = made.environment.clone();
    up(&runtime, &made).await;
    ready(&runtime, &id, "web").await;
    let before = born(&runtime, &made).await;

    rig.kill_host();
    assert!(
        runtime.observe(&id).await.is_err_and(|e| e.is_transient()),
        "without a host nothing may be concluded"
    );
    rig.start_host();
    let _ = rig.runtime().await;
    ready(&runtime, &id, "web").await;
    assert_eq!(born(&runtime, &made).await, before, "the same process answers");
    assert_eq!(exec(&runtime, &id, "web", &["echo", "hello"]).await.1, "hello\n");
    let seen = fact(&runtime, &id, "web", again(0)).await;
    assert_eq!(seen.restarts, 0);
    runtime.apply(&made, &all(&made), &NoSecrets).await.unwrap();
    assert_eq!(born(&runtime, &made).await, before, "what runs is left alone");

    // What ends while the host is away is started again, and told.
    rig.kill_host();
    kill(first_process(&rig, &made));
    let begun = Instant::now();
    while !processes(&format!("{}-{id}-s-web", rig.instance)).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "its monitor does not take notice");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.start_host();
    let _ = rig.runtime().await;
    let seen = fact(&runtime, &id, "web", again(1)).await;
    assert_eq!(seen.restarts, 1);
    let second = born(&runtime, &made).await;
    assert_ne!(second, before);

    // A killed monitor takes the log with it, so the container is started again under a new one.
    let monitors = processes(&format!("{}-{id}-s-web", rig.instance));
    monitors.iter().for_each(|pid| kill(*pid));
    fact(&runtime, &id, "web", again(2)).await;
    assert_ne!(born(&runtime, &made).await, second);

    // Sleeping environments too.
    runtime.power(&id, Generation(1), Power::Frozen).await.unwrap();
    rig.kill_host();
    rig.start_host();
    let _ = rig.runtime().await;
    assert_eq!(runtime.observe(&id).await.unwrap().unwrap().power, Power::Frozen);
    runtime.power(&id, Generation(1), Power::Running).await.unwrap();
    ready(&runtime, &id, "web").await;
    runtime.remove(&id, Generation(2)).await.unwrap();
    assert_eq!(runtime.inventory(None).await.unwrap(), []);
    assert_eq!(processes(&format!("{}-{id}", rig.instance)), Vec::<i32>::new());
}

/// The delays go through the whole of a start, whose steps take 5 to 50 ms each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_or_removal_that_was_cut_anywhere_is_finished_by_asking_again() {
    let mut rig = Rig::start();
    let runtime = rig.runtime().await;
    for delay in [1, 5, 10, 20, 30, 40, 50, 60, 75, 90, 120] {
        let made = server(&rig);
        let id = made.environment.clone();
        let cut = tokio::time::timeout(Duration::from_millis(delay), up(&runtime, &made)).await;
        rig.kill_host();
        rig.start_host();
        let _ = rig.runtime().await;
        up(&runtime, &made).await;
        ready(&runtime, &id, "web").await;
        born(&runtime, &made).await;
        one_monitor(&rig, &made, &format!("after a cut at {delay} ms ({cut:?})")).await;

        let _ = tokio::time::timeout(Duration::from_millis(delay / 4), runtime.remove(&id, Generation(1))).await;
        rig.kill_host();
        rig.start_host();
        let _ = rig.runtime().await;
        runtime.remove(&id, Generation(1)).await.unwrap();
        assert_eq!(runtime.inventory(None).await.unwrap(), [], "after a cut at {delay} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_record_forgot_is_listed_and_removed() {
    let mut rig = Rig::start();
    let runtime = rig.runtime().await;
    let made = server(&rig);
    let id = made.environment.clone();
    up(&runtime, &made).await;
    rig.kill_host();
    std::fs::remove_dir_all(rig.directory.join("state/environments")).unwrap();
    rig.start_host();
    let _ = rig.runtime().await;
    let kinds: Vec<String> = runtime
        .inventory(None)
        .await
        .unwrap()
        .into_iter()
        .map(|r| r.kind)
        .collect();
    for kind in ["container", "cgroup", "network-namespace", "directory"] {
        assert!(kinds.iter().any(|k| k == kind), "{kind}: {kinds:?}");
    }
    runtime.remove(&id, Generation(1)).await.unwrap();
    assert_eq!(runtime.inventory(None).await.unwrap(), []);
}

/// Writes a checkout as this user and its group.
struct Files(u32);

#[async_trait::async_trait]
impl Checkout for Files {
    async fn write(&self, into: &Path) -> Result<(), String> {
        let write = || {
            std::fs::write(into.join("page.html"), "from the checkout")?;
            std::fs::create_dir(into.join("sub"))?;
            std::fs::write(into.join("sub/file"), "below")?;
            std::os::unix::fs::symlink("/etc", into.join("sub/link"))?;
            for name in ["page.html", "sub", "sub/file", "sub/link"] {
                let group = if self.0 == 0 { 0 } else { self.0 + 1 };
                std::os::unix::fs::lchown(into.join(name), Some(self.0), Some(group))?;
            }
            Ok(())
        };
        write().map_err(|e: std::io::Error| e.to_string())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_service_writes_to_its_own_layer_over_the_checkout() {
    layers(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkout_that_an_unprivileged_control_plane_wrote_belongs_to_the_root_of_the_cell() {
    layers(54_400).await;
}

async fn layers(control: u32) {
    let rig = Rig::start_for(control);
    let runtime = rig.runtime().await;
    let commit: CommitId = "0123456789012345678901234567890123456789".parse().unwrap();
    let key = SourceKey {
        project: "test".parse().unwrap(),
        source: "test".parse().unwrap(),
        commit: commit.clone(),
    };
    let sake = Sake {
        environment: "e000000001".parse().unwrap(),
        generation: Generation(1),
    };
    runtime.source_put(&sake, &key, &Files(control)).await.unwrap();
    let source = |target: &str, subpath: &str, read_only| Mount {
        target: target.into(),
        kind: MountKind::Source {
            source: "test".parse().unwrap(),
            subpath: subpath.into(),
        },
        read_only,
    };
    let mut one = service(&["sleep", "1000"], &[]);
    one.workload.mounts = vec![source("/app", "", false), source("/one", "sub/file", true)];
    let mut two = one.clone();
    two.workload.mounts.truncate(1);
    let mut made = spec(rig.environment(), &[("one", one.clone()), ("two", two)]);
    made.sources.insert("test".parse().unwrap(), commit);
    let id = made.environment.clone();
    up(&runtime, &made).await;
    assert_eq!(
        exec(
            &runtime,
            &id,
            "one",
            &[
                "sh",
                "-c",
                "cat /app/page.html; echo changed > /app/page.html; cat /one; echo x > /one"
            ]
        )
        .await
        .0,
        Some(2)
    );
    assert_eq!(
        exec(&runtime, &id, "one", &["cat", "/app/page.html", "/one"]).await.1,
        "changed\nbelow"
    );
    assert_eq!(
        exec(&runtime, &id, "two", &["cat", "/app/page.html"]).await.1,
        "from the checkout"
    );
    let (_, owners) = exec(
        &runtime,
        &id,
        "two",
        &["stat", "-c", "%u %g", "/app", "/app/page.html", "/app/sub/file"],
    )
    .await;
    assert_eq!(owners, "0 0\n0 0\n0 0\n");

    one.workload.mounts = vec![source("/app", "sub/link/passwd", false)];
    let mut bad = spec(id.clone(), &[("three", one)]);
    bad.sources.clone_from(&made.sources);
    let error = runtime
        .apply(&bad, &all(&bad), &NoSecrets)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("leads through a link"), "{error}");
    runtime.remove(&id, Generation(1)).await.unwrap();
    runtime.source_remove(&key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_root_and_the_control_plane_may_speak_and_others_may_only_dial() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let made = server(&rig);
    up(&runtime, &made).await;
    ready(&runtime, &made.environment, "web").await;
    let ask = |uid: u32, socket: &str, request: String| {
        let program = format!(
            "import socket, struct, sys, os\nos.setuid({uid})\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(100)\n\
             try: s.connect('{}')\nexcept OSError as e: print('REFUSED'); sys.exit()\n\
             body = b'''{request}'''\ns.sendall(struct.pack('>I', len(body)) + body)\nprint(s.recv(4096)[4:])",
            rig.run_dir().join(socket).display()
        );
        String::from_utf8(Command::new("python3").args(["-c", &program]).output().unwrap().stdout).unwrap()
    };
    let dial = format!(
        r#"{{"dial":{{"environment":"{}","service":"web","target":{{"port":8000}}}}}}"#,
        made.environment
    );
    let list = r#"{"inventory":{"environment":null}}"#;
    assert!(ask(0, "control.sock", list.into()).contains("resources"));
    assert!(ask(support::DIALER, "control.sock", list.into()).contains("REFUSED"));
    assert!(ask(support::DIALER, "dial.sock", dial.clone()).contains("connected"));
    assert!(ask(support::DIALER, "dial.sock", list.into()).contains("only dials"));
    let administration = dial.replace(r#"{"port":8000}"#, r#""administration""#);
    assert!(
        ask(support::DIALER, "dial.sock", administration).contains("only dials"),
        "the gateway is no administrator"
    );
    let stranger = ask(support::DIALER + 1, "dial.sock", dial);
    assert!(
        ["", "b''"].contains(&stranger.trim()),
        "a stranger is told nothing: {stranger}"
    );
    runtime.remove(&made.environment, Generation(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_asked_for_first_and_secrets_are_in_no_record_or_argument() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let polite = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('asked', flush=True), sys.exit(0)))\nprint('up', flush=True)\ntime.sleep(1000)";
    let mut web = service(&["python3", "-c", polite], &[]);
    web.stop_grace_ms = 60_000;
    web.workload
        .environment
        .insert("TOKEN".into(), model::Value::Secret(model::SecretRef("token".into())));
    let made = spec(rig.environment(), &[("web", web)]);
    struct One;
    impl runtime::Secrets for One {
        fn value(&self, _: &model::SecretRef) -> Option<&[u8]> {
            Some(b"s3cr3t-value")
        }
    }
    runtime.apply(&made, &Stage::Envelope, &NoSecrets).await.unwrap();
    let missing = runtime
        .apply(&made, &all(&made), &NoSecrets)
        .await
        .unwrap_err()
        .to_string();
    assert!(missing.contains("`token`"), "{missing}");
    runtime.apply(&made, &all(&made), &One).await.unwrap();
    let id = &made.environment;
    assert_eq!(
        exec(&runtime, id, "web", &["printenv", "TOKEN"]).await.1,
        "s3cr3t-value\n"
    );
    assert_eq!(processes("s3cr3t-value"), Vec::<i32>::new());
    let found = Command::new("grep")
        .args(["-rl", "s3cr3t-value"])
        .arg(rig.directory.join("state"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let has = |text: &'static str| {
        let runtime = &runtime;
        async move {
            use futures::StreamExt as _;
            let lines: Vec<_> = runtime
                .logs(id, "web", LogQuery::default())
                .await
                .unwrap()
                .collect()
                .await;
            lines.iter().any(|l| l.text == text)
        }
    };
    let begun = Instant::now();
    while !has("up").await {
        assert!(begun.elapsed() < PATIENCE, "{}", rig.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    runtime.power(id, Generation(1), Power::Stopped).await.unwrap();
    assert!(has("asked").await);
    runtime.remove(id, Generation(1)).await.unwrap();
}
