//! Maquette's own processes with many idle environments of one small service: the real program, started as an operator would.

use crate::{
    machine::Machine,
    procfs::{self, Memory},
    traces::Traces,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use forge::local::{FileChange, LocalForge, NewPullRequest};
use model::BranchName;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(180);
/// After the last environment went live, until it counts as rest.
const SETTLE: Duration = Duration::from_secs(10);

const COMPOSE: &str = "services:\n  web:\n    image: perl:5-slim\n    command: [\"/usr/bin/perl\", \"server.pl\"]\n    working_dir: /app\n    volumes: [\".:/app:ro\"]\n    ports: [\"8080:8080\"]\n";
const SETTINGS: &str =
    "stack:\n  compose: compose.yaml\n  services:\n    web: { host: true, public: true }\npolicy: { baseline: none }\n";
const SERVER: &str = "use Socket;\nsocket(my $s, PF_INET, SOCK_STREAM, 0) or die;\nsetsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);\nbind($s, sockaddr_in(8080, INADDR_ANY)) or die;\nlisten($s, 16) or die;\nwhile (accept(my $c, $s)) {\n  sysread($c, my $b, 4096);\n  syswrite($c, \"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok\");\n  close($c);\n}\n";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    /// Where the results go
    #[arg(long)]
    out: PathBuf,
    /// The program
    #[arg(long)]
    maquette: PathBuf,
    #[arg(long, default_value_t = 50)]
    environments: usize,
    /// How long the rest is watched
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// What the developer's process is told.
#[derive(Debug, Args)]
pub(crate) struct DeveloperArgs {
    #[arg(long)]
    forge: PathBuf,
    #[arg(long)]
    pull_requests: usize,
}

/// One of Maquette's processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessResult {
    /// Without environments, in KiB.
    pub(crate) empty: Memory,
    /// With all of them, in KiB.
    pub(crate) full: Memory,
    /// CPU over the time of rest, in percent of a core.
    pub(crate) cpu_percent: f64,
}

/// What this part writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdleResult {
    pub(crate) machine: Machine,
    pub(crate) environments: usize,
    pub(crate) seconds: u64,
    /// From the start of the server until all were live, in milliseconds.
    pub(crate) all_live_ms: f64,
    pub(crate) processes: BTreeMap<String, ProcessResult>,
    /// All monitors together.
    pub(crate) monitors: Memory,
    pub(crate) monitor_count: usize,
    pub(crate) monitors_cpu_percent: f64,
    /// Growth of the kernel's own memory from none to all environments, in KiB; the applications' share is in it.
    pub(crate) kernel_growth: BTreeMap<String, i64>,
}

