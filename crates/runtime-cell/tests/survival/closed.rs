//! Directories that are closed to everybody but root: above the pool and above what the cell host keeps while it runs.

use crate::support::{Rig, exec, ready, up};
use crate::{born, server};
use model::{Generation, Mount, MountKind, Stack, Volume, VolumeOrigin};
use runtime::Runtime as _;
use std::{fs, os::unix::fs::PermissionsExt as _};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cells_run_below_directories_that_only_root_may_enter() {
    let mut rig = Rig::start();
    drop(rig.runtime().await);
    rig.kill_host();
    let closed = fs::Permissions::from_mode(0o700);
    for directory in [rig.directory.clone(), rig.directory.join("pool")] {
        fs::set_permissions(directory, closed.clone()).unwrap();
    }
    rig.start_host();
    let runtime = rig.runtime().await;
    let mut made = server(&rig);
    let Stack::Services(stack) = &mut made.stack else {
        unreachable!()
    };
    let volume = Volume {
        origin: VolumeOrigin::Empty,
        incarnation: Generation(1),
        limit_bytes: Some(16 << 20),
    };
    stack.volumes.insert("disk".parse().unwrap(), volume);
    let kind = MountKind::Volume {
        volume: "disk".parse().unwrap(),
    };
    let web = stack.services.get_mut(&"web".parse().unwrap()).unwrap();
    web.workload.mounts.push(Mount {
        target: "/disk".into(),
        kind,
        read_only: false,
    });
    up(&runtime, &made).await;
    ready(&runtime, &made.environment, "web").await;
    assert!(!born(&runtime, &made).await.is_empty());
    let write = ["sh", "-c", "echo kept > /disk/file && cat /disk/file"];
    let (status, text) = exec(&runtime, &made.environment, "web", &write).await;
    assert_eq!((status, text.as_str()), (Some(0), "kept\n"));
    let mode = fs::metadata(&rig.directory).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "nobody has opened it");
    runtime.remove(&made.environment, Generation(1)).await.unwrap();
    assert_eq!(runtime.inventory(None).await.unwrap(), []);
}
