//! One environment in the door: its list, its listeners, its connections.

use super::{
    Bounds, Door,
    bounds::Budget,
    count::Counts,
    pass,
    wire::{Entry, Held, Table, Tally},
};
use model::{EnvironmentId, HostName};
use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    task::AbortHandle,
    time::{Instant, sleep},
};

/// Names of one environment that are looked up at a time.
const LOOKUPS_MAX: usize = 4;
/// So many connections are accepted at once, then no more before this time is over: the work is the machine's, and no limit of the
/// environment counts it.
const BURST: u32 = 256;
const BURST_TIME: Duration = Duration::from_millis(64);
/// After a failure to accept that is not one connection's.
const PAUSE: Duration = Duration::from_millis(50);

/// What an open connection leads to.
#[derive(Debug)]
struct Open {
    address: Ipv4Addr,
    from: Ipv4Addr,
    entry: Entry,
    port: u16,
    flow: Arc<Flow>,
    task: Option<AbortHandle>,
}

/// Bytes that went over a connection and are not counted yet: counting each piece by its name would cost more than to move it.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Flow {
    /// Notes a piece.
    pub(crate) fn add(&self, sent: u64, received: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.received.fetch_add(received, Ordering::Relaxed);
    }

    fn take(&self) -> Option<(u64, u64)> {
        let taken = (
            self.sent.swap(0, Ordering::Relaxed),
            self.received.swap(0, Ordering::Relaxed),
        );
        (taken != (0, 0)).then_some(taken)
    }
}

/// One environment.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) id: EnvironmentId,
    /// The number of its network's namespace.
    pub(crate) network: u64,
    pub(crate) counts: Counts,
    /// Bounds its connections, of which there are so many at most.
    slots: Arc<Semaphore>,
    connections: usize,
    /// Bounds its bytes.
    pub(crate) budget: Budget,
    /// Bounds the names that are looked up for it at a time.
    pub(crate) lookups: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    table: Table,
    listeners: BTreeMap<u16, AbortHandle>,
    open: BTreeMap<u64, Open>,
    next: u64,
}

/// A connection that may be made.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) number: u64,
    pub(crate) entry: Entry,
    pub(crate) port: u16,
    pub(crate) flow: Arc<Flow>,
}

/// One that may not.
#[derive(Debug)]
struct Turned {
    /// What it was for; nothing for an address that stands for nothing.
    name: Option<HostName>,
    why: Option<String>,
}

