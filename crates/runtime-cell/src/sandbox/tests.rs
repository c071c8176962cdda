//! One real container, through the lowest layer alone.

use super::{bundle, cgroup::Cgroups, conmon::*, etc, idmap, network, network::Hub, oci, process::Process};
use model::Limits;
use std::{
    fs, io::Read as _, net::SocketAddrV4, net::TcpStream, os::unix::fs::PermissionsExt as _, path::PathBuf, time::*,
};

#[test]
fn one_service_runs_is_dialled_and_leaves_nothing() {
    let begun = Instant::now();
    let step = |what: &str| eprintln!("{:>8.2} ms {what}", begun.elapsed().as_secs_f64() * 1e3);
    let run = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o711))
        .tempdir()
        .unwrap();
    let run = run.path();
    idmap::private_directory(run).unwrap();
    // A name of its own: somebody else may run the same test.
    let parent = format!("maquette-lowest-{}", std::process::id());
    let groups = Cgroups::open(&parent).unwrap();
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        cpu_millis: Some(1000),
        pids: Some(32),
        disk_bytes: None,
    };
    groups.ensure("e1", &limits).unwrap();
    step("cgroup");
    etc::write(&run.join("etc")).unwrap();
    step("etc");
    let pin = network::pin(run, "e1");
    let hub = Hub::ensure(&pin, "maquette/lowest/e1").unwrap();
    step("hub");
    let range = idmap::Range::numbered(500_000_000, 1).unwrap();
    let namespace = range.namespace().unwrap();
    step("user namespace");
    let app = run.join("app");
    fs::create_dir(&app).unwrap();
    fs::write(app.join("index.html"), "hello from the cell").unwrap();
    fs::set_permissions(app.join("index.html"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(run.join("mounts")).unwrap();
    let mounted = run.join("mounts/0");
    use std::os::fd::AsFd as _;
    idmap::mount(
        fs::File::open(&app).unwrap().as_fd(),
        &mounted,
        namespace.as_fd(),
        false,
    )
    .unwrap();
    step("idmap");
    let plan = bundle::Plan {
        host_name: "web".into(),
        address: network::container_address(1),
        argv: ["python3", "-m", "http.server", "80"].map(Into::into).to_vec(),
        variables: vec![],
        working_directory: "/app".into(),
        user: 0,
        group: 0,
        groups: vec![],
        home: None,
        image: None,
        builds: false,
        mounts: vec![(
            "/app".into(),
            bundle::Entry::Bind {
                source: mounted,
                directory: true,
                read_only: false,
            },
        )],
        limits,
        bounds_swap: groups.bounds_swap(),
        cgroup: groups.oci_path("e1", "web"),
        range,
        etc: run.join("etc"),
        init: None,
        options: model::Options::default(),
    };
    let oci = oci::Oci::find(oci::OciKind::Runc).unwrap();
    let container = Container {
        id: "lowest-e1-web".into(),
        bundle: run.join("web"),
        oci: oci.clone(),
        runtime_root: run.join("state"),
        log: run.join("web.log"),
        log_max: 1 << 20,
    };
    let programs = Programs {
        oci,
        others: vec![],
        conmon: PathBuf::from("/usr/bin/conmon"),
    };
    bundle::write(&container.bundle, &plan).unwrap();
    step("bundle");
    let running = container.create(&programs).unwrap();
    step("create");
    let process = Process::of(running.pid, range).unwrap().unwrap();
    hub.attach(1, "web", &process).unwrap();
    step("attach");
    container.start().unwrap();
    step("start");
    // From here on others can be run beside it, which the kernel does not allow while it is still the runtime.
    let command = fs::read_to_string(format!("/proc/{}/cmdline", running.pid)).unwrap();
    assert!(command.starts_with("python3\0"), "{command}");
    idmap::clear(&run.join("mounts")).unwrap();
    let address = SocketAddrV4::new(plan.address, 80);
    let mut stream = loop {
        match hub.enter(|| TcpStream::connect(address)) {
            Ok(stream) => break stream,
            Err(_) if begun.elapsed() < Duration::from_secs(180) => std::thread::sleep(Duration::from_millis(2)),
            Err(e) => panic!("{e}: {}", fs::read_to_string(&container.log).unwrap_or_default()),
        }
    };
    step("connected");
    use std::io::Write as _;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    step("answered");
    let pss = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| {
            let pid: u32 = e.file_name().to_str()?.parse().ok()?;
            let id = monitored(rustix::process::Pid::from_raw(pid as i32)?)?;
            (id == container.id).then(|| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default())
        })
        .next()
        .unwrap();
    eprintln!(
        "conmon {}",
        pss.lines().find(|l| l.starts_with("Pss:")).unwrap_or_default()
    );
    groups.kill("e1", None).unwrap();
    assert!(wait_gone(&running.monitor, Duration::from_secs(60)).unwrap());
    step("killed");
    assert_eq!(container.exit_status(), Some(137));
    eprintln!("{}", fs::read_to_string(&container.log).unwrap());
    groups.remove("e1", None).unwrap();
    container.forget().unwrap();
    network::unpin(&pin).unwrap();
    step("removed");
    rustix::mount::unmount(run, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(answer.ends_with("hello from the cell"), "{answer}");
    assert!(groups.environments().unwrap().is_empty());
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        // It exists only in the hierarchies that were used.
        let _ = fs::remove_dir(hierarchy.path().join(&parent));
    }
}
