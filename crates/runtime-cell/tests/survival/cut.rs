//! The host is killed at every point of a start, a stop, a wake and a restart. The points are what an undisturbed run leaves on
//! disk, one after the other; they are not listed by hand.

use crate::{
    kill, processes,
    support::{PATIENCE, Rig, ready, service, spec, state, up},
};
use model::{EnvironmentSpec, Generation, Power, Restart, ServiceState};
use runtime::Runtime as _;
use runtime_cell::CellRuntime;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// Takes its time to end, as a database does, and says so.
const SLOW_TO_END: &str = "\
import signal, socket, sys, time
ending = False
def end(*_):
    # The host that follows one that was killed asks once more.
    global ending
    if ending: return
    ending = True
    print('asked', flush=True)
    time.sleep(0.15)
    print('orderly', flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
listener = socket.create_server(('', 8000))
while True:
    listener.accept()[0].close()
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// The first start.
    Start,
    /// The first start of what was told ahead.
    Ahead,
    /// An orderly stop, as before a snapshot.
    Stop,
    /// A start after everything was stopped.
    Wake,
    /// The start after an end that nobody wanted.
    Restart,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_was_cut_is_made_again() {
    at_every_point(Operation::Start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_ahead_and_was_cut_is_made_again() {
    at_every_point(Operation::Ahead).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_was_cut_is_a_stop() {
    at_every_point(Operation::Stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_that_was_cut_is_made_again() {
    at_every_point(Operation::Wake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_was_cut_is_made_again_by_the_host_itself() {
    at_every_point(Operation::Restart).await;
}

async fn at_every_point(operation: Operation) {
    let mut rig = Rig::start();
    let points = live(&mut rig, operation, None).await;
    assert!(points.len() > 3, "{points:?}");
    for point in &points {
        live(&mut rig, operation, Some(point)).await;
    }
    eprintln!("{operation:?}: killed at {} points", points.len());
}

/// One environment from its first start to its end. The host is killed as soon as the point is reached.
async fn live(rig: &mut Rig, operation: Operation, point: Option<&str>) -> Vec<String> {
    let runtime = rig.runtime().await;
    let mut web = service(&["python3", "-c", SLOW_TO_END], &[8000]);
    web.stop_grace_ms = 60_000;
    if operation == Operation::Restart {
        web.restart = Restart::Always;
    }
    let made = spec(rig.environment(), &[("web", web)]);
    let id = made.environment.clone();
    if !matches!(operation, Operation::Start | Operation::Ahead) {
        up(&runtime, &made).await;
        ready(&runtime, &id, "web").await;
    }
    if operation == Operation::Wake {
        runtime.power(&id, Generation(1), Power::Stopped).await.unwrap();
    }
    let trail = Trail::follow(rig, &made, point);
    // Killed, the host answers nothing.
    let carried_out = timeout(PATIENCE, carry_out(rig, &runtime, &made, operation)).await;
    if point.is_none() {
        assert_eq!(carried_out, Ok(true));
    }
    let (points, killed) = trail.end();
    if killed {
        rig.kill_host();
        // Half of the times what was asked to end has ended before anybody looks.
        if point.is_some_and(|point| point.len() % 2 == 0) {
            sleep(Duration::from_millis(300)).await;
        }
        rig.start_host();
        let _ = rig.runtime().await;
    }
    converges(rig, &runtime, &made, operation).await;
    runtime.remove(&id, Generation(1)).await.unwrap();
    assert_eq!(runtime.inventory(None).await.unwrap(), []);
    assert_eq!(processes(&format!("{}-{id}", rig.instance)), Vec::<i32>::new());
    points
}

/// Carries it out; tells whether that was possible.
async fn carry_out(rig: &Rig, runtime: &CellRuntime, made: &EnvironmentSpec, operation: Operation) -> bool {
    let id = &made.environment;
    match operation {
        Operation::Start | Operation::Ahead => {
            let envelope = runtime.apply(made, &model::Stage::Envelope, &runtime::NoSecrets).await;
            if operation == Operation::Ahead {
                let web = ["web".parse().unwrap()];
                let told = runtime.prepare(made, &web, &runtime::NoSecrets).await;
                // What is made then waits for its start, and may be cut there too.
                sleep(Duration::from_millis(20)).await;
                if told.is_err() {
                    return false;
                }
            }
            let all = runtime
                .apply(made, &crate::support::all(made), &runtime::NoSecrets)
                .await;
            envelope.and(all).is_ok() && is_ready_again(runtime, made, 0).await
        }
        Operation::Stop => {
            let web = ["web".parse().unwrap()];
            runtime.services_stop(id, Generation(1), &web).await.is_ok()
        }
        Operation::Wake => {
            let woken = runtime.power(id, Generation(1), Power::Running).await;
            woken.is_ok() && is_ready_again(runtime, made, 0).await
        }
        Operation::Restart => {
            kill(crate::first_process(rig, made));
            is_ready_again(runtime, made, 1).await
        }
    }
}

/// Waits until it is ready and was started again so often; false when nobody answers any more.
async fn is_ready_again(runtime: &CellRuntime, made: &EnvironmentSpec, restarts: u32) -> bool {
    loop {
        let Ok(Some(seen)) = runtime.observe(&made.environment).await else {
            return false;
        };
        let fact = seen.services.get(&"web".parse().unwrap());
        if fact.is_some_and(|fact| fact.state == ServiceState::Ready && fact.restarts >= restarts) {
            return true;
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// What was begun is so in the end, and what was wanted is told from what went wrong.
async fn converges(rig: &Rig, runtime: &CellRuntime, made: &EnvironmentSpec, operation: Operation) {
    let id = &made.environment;
    match operation {
        Operation::Start | Operation::Ahead => up(runtime, made).await,
        Operation::Stop => {
            let web = ["web".parse().unwrap()];
            runtime.services_stop(id, Generation(1), &web).await.unwrap();
            let seen = runtime.observe(id).await.unwrap().unwrap();
            assert_eq!(seen.services[&web[0]].state, ServiceState::Stopped);
            assert_eq!(logged(rig, made, "orderly"), 1, "it was given the time to end");
            up(runtime, made).await;
        }
        Operation::Wake => runtime.power(id, Generation(1), Power::Running).await.unwrap(),
        // Nobody asks for that: it is the host's own.
        Operation::Restart => assert!(timeout(PATIENCE, is_ready_again(runtime, made, 1)).await.unwrap()),
    }
    ready(runtime, id, "web").await;
    let fact = state(runtime, id, "web", |s| *s == ServiceState::Ready).await;
    let wanted = u32::from(operation == Operation::Restart);
    assert_eq!(fact.restarts, wanted, "{fact:?}");
    let target = runtime::Target::Port(8000);
    runtime.dial(id, &"web".parse().unwrap(), target).await.unwrap();
    crate::one_monitor(rig, made, "one monitor").await;
}

/// How often the service printed this line.
fn logged(rig: &Rig, made: &EnvironmentSpec, line: &str) -> usize {
    let log = state_directory(rig, made).join("logs/s-web.log");
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .filter(|found| found.ends_with(&format!(" F {line}")))
        .count()
}

fn state_directory(rig: &Rig, made: &EnvironmentSpec) -> PathBuf {
    rig.directory.join("state/environments").join(made.environment.as_str())
}

/// Notes what appears and goes on disk while something is carried out.
struct Trail {
    enough: Arc<AtomicBool>,
    follower: JoinHandle<(Vec<String>, bool)>,
}

impl Trail {
    fn follow(rig: &Rig, made: &EnvironmentSpec, until: Option<&str>) -> Self {
        let id = made.environment.to_string();
        let places = [
            rig.run_dir().join("cells").join(&id),
            rig.run_dir().join("mounts"),
            state_directory(rig, made),
        ];
        let host = Pid::from_raw(rig.host_pid().cast_signed()).unwrap();
        let until = until.map(str::to_owned);
        let enough = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&enough);
        let mut before = BTreeSet::new();
        places.iter().for_each(|place| look(place, &id, 0, &mut before));
        let follower = thread::spawn(move || {
            let mut points: Vec<String> = Vec::new();
            loop {
                let last = asked.load(Ordering::Relaxed);
                let mut now = BTreeSet::new();
                places.iter().for_each(|place| look(place, &id, 0, &mut now));
                let appeared = now.difference(&before).map(|name| format!("+ {name}"));
                let gone = before.difference(&now).map(|name| format!("- {name}"));
                for point in appeared.chain(gone) {
                    if until.as_ref() == Some(&point) {
                        kill_process(host, Signal::KILL).unwrap();
                        return (points, true);
                    }
                    if !points.contains(&point) {
                        points.push(point);
                    }
                }
                before = now;
                if last {
                    return (points, false);
                }
                thread::sleep(Duration::from_micros(100));
            }
        });
        Self { enough, follower }
    }

    fn end(self) -> (Vec<String>, bool) {
        self.enough.store(true, Ordering::Relaxed);
        self.follower.join().unwrap()
    }
}

/// The names below a directory, without the environment's own; and what the record says of the service.
fn look(directory: &Path, id: &str, depth: usize, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.display().to_string();
        let Some((_, name)) = name.split_once(id) else { continue };
        match entry.file_name().to_str() {
            // Of no meaning, and of another name each time.
            Some(name) if name == "record.part" || name.starts_with('.') || name.starts_with("runc.") => continue,
            Some("record.json") => {
                let text = fs::read(&path).unwrap_or_default();
                let record: Value = serde_json::from_slice(&text).unwrap_or_default();
                let unit = &record["units"]["s-web"];
                let power = &record["power"];
                let state = unit["state"].as_object().and_then(|state| state.keys().next());
                let state = state.map_or_else(|| unit["state"].to_string(), Clone::clone);
                found.insert(format!("{power} {state} {} {}", unit["launched"], unit["underway"]));
                continue;
            }
            Some("s-web.log") => {
                let text = fs::read_to_string(&path).unwrap_or_default();
                found.extend(
                    ["asked", "orderly"]
                        .iter()
                        .filter(|word| text.contains(*word))
                        .map(|word| (*word).to_owned()),
                );
            }
            _ => {}
        }
        found.insert(name.replace(id, "ID"));
        if depth < 3 && !name.ends_with("/rootfs") && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            look(&path, id, depth + 1, found);
        }
    }
}
