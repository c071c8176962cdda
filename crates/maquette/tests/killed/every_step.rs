//! Each process, killed at each step of open, push and close.

use crate::{
    kill::{PROCESSES, Part, Point, Process},
    left::nothing_is_left,
    life::{live_through, running},
};
use std::{collections::BTreeSet, time::Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_step_it_converges_and_nothing_is_left() {
    let mut rig = running().await;
    let since = Instant::now();
    let points = live_through(&mut rig, "undisturbed", &[]).await;
    eprintln!("{:?}, undisturbed: {} points", since.elapsed(), points.len());
    for part in [Part::Open, Part::Push, Part::Close] {
        assert!(points.iter().any(|point| point.part == part), "{points:?}");
    }
    let mut killed = BTreeSet::new();
    for (n, faults) in sampled(schedule(&points)).iter().enumerate() {
        let faults: Vec<(&Point, Process)> = faults.iter().map(|(point, process)| (point, *process)).collect();
        let words: Vec<String> = faults
            .iter()
            .map(|(point, process)| format!("{process:?} at {point}"))
            .collect();
        eprintln!("{:?}, killing {}", since.elapsed(), words.join(", "));
        live_through(&mut rig, &format!("life-{n}"), &faults).await;
        killed.extend(faults.iter().map(|(point, process)| ((*point).clone(), *process)));
    }
    for point in points.iter().filter(|_| most().is_none()) {
        assert!(killed.iter().any(|(at, _)| at == point), "nobody was killed at {point}");
    }
    for process in PROCESSES {
        assert!(killed.iter().any(|(_, who)| *who == process));
    }
    nothing_is_left(&mut rig).await;
    eprintln!(
        "{:?}, {} kills at {} points",
        since.elapsed(),
        killed.len(),
        points.len()
    );
}

/// Who is killed at which point: each process in turn, or at every point every one.
pub(crate) fn kills(points: &[&Point], every: bool) -> Vec<(Point, Process)> {
    let mut kills = Vec::new();
    for (n, point) in points.iter().enumerate() {
        for (p, process) in PROCESSES.into_iter().enumerate() {
            if every || n % 3 == p {
                kills.push(((*point).clone(), process));
            }
        }
    }
    kills
}

/// Whether every process is to be killed at every point.
pub(crate) fn all() -> bool {
    std::env::var_os("KILL_ALL").is_some()
}

/// At most so many lives, where `KILL_LIVES` says so: a slow machine shows some of what the others show in full.
fn most() -> Option<usize> {
    let most = std::env::var("KILL_LIVES").ok()?;
    Some(most.parse().expect("KILL_LIVES is a number of lives"))
}

/// All of them, or some that lie apart, at most [`most`]; at least three, in which each process has its turn.
pub(crate) fn sampled<T>(all: Vec<T>) -> Vec<T> {
    let most = most().unwrap_or(usize::MAX).max(PROCESSES.len());
    let mut stride = (all.len() / most).max(1);
    // Processes take turns: every third life would kill the same one again.
    if stride.is_multiple_of(PROCESSES.len()) {
        stride -= 1;
    }
    all.into_iter().step_by(stride).take(most).collect()
}

/// Lives that go through all points, with one kill in each part. Every point has a process in turn; the few of the end have all.
/// With `KILL_ALL` in the environment every process is killed at every point.
fn schedule(points: &BTreeSet<Point>) -> Vec<Vec<(Point, Process)>> {
    let mut lives: Vec<Vec<(Point, Process)>> = Vec::new();
    for part in [Part::Open, Part::Push, Part::Close] {
        let every = all() || part == Part::Close;
        let of_part: Vec<&Point> = points.iter().filter(|point| point.part == part).collect();
        for (n, kill) in kills(&of_part, every).into_iter().enumerate() {
            if lives.len() <= n {
                lives.push(Vec::new());
            }
            lives[n].push(kill);
        }
    }
    lives
}
