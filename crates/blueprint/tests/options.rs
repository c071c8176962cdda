//! What files that were written years ago ask for besides a command: each thing is done, or told of by name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::{Blueprint, MemoryTree, Problems};
use model::{Condition, MountKind, NetworkMode, Service};
use support::{context, everything};

fn read(text: &str) -> Result<Blueprint, Problems> {
    let tree = MemoryTree::new([("compose.yaml", text), ("app/index.html", "")]);
    Blueprint::read(&tree, None, &context(), &everything())
}

fn whole(text: &str) -> Blueprint {
    read(text).map_err(|problems| panic!("{text}\n{problems}")).unwrap()
}

fn service(blueprint: &Blueprint, name: &str) -> Service {
    blueprint.stack.services[&name.parse().unwrap()].clone()
}

/// A service with this key, and what is warned of.
fn with(key: &str) -> (Service, String) {
    let blueprint = whole(&format!("services:\n  web:\n    image: nginx\n    {key}\n"));
    (service(&blueprint, "web"), Problems(blueprint.warnings).to_string())
}

/// What is said of a file with this key that can not be used.
fn refused(key: &str) -> String {
    let text = format!("services:\n  web:\n    image: nginx\n    {key}\n");
    read(&text).unwrap_err().to_string()
}

#[test]
fn capabilities_are_given_ignored_or_refused_by_name() {
    let (web, told) = with("cap_add: [cap_chown, SETUID, SYS_PTRACE, NET_RAW, MKNOD]");
    assert_eq!(web.workload.options.add_capabilities, ["CHOWN", "SETUID"]);
    for name in ["SYS_PTRACE", "NET_RAW", "MKNOD"] {
        let message = format!("`{name}` in `cap_add` of service `web` has no effect: ");
        assert!(told.contains(&message), "{told}");
    }
    let told = refused("cap_add: [CHOWN, NET_ADMIN]");
    assert!(
        told.contains("`NET_ADMIN` in `cap_add` of service `web` is not supported") && !told.contains("CHOWN`"),
        "{told}"
    );
    assert!(refused("cap_add: [ALL]").contains("`ALL` in `cap_add`"));
}

#[test]
fn settings_of_the_machine_are_refused() {
    let (web, told) = with("sysctls: { net.core.somaxconn: 1024, kernel.shmmax: '1', fs.mqueue.msg_max: 5 }");
    assert_eq!(web.workload.options.sysctls.len(), 3, "{told}");
    let told = refused("sysctls: ['vm.max_map_count=262144']");
    assert!(
        told.contains("`vm.max_map_count` in `sysctls` of service `web` is not supported")
            && told.contains("a setting of the whole machine"),
        "{told}"
    );
    for name in [
        "net.ipv4.ip_nonlocal_bind",
        "net.ipv4.ip_forward",
        "net.ipv4.conf.all.proxy_arp",
    ] {
        let told = refused(&format!("sysctls: {{ {name}: 1 }}"));
        let message = format!("`{name}` in `sysctls` of service `web` is not supported");
        assert!(
            told.contains(&message) && told.contains("harm no other service"),
            "{told}"
        );
    }
    assert!(
        refused("sysctls: { net.ipv4.tcp_keepalive_tim: 60 }").contains("did you mean `net.ipv4.tcp_keepalive_time`?")
    );
}

#[test]
fn confinement_can_not_be_taken_off_and_nothing_fails_for_that() {
    let (_, told) = with("security_opt: ['seccomp:unconfined', 'apparmor=unconfined', 'no-new-privileges:true']");
    assert!(
        told.contains("`seccomp:unconfined` in `security_opt` of service `web` has no effect"),
        "{told}"
    );
    assert!(
        told.contains("`apparmor=unconfined`") && !told.contains("`no-new-privileges:true` in"),
        "{told}"
    );
}

#[test]
fn memory_has_options() {
    let (web, told) = with("tmpfs: ['/run:rw,noexec,nosuid,size=1m,mode=1750,uid=5,gid=6', '/x:ro']");
    let kinds: Vec<(&MountKind, bool)> = web.workload.mounts.iter().map(|m| (&m.kind, m.read_only)).collect();
    let run = MountKind::Tmpfs {
        size_bytes: Some(1 << 20),
        mode: Some(0o1750),
        uid: Some(5),
        gid: Some(6),
    };
    assert_eq!(kinds, [(&run, false), (&MountKind::memory(None), true)]);
    assert!(told.contains("the option `noexec` of `tmpfs` has no effect"), "{told}");
    assert!(!told.contains("`nosuid`"), "{told}");
    assert!(refused("tmpfs: ['/run:mode=rwx']").contains("must be permission bits, and this is `rwx`"));
    assert!(refused("tmpfs: ['/run:uid=www']").contains("`www` is not the number of a user"));
    let (web, _) = with("volumes: [{ type: tmpfs, target: /x, tmpfs: { size: 1m, mode: 0o700 } }]");
    assert!(matches!(
        web.workload.mounts[0].kind,
        MountKind::Tmpfs { mode: Some(0o700), .. }
    ));
}

