//! The reconciler is ended at every call by which it changes something in the runtime, and calls fail before and after their effect:
//! the next start, or the next try, converges. The points are counted from a life without interruption, not listed by hand.

use crate::bench::{Bench, compose};
use model::Phase;
use runtime::RuntimeError;
use std::time::Duration;
use tokio::time::sleep;

/// A part of a life that changed more often than this would take too long to interrupt at each.
const CHANGES_MAX: usize = 20;

fn lost() -> RuntimeError {
    RuntimeError::Unreachable {
        runtime: "simulator".into(),
        reason: "the answer was lost".into(),
    }
}

/// How many calls each part of a life makes that change something.
#[derive(Clone, Copy, Debug)]
struct Points {
    open: usize,
    push: usize,
    close: usize,
}

/// How many such calls were made so far.
fn changes(bench: &Bench) -> usize {
    let calls = bench.simulator.calls();
    calls.iter().filter(|call| call.operation.mutates()).count()
}

async fn life(bench: &mut Bench, kill_after: Option<(usize, Stage)>) -> Points {
    let begun = changes(bench);
    let number = bench.open("feature").await;
    if let Some((calls, Stage::Open)) = kill_after {
        interrupt(bench, begun + calls).await;
    }
    bench.reaches(number, Phase::Live, None).await;
    let opened = changes(bench);
    let commit = bench.push("feature", &compose("three")).await;
    if let Some((calls, Stage::Push)) = kill_after {
        interrupt(bench, opened + calls).await;
    }
    bench.reaches(number, Phase::Live, Some(&commit)).await;
    let pushed = changes(bench);
    bench.forge.close(number).await.unwrap();
    if let Some((calls, Stage::Close)) = kill_after {
        interrupt(bench, pushed + calls).await;
    }
    bench.reaches(number, Phase::Ended, None).await;
    bench.assert_one(number).await;
    assert_eq!(bench.environments(number).await.len(), 1);
    assert_eq!(bench.inventory().await, [], "something is left over");
    bench.comment_says(number, "verified gone").await;
    assert_eq!(bench.forge.comments(number).unwrap().len(), 1);
    Points {
        open: opened - begun,
        push: pushed - opened,
        close: changes(bench) - pushed,
    }
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Open,
    Push,
    Close,
}

/// Ends all tasks as soon as so many such calls were made, and starts again.
async fn interrupt(bench: &mut Bench, calls: usize) {
    for _ in 0..20_000 {
        if changes(bench) >= calls {
            break;
        }
        sleep(Duration::from_micros(200)).await;
    }
    bench.kill();
    bench.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_at_any_call_and_started_again() {
    let points = life(&mut Bench::new().await, None).await;
    assert!(points.open > 2 && points.push > 2 && points.close > 0, "{points:?}");
    for (stage, calls) in [
        (Stage::Open, points.open),
        (Stage::Push, points.push),
        (Stage::Close, points.close),
    ] {
        assert!(calls <= CHANGES_MAX, "{stage:?}: {calls} calls");
        for after in 0..=calls {
            life(&mut Bench::new().await, Some((after, stage))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_may_fail_or_lose_its_answer() {
    let mut bench = Bench::new().await;
    life(&mut bench, None).await;
    let calls = bench.simulator.calls().len().min(60);
    for n in (1..=calls).step_by(3) {
        let mut bench = Bench::new().await;
        bench.simulator.fail_at(n, lost());
        life(&mut bench, None).await;
        let mut bench = Bench::new().await;
        bench.simulator.fail_after_at(n, lost());
        life(&mut bench, None).await;
    }
}
