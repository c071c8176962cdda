//! Whether a container is ready. Probes run until it is, then not before its next start: an idle environment costs nothing.

mod question;

use super::{
    Host,
    environment::Environment,
    knock::Knock,
    launch::Cell,
    record::{Check, DiskOrigin, EngineProtocol},
};
use crate::{
    engine::{Address, Probe, Protocol, Verdict},
    sandbox::network::container_address,
};
use model::{Power, ServiceState};
use question::Question;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::{
    io::{self, Read as _},
    net::SocketAddrV4,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_MAX: usize = 4096;
const PORT_PAUSE: Duration = Duration::from_millis(2);
const EXEC_PAUSE: Duration = Duration::from_millis(50);
/// A health check that is a command costs as much as the start of the service, which it would slow down: it waits for the port
/// that the service opens, but not for longer than this.
const OPEN_PATIENCE: Duration = Duration::from_secs(1);
/// Between two questions of ours while the next run of the command is waited for; more the longer it takes.
const ASK_PAUSE: Duration = Duration::from_millis(10);
/// A service that is not ready by then is asked by its command alone.
const ASK_PATIENCE: Duration = Duration::from_secs(15);
/// An engine that says of itself that it still starts is believed for this long.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// More than PostgreSQL writes into its file.
const STATUS_MAX: u64 = 1024;

/// Follows a run of a container: records when it becomes ready, or that it does not. Never returns.
pub(crate) async fn follow(host: &Arc<Host>, environment: &Arc<Environment>, cell: &Cell) {
    let began = Instant::now();
    let pace = cell.manner.pace;
    let mut failures = 0;
    let question = match &cell.manner.check {
        Check::Exec(argv) => Question::of(argv),
        _ => None,
    };
    let port = question
        .as_ref()
        .map(|question| question.port)
        .or_else(|| port_of(cell));
    let mut knock = port.map(|port| Knock::new(cell.number, port));
    if matches!(cell.manner.check, Check::Exec(_)) {
        while began.elapsed() < OPEN_PATIENCE && !is_open(environment, knock.as_mut()).await {
            sleep(PORT_PAUSE).await;
        }
    }
    loop {
        environment.until(|record| record.power == Power::Running).await;
        if began.elapsed() < START_PATIENCE && still_starts(host, cell) {
            sleep(PORT_PAUSE).await;
            continue;
        }
        if says_yes(environment, cell, question.as_ref(), knock.as_mut()).await {
            break;
        }
        match probe(host, environment, cell, knock.as_mut()).await {
            Ok(()) => break,
            Err(reason) => {
                let counts = began.elapsed() > Duration::from_millis(pace.start_period_ms);
                failures += u32::from(counts);
                tell_failure(host, environment, cell, &reason, failures >= failures_allowed(cell));
            }
        }
        let until = Instant::now() + pause(cell, began.elapsed());
        if asked_until(until, began, environment, cell, question.as_ref(), knock.as_mut()).await {
            break;
        }
    }
    host.set_state(environment, &cell.unit, ServiceState::Ready, None);
    std::future::pending::<()>().await;
}

async fn is_open(environment: &Environment, knock: Option<&mut Knock>) -> bool {
    match knock {
        Some(knock) => knock.once(environment).await.is_ok(),
        None => true,
    }
}

/// Whether the container answers as the command of its check would like to hear it.
async fn says_yes(
    environment: &Environment,
    cell: &Cell,
    question: Option<&Question>,
    knock: Option<&mut Knock>,
) -> bool {
    let (Some(question), Some(knock)) = (question, knock) else {
        return false;
    };
    let patience = Duration::from_millis(cell.manner.pace.timeout_ms);
    match knock.open(environment).await {
        Ok(connection) => question.ask(connection, patience).await,
        Err(_) => false,
    }
}

/// Waits for the next run of the command. Whoever can be asked without one is, meanwhile: a yes ends it at once.
async fn asked_until(
    until: Instant,
    began: Instant,
    environment: &Environment,
    cell: &Cell,
    question: Option<&Question>,
    mut knock: Option<&mut Knock>,
) -> bool {
    while question.is_some() && began.elapsed() < ASK_PATIENCE {
        let pause = ASK_PAUSE.max(began.elapsed() / 50);
        if Instant::now() + pause >= until {
            break;
        }
        sleep(pause).await;
        if environment.power() == Power::Running && says_yes(environment, cell, question, knock.as_deref_mut()).await {
            return true;
        }
    }
    sleep(until.saturating_duration_since(Instant::now())).await;
    false
}

/// Whether PostgreSQL says in its own file that it does not serve yet. Whoever connects meanwhile is turned away by a process that
/// is made for that, and so has it start later. What else the file says, or that there is none, means nothing.
fn still_starts(host: &Host, cell: &Cell) -> bool {
    let engine = matches!(
        &cell.manner.check,
        Check::Engine {
            protocol: EngineProtocol::Postgres,
            ..
        }
    );
    let volume = cell.manner.mounts.iter().find_map(|mount| match &mount.origin {
        DiskOrigin::Volume(name) => Some(name),
        DiskOrigin::Source(_) => None,
    });
    let Some(volume) = volume.filter(|_| engine) else {
        return false;
    };
    let status = || -> io::Result<String> {
        let directory = host.pool.volume_path(cell.environment.as_str(), volume);
        let top = std::fs::File::open(directory.map_err(io::Error::other)?)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // The engine could have put anything there.
        let file = std::fs::File::from(openat2(&top, "postmaster.pid", flags, Mode::empty(), resolve)?);
        let mut text = String::new();
        if file.metadata()?.is_file() {
            file.take(STATUS_MAX).read_to_string(&mut text)?;
        }
        Ok(text)
    };
    status().is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "starting"))
}

