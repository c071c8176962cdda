//! Commands that people run in containers, and the end of the cell host that has begun them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod support;

use model::Generation;
use runtime::{ExecExit, Runtime as _};
use std::collections::BTreeMap;
use support::{Rig, exec, service, spec, up};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_outlived_its_host_is_not_taken_for_one_of_the_next() {
    let mut rig = Rig::start();
    let runtime = rig.runtime().await;
    let made = spec(rig.environment(), &[("one", service(&["sleep", "1000"], &[]))]);
    let id = &made.environment;
    up(&runtime, &made).await;
    let service = "one".parse().unwrap();
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let living = argv(&["sh", "-c", "echo begun; exec sleep 777"]);
    let mut begun = runtime.exec(id, &service, &living, &BTreeMap::new()).await.unwrap();
    assert_eq!(begun.stdout.recv().await.unwrap(), "begun\n");

    rig.kill_host();
    rig.start_host();
    let _ = rig.runtime().await;
    let missing = argv(&["/no/such/program"]);
    let failed = runtime.exec(id, &service, &missing, &BTreeMap::new()).await.unwrap();
    drop(failed.stdin);
    let exit = failed.exit.await.unwrap();
    assert!(matches!(exit, ExecExit::Failed(_)), "it never ran: {exit:?}");
    let list = "import glob\nprint([open(p).read() for p in glob.glob('/proc/[0-9]*/cmdline')])";
    let (_, seen) = exec(&runtime, id, "one", &["python3", "-c", list]).await;
    assert!(seen.contains("777"), "the living command was ended: {seen}");
    runtime.remove(id, Generation(1)).await.unwrap();
}
