//! The name server of an environment: services, aliases and the names that the policy allows have addresses, nothing else exists.
//! It never asks anybody: what is asked for in an environment does not leave the machine.
//!
//! A small parser of its own: one question, no compression in it, bounded; whatever else is refused or dropped.

use super::{Host, door, environment::Environment, record::UnitRecord};
use crate::sandbox::network::{HUB_ADDRESS, Hub, container_address};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    sync::{Arc, Mutex as StdMutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Mutex, Semaphore},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

const PORT: u16 = 53;
const QUERY_MAX: usize = 512;
/// Conversations at once: of all, and of one address, so that one service that is silent keeps no other from asking.
const TCP_AT_ONCE: usize = 64;
const TCP_EACH: usize = 4;
const TCP_PATIENCE: Duration = Duration::from_secs(5);
/// So many queries are answered at once, then no more before this time is over: the work is the host's, and no limit of the
/// environment counts it.
const BURST: u32 = 256;
const BURST_TIME: Duration = Duration::from_millis(64);
const TTL: u32 = 1;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
const REFUSED: u8 = 5;
const NXDOMAIN: u8 = 3;
const NOTIMP: u8 = 4;
const FORMERR: u8 = 1;

/// Opens the sockets in the hub.
pub(crate) fn bind(hub: &Hub) -> io::Result<(UdpSocket, TcpListener)> {
    hub.enter(|| {
        let address = SocketAddrV4::new(HUB_ADDRESS, PORT);
        let (udp, tcp) = (UdpSocket::bind(address)?, TcpListener::bind(address)?);
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok((udp, tcp))
    })
}

/// Serves an environment's names until the tasks are aborted or the environment is dropped.
pub(crate) fn serve(
    (udp, tcp): (UdpSocket, TcpListener),
    environment: &Arc<Environment>,
    host: &Arc<Host>,
) -> io::Result<Vec<AbortHandle>> {
    let udp = tokio::net::UdpSocket::from_std(udp)?;
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let pace = Arc::new(Mutex::new(Pace::new()));
    let names = Names {
        host: Arc::clone(host),
        environment: Arc::downgrade(environment),
    };
    let datagrams = tokio::spawn(serve_udp(udp, names.clone(), Arc::clone(&pace)));
    let streams = tokio::spawn(serve_tcp(tcp, TCP_PATIENCE, move |stream, from| {
        let (names, pace) = (names.clone(), Arc::clone(&pace));
        async move { converse(stream, from, names, &pace).await }
    }));
    Ok(vec![datagrams.abort_handle(), streams.abort_handle()])
}

/// Keeps one environment from asking without end.
struct Pace {
    since: Instant,
    left: u32,
}

impl Pace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            left: BURST,
        }
    }

    async fn turn(&mut self) {
        if self.left == 0 {
            sleep(BURST_TIME.saturating_sub(self.since.elapsed())).await;
            *self = Self::new();
        }
        self.left -= 1;
    }
}

async fn serve_udp(socket: tokio::net::UdpSocket, names: Names, pace: Arc<Mutex<Pace>>) {
    let mut query = [0; QUERY_MAX];
    loop {
        pace.lock().await.turn().await;
        // Errors of a single datagram, such as an unreachable asker, concern nobody else.
        let Ok((length, from)) = socket.recv_from(&mut query).await else {
            tokio::task::yield_now().await;
            continue;
        };
        match names.reply(&query[..length], from.ip()).await {
            Reply::None => {}
            Reply::Bytes(reply) => drop(socket.send_to(&reply, from).await),
            Reply::Over => return,
        }
    }
}

/// How many conversations each address has.
type Seats = Arc<StdMutex<BTreeMap<IpAddr, usize>>>;

/// One conversation of an address; it counts until it is dropped.
struct Seat {
    from: IpAddr,
    taken: Seats,
}

impl Seat {
    /// Nothing if the address has all that it may have.
    fn take(taken: &Seats, from: IpAddr) -> Option<Self> {
        let mut counts = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(from).or_default();
        if *count >= TCP_EACH {
            return None;
        }
        *count += 1;
        let taken = Arc::clone(taken);
        Some(Self { from, taken })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

async fn serve_tcp<F: Future<Output = io::Result<()>> + Send + 'static>(
    listener: tokio::net::TcpListener,
    patience: Duration,
    converse: impl Fn(tokio::net::TcpStream, IpAddr) -> F,
) {
    let slots = Arc::new(Semaphore::new(TCP_AT_ONCE));
    let seats = Seats::default();
    // Of its own: who comes too often takes no turns of those who ask.
    let mut pace = Pace::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // What is one too many is closed at once.
        let Some(seat) = Seat::take(&seats, from.ip()) else {
            pace.turn().await;
            continue;
        };
        let conversation = converse(stream, from.ip());
        tokio::spawn(async move {
            let _ = timeout(patience, conversation).await;
            drop((slot, seat));
        });
    }
}

