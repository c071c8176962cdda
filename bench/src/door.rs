//! The door's share of a connection to the outside: the same bytes directly, through the door, and through a forwarder that does
//! nothing but `splice` in two threads per connection.
//!
//! All three have both ends on loopback interfaces: the door's client is in the network of a real environment, whose loopback it is.

use crate::{
    machine::Machine,
    procfs,
    stats::{Spread, quantile},
    traces::Traces,
    world::{POOL_GIB, connect, instance, start_host},
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use model::{Egress, EnvironmentId, EnvironmentSpec, Generation, Limits, Origin, ServiceStack, Stack, Stage};
use runtime::NoSecrets;
use rustix::{
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const NAME: &str = "target";
const CHUNK: usize = 256 << 10;
const PIPE: usize = 512 << 10;
/// A user whom nothing else on the machine has.
pub(crate) const UID: u32 = 0x1fff_fff0;
const PATIENCE: Duration = Duration::from_secs(30);

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct DoorArgs {
    /// Where the results go
    #[arg(long)]
    out: PathBuf,
    /// How often each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many MiB each time
    #[arg(long, default_value_t = 4096)]
    mib: usize,
    /// How many connections each time
    #[arg(long, default_value_t = 1000)]
    connections: usize,
}

/// What the door's process is told.
#[derive(Debug, Args)]
pub(crate) struct DoorProcessArgs {
    #[arg(long)]
    run: PathBuf,
}

/// Where the plain forwarder leads.
#[derive(Debug, Args)]
pub(crate) struct ForwardArgs {
    #[arg(long)]
    to: SocketAddr,
}

/// One way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DoorWay {
    pub(crate) way: String,
    /// MiB per second over one connection.
    pub(crate) rate: Spread,
    /// CPU time of the process between, in milliseconds per GiB.
    pub(crate) cpu_ms: Spread,
    /// Microseconds from the call of connect until a first byte of the other side.
    pub(crate) p50: Spread,
    pub(crate) p99: Spread,
}

/// What this part writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DoorResult {
    pub(crate) machine: Machine,
    pub(crate) ways: Vec<DoorWay>,
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
    /// The network in which the client is, if it is not this one.
    network: Option<PathBuf>,
    process: Option<u32>,
}

/// Runs the door until it is killed.
pub(crate) fn process(args: &DoorProcessArgs) -> Result<()> {
    let bounds = runtime_cell::door::Bounds {
        bytes_an_hour: u64::MAX,
        loopback: true,
        ..Default::default()
    };
    runtime_cell::door::run(&args.run, bounds).context("the door has ended")
}

pub(crate) async fn run(args: &DoorArgs) -> Result<()> {
    let machine = Machine::look();
    let target = serve()?;
    let mut traces = Traces::new("door")?;
    let instance = instance(std::process::id())?;
    traces.instance = Some(instance.to_string());
    let _host = start_host(&instance, &traces, POOL_GIB)?;
    let cell = connect(&traces, &instance).await?;
    let door = Killed(
        Command::new("/proc/self/exe")
            .arg("door-process")
            .arg("--run")
            .arg(&traces.run)
            .uid(UID)
            .gid(UID)
            .stdin(Stdio::null())
            .spawn()
            .context("the door can not be started")?,
    );
    let id: EnvironmentId = "edoorbench".parse()?;
    let spec = spec(&id, target)?;
    cell.apply(&spec, &Stage::Envelope, &NoSecrets).await?;
    let since = Instant::now();
    while cell.observe(&id).await?.is_none_or(|seen| seen.door.closed.is_some()) {
        ensure!(since.elapsed() < PATIENCE, "the door does not open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let network = traces.run.join("net").join(id.as_str());
    let inside = within(Some(&network), resolve)??;
    let (forwarder, plain) = forwarder(target)?;
    let ways = [
        Way {
            name: "direct",
            address: target,
            network: None,
            process: None,
        },
        Way {
            name: "plain splice forwarder",
            address: plain,
            network: None,
            process: Some(forwarder.0.id()),
        },
        Way {
            name: "door",
            address: SocketAddr::from((inside, target.port())),
            network: Some(network),
            process: Some(door.0.id()),
        },
    ];
    let measured = measure(args, &ways);
    cell.remove(&id, Generation(2)).await?;
    let result = DoorResult {
        machine,
        ways: measured?,
    };
    crate::report::write(&args.out, "door.json", &result)
}

fn spec(id: &EnvironmentId, target: SocketAddr) -> Result<EnvironmentSpec> {
    Ok(EnvironmentSpec {
        environment: id.clone(),
        generation: Generation(1),
        project: "bench".parse()?,
        origin: Origin::PullRequest { number: 1 },
        sources: BTreeMap::new(),
        stack: Stack::Services(ServiceStack::default()),
        secrets: std::collections::BTreeMap::new(),
        limits: Limits::default(),
        egress: Egress {
            hosts: BTreeMap::new(),
            private: BTreeMap::from([(NAME.parse()?, [target].into())]),
            endpoints: BTreeMap::new(),
        },
    })
}

/// Runs something on a thread in that network.
fn within<T: Send>(network: Option<&PathBuf>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let Some(network) = network else { return Ok(work()) };
    let file = File::open(network)?;
    thread::scope(|scope| {
        let entered = scope.spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            anyhow::Ok(work())
        });
        entered.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })
}