/// The port that is open at last when it is ready.
fn port_of(cell: &Cell) -> Option<u16> {
    match &cell.manner.check {
        Check::Tcp(port) | Check::Engine { socket: None, port, .. } => Some(*port),
        Check::Exec(_) => cell.manner.opens,
        Check::Started | Check::Engine { .. } => None,
    }
}

/// Probes of ports come much closer together than the interval that the author had in mind: they count by time.
fn failures_allowed(cell: &Cell) -> u32 {
    match cell.manner.check {
        Check::Exec(_) => cell.manner.pace.retries,
        _ => u32::try_from(cell.manner.pace.interval_ms / 10)
            .unwrap_or(u32::MAX)
            .saturating_mul(cell.manner.pace.retries),
    }
}

fn tell_failure(host: &Host, environment: &Environment, cell: &Cell, reason: &str, unhealthy: bool) {
    let Some(unit) = environment.unit(&cell.unit) else {
        return;
    };
    if unhealthy && unit.state != ServiceState::Unhealthy {
        host.set_state(
            environment,
            &cell.unit,
            ServiceState::Unhealthy,
            Some(reason.to_owned()),
        );
    }
}

/// Short while it matters, longer for what has not come up for a while.
fn pause(cell: &Cell, elapsed: Duration) -> Duration {
    let pace = &cell.manner.pace;
    let starts = elapsed < Duration::from_millis(pace.start_period_ms);
    match (&cell.manner.check, pace.start_interval_ms) {
        (Check::Exec(_), Some(ms)) if starts => Duration::from_millis(ms),
        (Check::Exec(_), _) => (elapsed / 4)
            .max(EXEC_PAUSE)
            .min(Duration::from_millis(cell.manner.pace.interval_ms).max(EXEC_PAUSE)),
        _ if elapsed < Duration::from_secs(1) => PORT_PAUSE,
        _ if elapsed < Duration::from_secs(15) => Duration::from_millis(10),
        _ => Duration::from_millis(200),
    }
}

async fn probe(
    host: &Arc<Host>,
    environment: &Arc<Environment>,
    cell: &Cell,
    knock: Option<&mut Knock>,
) -> Result<(), String> {
    let patience = Duration::from_millis(cell.manner.pace.timeout_ms);
    if let (false, Some(knock)) = (matches!(cell.manner.check, Check::Exec(_)), knock) {
        let opened = knock.once(environment).await;
        opened.map_err(|e| format!("{} does not accept connections: {e}", knock.place()))?;
    }
    match &cell.manner.check {
        // It has a port, and that is open.
        Check::Started | Check::Tcp(_) => Ok(()),
        Check::Exec(argv) => match timeout(patience, host.exec_status(environment, &cell.unit, argv)).await {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(status)) => Err(format!("the health check ended with status {status}")),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(format!("the health check took longer than {} ms", patience.as_millis())),
        },
        Check::Engine { protocol, socket, port } => {
            let answer = timeout(
                patience,
                ask_engine(host, environment, cell, *protocol, socket.as_deref(), *port),
            )
            .await;
            answer
                .map_err(|_| "the engine does not answer".to_owned())?
                .map_err(|e| format!("the engine is not ready: {e}"))
        }
    }
}

async fn ask_engine(
    host: &Host,
    environment: &Environment,
    cell: &Cell,
    protocol: EngineProtocol,
    socket: Option<&str>,
    port: u16,
) -> io::Result<()> {
    let protocol = match protocol {
        EngineProtocol::Postgres => Protocol::Postgres,
        EngineProtocol::Redis => Protocol::Redis,
        EngineProtocol::Amqp => Protocol::Amqp,
    };
    let probe = Probe {
        address: Address::Tcp(port),
        protocol,
    };
    match socket {
        Some(socket) => converse(&probe, administration(host, cell, socket).await?).await,
        None => converse(&probe, connect(environment, cell.number, port).await?).await,
    }
}

async fn converse(probe: &Probe, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_all(&probe.greeting()).await?;
    let mut answer = Vec::new();
    loop {
        let mut chunk = [0; 512];
        let length = stream.read(&mut chunk).await?;
        answer.extend_from_slice(&chunk[..length]);
        match probe.judge(&answer) {
            Verdict::Ready => {
                // The answer counts, also if the engine hangs up at once.
                let _ = stream.write_all(probe.farewell()).await;
                return Ok(());
            }
            Verdict::More if length > 0 && answer.len() < ANSWER_MAX => {}
            _ => return Err(io::Error::other("it says that it is not")),
        }
    }
}

/// Connects to a port of a container.
pub(crate) async fn connect(environment: &Environment, number: u16, port: u16) -> io::Result<TcpStream> {
    let hub = environment
        .hub()
        .map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    let socket = hub.connect(SocketAddrV4::new(container_address(number), port))?;
    let stream = TcpStream::from_std(std::net::TcpStream::from(socket))?;
    timeout(CONNECT_PATIENCE, stream.writable())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    stream.peer_addr()?;
    Ok(stream)
}

/// Connects to an engine's own socket. The engine could have put a link there to any socket of the machine: no link is followed.
pub(crate) async fn administration(host: &Host, cell: &Cell, socket: &str) -> io::Result<UnixStream> {
    let directory = host.administration_dir(&cell.environment, &cell.unit);
    let top = OwnedFd::from(std::fs::File::open(directory)?);
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(&top, socket, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    UnixStream::connect(format!("/proc/self/fd/{}", found.as_raw_fd())).await
}