async fn converse(mut stream: tokio::net::TcpStream, from: IpAddr, names: Names, pace: &Mutex<Pace>) -> io::Result<()> {
    loop {
        pace.lock().await.turn().await;
        let length = usize::from(stream.read_u16().await?);
        if length > QUERY_MAX {
            return Ok(());
        }
        let mut query = vec![0; length];
        stream.read_exact(&mut query).await?;
        let Reply::Bytes(reply) = names.reply(&query, from).await else {
            return Ok(());
        };
        stream.write_u16(u16::try_from(reply.len()).unwrap_or(0)).await?;
        stream.write_all(&reply).await?;
    }
}

/// The names of one environment.
#[derive(Clone)]
struct Names {
    host: Arc<Host>,
    environment: Weak<Environment>,
}

enum Reply {
    None,
    Bytes(Vec<u8>),
    /// The environment is gone.
    Over,
}

impl Names {
    async fn reply(&self, query: &[u8], from: IpAddr) -> Reply {
        let Some(environment) = self.environment.upgrade() else {
            return Reply::Over;
        };
        let mut ticket = None;
        let reply = answer(query, |name, kind| {
            lookup(&environment, name, from).or_else(|| {
                let asked = door::Asked {
                    name,
                    address_wanted: kind == TYPE_A,
                    also: kind == TYPE_AAAA,
                    from,
                };
                let exit = self.host.exit(&environment, &asked)?;
                ticket = exit.ticket;
                Some(exit.address)
            })
        });
        if let Some(ticket) = ticket {
            // Whoever has the answer may connect at once: the door has to know the name by then.
            ticket.done().await;
        }
        reply.map_or(Reply::None, Reply::Bytes)
    }
}

/// The address of a service by a name that whoever asks may know. Own names go before those that others were given.
fn lookup(environment: &Environment, name: &str, from: IpAddr) -> Option<Ipv4Addr> {
    let inner = environment.inner();
    let units = &inner.record.units;
    let asks = |unit: &&UnitRecord| IpAddr::V4(container_address(unit.number)) == from;
    let reach = units.values().find(asks).map(|unit| unit.manner.reach());
    let mut found = None;
    for (unit, record) in units {
        let Some(service) = unit.as_service() else { continue };
        let address = container_address(record.number);
        let itself = IpAddr::V4(address) == from;
        // The hub itself asks too, for people.
        if !itself && reach.as_ref().is_some_and(|reach| !reach.meets(&record.manner.reach())) {
            continue;
        }
        if service.as_str().eq_ignore_ascii_case(name) {
            return Some(address);
        }
        let networks = record.manner.networks.iter().flatten();
        let there = networks.filter(|(network, _)| reach.as_ref().is_none_or(|reach| reach.is_in(network.as_str())));
        let mut aliases = record
            .manner
            .aliases
            .iter()
            .chain(there.flat_map(|(_, aliases)| aliases));
        if aliases.any(|alias| alias.eq_ignore_ascii_case(name)) {
            found = found.or(Some(address));
        }
    }
    found
}

struct Question<'a> {
    name: String,
    kind: u16,
    class: u16,
    bytes: &'a [u8],
}

/// The one question of a query, or nothing if it has another form.
fn parse(query: &[u8]) -> Option<Question<'_>> {
    let mut at = 12;
    let mut name = String::new();
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            break;
        }
        if length > 63 || name.len() + length > 254 {
            return None;
        }
        let label = query.get(at + 1..at + 1 + length)?;
        if !name.is_empty() {
            name.push('.');
        }
        label.iter().for_each(|b| name.push(char::from(*b)));
        at += 1 + length;
    }
    let half = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
    Some(Question {
        name,
        kind: half(at + 1)?,
        class: half(at + 3)?,
        bytes: query.get(12..at + 5)?,
    })
}

/// The answer to a query; nothing for what is no query at all.
fn answer(query: &[u8], lookup: impl FnOnce(&str, u16) -> Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let header = query.get(..12)?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    let opcode = header[2] >> 3 & 0xf;
    let one_question = header[4..6] == [0, 1];
    let question = if one_question { parse(query) } else { None };
    let (code, address) = match &question {
        _ if opcode != 0 => (NOTIMP, None),
        None => (FORMERR, None),
        Some(q) if q.class != CLASS_IN => (REFUSED, None),
        Some(q) => match lookup(&q.name, q.kind) {
            Some(address) => (0, (q.kind == TYPE_A).then_some(address)),
            None if q.name.eq_ignore_ascii_case("localhost") => match q.kind {
                TYPE_A => (0, Some(Ipv4Addr::LOCALHOST)),
                TYPE_AAAA => (0, None),
                _ => (NXDOMAIN, None),
            },
            None => (NXDOMAIN, None),
        },
    };
    let mut reply = Vec::with_capacity(query.len() + 16);
    reply.extend(&header[..2]);
    // A response, authoritative, recursion "available": resolvers complain otherwise.
    reply.extend([0x84 | (header[2] & 0x79), 0x80 | code]);
    reply.extend([
        0,
        u8::from(question.is_some()),
        0,
        u8::from(address.is_some()),
        0,
        0,
        0,
        0,
    ]);
    if let Some(question) = &question {
        reply.extend(question.bytes);
    }
    if let Some(address) = address {
        reply.extend([0xc0, 12]);
        reply.extend(TYPE_A.to_be_bytes());
        reply.extend(CLASS_IN.to_be_bytes());
        reply.extend(TTL.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}

#[cfg(test)]
mod tests;
