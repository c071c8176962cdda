//! The gateway's share of a request: the same requests directly, through the gateway, and through nginx where there is one.
//!
//! Load generator and upstream share one core, the proxy has another. All of it is on the loopback address.

use crate::{load::LoadResult, machine::Machine, procfs, stats::Spread};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use gateway::{
    About, Base, Config, Gateway, MemoryAuth, Projects, Route, RouteKey, RouteState, RouteTable, Scheme, Secret,
    TOKEN_HEADER, Target, TcpDial, Visitor,
};
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream as BlockingStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Body bytes and requests per second.
const LOADS: [(usize, u32); 3] = [(1 << 10, 500), (1 << 10, 2000), (64 << 10, 500)];
const HOST: &str = "pr-1.localhost";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Where the results go
    #[arg(long)]
    out: PathBuf,
    /// The program to compare with; left out if it is not there
    #[arg(long)]
    nginx: Option<PathBuf>,
    /// How often each
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// What the gateway's process is told.
#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    #[arg(long)]
    upstream: SocketAddr,
}

/// One way at one load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WayResult {
    pub(crate) way: String,
    pub(crate) body_bytes: usize,
    pub(crate) rate: u32,
    /// Microseconds.
    pub(crate) p50: Spread,
    pub(crate) p99: Spread,
    /// CPU time of the proxy's process per request, in microseconds.
    pub(crate) cpu_us: Spread,
    /// Requests that were answered a whole period late, of all rounds.
    pub(crate) late: usize,
}

/// What this part writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GatewayResult {
    pub(crate) machine: Machine,
    pub(crate) nginx: Option<String>,
    pub(crate) pinned: bool,
    pub(crate) ways: Vec<WayResult>,
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Way {
    name: &'static str,
    address: SocketAddr,
    header: Option<String>,
    process: Option<Killed>,
}

/// Measures.
pub(crate) fn run(args: &GatewayArgs) -> Result<()> {
    let machine = Machine::look();
    let pins = if machine.cores > 1 {
        [Some(0), Some(1)]
    } else {
        [None, None]
    };
    let directory = tempfile::tempdir()?;
    let (_upstream, line) = spawn(&["upstream"], pins[0])?;
    let upstream: SocketAddr = line.trim().parse()?;
    let (process, line) = spawn(&["proxy", "--upstream", &upstream.to_string()], pins[1])?;
    let (address, token) = line.trim().split_once(' ').context("the gateway told no address")?;
    let mut ways = vec![
        Way {
            name: "direct",
            address: upstream,
            header: None,
            process: None,
        },
        Way {
            name: "gateway",
            address: address.parse()?,
            header: Some(format!("{TOKEN_HEADER}: {token}")),
            process: Some(process),
        },
    ];
    let program = args.nginx.as_deref().filter(|path| path.is_file());
    if let Some(program) = program {
        let (process, address) = nginx(program, directory.path(), upstream, pins[1])?;
        ways.push(Way {
            name: "nginx",
            address,
            header: None,
            process: Some(process),
        });
    }
    let result = GatewayResult {
        machine,
        nginx: program.map(version).transpose()?,
        pinned: pins[0].is_some(),
        ways: measure(args, &ways, pins[0])?,
    };
    crate::report::write(&args.out, "gateway.json", &result)
}

fn measure(args: &GatewayArgs, ways: &[Way], pin: Option<usize>) -> Result<Vec<WayResult>> {
    let mut rounds: Vec<Vec<(LoadResult, f64)>> = vec![Vec::new(); LOADS.len() * ways.len()];
    // A short round first, so that connections and caches are there.
    for round in 0..=args.rounds {
        let seconds = if round == 0 { 0.5 } else { args.seconds };
        for (number, (size, rate)) in LOADS.into_iter().enumerate() {
            for (index, way) in ways.iter().enumerate() {
                let measured = one(way, size, rate, seconds, pin)
                    .with_context(|| format!("{} with {size} bytes at {rate} per second", way.name))?;
                if round > 0
                    && let Some(all) = rounds.get_mut(number * ways.len() + index)
                {
                    all.push(measured);
                }
            }
        }
        tracing::info!("round {round} of {} done", args.rounds);
    }
    let named = LOADS
        .into_iter()
        .flat_map(|load| ways.iter().map(move |way| (load, way.name)));
    let results = named.zip(rounds).map(|(((size, rate), name), all)| WayResult {
        way: name.to_owned(),
        body_bytes: size,
        rate,
        p50: Spread::of(all.iter().map(|(load, _)| load.p50)),
        p99: Spread::of(all.iter().map(|(load, _)| load.p99)),
        cpu_us: Spread::of(all.iter().map(|(load, cpu)| cpu * 1e3 / load.requests.max(1) as f64)),
        late: all.iter().map(|(load, _)| load.late).sum(),
    });
    Ok(results.collect())
}

