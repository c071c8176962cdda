//! What a stack asks of a container beyond its command: bounds of the kernel, names in `/etc/hosts`, its own name.
#![allow(clippy::unwrap_used, reason = "this is a test, outside of a test function too")]

mod support;

use model::{Generation, Options, Ulimit};
use runtime::Runtime as _;
use support::{Rig, exec, ready, service, spec, up};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

#[tokio::test]
async fn a_container_sees_what_its_author_asked_for() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let mut web = service(&["sleep", "1000"], &[]);
    web.workload.options = Options {
        hostname: Some("shop-front".into()),
        hosts: vec![("partner.test".into(), "10.99.0.7".into())],
        ulimits: [(
            "nofile".to_owned(),
            Ulimit {
                soft: Some(123),
                hard: Some(456),
            },
        )]
        .into(),
        ..Options::default()
    };
    let made = spec(rig.environment(), &[("web", web)]);
    up(&runtime, &made).await;
    ready(&runtime, &made.environment, "web").await;
    let look = "import socket, resource\nprint(socket.gethostname(), socket.gethostbyname('partner.test'), \
                resource.getrlimit(resource.RLIMIT_NOFILE), open('/proc/1/limits').read().count('123 '))";
    let (status, seen) = exec(&runtime, &made.environment, "web", &["python3", "-c", look]).await;
    assert_eq!((status, seen.trim()), (Some(0), "shop-front 10.99.0.7 (123, 456) 1"));
    runtime.remove(&made.environment, Generation(1)).await.unwrap();
}
