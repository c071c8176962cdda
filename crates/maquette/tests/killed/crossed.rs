//! Wishes that cross each other, and a gateway without its server.

use crate::{
    golden,
    kill::{PROCESSES, Process, environment_of, mend, open_store},
    left::nothing_is_left,
    life::{Life, ended, running},
    rig::Rig,
};
use model::{EnvironmentId, Generation};
use rustix::process::{Signal, kill_process};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Waits until a step of the pull request's environment has begun that is in no generation up to this one. One that has ended by
/// the time somebody looks has had it.
async fn begun(rig: &Rig, life: &Life, step: &str, after: Generation) -> EnvironmentId {
    let store = open_store(rig).await;
    let since = Instant::now();
    loop {
        let rows = store.environment_list(None, true).await.unwrap();
        if let Some(row) = rows.into_iter().find(|row| row.origin == life.origin()) {
            let steps = crate::kill::steps_after(&store, &row.id, after).await;
            if row.ended.is_some() || steps.iter().any(|row| row.step == step) {
                store.close().await;
                return row.id;
            }
        }
        assert!(
            since.elapsed() < crate::kill::PATIENCE,
            "{step} never began\n{}",
            rig.log()
        );
        sleep(Duration::from_millis(1)).await;
    }
}

async fn kill(rig: &mut Rig, process: Process) {
    let pid = process.pid(rig).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    mend(rig, process, pid).await;
}

/// Closed while it starts.
async fn close_during_start(rig: &mut Rig, killed: Option<Process>, branch: &str) {
    let (life, _) = Life::open(rig, branch).await;
    let id = begun(rig, &life, "service:db", Generation(0)).await;
    life.close(rig).await;
    if let Some(process) = killed {
        kill(rig, process).await;
    }
    life.ended(rig, &id).await;
    assert_eq!(life.environments(rig).await.len(), 1);
}

/// Closed, and closed again while it is being removed.
async fn close_during_close(rig: &mut Rig, killed: Process, branch: &str) {
    let (life, commit) = Life::open(rig, branch).await;
    let id = life.live(rig, &commit).await;
    life.close(rig).await;
    begun(rig, &life, "remove", Generation(1)).await;
    life.close(rig).await;
    // An operator asks for the same, too.
    let asked = rig.run(&["delete", "--yes", id.as_str()]).await;
    assert!([0, 6].contains(&asked.code), "{asked:?}");
    kill(rig, killed).await;
    life.ended(rig, &id).await;
    assert_eq!(life.environments(rig).await.len(), 1);
}

/// Opened again while it is being removed: the old one ends with its receipt, and a new one becomes live.
async fn reopen_during_close(rig: &mut Rig, killed: Option<Process>, branch: &str) {
    let (life, commit) = Life::open(rig, branch).await;
    let id = life.live(rig, &commit).await;
    life.close(rig).await;
    begun(rig, &life, "remove", Generation(1)).await;
    life.reopen(rig).await;
    if let Some(process) = killed {
        kill(rig, process).await;
    }
    let since = Instant::now();
    let second = loop {
        let second = life.live(rig, &commit).await;
        if second != id {
            break second;
        }
        assert!(
            since.elapsed() < crate::kill::PATIENCE,
            "still the first\n{}",
            rig.log()
        );
        sleep(Duration::from_millis(50)).await;
    };
    life.ended(rig, &id).await;
    life.visited(rig, "opened").await;
    life.close(rig).await;
    life.ended(rig, &second).await;
    assert_eq!(life.environments(rig).await.len(), 2);
}

/// Closed while the golden that it would be cloned from is being made: it ends at once, and the golden is made all the same.
async fn close_during_golden(rig: &mut Rig, killed: Option<Process>, branch: &str) {
    let before = golden::ready(rig).await;
    let makers = golden::makers(rig).await;
    golden::reseed(rig, branch).await;
    let (life, _) = Life::open(rig, branch).await;
    golden::begun(rig, "service:db", &makers).await;
    let id = appeared(rig, &life).await;
    life.close(rig).await;
    if let Some(process) = killed {
        kill(rig, process).await;
    }
    // Perhaps nothing was made of it yet.
    ended(rig, &id).await;
    assert_eq!(life.environments(rig).await.len(), 1);
    golden::made(rig, &before).await;
}

/// Waits until the pull request has an environment, whatever becomes of it.
async fn appeared(rig: &Rig, life: &Life) -> EnvironmentId {
    let store = open_store(rig).await;
    let since = Instant::now();
    loop {
        if let Some(id) = environment_of(&store, &life.origin()).await {
            store.close().await;
            return id;
        }
        assert!(since.elapsed() < crate::kill::PATIENCE, "no environment\n{}", rig.log());
        sleep(Duration::from_millis(5)).await;
    }
}

/// People with a session go on while the server is away and when it is back.
async fn gateway_without_server(rig: &mut Rig) {
    let (life, commit) = Life::open(rig, "alone").await;
    let id = life.live(rig, &commit).await;
    let visitor = life.visited(rig, "opened").await;
    let gateway = Process::Gateway.pid(rig).unwrap();
    let serve = Process::Serve.pid(rig).unwrap();
    kill_process(serve, Signal::KILL).unwrap();
    for _ in 0..20 {
        assert_eq!(visitor.get("/page.txt").await, (200, "alone opened\n".to_owned()));
        sleep(Duration::from_millis(50)).await;
    }
    let back = CancellationToken::new();
    let visits = tokio::spawn({
        let back = back.clone();
        async move {
            while !back.is_cancelled() {
                assert_eq!(visitor.get("/page.txt").await, (200, "alone opened\n".to_owned()));
                sleep(Duration::from_millis(20)).await;
            }
            visitor
        }
    });
    mend(rig, Process::Serve, serve).await;
    back.cancel();
    let visitor = visits.await.unwrap();
    assert_eq!(Process::Gateway.pid(rig), Some(gateway), "the same gateway serves on");
    assert_eq!(visitor.get("/page.txt").await.0, 200);
    life.close(rig).await;
    life.ended(rig, &id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wishes_that_cross_each_other_are_followed_and_the_gateway_serves_alone() {
    let mut rig = running().await;
    gateway_without_server(&mut rig).await;
    let killed = || [None].into_iter().chain(PROCESSES.map(Some));
    for (n, process) in killed().enumerate() {
        close_during_start(&mut rig, process, &format!("early-{n}")).await;
    }
    for (n, process) in PROCESSES.into_iter().enumerate() {
        close_during_close(&mut rig, process, &format!("twice-{n}")).await;
    }
    for (n, process) in killed().enumerate() {
        reopen_during_close(&mut rig, process, &format!("again-{n}")).await;
    }
    for (n, process) in killed().enumerate() {
        close_during_golden(&mut rig, process, &format!("unmade-{n}")).await;
    }
    nothing_is_left(&mut rig).await;
}
