//! A cell host or a door that was killed comes back by itself, one that was asked to end does not.

use crate::{
    kill::{PATIENCE, Process, mend, serve_beside},
    left::running as processes,
    life::{Life, running},
    rig::{Rig, free_port},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    net::TcpStream,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};
use tokio::time::sleep;

async fn until(rig: &Rig, what: &str, is: impl Fn() -> bool) {
    let since = Instant::now();
    while !is() {
        assert!(since.elapsed() < PATIENCE, "{what}\n{}", rig.log());
        sleep(Duration::from_millis(10)).await;
    }
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_host_that_was_killed_comes_back_and_one_that_was_asked_to_end_does_not() {
    let mut rig = running().await;
    let (life, commit) = Life::open(&rig, "kept").await;
    let id = life.live(&rig, &commit).await;
    let visitor = life.visited(&rig, "opened").await;
    let keeper = Process::Keeper.pid(&rig).unwrap();
    for _ in 0..3 {
        let host = Process::CellHost.pid(&rig).unwrap();
        kill(host);
        mend(&mut rig, Process::CellHost, host).await;
        assert_eq!(visitor.get("/page.txt").await, (200, "kept opened\n".to_owned()));
    }
    assert_eq!(Process::Keeper.pid(&rig), Some(keeper), "the same looks after it");

    // The door outlives the cell host, and comes back when it is killed itself. It is started beside everything else.
    until(&rig, "there is no door", || Process::Door.pid(&rig).is_some()).await;
    let door = Process::Door.pid(&rig).unwrap();
    kill(door);
    until(&rig, "the door stays away", || {
        Process::Door.pid(&rig).is_some_and(|pid| pid != door)
    })
    .await;
    let door = Process::Door.pid(&rig).unwrap();
    let host = Process::CellHost.pid(&rig).unwrap();
    kill(host);
    mend(&mut rig, Process::CellHost, host).await;
    assert_eq!(Process::Door.pid(&rig), Some(door), "it did not notice");

    // The server is asked to end: the cell host goes on, and is found again.
    let host = Process::CellHost.pid(&rig).unwrap();
    let serve = Process::Serve.pid(&rig).unwrap();
    kill_process(serve, Signal::TERM).unwrap();
    mend(&mut rig, Process::Serve, serve).await;
    assert_eq!(Process::CellHost.pid(&rig), Some(host), "it did not notice");
    assert_eq!(visitor.get("/page.txt").await.0, 200);

    // Nobody looks after the keeper but the next `maquette serve`, also while the cell host goes on.
    kill(keeper);
    until(&rig, "the keeper stays", || Process::Keeper.is_gone(&rig, keeper)).await;
    let second = serve_beside(&rig).await;
    assert!(second.contains("uses"), "{second}");
    until(&rig, "no keeper", || Process::Keeper.pid(&rig).is_some()).await;
    assert_eq!(Process::CellHost.pid(&rig), Some(host), "it did not notice");
    kill(host);
    mend(&mut rig, Process::CellHost, host).await;
    let host = Process::CellHost.pid(&rig).unwrap();
    let keeper = Process::Keeper.pid(&rig).unwrap();

    // Both at once.
    kill(keeper);
    until(&rig, "the keeper stays", || Process::Keeper.is_gone(&rig, keeper)).await;
    assert_eq!(Process::CellHost.pid(&rig), Some(host), "it goes on without its keeper");
    assert_eq!(visitor.get("/page.txt").await.0, 200);
    kill(host);
    // One that is being ended is still connected to for a moment.
    let control = rig.run_dir.join("control.sock");
    until(&rig, "the cell host stays", || UnixStream::connect(&control).is_err()).await;
    let serve = Process::Serve.pid(&rig);
    let second = serve_beside(&rig).await;
    assert!(second.contains("uses"), "{second}");
    assert_eq!(Process::Serve.pid(&rig), serve, "the server that ran goes on");
    until(&rig, "they do not come back", || processes(&rig) == 5).await;
    assert_eq!(visitor.get("/page.txt").await, (200, "kept opened\n".to_owned()));
    life.close(&rig).await;
    life.ended(&rig, &id).await;

    // `maquette stop` ends all of them for good.
    let stopped = rig.stop().await;
    assert!(stopped.success(), "{stopped:?}\n{}", rig.log());
    assert_eq!(processes(&rig), 0);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(processes(&rig), 0, "one was started again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_runs_with_another_configuration_is_started_again() {
    let mut rig = running().await;
    let (serve, gateway) = (Process::Serve.pid(&rig).unwrap(), Process::Gateway.pid(&rig).unwrap());
    kill_process(serve, Signal::TERM).unwrap();
    mend(&mut rig, Process::Serve, serve).await;
    assert_eq!(Process::Gateway.pid(&rig), Some(gateway), "nothing has changed for it");

    let before = rig.gateway;
    rig.gateway = free_port();
    rig.configure();
    let serve = Process::Serve.pid(&rig).unwrap();
    kill_process(serve, Signal::TERM).unwrap();
    mend(&mut rig, Process::Serve, serve).await;
    assert_ne!(Process::Gateway.pid(&rig), Some(gateway));
    assert!(TcpStream::connect(("127.0.0.1", rig.gateway)).is_ok());
    assert!(
        TcpStream::connect(("127.0.0.1", before)).is_err(),
        "the other one goes on"
    );
    // It is looked after as before.
    let gateway = Process::Gateway.pid(&rig).unwrap();
    kill(gateway);
    mend(&mut rig, Process::Gateway, gateway).await;
}
