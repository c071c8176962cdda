//! What must be so with each OCI runtime, and when an operator goes from one to the other.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod support;

use model::{Generation, ServiceState};
use runtime::Runtime as _;
use runtime_cell::host::OciKind;
use std::{fs, os::unix::fs::MetadataExt as _};
use support::{Rig, exec, ready, service, spec, state, up};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

fn null() -> (u32, u32, u32) {
    let meta = fs::metadata("/dev/null").unwrap();
    (meta.uid(), meta.gid(), meta.mode())
}

/// When the container's first process was started, as the kernel counts it. Its directory in `/proc` is no witness: that is as old as
/// the kernel's memory of it, which it gives up when it needs room.
const BORN: [&str; 3] = [
    "python3",
    "-c",
    "print(open('/proc/1/stat').read().rsplit(')', 1)[1].split()[19])",
];

const FORBID_NULL: &str = "\
import os
for change in [lambda: os.chmod('/dev/null', 0), lambda: os.chown('/dev/null', 0, 0)]:
    try: change(); print('CHANGED')
    except OSError: print('refused')
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_input_that_never_comes_and_nothing_of_the_machine_is_given_away() {
    for oci in OciKind::ALL {
        let before = null();
        let rig = Rig::start_on(oci);
        let runtime = rig.runtime().await;
        // Ends when its input does.
        let reader = service(&["cat"], &[]);
        let shell = service(&["sleep", "1000"], &[]);
        let made = spec(rig.environment(), &[("reader", reader), ("shell", shell)]);
        up(&runtime, &made).await;
        let id = &made.environment;
        let ended = state(&runtime, id, "reader", |s| matches!(s, ServiceState::Exited { .. })).await;
        assert_eq!(ended.state, ServiceState::Exited { code: 0 }, "{oci}");
        let tried = exec(&runtime, id, "shell", &["python3", "-c", FORBID_NULL]).await.1;
        assert_eq!(tried, "refused\nrefused\n", "{oci}");
        // A container sees no control group but its own, and is in that one in each hierarchy.
        let groups = exec(&runtime, id, "shell", &["cat", "/proc/1/cgroup"]).await.1;
        let seen = |line: &str| line.ends_with(":/");
        assert!(!groups.is_empty() && groups.lines().all(seen), "{oci}: {groups}");
        assert_eq!(null(), before, "{oci}: /dev/null belongs to the machine");
        runtime.remove(id, Generation(1)).await.unwrap();
        assert_eq!(runtime.inventory(None).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_one_runtime_are_kept_by_a_host_that_uses_the_other() {
    for (first, then) in [(OciKind::Runc, OciKind::Crun), (OciKind::Crun, OciKind::Runc)] {
        let mut rig = Rig::start_on(first);
        let runtime = rig.runtime().await;
        let made = spec(rig.environment(), &[("shell", service(&["sleep", "1000"], &[]))]);
        let id = &made.environment;
        up(&runtime, &made).await;
        ready(&runtime, id, "shell").await;
        let first_process = exec(&runtime, id, "shell", &BORN).await;
        drop(runtime);

        rig.kill_host();
        rig.oci = Some(then);
        rig.start_host();
        let runtime = rig.runtime().await;
        ready(&runtime, id, "shell").await;
        let again = exec(&runtime, id, "shell", &BORN).await;
        assert_eq!(
            (again.0, &again),
            (Some(0), &first_process),
            "it is still the same process"
        );

        // Started again, it is a container of the new one.
        let shell = [("shell").parse().unwrap()];
        runtime.services_stop(id, Generation(1), &shell).await.unwrap();
        runtime.power(id, Generation(1), model::Power::Running).await.unwrap();
        ready(&runtime, id, "shell").await;
        let (status, _) = exec(&runtime, id, "shell", &["true"]).await;
        assert_eq!(status, Some(0), "{first} and then {then}");
        runtime.remove(id, Generation(1)).await.unwrap();
        assert_eq!(runtime.inventory(None).await.unwrap(), []);
    }
}
