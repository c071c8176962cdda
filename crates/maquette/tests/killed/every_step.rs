//! Each process, killed at each step of open, push and close.

use crate::{
    kill::{PROCESSES, Part, Point, Process},
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
    for (n, faults) in schedule(&points).iter().enumerate() {
        let faults: Vec<(&Point, Process)> = faults.iter().map(|(point, process)| (point, *process)).collect();
        let words: Vec<String> = faults
            .iter()
            .map(|(point, process)| format!("{process:?} at {point}"))
            .collect();
        eprintln!("{:?}, killing {}", since.elapsed(), words.join(", "));
        live_through(&mut rig, &format!("life-{n}"), &faults).await;
        killed.extend(faults.iter().map(|(point, process)| ((*point).clone(), *process)));
    }
    for point in &points {
        assert!(killed.iter().any(|(at, _)| at == point), "nobody was killed at {point}");
    }
    for process in PROCESSES {
        assert!(killed.iter().any(|(_, who)| *who == process));
    }
    eprintln!(
        "{:?}, {} kills at {} points",
        since.elapsed(),
        killed.len(),
        points.len()
    );
}

/// Lives that go through all points, with one kill in each part. Every point has a process in turn; the few of the end have all.
/// With `KILL_ALL` in the environment every process is killed at every point.
fn schedule(points: &BTreeSet<Point>) -> Vec<Vec<(Point, Process)>> {
    let all = std::env::var_os("KILL_ALL").is_some();
    let mut lives: Vec<Vec<(Point, Process)>> = Vec::new();
    for part in [Part::Open, Part::Push, Part::Close] {
        let every = all || part == Part::Close;
        let of_part: Vec<&Point> = points.iter().filter(|point| point.part == part).collect();
        // A step's beginning is followed by its end.
        let mut kills = Vec::new();
        for (n, step) in of_part.chunks(2).enumerate() {
            for (m, point) in step.iter().enumerate() {
                for (p, process) in PROCESSES.into_iter().enumerate() {
                    if every || (2 * n + m) % 3 == p {
                        kills.push(((*point).clone(), process));
                    }
                }
            }
        }
        for (n, kill) in kills.into_iter().enumerate() {
            if lives.len() <= n {
                lives.push(Vec::new());
            }
            lives[n].push(kill);
        }
    }
    lives
}
