//! The reconciler is ended at every call that it makes of the runtime, before the call and after it: the next start converges.
//! The points are counted from a run without interruption, not listed by hand.

use crate::bench::{Bench, compose};
use model::Phase;
use runtime::RuntimeError;
use std::time::Duration;
use tokio::time::sleep;

fn lost() -> RuntimeError {
    RuntimeError::Unreachable {
        runtime: "simulator".into(),
        reason: "the answer was lost".into(),
    }
}

async fn life(bench: &mut Bench, kill_after: Option<(usize, Stage)>) -> usize {
    let begin = bench.simulator.calls().len();
    let number = bench.open("feature").await;
    if let Some((calls, Stage::Open)) = kill_after {
        interrupt(bench, begin + calls).await;
    }
    bench.reaches(number, Phase::Live, None).await;
    let pushed = bench.simulator.calls().len();
    let commit = bench.push("feature", &compose("three")).await;
    if let Some((calls, Stage::Push)) = kill_after {
        interrupt(bench, pushed + calls).await;
    }
    bench.reaches(number, Phase::Live, Some(&commit)).await;
    let closed = bench.simulator.calls().len();
    bench.forge.close(number).await.unwrap();
    if let Some((calls, Stage::Close)) = kill_after {
        interrupt(bench, closed + calls).await;
    }
    bench.reaches(number, Phase::Ended, None).await;
    bench.assert_one(number).await;
    assert_eq!(bench.environments(number).await.len(), 1);
    assert_eq!(bench.inventory().await, [], "something is left over");
    bench.comment_says(number, "verified gone").await;
    assert_eq!(bench.forge.comments(number).unwrap().len(), 1);
    bench.simulator.calls().len() - begin
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Open,
    Push,
    Close,
}

/// Ends all tasks as soon as so many calls were made, and starts again.
async fn interrupt(bench: &mut Bench, calls: usize) {
    for _ in 0..2_000 {
        if bench.simulator.calls().len() >= calls {
            break;
        }
        sleep(Duration::from_micros(200)).await;
    }
    bench.kill();
    bench.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_at_any_call_and_started_again() {
    for stage in [Stage::Open, Stage::Push, Stage::Close] {
        for calls in (0..24).step_by(3) {
            let mut bench = Bench::new().await;
            life(&mut bench, Some((calls, stage))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_may_fail_or_lose_its_answer() {
    let mut bench = Bench::new().await;
    let calls = life(&mut bench, None).await.min(60);
    for n in (1..=calls).step_by(3) {
        let mut bench = Bench::new().await;
        bench.simulator.fail_at(n, lost());
        life(&mut bench, None).await;
        let mut bench = Bench::new().await;
        bench.simulator.fail_after_at(n, lost());
        life(&mut bench, None).await;
    }
}
