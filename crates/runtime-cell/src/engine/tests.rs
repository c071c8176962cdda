//! What is produced for each engine, and each engine really started with it by an unprivileged user.
//!
//! A test of a real engine is skipped where the engine is not installed; it needs root, to change the user.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::*;

const NOBODY: u32 = 65_534;

fn hosts() -> HostEngines {
    let installed = |kind, major, version: &str, directory: &str| Installed {
        kind,
        major,
        version: version.into(),
        directory: directory.into(),
    };
    HostEngines {
        installed: vec![
            installed(EngineKind::Postgres, 15, "15.18", "/usr/lib/postgresql/15/bin"),
            installed(EngineKind::Postgres, 17, "17.2", "/usr/lib/postgresql/17/bin"),
            installed(EngineKind::Redis, 7, "7.0.15", "/usr/bin"),
            installed(
                EngineKind::Rabbitmq,
                3,
                "3.10.8",
                "/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8",
            ),
        ],
    }
}

fn run_of(
    kind: EngineKind,
    majors: RangeInclusive<u32>,
    environment: &[(&str, &str)],
    command: &[&str],
) -> Result<EngineRun, EngineError> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Sensitive::from(*value)))
        .collect();
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let request = EngineRequest {
        kind,
        majors,
        management: false,
        environment: &environment,
        command: &command,
        memory_bytes: Some(256 << 20),
        place: &EnginePlace::cell(kind),
    };
    engine_run(&request, &hosts())
}

const PASSWORD: (&str, &str) = ("POSTGRES_PASSWORD", "canary-secret");

#[test]
fn the_highest_major_of_the_range_runs() {
    let version = |majors| run_of(EngineKind::Postgres, majors, &[PASSWORD], &[]).map(|run| run.version);
    assert_eq!(version(15..=17).unwrap(), "17.2");
    assert_eq!(version(15..=16).unwrap(), "15.18");
    assert_eq!(version(0..=u32::MAX).unwrap(), "17.2");
}

#[test]
fn a_missing_major_says_what_is_there_and_which_package_would_help() {
    let error = run_of(EngineKind::Postgres, 16..=16, &[PASSWORD], &[])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "postgres 16 is not installed here (15.18, 17.2 is); the Debian package `postgresql-16` would add it"
    );
    let request = EngineRequest {
        kind: EngineKind::Redis,
        majors: 0..=u32::MAX,
        management: false,
        environment: &BTreeMap::new(),
        command: &[],
        memory_bytes: None,
        place: &EnginePlace::cell(EngineKind::Redis),
    };
    let error = engine_run(&request, &HostEngines::default()).unwrap_err().to_string();
    assert_eq!(
        error,
        "redis (any version) is not installed here (no version is); the Debian package `redis-server` would add it"
    );
}

#[test]
fn secrets_are_neither_in_arguments_nor_in_the_environment_nor_printable() {
    let runs = [
        run_of(EngineKind::Postgres, 15..=15, &[PASSWORD], &[]),
        run_of(
            EngineKind::Redis,
            7..=7,
            &[],
            &["redis-server", "--requirepass", "canary-secret"],
        ),
        run_of(
            EngineKind::Rabbitmq,
            3..=3,
            &[("RABBITMQ_DEFAULT_PASS", "canary-secret")],
            &[],
        ),
    ];
    for run in runs {
        let printed = format!("{:?}", run.unwrap());
        assert!(!printed.contains("canary"), "{printed}");
    }
}

#[test]
fn settings_of_the_stack_are_honoured_and_ours_stay() {
    let command = [
        "postgres",
        "-c",
        "max_connections=200",
        "--work-mem=8MB",
        "-cfsync=on",
        "-N",
        "150",
    ];
    let argv = run_of(EngineKind::Postgres, 15..=15, &[PASSWORD], &command)
        .unwrap()
        .argv;
    let last = |name: &str| {
        argv.iter()
            .rev()
            .find_map(|word| word.strip_prefix(&format!("{name}=")))
            .map(str::to_owned)
    };
    assert_eq!(last("max_connections").unwrap(), "150");
    assert_eq!(last("work_mem").unwrap(), "8MB");
    assert_eq!(last("fsync").unwrap(), "on");
    assert_eq!(last("shared_buffers").unwrap(), "32MB");
    assert_eq!(last("unix_socket_directories").unwrap(), "/run/maquette/postgres");
    let argv = run_of(EngineKind::Postgres, 15..=15, &[PASSWORD], &["-c", "wal_level=logical"])
        .unwrap()
        .argv;
    assert!(
        !argv.iter().any(|word| word.starts_with("max_wal_senders")),
        "logical replication needs senders"
    );
}