/// Asks the environment's name server for the address of the name.
fn resolve() -> Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((Ipv4Addr::new(10, 77, 0, 1), 53))?;
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, u8::try_from(NAME.len())?];
    query.extend(NAME.as_bytes());
    query.extend([0, 0, 1, 0, 1]);
    socket.send(&query)?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply)?;
    match reply.get(length.saturating_sub(4)..length) {
        Some([a, b, c, d]) if reply.get(7) == Some(&1) => Ok(Ipv4Addr::new(*a, *b, *c, *d)),
        _ => bail!("the name has no address"),
    }
}

/// Says one byte, takes everything, and says when that was all.
fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || take(stream));
        }
    });
    Ok(address)
}

fn take(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"!")?;
    let mut chunk = vec![0; CHUNK];
    while stream.read(&mut chunk)? > 0 {}
    stream.write_all(b".")
}

fn forwarder(to: SocketAddr) -> Result<(Killed, SocketAddr)> {
    let mut child = Command::new("/proc/self/exe")
        .args(["forward", "--to", &to.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("the forwarder says nothing")?;
    let killed = Killed(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok((killed, line.trim().parse()?))
}

/// The plain forwarder: two threads for each connection, each with a pipe and blocking calls.
pub(crate) fn forward(args: &ForwardArgs) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    std::io::stdout().flush()?;
    let to = args.to;
    for inner in listener.incoming().flatten() {
        thread::spawn(move || -> Result<()> {
            let outer = TcpStream::connect(to)?;
            inner.set_nodelay(true)?;
            outer.set_nodelay(true)?;
            let (from, back) = (inner.try_clone()?, outer.try_clone()?);
            thread::spawn(move || one_way(&back, &from));
            one_way(&inner, &outer)
        });
    }
    Ok(())
}

fn one_way(from: &TcpStream, to: &TcpStream) -> Result<()> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&write, PIPE)?;
    loop {
        let mut left = splice(from, None, &write, None, PIPE, SpliceFlags::MOVE)?;
        if left == 0 {
            to.shutdown(Shutdown::Write)?;
            return Ok(());
        }
        while left > 0 {
            left = left.saturating_sub(splice(&read, None, to, None, left, SpliceFlags::MOVE)?);
        }
    }
}

fn measure(args: &DoorArgs, ways: &[Way]) -> Result<Vec<DoorWay>> {
    let mut rates = vec![Vec::new(); ways.len()];
    let mut cpus = vec![Vec::new(); ways.len()];
    let mut halves = vec![Vec::new(); ways.len()];
    let mut tails = vec![Vec::new(); ways.len()];
    // A round first that is not counted; then the ways take turns in coming first.
    for round in 0..=args.rounds {
        let mib = if round == 0 { args.mib.min(256) } else { args.mib };
        for step in 0..ways.len() {
            let index = (round + step) % ways.len();
            let Some(way) = ways.get(index) else { continue };
            let before = way.process.map_or(0.0, procfs::cpu_ticks_ms);
            let rate = within(way.network.as_ref(), || throughput(way.address, mib))??;
            let cpu = way.process.map_or(0.0, procfs::cpu_ticks_ms) - before;
            let mut times = within(way.network.as_ref(), || set_ups(way.address, args.connections))??;
            times.sort_by(f64::total_cmp);
            if round > 0 {
                for (all, value) in [
                    (&mut rates, rate),
                    (&mut cpus, cpu * 1024.0 / mib as f64),
                    (&mut halves, quantile(&times, 0.5)),
                    (&mut tails, quantile(&times, 0.99)),
                ] {
                    all.get_mut(index).into_iter().for_each(|of| of.push(value));
                }
            }
        }
    }
    let columns = rates.into_iter().zip(cpus).zip(halves.into_iter().zip(tails));
    Ok(ways
        .iter()
        .zip(columns)
        .map(|(way, ((rate, cpu), (half, tail)))| DoorWay {
            way: way.name.to_owned(),
            rate: Spread::of(rate),
            cpu_ms: Spread::of(cpu),
            p50: Spread::of(half),
            p99: Spread::of(tail),
        })
        .collect())
}

/// MiB per second, until the other side has said that it has all.
fn throughput(address: SocketAddr, mib: usize) -> Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.read_exact(&mut [0])?;
    let chunk = vec![7; CHUNK];
    let since = Instant::now();
    for _ in 0..mib * (1 << 20) / CHUNK {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut last = Vec::new();
    stream.read_to_end(&mut last)?;
    ensure!(last == b".", "the connection broke");
    Ok(mib as f64 / since.elapsed().as_secs_f64())
}

/// Microseconds until the first byte, one connection after the other.
fn set_ups(address: SocketAddr, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let since = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        stream.read_exact(&mut [0])?;
        times.push(since.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}