#[test]
fn a_service_without_a_network_has_no_ports() {
    let blueprint = whole(
        "services:\n  web: { image: nginx, ports: ['80'] }\n  batch: { image: x, network_mode: none, expose: ['9000'] }\n",
    );
    let batch = service(&blueprint, "batch");
    assert_eq!(batch.net, NetworkMode::None);
    assert!(batch.ports.is_empty() && batch.networks.is_empty());
    assert!(
        service(&blueprint, "web").networks.is_empty(),
        "the others share the one that they have anyway"
    );
    let told = Problems(blueprint.warnings).to_string();
    assert!(told.contains("the ports of service `batch` have no effect"), "{told}");
    let told = refused("network_mode: none\n    networks: [default]");
    assert!(
        told.contains("service `web` has both `network_mode` and `networks`"),
        "{told}"
    );
}

#[test]
fn volumes_are_taken_over_from_other_services() {
    let blueprint = whole(concat!(
        "services:\n",
        "  web: { image: nginx, ports: ['80'], volumes_from: ['app:ro'], volumes: ['./app:/own'] }\n",
        "  app: { image: x, volumes_from: [data], volumes: ['./app:/srv', 'own:/own'] }\n",
        "  data: { image: x, volumes: ['kept:/data', '/scratch'], tmpfs: /tmp }\n",
        "volumes: { kept: , own: }\n",
    ));
    let show = |name: &str| -> Vec<String> {
        let mounts = service(&blueprint, name).workload.mounts;
        let show = |m: &model::Mount| format!("{}{}", m.target, if m.read_only { " ro" } else { "" });
        mounts.iter().map(show).collect()
    };
    assert_eq!(show("app"), ["/data", "/own", "/scratch", "/srv"]);
    assert_eq!(show("web"), ["/data ro", "/own", "/scratch ro", "/srv ro"]);
    let web = service(&blueprint, "web");
    assert_eq!(web.depends_on[&"app".parse().unwrap()], Condition::Started);
    assert!(
        blueprint
            .stack
            .volumes
            .keys()
            .any(|name| name.as_str() == "data-scratch")
    );
    let circle = "services:\n  a: { image: x, volumes_from: [b] }\n  b: { image: x, volumes_from: [a] }\n";
    let told = read(circle).unwrap_err().to_string();
    assert!(told.contains("each other's volumes in a circle"), "{told}");
    let told = refused("volumes_from: ['container:old']");
    assert!(
        told.contains("`container:old` in `volumes_from` of service `web` is not supported"),
        "{told}"
    );
}

#[test]
fn every_signal_may_stop_a_service() {
    for (written, meant) in [("SIGPWR", "SIGPWR"), ("usr2", "SIGUSR2"), ("28", "SIGWINCH")] {
        assert_eq!(with(&format!("stop_signal: {written}")).0.stop_signal, meant);
    }
    assert!(refused("stop_signal: SIGNOTHING").contains("`SIGNOTHING` is no signal"));
}

#[test]
fn a_file_of_the_first_version_is_told_what_it_lacks() {
    let told = read("web:\n  image: nginx\n  links: [db]\ndb:\n  image: redis\n")
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("stand at the top level") && told.contains("below `services:`"),
        "{told}"
    );
    assert!(!told.contains("unknown key"), "one word is enough: {told}");
}

#[test]
fn volumes_say_whether_they_begin_with_what_the_image_has() {
    let blueprint = whole(concat!(
        "services:\n  web:\n    image: nginx\n    volumes:\n",
        "      - 'a:/a:nocopy'\n      - 'b:/b'\n",
        "      - { type: volume, source: c, target: /c/, volume: { nocopy: true } }\n",
        "volumes: { a: , b: , c: }\n",
    ));
    let empty = service(&blueprint, "web").workload.options.empty_volumes;
    assert_eq!(empty.into_iter().collect::<Vec<_>>(), ["/a", "/c"]);
}

#[test]
fn files_of_the_machine_are_told_of() {
    let (web, told) = with("volumes: ['/etc/localtime:/etc/localtime:ro', '/etc/timezone:/etc/timezone']");
    assert!(web.workload.mounts.is_empty());
    assert!(
        told.contains("`/etc/localtime` of the machine is not mounted") && told.contains("`TZ`"),
        "{told}"
    );
    let told = refused("volumes: ['/var/run/docker.sock:/var/run/docker.sock']");
    assert!(
        told.contains("no service gets hold of the machine's containers"),
        "{told}"
    );
}

#[test]
fn a_volume_in_memory_has_options() {
    let blueprint = whole(
        "services: { web: { image: nginx, volumes: ['m:/m'] } }\nvolumes: { m: { driver_opts: { type: tmpfs, device: tmpfs, o: 'size=1m,uid=7' } } }\n",
    );
    let web = service(&blueprint, "web");
    assert!(
        matches!(
            web.workload.mounts[0].kind,
            MountKind::Tmpfs {
                size_bytes: Some(1_048_576),
                uid: Some(7),
                ..
            }
        ),
        "{:?}",
        web.workload.mounts
    );
}
