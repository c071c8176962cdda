//! Whoever started the cell host reads what it prints until its end. Monitors and containers outlive it and keep nobody waiting.

use crate::support::{PATIENCE, Rig};
use crate::{born, ready, server, up};
use std::time::{Duration, Instant};

/// Becomes the cell host, whose output another process reads, which notes its end in a file.
const READER: &str = "
import os, sys
ours, theirs = os.pipe()
if os.fork() == 0:
    os.close(theirs)
    while os.read(ours, 4096): pass
    open(os.path.join(os.environ['CELL_TEST_DIRECTORY'], 'read-to-its-end'), 'w').close()
    os._exit(0)
os.close(ours)
os.dup2(theirs, 1)
os.close(theirs)
os.execv(sys.argv[1], sys.argv[1:])
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlives_the_cell_host_does_not_keep_its_output_open() {
    let mut rig = Rig::start_within(&["/usr/bin/python3", "-c", READER]);
    let runtime = rig.runtime().await;
    let made = server(&rig);
    up(&runtime, &made).await;
    ready(&runtime, &made.environment, "web").await;
    let text = born(&runtime, &made).await;
    let end = rig.directory.join("read-to-its-end");
    assert!(!end.exists(), "it still runs");

    rig.kill_host();
    let begun = Instant::now();
    while !end.exists() {
        assert!(begun.elapsed() < PATIENCE, "somebody else has its output");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // They were there all the time.
    rig.start_host();
    let runtime = rig.runtime().await;
    ready(&runtime, &made.environment, "web").await;
    assert_eq!(born(&runtime, &made).await, text);
}
