//! The floor: the same processes without Maquette, all started at once, on a database cloned the same way.
//!
//! Engines are started with the very arguments that cells give them, on ports of their own. Nothing is isolated, limited,
//! watched or written down: what Maquette adds is the difference.

use crate::{probe, variant::Variant};
use anyhow::{Context, Result, ensure};
use runtime_cell::engine::{
    EngineKind, EnginePlace, EngineRequest, EngineRun, EngineUser, HostEngines, Sensitive, engine_run, probe_host,
};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The user that the golden's files belong to.
const ENGINE_USER: u32 = 999;
/// Who runs the services.
const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(60);

/// What is the same in every round.
pub(crate) struct Floor {
    engines: HostEngines,
    node: PathBuf,
}

/// The times of one round, in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct FloorTimes {
    /// Until everything answered, the clone included.
    pub(crate) all: f64,
    /// The clone alone.
    pub(crate) clone: f64,
    /// Until each service answered, from the start of the round.
    pub(crate) services: BTreeMap<String, f64>,
}

struct Process {
    child: Child,
    signal: Signal,
}

/// All processes of a round and what they were given; ended and removed on drop.
struct Round {
    processes: Vec<Process>,
    directory: PathBuf,
    clone: PathBuf,
}

impl Drop for Round {
    fn drop(&mut self) {
        for process in &self.processes {
            let _ = kill_process_group(Pid::from_child(&process.child), process.signal);
        }
        let since = Instant::now();
        for process in &mut self.processes {
            while matches!(process.child.try_wait(), Ok(None)) && since.elapsed() < Duration::from_secs(10) {
                sleep(Duration::from_millis(5));
            }
            let _ = kill_process_group(Pid::from_child(&process.child), Signal::KILL);
            let _ = process.child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
        if self.clone.exists() {
            let _ = btrfs(&["subvolume".as_ref(), "delete".as_ref(), self.clone.as_os_str()]);
        }
    }
}

impl Floor {
    /// Looks for what the host has.
    pub(crate) fn new() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let node = std::env::split_paths(&path).map(|directory| directory.join("node"));
        let node = node
            .chain(["/usr/bin/node".into()])
            .find(|file| file.starts_with("/usr") && file.is_file());
        Ok(Self {
            engines: probe_host(),
            node: node.context("node is not installed")?,
        })
    }

    /// One round.
    ///
    /// # Errors
    /// When something does not start or answer.
    pub(crate) async fn round(
        &self,
        variant: Variant,
        files: &Path,
        golden: &Path,
        pool: &Path,
        scratch: &Path,
    ) -> Result<FloorTimes> {
        DirBuilder::new().recursive(true).mode(0o755).create(scratch)?;
        let mut round = Round {
            processes: Vec::new(),
            directory: scratch.join("round"),
            clone: pool.join(".tmp-bench-floor"),
        };
        DirBuilder::new().mode(0o755).create(&round.directory)?;
        let ports = Ports::free(variant)?;
        let log = File::create(scratch.join("log"))?;

        let began = Instant::now();
        let clone = round.clone.clone();
        btrfs(&[
            "subvolume".as_ref(),
            "snapshot".as_ref(),
            golden.as_os_str(),
            clone.as_os_str(),
        ])?;
        let cloned = began.elapsed();
        let mut kinds = vec![EngineKind::Postgres, EngineKind::Redis];
        if variant == Variant::Whole {
            kinds.insert(0, EngineKind::Rabbitmq);
        }
        for kind in kinds {
            let (run, place) = self.engine(kind, &ports, &round)?;
            round.processes.push(start_engine(&run, &place, &log)?);
        }
        for page in variant.pages() {
            let process = self.service(page.service, files, &ports, &log)?;
            round.processes.push(process);
        }
        let answers = variant.pages().into_iter().map(|page| {
            let address = ports.address(page.service);
            tokio::spawn(async move {
                probe::until_bare(page, address?, PATIENCE).await?;
                Ok::<_, anyhow::Error>((page.service.to_owned(), began.elapsed()))
            })
        });
        let mut services = BTreeMap::new();
        for answer in answers.collect::<Vec<_>>() {
            let answered = answer.await?;
            let (name, at) = answered.with_context(|| {
                let text = fs::read(scratch.join("log")).unwrap_or_default();
                format!("the bare processes said: {}", String::from_utf8_lossy(&text))
            })?;
            services.insert(name, at.as_secs_f64() * 1e3);
        }
        Ok(FloorTimes {
            all: services.values().copied().fold(0.0, f64::max),
            clone: cloned.as_secs_f64() * 1e3,
            services,
        })
    }

