//! Builds that fail, take too much, do not end, or are in the way of a newer one.

use crate::{
    rig::{BASE, Bench, build},
    support::{PATIENCE, Rig},
};
use runtime::{BuildOutcome, RuntimeError};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_failing_step_ends_the_build_and_its_lines_are_kept() {
    let bench = Bench::start().await;
    let (exit, _, log) = bench
        .failed(
            1,
            &format!("FROM {BASE}\nRUN echo compiling; echo 'src/main.c:7: no such thing' >&2; exit 7\n"),
        )
        .await;
    assert_ne!(exit, 0);
    assert!(log.contains("src/main.c:7: no such thing"), "{log}");
    assert!(log.contains("exit status 7"), "{log}");
    bench.nothing_left();

    let (_, _, log) = bench.failed(2, "FROM registry.example/unknown:1\n").await;
    assert!(log.contains("registry.example/unknown:1"), "{log}");
    let (_, _, log) = bench.failed(3, "FROM scratch\nCOPY nothing /\n").await;
    assert!(log.contains("nothing"), "{log}");
    let (_, _, log) = bench.failed(4, "FORM scratch\n").await;
    assert!(log.contains("no FROM statement"), "{log}");
    bench.end().await;
}

#[tokio::test]
async fn a_build_that_never_ends_is_ended_and_that_is_told() {
    let bench = Bench::on(Rig::start_for_builds_of(45)).await;
    let (_, message, _) = bench.failed(1, &format!("FROM {BASE}\nRUN sleep 1000\n")).await;
    assert!(message.unwrap().contains("its time of"));
    bench.nothing_left();
    bench.built(2, &format!("FROM {BASE}\nRUN true\n"), &[]).await;
    bench.end().await;
}

#[tokio::test]
async fn a_build_that_forks_fills_the_disk_or_the_memory_hurts_itself_only() {
    let bench = Bench::start().await;
    let (_, _, log) = bench
        .failed(
            1,
            &format!("FROM {BASE}\nRUN i=0; while [ $i -lt 600 ]; do sleep 50 & i=$((i+1)); done; wait\n"),
        )
        .await;
    assert!(log.contains("fork") || log.contains("esource"), "{log}");
    let (_, _, log) = bench
        .failed(
            2,
            &format!("FROM {BASE}\nRUN dd if=/dev/zero of=/big bs=1M count=2000\n"),
        )
        .await;
    assert!(log.contains("quota") || log.contains("No space"), "{log}");
    let (exit, message, log) = bench
        .failed(
            3,
            &format!("FROM {BASE}\nRUN dd if=/dev/zero of=/dev/null bs=900M count=1\n"),
        )
        .await;
    assert_ne!(exit, 0, "{message:?} {log}");
    bench.nothing_left();
    bench.built(4, &format!("FROM {BASE}\nRUN true\n"), &[]).await;
    bench.end().await;
}

#[tokio::test]
async fn a_newer_push_ends_the_build_that_it_supersedes() {
    let bench = Bench::start().await;
    let slow = format!("FROM {BASE}\nRUN echo begun; sleep 1000\n");
    let old = bench.generation(1, &[("Dockerfile", &slow)], &build()).await;
    let quick = format!("FROM {BASE}\nRUN echo quick\n");
    let (superseded, made) = tokio::join!(bench.run(&old), async {
        let begun = Instant::now();
        while !bench.printed().await.contains("\nbegun") {
            assert!(begun.elapsed() < PATIENCE, "{}", bench.rig.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let new = bench.generation(2, &[("Dockerfile", &quick)], &build()).await;
        bench.run(&new).await
    });
    assert!(matches!(made, Ok(BuildOutcome::Built(_))), "{made:?}");
    assert!(!matches!(superseded, Ok(BuildOutcome::Built(_))), "{superseded:?}");
    let late = bench.run(&old).await;
    assert!(matches!(late, Err(RuntimeError::Superseded { .. })), "{late:?}");
    bench.nothing_left();
    bench.end().await;
}

#[tokio::test]
async fn a_host_that_is_killed_in_the_middle_is_followed_by_one_that_ends_what_was_begun() {
    let mut bench = Bench::start().await;
    let dockerfile = format!("FROM {BASE}\nRUN sleep 2; echo done > /done\n");
    let spec = bench.generation(1, &[("Dockerfile", &dockerfile)], &build()).await;
    for after in [100u64, 300, 600, 1000, 1500, 2200, 3000, 3600, 4200] {
        let cut = tokio::time::timeout(Duration::from_millis(after), bench.run(&spec)).await;
        bench.rig.kill_host();
        bench.rig.start_host();
        bench.runtime = bench.rig.runtime().await;
        if cut.is_ok() {
            break;
        }
    }
    let made = bench.made(&spec).await;
    let place = bench.rig.directory.join("pool/images").join(made.image.hex());
    assert_eq!(std::fs::read_to_string(place.join("done")).unwrap(), "done\n");
    bench.nothing_left();
    bench.end().await;
}
