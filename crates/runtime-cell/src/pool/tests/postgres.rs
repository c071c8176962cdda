//! A golden of a real PostgreSQL: made in a volume, kept as a snapshot, started from a clone by an unprivileged user.

use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::engine::{
    Address, EngineKind, EnginePlace, EngineRequest, EngineRun, EngineUser, Sensitive, Verdict, engine_run, probe_host,
};

const NOBODY: u32 = 65_534;

struct Server {
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(run: &EngineRun, argv: &[String]) -> Command {
    let mut command = Command::new(&argv[0]);
    command
        .args(&argv[1..])
        .env_clear()
        .envs(&run.environment)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn describe(data: &Path, run: &Path) -> Option<EngineRun> {
    let host = probe_host();
    if !host
        .installed
        .iter()
        .any(|installed| installed.kind == EngineKind::Postgres)
    {
        println!("skipped: PostgreSQL is not installed");
        return None;
    }
    let port = crate::engine::tests::free_port();
    let place = EnginePlace {
        data: data.to_owned(),
        run: run.to_owned(),
        listen: Some("127.0.0.1".into()),
        port: Some(port),
        distribution_port: 0,
        user: EngineUser {
            name: "nobody".into(),
            uid: NOBODY,
            gid: NOBODY,
        },
    };
    let environment = [("POSTGRES_PASSWORD".to_owned(), Sensitive::from("x"))].into();
    let request = EngineRequest {
        kind: EngineKind::Postgres,
        majors: 0..=u32::MAX,
        management: false,
        environment: &environment,
        command: &[],
        memory_bytes: None,
        place: &place,
    };
    let described = engine_run(&request, &host).unwrap();
    for made in &described.directories {
        fs::create_dir_all(&made.path).unwrap();
        std::os::unix::fs::chown(&made.path, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(&made.path, fs::Permissions::from_mode(made.mode)).unwrap();
    }
    for file in &described.files {
        fs::write(&file.path, file.content.expose()).unwrap();
        std::os::unix::fs::chown(&file.path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    Some(described)
}

fn start(run: &EngineRun) -> Server {
    let server = Server {
        child: command(run, &run.argv).spawn().unwrap(),
    };
    let Address::Unix(socket) = &run.ready.address else {
        panic!("no socket")
    };
    let begun = Instant::now();
    loop {
        if let Ok(mut stream) = UnixStream::connect(socket) {
            let mut answer = [0; 64];
            let _ = stream.write_all(&run.ready.greeting());
            // It may hang up while it starts.
            let length = std::io::Read::read(&mut stream, &mut answer).unwrap_or_default();
            let _ = stream.write_all(run.ready.farewell());
            if run.ready.judge(&answer[..length]) == Verdict::Ready {
                return server;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "PostgreSQL did not get ready");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn stop(mut server: Server) {
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let begun = Instant::now();
    while server.child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "PostgreSQL did not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_database_starts_from_a_clone_of_a_golden() {
    let place = TestPlace::new();
    let pool = place.open();
    // The user has to reach the volumes here without a sandbox.
    for path in [
        place.directory.path().to_owned(),
        place.mountpoint(),
        place.mountpoint().join(ENVIRONMENTS),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
    }
    let reachable = |environment: &str| {
        let path = place.mountpoint().join(ENVIRONMENTS).join(environment);
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
    };
    let owner = Owner {
        uid: NOBODY,
        gid: NOBODY,
        mode: 0o700,
    };
    pool.environment_create("golden", None).unwrap();
    reachable("golden");
    let data = pool
        .volume_create("golden", "db", &Origin::Empty(owner), 200 * MB)
        .unwrap();
    let Some(run) = describe(&data, &place.directory.path().join("run")) else {
        return;
    };
    let initialise = run.initialise.clone().unwrap();
    assert!(command(&run, &initialise.argv).status().unwrap().success());
    fs::write(&initialise.marker, "").unwrap();
    stop(start(&run));
    pool.snapshot_create("golden", "db", "g1").unwrap();
    pool.environment_remove("golden").unwrap();

    for number in 0..3 {
        let name = format!("pr-{number}");
        let begun = Instant::now();
        pool.environment_create(&name, Some(80 * MB)).unwrap();
        let data = pool
            .volume_create(&name, "db", &Origin::Snapshot("g1".into()), 60 * MB)
            .unwrap();
        let cloned = begun.elapsed();
        reachable(&name);
        let run = describe(&data, &place.directory.path().join(format!("run-{number}"))).unwrap();
        let begun = Instant::now();
        let server = start(&run);
        println!("clone {cloned:?}, ready after {:?}", begun.elapsed());
        assert!(data.join("postmaster.pid").exists());
        stop(server);
        let begun = Instant::now();
        let removed = pool.environment_remove(&name).unwrap();
        println!("removed in {:?}", begun.elapsed());
        assert_eq!(removed.len(), 1);
    }
    assert_eq!(files(&pool), ["snapshots/g1/tree"]);
    pool.close().unwrap();
}