    fn engine(&self, kind: EngineKind, ports: &Ports, round: &Round) -> Result<(EngineRun, EnginePlace)> {
        let home = round.directory.join(kind.name());
        let data = if kind == EngineKind::Postgres {
            round.clone.clone()
        } else {
            home.join("data")
        };
        let place = EnginePlace {
            data,
            run: home.join("run"),
            listen: Some(Ipv4Addr::LOCALHOST.to_string()),
            port: Some(ports.of(kind.name())?),
            distribution_port: ports.of("erlang")?,
            user: EngineUser {
                name: kind.name().to_owned(),
                uid: ENGINE_USER,
                gid: ENGINE_USER,
            },
        };
        let variables = match kind {
            EngineKind::Postgres => vec![
                ("POSTGRES_USER", "shop"),
                ("POSTGRES_PASSWORD", "shop"),
                ("POSTGRES_DB", "shop"),
            ],
            EngineKind::Rabbitmq => vec![("RABBITMQ_DEFAULT_USER", "shop"), ("RABBITMQ_DEFAULT_PASS", "shop")],
            EngineKind::Redis => Vec::new(),
        };
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Sensitive::new(value.to_owned())));
        let request = EngineRequest {
            kind,
            majors: 0..=u32::MAX,
            management: false,
            environment: &variables.collect(),
            command: &[],
            memory_bytes: None,
            place: &place,
        };
        Ok((engine_run(&request, &self.engines)?, place))
    }

    fn service(&self, name: &str, files: &Path, ports: &Ports, log: &File) -> Result<Process> {
        let mut command = match name {
            "web" | "cart" => {
                let mut command = Command::new(&self.node);
                command.arg(format!("{name}/server.js"));
                command
            }
            _ => {
                let mut command = Command::new("/usr/bin/python3");
                command.args(["-m", name]);
                command
            }
        };
        command
            .env_clear()
            .envs(ports.variables())
            .env("PORT", ports.of(name)?.to_string());
        start(command.current_dir(files), NOBODY, Signal::TERM, log)
    }
}

fn start_engine(run: &EngineRun, place: &EnginePlace, log: &File) -> Result<Process> {
    let owner = Some(ENGINE_USER);
    let make = |path: &Path, mode: u32| -> Result<()> {
        DirBuilder::new().recursive(true).mode(mode).create(path)?;
        Ok(chown(path, owner, owner)?)
    };
    make(&place.run, 0o755)?;
    if !place.data.exists() {
        make(&place.data, 0o700)?;
    }
    for directory in &run.directories {
        make(&directory.path, directory.mode)?;
    }
    for file in &run.files {
        let mut options = File::options();
        let mut made = options.write(true).create_new(true).mode(file.mode).open(&file.path)?;
        std::io::Write::write_all(&mut made, file.content.expose().as_bytes())?;
        chown(&file.path, owner, owner)?;
    }
    let (program, arguments) = run.argv.split_first().context("an engine without a program")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&run.environment)
        .current_dir("/");
    let signal = if run.stop.signal == "SIGINT" {
        Signal::INT
    } else {
        Signal::TERM
    };
    start(&mut command, ENGINE_USER, signal, log)
}

fn start(command: &mut Command, user: u32, signal: Signal, log: &File) -> Result<Process> {
    let child = command
        .uid(user)
        .gid(user)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()
        .with_context(|| format!("{} can not be started", command.get_program().display()))?;
    Ok(Process { child, signal })
}

fn btrfs(arguments: &[&std::ffi::OsStr]) -> Result<()> {
    let done = Command::new("btrfs")
        .args(arguments)
        .output()
        .context("btrfs can not be run")?;
    ensure!(
        done.status.success(),
        "btrfs failed: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// Free ports of the loopback address, by name.
struct Ports(BTreeMap<String, u16>);

impl Ports {
    fn free(variant: Variant) -> Result<Self> {
        let engines = ["postgres", "redis", "rabbitmq", "erlang"].map(str::to_owned);
        let names = variant
            .pages()
            .into_iter()
            .map(|page| page.service.to_owned())
            .chain(engines);
        let mut held = Vec::new();
        let mut ports = BTreeMap::new();
        for name in names {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            ports.insert(name, listener.local_addr()?.port());
            held.push(listener);
        }
        Ok(Self(ports))
    }

    fn of(&self, name: &str) -> Result<u16> {
        self.0.get(name).copied().with_context(|| format!("no port for {name}"))
    }

    fn address(&self, name: &str) -> Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, self.of(name)?)))
    }

    /// The addresses that the services are told, as in the shop's compose.yaml.
    fn variables(&self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ]);
        for (name, port) in &self.0 {
            let (variable, value) = match name.as_str() {
                "postgres" => (
                    "DATABASE_URL".to_owned(),
                    format!("postgres://shop:shop@127.0.0.1:{port}/shop"),
                ),
                "redis" => ("REDIS_URL".to_owned(), format!("redis://127.0.0.1:{port}")),
                "rabbitmq" => ("AMQP_URL".to_owned(), format!("amqp://shop:shop@127.0.0.1:{port}")),
                other => (
                    format!("{}_URL", other.to_uppercase()),
                    format!("http://127.0.0.1:{port}"),
                ),
            };
            variables.insert(variable, value);
        }
        variables
    }
}