impl Environment {
    pub(crate) fn new(id: EnvironmentId, network: u64, bounds: Bounds) -> Self {
        Self {
            id,
            network,
            counts: Counts::default(),
            slots: Arc::new(Semaphore::new(bounds.connections)),
            connections: bounds.connections,
            budget: Budget::new(bounds.bytes_an_hour),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the door has of it.
    pub(crate) fn held(&self) -> Held {
        Held {
            network: self.network,
            ports: self.state().listeners.keys().copied().collect(),
        }
    }

    /// Takes a new list. Returns what was told to end: listeners and connections that are not in it.
    pub(crate) fn allow(&self, table: Table) -> Vec<AbortHandle> {
        let mut state = self.state();
        let mut ending = Vec::new();
        state.table = table;
        let State {
            table, listeners, open, ..
        } = &mut *state;
        listeners.retain(|port, task| {
            let stays = table.ports.contains(port);
            if !stays {
                ending.push(task.clone());
            }
            stays
        });
        for open in open.values() {
            let stays = !table.shut.contains(&open.from)
                && table.names.get(&open.address).is_some_and(|entry| {
                    entry.name == open.entry.name
                        && entry.target.allows(open.port)
                        && (entry.target == open.entry.target || entry.is_public() && open.entry.is_public())
                });
            if !stays {
                ending.extend(open.task.clone());
            }
        }
        ending.iter().for_each(AbortHandle::abort);
        ending
    }

    /// One name more.
    pub(crate) fn add(&self, address: Ipv4Addr, entry: Entry) {
        self.state().table.names.insert(address, entry);
    }

    /// Ends everything, and returns what was told to.
    pub(crate) fn close(&self) -> Vec<AbortHandle> {
        self.allow(Table::default())
    }

    /// Listens on a socket that the cell host has made.
    pub(crate) fn listen(self: &Arc<Self>, door: &Arc<Door>, port: u16, socket: OwnedFd) -> io::Result<()> {
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let task = tokio::spawn(accept(Arc::clone(door), Arc::clone(self), listener, port));
        if let Some(old) = self.state().listeners.insert(port, task.abort_handle()) {
            old.abort();
        }
        Ok(())
    }

    /// Decides about a connection.
    fn admit(&self, address: Ipv4Addr, from: Ipv4Addr, port: u16) -> Result<Admitted, Turned> {
        let mut state = self.state();
        let Some(entry) = state.table.names.get(&address).cloned() else {
            return Err(Turned { name: None, why: None });
        };
        let turned = |why: Option<&str>| Turned {
            name: Some(entry.name.clone()),
            why: why.map(str::to_owned),
        };
        if state.table.shut.contains(&from) {
            return Err(turned(Some("all networks of the service are `internal`")));
        }
        if !entry.target.allows(port) {
            return Err(turned(None));
        }
        if !self.budget.admits(std::time::Instant::now()) {
            return Err(turned(Some(&self.budget.spent())));
        }
        let number = state.next;
        state.next += 1;
        let flow = Arc::new(Flow::default());
        let open = Open {
            address,
            from,
            entry: entry.clone(),
            port,
            flow: Arc::clone(&flow),
            task: None,
        };
        state.open.insert(number, open);
        Ok(Admitted {
            number,
            entry,
            port,
            flow,
        })
    }

    fn runs(&self, number: u64, task: AbortHandle) {
        if let Some(open) = self.state().open.get_mut(&number) {
            open.task = Some(task);
        }
    }

    pub(crate) fn ended(&self, number: u64) {
        let open = self.state().open.remove(&number);
        if let Some(open) = open {
            self.count_flow(&open);
        }
    }

    /// What is to be reported.
    pub(crate) fn tallies(&self) -> Vec<(HostName, u16, Tally)> {
        for open in self.state().open.values() {
            self.count_flow(open);
        }
        self.counts.take()
    }

    fn count_flow(&self, open: &Open) {
        if let Some((sent, received)) = open.flow.take() {
            self.counts.add(&open.entry.name, open.port, |tally| {
                tally.sent = tally.sent.saturating_add(sent);
                tally.received = tally.received.saturating_add(received);
            });
        }
    }

    fn turn_away(&self, port: u16, turned: Turned) {
        if let Some(name) = turned.name {
            self.counts.add(&name, port, |tally: &mut Tally| {
                tally.refused += 1;
                tally.why = turned.why.or(tally.why.take());
            });
        }
    }
}

impl Entry {
    fn is_public(&self) -> bool {
        matches!(self.target, super::wire::Target::Public(_))
    }
}

async fn accept(door: Arc<Door>, environment: Arc<Environment>, listener: tokio::net::TcpListener, port: u16) {
    let (mut since, mut left) = (Instant::now(), BURST);
    loop {
        if left == 0 {
            sleep(BURST_TIME.saturating_sub(since.elapsed())).await;
            (since, left) = (Instant::now(), BURST);
        }
        left -= 1;
        match listener.accept().await {
            Ok((stream, from)) => receive(&door, &environment, stream, from, port),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Until everything was moved, an end of a connection is an abort on both sides: nobody shall take it for the end of the data.
pub(crate) fn ends_abruptly(stream: &TcpStream, abruptly: bool) {
    let linger = abruptly.then_some(Duration::ZERO);
    if let Err(error) = rustix::net::sockopt::set_socket_linger(stream, linger) {
        tracing::debug!(%error, "a connection ends as it can");
    }
}

fn receive(door: &Arc<Door>, environment: &Arc<Environment>, stream: TcpStream, from: SocketAddr, port: u16) {
    ends_abruptly(&stream, true);
    let (Ok(SocketAddr::V4(to)), SocketAddr::V4(from)) = (stream.local_addr(), from) else {
        return;
    };
    let admitted = match environment.admit(*to.ip(), *from.ip(), port) {
        Ok(admitted) => admitted,
        Err(turned) => {
            environment.turn_away(port, turned);
            door.news.notify_one();
            return;
        }
    };
    let own = Arc::clone(&environment.slots).try_acquire_owned();
    let all = Arc::clone(&door.slots).try_acquire_owned();
    let (Ok(own), Ok(all)) = (own, all) else {
        environment.ended(admitted.number);
        let why = format!("more than {} connections are open", environment.connections);
        let turned = Turned {
            name: Some(admitted.entry.name),
            why: Some(why),
        };
        environment.turn_away(port, turned);
        door.news.notify_one();
        return;
    };
    let number = admitted.number;
    let passing = pass::Passing {
        door: Arc::clone(door),
        environment: Arc::clone(environment),
        admitted,
        _slots: (own, all),
    };
    let task = tokio::spawn(passing.run(stream));
    environment.runs(number, task.abort_handle());
}
