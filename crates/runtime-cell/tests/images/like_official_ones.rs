//! What official images do when they start.

use crate::{
    rig::Packed,
    support::{Rig, exec, ready, spec, up},
};
use model::{Generation, HealthCheck, HealthTest, Mount, MountKind, Options, Stack, Volume, VolumeOrigin};
use runtime::{Runtime as _, Target};
use test_support::image::Entry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ENTRYPOINT: &str = "#!/bin/sh\nset -e\necho starting as $(id -u)\nmkdir -p /var/cache/web /run/web\nchown -R 101:102 /var/cache/web /run/web\n\
                          exec su web -s /bin/sh -c \"exec $*\"\n";

async fn answer(runtime: &runtime_cell::CellRuntime, environment: &model::EnvironmentId, port: u16) -> String {
    let mut connection = runtime
        .dial(environment, &"web".parse().unwrap(), Target::Port(port))
        .await
        .unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_root_entrypoint_that_chowns_and_drops_its_rights_serves_on_port_80() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let packed = Packed::with(&[
        Entry::program("docker-entrypoint.sh", ENTRYPOINT),
        Entry::file("var/www/index.html", "hello from the image"),
    ]);
    let environment = rig.environment();
    packed.put(&runtime, &environment).await.unwrap();
    let mut web = packed.service(&["httpd", "-f", "-p", "80", "-h", "/var/www"], &[80]);
    web.workload.entrypoint = Some(vec!["/docker-entrypoint.sh".to_owned()]);
    web.health = Some(HealthCheck {
        test: HealthTest::Exec(vec!["wget".into(), "-q".into(), "-O-".into(), "http://web/".into()]),
        interval_ms: 200,
        timeout_ms: 60_000,
        retries: 1000,
        start_period_ms: 60_000,
        start_interval_ms: None,
    });
    let made = spec(environment.clone(), &[("web", web)]);
    up(&runtime, &made).await;
    ready(&runtime, &environment, "web").await;
    assert!(
        answer(&runtime, &environment, 80)
            .await
            .contains("hello from the image")
    );
    let (status, owner) = exec(
        &runtime,
        &environment,
        "web",
        &["stat", "-c", "%u:%g", "/var/cache/web"],
    )
    .await;
    assert_eq!((status, owner.trim()), (Some(0), "101:102"));
    let (_, user) = exec(&runtime, &environment, "web", &["stat", "-c", "%u:%g", "/proc/1"]).await;
    assert_eq!(user.trim(), "101:102", "the service itself is not root any more");
    let (_, names) = exec(
        &runtime,
        &environment,
        "web",
        &["cat", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"],
    )
    .await;
    assert!(
        names.contains(" web\n") && names.contains("nameserver ") && names.ends_with("web\n"),
        "{names}"
    );
    runtime.remove(&environment, Generation(1)).await.unwrap();
}

#[tokio::test]
async fn a_user_by_name_has_its_groups_and_its_home_and_a_working_directory_is_made() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let packed = Packed::with(&[]);
    let environment = rig.environment();
    packed.put(&runtime, &environment).await.unwrap();
    let mut app = packed.service(&["sleep", "1000"], &[]);
    app.workload.options = Options {
        user: Some("node".into()),
        ..Options::default()
    };
    app.workload.working_dir = Some("/srv/app".into());
    app.workload
        .environment
        .insert("NODE_ENV".into(), "production".to_owned().into());
    let mut nobody = app.clone();
    nobody.workload.options.user = Some("nobody-knows-me".into());
    let made = spec(environment.clone(), &[("app", app)]);
    up(&runtime, &made).await;
    ready(&runtime, &environment, "app").await;
    let (_, seen) = exec(
        &runtime,
        &environment,
        "app",
        &[
            "sh",
            "-c",
            "id; pwd; echo $HOME $NODE_ENV; touch /etc/x 2>&1; cat /proc/1/status",
        ],
    )
    .await;
    assert!(
        seen.starts_with(
            "uid=1000(node) gid=1000(node) groups=1000(node),2000(media)\n/srv/app\n/home/node production\n"
        ),
        "{seen}"
    );
    assert!(seen.contains("touch: /etc/x: Permission denied"), "{seen}");
    assert!(seen.contains("CapEff:\t0000000000000000"), "{seen}");
    assert!(seen.contains("NoNewPrivs:\t1"), "{seen}");
    let other = rig.environment();
    let made = spec(other.clone(), &[("app", nobody)]);
    runtime
        .apply(&made, &model::Stage::Envelope, &runtime::NoSecrets)
        .await
        .unwrap();
    let error = runtime
        .apply(&made, &crate::support::all(&made), &runtime::NoSecrets)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("the image has no user `nobody-knows-me`"),
        "{error}"
    );
    for id in [environment, other] {
        runtime.remove(&id, Generation(1)).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_container_writes_is_its_own_and_read_only_is_read_only() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let packed = Packed::with(&[Entry::file("etc/setting", "as delivered")]);
    let environment = rig.environment();
    packed.put(&runtime, &environment).await.unwrap();
    let writer = packed.service(
        &["sh", "-c", "echo changed > /etc/setting; mkdir /data; sleep 1000"],
        &[],
    );
    let mut reader = packed.service(&["sleep", "1000"], &[]);
    reader.workload.read_only = true;
    reader.workload.mounts.push(Mount {
        target: "/var/run/app".into(),
        kind: MountKind::memory(Some(1 << 20)),
        read_only: false,
    });
    let made = spec(environment.clone(), &[("reader", reader), ("writer", writer)]);
    up(&runtime, &made).await;
    ready(&runtime, &environment, "writer").await;
    ready(&runtime, &environment, "reader").await;
    let cat = ["cat", "/etc/setting"];
    // Ready is a service without a port as soon as it was started.
    let written = [
        "sh",
        "-c",
        "until grep -q changed /etc/setting; do sleep 1; done; cat /etc/setting",
    ];
    assert_eq!(
        exec(&runtime, &environment, "writer", &written).await.1.trim(),
        "changed"
    );
    assert_eq!(exec(&runtime, &environment, "reader", &cat).await.1, "as delivered");
    let attempt = exec(&runtime, &environment, "reader", &["touch", "/etc/x"]).await;
    assert!(attempt.1.contains("Read-only file system"), "{attempt:?}");
    let attempt = exec(&runtime, &environment, "reader", &["touch", "/var/run/app/x"]).await;
    assert_eq!(attempt.0, Some(0), "{attempt:?}");
    // A second environment sees what was delivered, whatever the first has done.
    let second = rig.environment();
    packed.put(&runtime, &second).await.unwrap();
    let other = spec(second.clone(), &[("web", packed.service(&["sleep", "1000"], &[]))]);
    up(&runtime, &other).await;
    ready(&runtime, &second, "web").await;
    assert_eq!(exec(&runtime, &second, "web", &cat).await.1, "as delivered");
    for id in [environment, second] {
        runtime.remove(&id, Generation(1)).await.unwrap();
    }
    assert!(runtime.inventory(None).await.unwrap().is_empty());
    assert_eq!(runtime.image_list().await.unwrap(), [packed.image.clone()].into());
    runtime.image_remove(&packed.image).await.unwrap();
    assert!(runtime.image_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_new_volume_belongs_to_whoever_owns_its_place_in_the_image() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let packed = Packed::with(&[Entry::directory("var/lib/app").owned(1000, 1000).mode(0o750)]);
    let environment = rig.environment();
    packed.put(&runtime, &environment).await.unwrap();
    let mut app = packed.service(&["sh", "-c", "echo kept > /var/lib/app/file && sleep 1000"], &[]);
    app.workload.options.user = Some("node".into());
    app.workload.mounts.push(Mount {
        target: "/var/lib/app".into(),
        kind: MountKind::Volume {
            volume: "data".parse().unwrap(),
        },
        read_only: false,
    });
    let mut made = spec(environment.clone(), &[("app", app)]);
    if let Stack::Services(stack) = &mut made.stack {
        let volume = Volume {
            origin: VolumeOrigin::Empty,
            incarnation: Generation(1),
            limit_bytes: None,
        };
        stack.volumes.insert("data".parse().unwrap(), volume);
    }
    up(&runtime, &made).await;
    ready(&runtime, &environment, "app").await;
    let look = [
        "sh",
        "-c",
        "until grep kept /var/lib/app/file; do sleep 1; done; stat -c '%u:%g %a' /var/lib/app",
    ];
    let (_, seen) = exec(&runtime, &environment, "app", &look).await;
    assert!(seen.ends_with("kept\n1000:1000 750\n"), "{seen}");
    runtime.remove(&environment, Generation(1)).await.unwrap();
}

#[tokio::test]
async fn the_root_user_of_an_image_has_the_capabilities_that_its_author_leaves_it() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let packed = Packed::with(&[]);
    let environment = rig.environment();
    packed.put(&runtime, &environment).await.unwrap();
    let plain = packed.service(&["sleep", "1000"], &[]);
    let (mut none, mut some, mut fewer) = (plain.clone(), plain.clone(), plain.clone());
    none.workload.options.drop_capabilities = vec!["ALL".into()];
    some.workload.options.drop_capabilities = vec!["ALL".into()];
    // What is not among those that services may have is not given, whoever asks.
    some.workload.options.add_capabilities = ["CHOWN", "NET_RAW", "SYS_ADMIN"].map(str::to_owned).into();
    fewer.workload.options.drop_capabilities = vec!["SETUID".into()];
    let services = [("plain", plain), ("none", none), ("some", some), ("fewer", fewer)];
    let made = spec(environment.clone(), &services);
    up(&runtime, &made).await;
    let look = ["sh", "-c", "grep -E 'CapEff|CapBnd' /proc/1/status | cut -f2 | sort -u"];
    let mut seen = Vec::new();
    for (name, _) in &services {
        ready(&runtime, &environment, name).await;
        let (_, text) = exec(&runtime, &environment, name, &look).await;
        seen.push(u64::from_str_radix(text.trim(), 16).unwrap());
    }
    let (chown, setuid) = (1, 1 << 7);
    assert_eq!(seen[1..3], [0, chown], "{seen:x?}");
    assert_eq!(seen[3], seen[0] & !setuid, "{seen:x?}");
    assert_ne!(seen[0] & setuid, 0, "{seen:x?}");
    runtime.remove(&environment, Generation(1)).await.unwrap();
}