/// The server's processes; asked to end on drop.
struct Server<'a> {
    child: Child,
    program: PathBuf,
    config: &'a Path,
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = Command::new(&self.program)
            .arg("stop")
            .arg("--config")
            .arg(self.config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures on a thread of its own, so that somebody who wants the run to end is heard. Leaves nothing.
pub(crate) async fn run(args: IdleArgs) -> Result<()> {
    let measuring = tokio::task::spawn_blocking(move || measure(&args));
    tokio::spawn(async {
        let reason = crate::shop::interrupted().await;
        tracing::warn!("{reason}: ending");
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    measuring.await?
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Waits in small pieces.
fn pause(length: Duration) -> Result<()> {
    let until = Instant::now() + length;
    while Instant::now() < until {
        ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
        std::thread::sleep(
            until
                .saturating_duration_since(Instant::now())
                .min(Duration::from_millis(100)),
        );
    }
    Ok(())
}

fn measure(args: &IdleArgs) -> Result<()> {
    let machine = Machine::look();
    let mut traces = Traces::new("idle")?;
    let program = traces.path().join("maquette");
    fs::copy(&args.maquette, &program).with_context(|| format!("{} is not there", args.maquette.display()))?;
    let state = owned(&traces, "state")?;
    let forge = owned(&traces, "forge")?;
    // The rest of a Git repository is made by whoever it belongs to.
    developer_process(&traces, &forge, 0)?;
    let config = traces.path().join("maquette-server.yaml");
    fs::write(&config, settings(&traces, &state, &forge)?)?;
    let server = start(&program, &config, &traces)?;
    let listed = || environments(&program, &state);
    wait("the server", Duration::from_secs(60), || Ok(listed().is_ok())).with_context(|| log(&traces))?;
    let pids = processes(&server, &traces)?;
    traces.instance = pids.get("cell host").and_then(|pid| instance(*pid));
    let empty_kernel = procfs::kernel_memory();
    pause(Duration::from_secs(2))?;
    let empty: BTreeMap<String, Memory> = pids
        .iter()
        .map(|(name, pid)| (name.clone(), procfs::memory(*pid)))
        .collect();

    let began = Instant::now();
    developer_process(&traces, &forge, args.environments)?;
    let live = || {
        let listed = listed()?;
        let live = listed.iter().filter(|e| e["phase"] == "live").count();
        tracing::debug!("{live} live");
        Ok(live >= args.environments)
    };
    wait("live environments", PATIENCE, live).with_context(|| log(&traces))?;
    let all_live_ms = began.elapsed().as_secs_f64() * 1e3;
    tracing::info!("{} environments live; resting", args.environments);
    pause(SETTLE)?;

    let monitors = procfs::processes("conmon", &traces.run.display().to_string());
    let cpu = |pids: &[u32]| pids.iter().map(|pid| procfs::cpu_ticks_ms(*pid)).sum::<f64>();
    let before: Vec<f64> = pids.values().map(|pid| cpu(&[*pid])).collect();
    let monitors_before = cpu(&monitors);
    pause(Duration::from_secs(args.seconds))?;
    let share = |ms: f64| ms / (args.seconds as f64 * 1e3) * 100.0;
    let measured = pids.iter().zip(before).map(|((name, pid), before)| {
        let result = ProcessResult {
            empty: empty.get(name).copied().unwrap_or_default(),
            full: procfs::memory(*pid),
            cpu_percent: share(cpu(&[*pid]) - before),
        };
        (name.clone(), result)
    });
    let measured = measured.collect();
    let monitors_cpu_percent = share(cpu(&monitors) - monitors_before);
    let mut sum = Memory::default();
    monitors.iter().for_each(|pid| sum += procfs::memory(*pid));
    let growth = procfs::kernel_memory().into_iter().map(|(name, now)| {
        let then = empty_kernel.get(&name).copied().unwrap_or_default();
        (name, now as i64 - then as i64)
    });
    let result = IdleResult {
        machine,
        environments: args.environments,
        seconds: args.seconds,
        all_live_ms,
        processes: measured,
        monitors: sum,
        monitor_count: monitors.len(),
        monitors_cpu_percent,
        kernel_growth: growth.collect(),
    };
    crate::report::write(&args.out, "idle.json", &result)
}

fn owned(traces: &Traces, name: &str) -> Result<PathBuf> {
    let path = traces.path().join(name);
    fs::create_dir(&path)?;
    chown(&path, Some(NOBODY), Some(NOBODY))?;
    Ok(path)
}

fn settings(traces: &Traces, state: &Path, forge: &Path) -> Result<String> {
    let free = || -> Result<u16> { Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port()) };
    Ok(format!(
        "state_dir: {}\nuser: nobody\ndoor:\n  user: bin\nlisten: 127.0.0.1:{}\ngateway:\n  user: daemon\n  listen: 127.0.0.1:{}\ncell:\n  run_dir: {}\n  data_dir: {}\n  pool_gib: 3\n\
         projects:\n  - name: idle\n    sources:\n      - forge: {{ kind: local, path: {} }}\n        base_branch: main\n",
        state.display(),
        free()?,
        free()?,
        traces.run.display(),
        traces.path().join("cells").display(),
        forge.display(),
    ))
}

fn developer_process(traces: &Traces, forge: &Path, pull_requests: usize) -> Result<()> {
    let program = traces.path().join("bench");
    if !program.exists() {
        fs::copy("/proc/self/exe", &program)?;
    }
    let done = Command::new(&program)
        .args(["developer", "--pull-requests", &pull_requests.to_string(), "--forge"])
        .arg(forge)
        .uid(NOBODY)
        .gid(NOBODY)
        .env("HOME", forge)
        .current_dir(forge)
        .status()?;
    ensure!(done.success(), "the developer ended with {done}");
    Ok(())
}

/// Makes the repository, or opens pull requests.
pub(crate) async fn developer(args: &DeveloperArgs) -> Result<()> {
    let main: BranchName = "main".parse()?;
    let forge = LocalForge::open(&args.forge, &"developer/idle".parse()?, &main).await?;
    if args.pull_requests == 0 {
        let files = [
            FileChange::write("compose.yaml", COMPOSE),
            FileChange::write("maquette.yaml", SETTINGS),
            FileChange::write("server.pl", SERVER),
        ];
        forge.commit(&main, None, &files, "A small service").await?;
    }
    for number in 0..args.pull_requests {
        let branch: BranchName = format!("topic-{number}").parse()?;
        let change = [FileChange::write("README", format!("{number}\n"))];
        forge.commit(&branch, Some(&main), &change, "Say something").await?;
        forge
            .open_pull_request(NewPullRequest::new(branch, main.clone(), "Say something"))
            .await?;
    }
    Ok(())
}

fn start<'a>(program: &Path, config: &'a Path, traces: &Traces) -> Result<Server<'a>> {
    let log = File::create(traces.path().join("log"))?;
    let child = Command::new(program)
        .arg("serve")
        .arg("--config")
        .arg(config)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(Server {
        child,
        program: program.to_owned(),
        config,
    })
}

fn log(traces: &Traces) -> String {
    let text = fs::read(traces.path().join("log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    format!(
        "the server said: {}",
        lines[lines.len().saturating_sub(20)..].join("\n")
    )
}

fn environments(program: &Path, state: &Path) -> Result<Vec<serde_json::Value>> {
    let output = Command::new(program)
        .arg("--state-dir")
        .arg(state)
        .args(["--json", "list"])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let listed = value.as_array().or_else(|| value.get("environments")?.as_array());
    Ok(listed.context("no list of environments")?.clone())
}

fn wait(what: &str, patience: Duration, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !holds()? {
        if since.elapsed() > patience {
            bail!("not there after {} s: {what}", patience.as_secs());
        }
        pause(Duration::from_millis(250))?;
    }
    Ok(())
}

/// The id of the installation, from the control group that the cell host moved into.
fn instance(cell_host: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{cell_host}/cgroup")).ok()?;
    let (_, rest) = text.split_once("/maquette-")?;
    rest.split_once('/').map(|(id, _)| id.to_owned())
}

fn processes(server: &Server<'_>, traces: &Traces) -> Result<BTreeMap<String, u32>> {
    let number = |path: PathBuf| -> Result<u32> {
        let text = fs::read_to_string(&path).with_context(|| format!("{} can not be read", path.display()))?;
        Ok(text.trim().parse()?)
    };
    let mut found = BTreeMap::from([("control plane".to_owned(), server.child.id())]);
    for (name, file) in [
        ("gateway", "gateway/gateway.pid"),
        ("gateway's keeper", "gateway/gateway-keeper.pid"),
        ("cell host", "cell-host.pid"),
        ("cell host's keeper", "cell-keeper.pid"),
        ("door", "door/door.pid"),
    ] {
        // The door is started beside everything else.
        let path = traces.run.join(file);
        wait(file, Duration::from_secs(60), || Ok(number(path.clone()).is_ok()))?;
        found.insert(name.to_owned(), number(path)?);
    }
    Ok(found)
}