#[test]
fn what_can_not_be_honoured_is_refused_by_name() {
    let refused = |kind, environment: &[(&str, &str)], command: &[&str]| {
        run_of(kind, 0..=u32::MAX, environment, command)
            .unwrap_err()
            .to_string()
    };
    let postgres = |command: &[&str]| refused(EngineKind::Postgres, &[PASSWORD], command);
    assert!(postgres(&["bash", "-c", "id"]).contains("`bash`"));
    assert!(postgres(&["-c", "hba_file=/tmp/x"]).contains("`hba_file`"));
    assert!(postgres(&["-c", "unix-socket-directories=/tmp"]).contains("`unix_socket_directories`"));
    assert!(refused(EngineKind::Postgres, &[], &[]).starts_with("POSTGRES_PASSWORD"));
    let named = refused(EngineKind::Postgres, &[PASSWORD, ("POSTGRES_USER", "maquette")], &[]);
    assert!(named.starts_with("POSTGRES_USER"), "{named}");
    let arguments = refused(
        EngineKind::Postgres,
        &[PASSWORD, ("POSTGRES_INITDB_ARGS", "--pwfile=/etc/shadow")],
        &[],
    );
    assert!(arguments.starts_with("POSTGRES_INITDB_ARGS"), "{arguments}");
    assert!(refused(EngineKind::Redis, &[], &["sh", "-c", "id"]).contains("`sh`"));
    assert!(refused(EngineKind::Redis, &[], &["--daemonize", "yes"]).contains("`daemonize`"));
    assert!(refused(EngineKind::Redis, &[], &["--save"]).contains("`--save`"));
    assert!(refused(EngineKind::Rabbitmq, &[], &["rabbitmqctl", "status"]).contains("`status`"));
}