#[tokio::test]
async fn a_new_volume_begins_with_what_the_image_has_there_unless_it_is_to_be_empty() {
    let rig = Rig::start();
    let runtime = rig.runtime().await;
    let packed = Packed::with(&[
        Entry::directory("app/node_modules/left-pad").owned(1000, 1000),
        Entry::file("app/node_modules/left-pad/index.js", "padded\n").owned(1000, 1000),
    ]);
    let environment = rig.environment();
    packed.put(&runtime, &environment).await.unwrap();
    let mount = |volume: &str, read_only| Mount {
        target: "/app/node_modules".into(),
        kind: MountKind::Volume {
            volume: volume.parse().unwrap(),
        },
        read_only,
    };
    let with = |mount: Mount| {
        let mut app = packed.service(&["sleep", "1000"], &[]);
        app.workload.mounts.push(mount);
        app
    };
    let mut empty = with(mount("other", false));
    empty.workload.options.empty_volumes = ["/app/node_modules".to_owned()].into();
    let services = [
        ("app", with(mount("modules", false))),
        ("reader", with(mount("modules", true))),
        ("empty", empty),
    ];
    let mut made = spec(environment.clone(), &services);
    if let Stack::Services(stack) = &mut made.stack {
        for name in ["modules", "other"] {
            let volume = Volume {
                origin: VolumeOrigin::Empty,
                incarnation: Generation(1),
                limit_bytes: None,
            };
            stack.volumes.insert(name.parse().unwrap(), volume);
        }
    }
    up(&runtime, &made).await;
    let look = [
        "sh",
        "-c",
        "cd /app/node_modules; ls; stat -c '%u' left-pad/index.js; cat left-pad/index.js",
    ];
    let mut seen = Vec::new();
    for (name, _) in &services {
        ready(&runtime, &environment, name).await;
        seen.push(exec(&runtime, &environment, name, &look).await.1);
    }
    assert_eq!(seen[0], "left-pad\n1000\npadded\n");
    assert_eq!(seen[1], seen[0]);
    assert!(seen[2].contains("No such file"), "{}", seen[2]);
    // What the service makes of it stays, whatever the image has.
    let change = ["sh", "-c", "echo changed > /app/node_modules/left-pad/index.js"];
    assert_eq!(exec(&runtime, &environment, "app", &change).await.0, Some(0));
    made.generation = Generation(2);
    if let Stack::Services(stack) = &mut made.stack {
        let app = stack.services.get_mut(&"app".parse().unwrap()).unwrap();
        app.workload.environment.insert("NEW".into(), "1".into());
    }
    up(&runtime, &made).await;
    ready(&runtime, &environment, "app").await;
    let seen = exec(&runtime, &environment, "app", &look).await.1;
    assert!(seen.ends_with("changed\n"), "{seen}");
    runtime.remove(&environment, Generation(2)).await.unwrap();
}