fn one(way: &Way, size: usize, rate: u32, seconds: f64, pin: Option<usize>) -> Result<(LoadResult, f64)> {
    let pid = way.process.as_ref().map(|process| process.0.id());
    let cpu = || pid.map_or(0.0, procfs::cpu_ms);
    let before = cpu();
    let mut command = own(pin)?;
    command.args([
        "load",
        "--address",
        &way.address.to_string(),
        "--path",
        &format!("/{size}"),
    ]);
    command.args(["--host", &format!("{HOST}:{}", way.address.port())]);
    command.args(["--rate", &rate.to_string(), "--seconds", &seconds.to_string()]);
    if let Some(header) = &way.header {
        command.args(["--header", header]);
    }
    let output = command.stderr(Stdio::piped()).output().context("the load generator")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok((serde_json::from_slice(&output.stdout)?, cpu() - before))
}

/// This program, on one core.
fn own(pin: Option<usize>) -> Result<Command> {
    let program = std::env::current_exe()?;
    Ok(pinned(&program, pin))
}

fn pinned(program: &Path, pin: Option<usize>) -> Command {
    match pin {
        Some(core) => {
            let mut command = Command::new("taskset");
            command.arg("-c").arg(core.to_string()).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Starts a process of this program that tells its address in its first line.
fn spawn(arguments: &[&str], pin: Option<usize>) -> Result<(Killed, String)> {
    let mut child = own(pin)?
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("taskset, of the package util-linux, is needed")?;
    let output = child.stdout.take();
    let killed = Killed(child);
    let mut line = String::new();
    BufReader::new(output.context("no output")?).read_line(&mut line)?;
    Ok((killed, line))
}

fn nginx(program: &Path, directory: &Path, upstream: SocketAddr, pin: Option<usize>) -> Result<(Killed, SocketAddr)> {
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = free.local_addr()?;
    drop(free);
    let at = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary
        .iter()
        .map(|name| format!("{name}_temp_path {at}/{name};\n"))
        .collect();
    let text = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; {temporary} keepalive_requests 1000000;\n\
         upstream up {{ server {upstream}; keepalive 16; keepalive_requests 1000000; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://up; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;\n\
         proxy_buffering off; }} }} }}\n"
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, text)?;
    let child = pinned(program, pin)
        .arg("-e")
        .arg(directory.join("error.log"))
        .arg("-p")
        .arg(directory)
        .arg("-c")
        .arg(&file)
        .spawn()?;
    let killed = Killed(child);
    let since = Instant::now();
    while BlockingStream::connect(address).is_err() {
        if since.elapsed() > Duration::from_secs(5) {
            bail!(
                "nginx does not listen: {}",
                std::fs::read_to_string(directory.join("error.log")).unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((killed, address))
}

fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("-v").output()?;
    Ok(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn tell(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The gateway's process: one environment, one token.
pub(crate) async fn serve(args: &ProxyArgs) -> Result<()> {
    let target = Target {
        environment: "e000000001".parse()?,
        service: "web".parse()?,
        port: 80,
    };
    let (routes, auth, dial) = (
        Arc::<RouteTable>::default(),
        Arc::<MemoryAuth>::default(),
        Arc::<TcpDial>::default(),
    );
    dial.set(target.clone(), args.upstream);
    let key = RouteKey {
        base: "localhost".into(),
        label: "pr-1".parse()?,
    };
    let route = Route {
        target,
        project: "bench".parse()?,
        state: RouteState::Live,
        epoch: 1,
        about: About::default(),
    };
    routes.replace([(key, route)]);
    let token = Secret::generate()?;
    let visitor = Visitor {
        subject: "token:bench".into(),
        may_see: Projects::All,
    };
    auth.add_token(token.hash(), visitor);
    let config = Config::new(vec![Base::new("localhost", Scheme::Http)?])?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    tell(&format!("{} {}", listener.local_addr()?, token.expose()))?;
    let gateway = Gateway::new(config, routes, auth, dial);
    Ok(gateway.serve(listener, std::future::pending()).await?)
}

/// Answers `/N` with N bytes.
pub(crate) async fn upstream() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    tell(&listener.local_addr()?.to_string())?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that has gone is none of our business.
            let _ = answer(stream).await;
        });
    }
}

async fn answer(mut stream: TcpStream) -> Result<()> {
    const LARGEST: usize = 1 << 20;
    let (mut buffer, mut have) = (vec![0; 16 * 1024], 0);
    let mut response = Vec::new();
    loop {
        let read = stream.read(buffer.get_mut(have..).unwrap_or_default()).await?;
        if read == 0 {
            return Ok(());
        }
        have += read;
        if !buffer.get(..have).is_some_and(|head| head.ends_with(b"\r\n\r\n")) {
            continue;
        }
        let head = String::from_utf8_lossy(buffer.get(..have).unwrap_or_default()).into_owned();
        let size = head
            .split(' ')
            .nth(1)
            .and_then(|path| path.trim_start_matches('/').parse().ok());
        let size = size.unwrap_or(0).min(LARGEST);
        response.clear();
        write!(
            response,
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
        )?;
        response.resize(response.len() + size, b'x');
        stream.write_all(&response).await?;
        have = 0;
    }
}