#[test]
fn no_value_can_become_another_setting() {
    let run = run_of(
        EngineKind::Redis,
        7..=7,
        &[],
        &["--requirepass", "a\"\nrename-command \\x"],
    )
    .unwrap();
    let content = run.files[0].content.expose();
    let line = content.lines().find(|line| line.starts_with("requirepass")).unwrap();
    assert_eq!(line, r#"requirepass "a\"\x0arename-command \\x""#);
    let run = run_of(
        EngineKind::Rabbitmq,
        3..=3,
        &[("RABBITMQ_DEFAULT_USER", "a>>},{x,<<\"")],
        &[],
    )
    .unwrap();
    let content = run.files[1].content.expose();
    assert!(
        content.contains("{default_user, <<97,62,62,125,44,123,120,44,60,60,34>>}"),
        "{content}"
    );
}

#[test]
fn answers_are_judged() {
    let judge = |protocol, answer: &[u8]| {
        Probe {
            address: Address::Tcp(1),
            protocol,
        }
        .judge(answer)
    };
    assert_eq!(judge(Protocol::Postgres, b""), Verdict::More);
    assert_eq!(judge(Protocol::Postgres, b"R\0\0\0\x08"), Verdict::Ready);
    assert_eq!(judge(Protocol::Postgres, b"E\0\0\0\x50SFATAL"), Verdict::NotYet);
    for (answer, verdict) in [
        ("+OK\r\n", Verdict::More),
        ("+OK\r\n+PO", Verdict::More),
        ("+OK\r\n+PONG\r\n", Verdict::Ready),
        ("-WRONGPASS invalid\r\n+PONG\r\n", Verdict::Ready),
        (
            "-WRONGPASS invalid\r\n-NOAUTH Authentication required.\r\n",
            Verdict::Ready,
        ),
        (
            "+OK\r\n-LOADING Redis is loading the dataset in memory\r\n",
            Verdict::NotYet,
        ),
    ] {
        assert_eq!(judge(Protocol::Redis, answer.as_bytes()), verdict, "{answer}");
    }
    assert_eq!(judge(Protocol::Amqp, b"AMQP\0\0\x09\x01"), Verdict::NotYet);
    assert_eq!(judge(Protocol::Amqp, b"\x01\0\0"), Verdict::Ready);
}

/// An engine that runs; it is ended with the test.
struct Running {
    directory: tempfile::TempDir,
    run: EngineRun,
    child: Option<Child>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port below those that the kernel gives to whoever wants any: until an engine listens there, some seconds pass.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 17 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + u16::try_from(number % 12_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Running {
    fn start(kind: EngineKind, environment: &[(&str, &str)], command: &[&str]) -> Option<Self> {
        let host = probe_host();
        if !host.installed.iter().any(|installed| installed.kind == kind) {
            println!("skipped: {kind} is not installed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let place = EnginePlace {
            data: directory.path().join("data"),
            run: directory.path().join("run"),
            listen: Some("127.0.0.1".into()),
            port: Some(free_port()),
            distribution_port: free_port(),
            user: EngineUser {
                name: "nobody".into(),
                uid: NOBODY,
                gid: NOBODY,
            },
        };
        for path in [&place.data, &place.run] {
            owned_directory(path, 0o700);
        }
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Sensitive::from(*value)))
            .collect();
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let request = EngineRequest {
            kind,
            majors: 0..=u32::MAX,
            management: false,
            environment: &environment,
            command: &command,
            memory_bytes: Some(512 << 20),
            place: &place,
        };
        let run = engine_run(&request, &host).unwrap();
        for made in &run.directories {
            owned_directory(&made.path, made.mode);
        }
        for file in &run.files {
            std::fs::write(&file.path, file.content.expose()).unwrap();
            std::fs::set_permissions(&file.path, std::fs::Permissions::from_mode(file.mode)).unwrap();
            chown(&file.path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut running = Self {
            directory,
            run,
            child: None,
        };
        if let Some(initialise) = &running.run.initialise {
            let output = running.command(&initialise.argv).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        running.again();
        Some(running)
    }

    fn again(&mut self) {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let mut command = self.command(&self.run.argv);
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let begun = Instant::now();
        while !self.is_ready() {
            assert!(begun.elapsed() < Duration::from_secs(180), "not ready: {}", self.log());
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        println!(
            "{} {} was ready after {:?}",
            self.run.kind,
            self.run.version,
            begun.elapsed()
        );
    }

    fn command(&self, argv: &[String]) -> Command {
        let mut command = Command::new(&argv[0]);
        command
            .args(&argv[1..])
            .env_clear()
            .envs(&self.run.environment)
            .current_dir("/")
            .uid(NOBODY)
            .gid(NOBODY);
        command.stdin(Stdio::null());
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        let probe = &self.run.ready;
        let judged = match &probe.address {
            Address::Tcp(port) => TcpStream::connect(("127.0.0.1", *port)).map(|stream| judge(probe, stream)),
            Address::Unix(path) => UnixStream::connect(path).map(|stream| judge(probe, stream)),
        };
        judged.is_ok_and(|verdict| verdict == Verdict::Ready)
    }

    /// Stops it as a runtime would and checks that it ends by itself, well.
    fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let signal = match self.run.stop.signal {
            "SIGINT" => rustix::process::Signal::INT,
            "SIGTERM" => rustix::process::Signal::TERM,
            other => panic!("{other}"),
        };
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{status}: {}", self.log());
                return;
            }
            // Not the grace that cells give it: a machine that is busy may take longer.
            if begun.elapsed() > Duration::from_secs(180) {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("still running after {:?}: {}", begun.elapsed(), self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The addresses that the process listens at, as `/proc/net/tcp` writes them.
    fn listening(&self) -> Vec<String> {
        let pid = self.child.as_ref().unwrap().id();
        let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
            .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let mut found = Vec::new();
        for table in ["tcp", "tcp6"] {
            let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            for line in text.lines().skip(1) {
                let words: Vec<&str> = line.split_whitespace().collect();
                if words[3] == "0A" && sockets.iter().any(|inode| inode == words[9]) {
                    found.push(words[1].to_owned());
                }
            }
        }
        found
    }
}

fn judge(probe: &Probe, mut stream: impl Read + Write) -> Verdict {
    let mut answer = Vec::new();
    if stream.write_all(&probe.greeting()).is_err() {
        return Verdict::NotYet;
    }
    loop {
        let mut bytes = [0; 512];
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return Verdict::NotYet,
            Ok(length) => answer.extend(&bytes[..length]),
        }
        match probe.judge(&answer) {
            Verdict::More => {}
            verdict => {
                let _ = stream.write_all(probe.farewell());
                return verdict;
            }
        }
    }
}

fn owned_directory(path: &Path, mode: u32) {
    std::fs::create_dir_all(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

fn psql(
    running: &Running,
    host: &str,
    user: &str,
    password: &str,
    database: &str,
    sql: &str,
) -> Result<String, String> {
    let program = Path::new(&running.run.argv[0]).with_file_name("psql");
    let port = running.run.port.to_string();
    let output = Command::new(program)
        .args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            host,
            "-p",
            &port,
            "-U",
            user,
            "-d",
            database,
            "-c",
            sql,
        ])
        .env_clear()
        .env("PGPASSWORD", password)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn postgres_runs_and_its_administrator_comes_in_by_the_private_socket_only() {
    let environment = [
        ("POSTGRES_USER", "shop"),
        ("POSTGRES_DB", "store"),
        ("POSTGRES_PASSWORD", "it's"),
    ];
    let Some(mut running) = Running::start(EngineKind::Postgres, &environment, &["postgres", "-c", "work_mem=7MB"])
    else {
        return;
    };
    let Address::Unix(socket) = running.run.ready.address.clone() else {
        panic!("no socket")
    };
    let socket = socket.parent().unwrap().to_str().unwrap().to_owned();
    let account = running.run.account.clone().unwrap();
    assert_eq!((account.user.as_str(), account.database.as_str()), ("shop", "store"));
    let admin = |sql: &str| psql(&running, &socket, ADMINISTRATOR, "", "template1", sql);
    assert_eq!(admin("SHOW work_mem").unwrap(), "7MB");
    assert_eq!(admin("SHOW fsync").unwrap(), "off");
    assert_eq!(
        admin("SELECT datcollate FROM pg_database WHERE datname = 'template1'").unwrap(),
        "C.UTF-8"
    );
    admin("CREATE ROLE shop LOGIN PASSWORD 'it''s'").unwrap();
    admin("CREATE DATABASE store OWNER shop").unwrap();

    let tool = Path::new(&running.run.argv[0])
        .with_file_name("pg_isready")
        .display()
        .to_string();
    assert!(
        running.command(&[tool]).status().unwrap().success(),
        "its health check fails"
    );
    let shop = |password: &str, sql: &str| psql(&running, "127.0.0.1", "shop", password, "store", sql);
    shop("it's", "CREATE TABLE t AS SELECT 42 AS n").unwrap();
    assert!(
        shop("wrong", "SELECT 1")
            .unwrap_err()
            .contains("password authentication failed")
    );
    assert!(
        shop("it's", "COPY t TO PROGRAM 'id'").is_err(),
        "the application's role could start programs"
    );
    let over_network = psql(&running, "127.0.0.1", ADMINISTRATOR, "", "template1", "SELECT 1").unwrap_err();
    assert!(over_network.contains("rejects connection"), "{over_network}");
    assert!(
        psql(&running, &socket, "shop", "it's", "store", "SELECT 1")
            .unwrap_err()
            .contains("rejects connection")
    );
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others reach the private socket");

    running.stop();
    running.again();
    assert_eq!(
        psql(&running, "127.0.0.1", "shop", "it's", "store", "SELECT n FROM t").unwrap(),
        "42"
    );
    assert!(
        !running.log().contains("automatic recovery"),
        "it did not stop in order: {}",
        running.log()
    );
    running.stop();
}

#[test]
fn redis_runs_with_the_arguments_of_the_stack() {
    let command = ["redis-server", "--requirepass", "pass \"word\"", "--appendonly", "yes"];
    let Some(mut running) = Running::start(EngineKind::Redis, &[], &command) else {
        return;
    };
    let talk = |running: &Running, words: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", running.run.port)).unwrap();
        stream.write_all(format!("{words}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(talk(&running, "GET a").starts_with("-NOAUTH"));
    let sign_in = r#"AUTH "pass \"word\"""#;
    assert!(talk(&running, &format!("{sign_in}\r\nSET a kept")).starts_with("+OK\r\n+OK"));
    let memory = talk(&running, &format!("{sign_in}\r\nCONFIG GET maxmemory"));
    assert!(
        memory.contains(&(512_u64 << 20).div_euclid(4).saturating_mul(3).to_string()),
        "{memory}"
    );
    running.stop();
    running.again();
    let answer = talk(&running, &format!("{sign_in}\r\nGET a"));
    assert!(answer.contains("kept"), "the append-only file was not kept: {answer}");
    running.stop();
}

#[test]
fn redis_keeps_nothing_unless_asked() {
    let Some(mut running) = Running::start(EngineKind::Redis, &[], &[]) else {
        return;
    };
    let mut stream = TcpStream::connect(("127.0.0.1", running.run.port)).unwrap();
    stream.write_all(b"SET a 1\r\nQUIT\r\n").unwrap();
    stream.read_to_string(&mut String::new()).unwrap();
    running.stop();
    assert_eq!(
        std::fs::read_dir(running.directory.path().join("data"))
            .unwrap()
            .count(),
        0
    );
}

/// Signs in with AMQP 0-9-1 and opens a virtual host; the class and method of each answer.
fn amqp(port: u16, user: &str, password: &str, virtual_host: &str) -> Vec<(u8, u8)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
    let short = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let response = format!("\0{user}\0{password}");
    let length = u32::try_from(response.len()).unwrap().to_be_bytes();
    let start_ok = [
        &[0, 10, 0, 11, 0, 0, 0, 0][..],
        &short("PLAIN"),
        &length,
        response.as_bytes(),
        &short("en_US"),
    ]
    .concat();
    let tune_ok = vec![0, 10, 0, 31, 7, 255, 0, 2, 0, 0, 0, 0];
    let open = [&[0, 10, 0, 40][..], &short(virtual_host), &[0, 0]].concat();
    let frame = |payload: &[u8]| {
        [
            &[1, 0, 0][..],
            &u32::try_from(payload.len()).unwrap().to_be_bytes(),
            payload,
            &[0xce],
        ]
        .concat()
    };
    stream.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    let mut answers = Vec::new();
    for say in [frame(&start_ok), [frame(&tune_ok), frame(&open)].concat(), Vec::new()] {
        let mut head = [0; 7];
        if stream.read_exact(&mut head).is_err() {
            break;
        }
        let mut body = vec![0; u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize + 1];
        stream.read_exact(&mut body).unwrap();
        answers.push((body[1], body[3]));
        if stream.write_all(&say).is_err() {
            break;
        }
    }
    answers
}

#[test]
fn rabbitmq_runs_alone_and_binds_nothing_but_its_port_outside() {
    let environment = [
        ("RABBITMQ_DEFAULT_USER", "shop"),
        ("RABBITMQ_DEFAULT_PASS", "p#>>\"ä"),
        ("RABBITMQ_DEFAULT_VHOST", "orders"),
    ];
    let Some(mut running) = Running::start(EngineKind::Rabbitmq, &environment, &[]) else {
        return;
    };
    let port = running.run.port;
    // Start, Tune, OpenOk.
    assert_eq!(
        amqp(port, "shop", "p#>>\"ä", "orders"),
        [(10, 10), (10, 30), (10, 41)],
        "{}",
        running.log()
    );
    assert_ne!(
        amqp(port, "guest", "guest", "/").get(1),
        Some(&(10, 30)),
        "the default account is open"
    );
    let listening = running.listening();
    assert_eq!(listening.len(), 2, "its port and that of its tools: {listening:?}");
    assert!(
        listening.iter().all(|address| address.starts_with("0100007F:")),
        "{listening:?}"
    );
    let tool = probe_host()
        .pick(EngineKind::Rabbitmq, &(0..=u32::MAX))
        .unwrap()
        .directory
        .join("sbin/rabbitmq-diagnostics");
    let output = running
        .command(&[tool.display().to_string(), "-q".into(), "ping".into()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "its health check fails: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let cookie = running.directory.path().join("run/rabbitmq/.erlang.cookie");
    assert_eq!(std::fs::metadata(cookie).unwrap().permissions().mode() & 0o777, 0o400);
    running.stop();
}
