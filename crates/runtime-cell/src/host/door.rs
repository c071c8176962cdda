//! The cell host's side of the door: who may reach what, sockets for the process that forwards, and what it reports.
//!
//! The process at the other end has spoken with strangers. It gets sockets and lists and is believed in nothing but numbers.

mod attempts;
mod exits;
mod told;

pub(crate) use attempts::watch;

pub(crate) use exits::Exits;
use exits::Name;
use told::Refusal;
pub(crate) use told::Told;

use super::{Host, environment::Environment, failed, now, record::Record};
use crate::{
    door::wire::{Held, Numbered, Order, Report, Word, receive, send},
    names::UnitName,
    sandbox::network::{HUB_ADDRESS, container_address},
};
use model::{DoorFact, EnvironmentId, EnvironmentSpec, HostName, ServiceName};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

/// Orders that wait to be sent. A door that does not take them is asked for again from the start.
const QUEUE: usize = 8192;
/// How long a new door may take to say what it has.
const GREETING: Duration = Duration::from_secs(10);
/// How long an order may take that somebody waits for. Much: on a machine that has too much to do, an environment would else be told
/// to be ready before its door is.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long whoever asks for a name waits for the door to know it; shorter than resolvers wait.
const NAME_PATIENCE: Duration = Duration::from_secs(3);
/// Counters are written down so long after they have changed: a host that is killed takes no more than that with it.
const SAVED: Duration = Duration::from_secs(2);

/// Where the door is spoken with.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    link: Mutex<Option<Link>>,
    /// Lists are put together and sent one at a time.
    turn: tokio::sync::Mutex<()>,
    /// Environments whose counters are about to be written down.
    unsaved: Mutex<BTreeSet<EnvironmentId>>,
}

/// A door that is there.
#[derive(Debug)]
struct Link {
    number: u64,
    queue: mpsc::Sender<(Numbered, Option<OwnedFd>)>,
    next: u64,
    done: watch::Receiver<u64>,
    held: BTreeMap<EnvironmentId, Held>,
}

/// An order that somebody may wait for.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    done: watch::Receiver<u64>,
}

impl Ticket {
    /// Waits until the order is carried out, for a short time.
    pub(crate) async fn done(self) -> bool {
        self.within(NAME_PATIENCE).await
    }

    async fn within(mut self, patience: Duration) -> bool {
        let done = self.done.wait_for(|done| *done >= self.number);
        matches!(timeout(patience, done).await, Ok(Ok(_)))
    }
}

impl Desk {
    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a door.
    fn is_open(&self) -> bool {
        self.link().is_some()
    }

    /// Whether the door has sockets in the network of an environment.
    pub(crate) fn holds(&self, environment: &EnvironmentId) -> bool {
        self.held(environment).is_some()
    }

    fn held(&self, environment: &EnvironmentId) -> Option<Held> {
        self.link().as_ref()?.held.get(environment).cloned()
    }

    /// Gives an order; `None` if there is no door.
    fn order(&self, order: Order, socket: Option<OwnedFd>) -> Option<Ticket> {
        let mut guard = self.link();
        let link = guard.as_mut()?;
        note(&mut link.held, &order);
        link.next += 1;
        let number = link.next;
        if link.queue.try_send((Numbered { number, order }, socket)).is_err() {
            tracing::warn!("the door takes no orders, and is asked for again");
            *guard = None;
            return None;
        }
        Some(Ticket {
            number,
            done: link.done.clone(),
        })
    }

    fn forget(&self, environment: &EnvironmentId) {
        if let Some(link) = self.link().as_mut() {
            link.held.remove(environment);
        }
        self.unsaved().remove(environment);
    }

    fn unsaved(&self) -> MutexGuard<'_, BTreeSet<EnvironmentId>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the door will have when it has carried this out. What it is to close it has until it says that it does not.
fn note(held: &mut BTreeMap<EnvironmentId, Held>, order: &Order) {
    match order {
        Order::Allow {
            environment,
            network,
            table,
        } => {
            let fresh = Held {
                network: *network,
                ports: BTreeSet::new(),
            };
            let known = held.entry(environment.clone()).or_insert_with(|| fresh.clone());
            if known.network != *network {
                *known = fresh;
            }
            known.ports.retain(|port| table.ports.contains(port));
        }
        Order::Listen { environment, port, .. } => {
            if let Some(known) = held.get_mut(environment) {
                known.ports.insert(*port);
            }
        }
        Order::Add { .. } | Order::Close { .. } => {}
    }
}

/// Takes the door's connections, the newest of which counts. Never returns.
pub(crate) async fn serve(host: Arc<Host>, listener: UnixListener) {
    let mut number = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if !may_be_door(&host, &stream) {
                    tracing::warn!("a stranger was turned away who wanted to be the door");
                    continue;
                }
                number += 1;
                let host = Arc::clone(&host);
                tokio::spawn(async move {
                    if let Err(error) = converse(&host, stream, number).await {
                        tracing::warn!(%error, "the door has hung up");
                    }
                    let mut link = host.desk.link();
                    if link.as_ref().is_some_and(|link| link.number == number) {
                        *link = None;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the door was not let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Who speaks is told by the kernel, not by the speaker.
fn may_be_door(host: &Host, stream: &UnixStream) -> bool {
    let uid = stream.peer_cred().map(|credentials| credentials.uid());
    uid.is_ok_and(|uid| uid == 0 || host.config.door_uid == Some(uid))
}

async fn converse(host: &Arc<Host>, stream: UnixStream, number: u64) -> io::Result<()> {
    let greeting = timeout(GREETING, receive::<Word>(&stream)).await??;
    let Some((Word::Hello(held), _)) = greeting else {
        return Err(io::Error::other("it does not say what it has"));
    };
    let (queue, mut orders) = mpsc::channel::<(Numbered, Option<OwnedFd>)>(QUEUE);
    let (done, carried_out) = watch::channel(0);
    *host.desk.link() = Some(Link {
        number,
        queue,
        next: 0,
        done: carried_out,
        held,
    });
    tracing::info!("the door is there");
    let filling = tokio::spawn(fill(Arc::clone(host)));
    let write = async {
        while let Some((order, socket)) = orders.recv().await {
            send(&stream, &order, socket).await?;
        }
        io::Result::Ok(())
    };
    let read = async {
        while let Some((word, _)) = receive::<Word>(&stream).await? {
            match word {
                Word::Done(number) => drop(done.send_replace(number)),
                Word::Report(report) => host.note_report(report),
                Word::Hello(_) => return Err(io::Error::other("it begins anew")),
            }
        }
        io::Result::Ok(())
    };
    let ended = tokio::select! {
        ended = write => ended,
        ended = read => ended,
    };
    filling.abort();
    ended
}

/// Tells a new door everything, and to give up what is no more.
async fn fill(host: Arc<Host>) {
    let environments: Vec<Arc<Environment>> = host.known().environments.values().cloned().collect();
    let held: Vec<EnvironmentId> = {
        let link = host.desk.link();
        link.iter().flat_map(|link| link.held.keys().cloned()).collect()
    };
    for id in held {
        if !environments.iter().any(|environment| environment.id == id) {
            host.close_door(&id).await;
        }
    }
    for environment in environments {
        host.open_door(&environment).await;
    }
}

/// A name that was asked for.
pub(crate) struct Asked<'a> {
    /// The name.
    pub(crate) name: &'a str,
    /// Whether its address is.
    pub(crate) address_wanted: bool,
    /// Whether this is the other half of a question that is asked twice.
    pub(crate) also: bool,
    /// Who asks.
    pub(crate) from: IpAddr,
}

/// The address that a name of the outside has inside.
pub(crate) struct Exit {
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// What to wait for before it is told.
    pub(crate) ticket: Option<Ticket>,
}

impl Record {
    /// Takes over what a generation may reach.
    pub(crate) fn allow(&mut self, spec: &EnvironmentSpec) {
        self.exits = Exits::of(spec, &self.exits);
        let egress = &self.exits.egress;
        let named = |address: Ipv4Addr, port: Option<u16>| {
            let mut endpoints = egress.private.values().flatten();
            endpoints.any(|endpoint| endpoint.ip() == address && Some(endpoint.port()) == port)
        };
        self.told.settle(|name, port| {
            if let Ok(address) = name.parse() {
                return named(address, port);
            }
            let found = name.parse().ok().and_then(|name: HostName| egress.find(&name));
            found.is_some_and(|found| {
                let target = crate::door::wire::Target::from(found);
                port.is_none_or(|port| target.allows(port))
            })
        });
    }
}

impl Host {
    /// Looks a name of the outside up for a container; `None` if it does not exist for it.
    pub(crate) fn exit(&self, environment: &Environment, asked: &Asked<'_>) -> Option<Exit> {
        let name: HostName = asked.name.parse().ok()?;
        let mut inner = environment.inner();
        let record = &mut inner.record;
        let refuse = |record: &mut Record, why: Option<&str>| {
            if !asked.also && is_worth_telling(&name) {
                let refusal = Refusal {
                    name: name.as_str(),
                    count: 1,
                    from: service_at(record, asked.from),
                    why: why.map(str::to_owned),
                    ..Refusal::default()
                };
                record.told.refuse(refusal, now());
            }
            None
        };
        if !record.exits.shut.is_empty() && is_shut(record, asked.from) {
            return refuse(record, Some("all networks of the service are `internal`"));
        }
        if !asked.address_wanted {
            // It exists, and has addresses only.
            return match record.exits.egress.find(&name) {
                Some(_) => Some(Exit {
                    address: HUB_ADDRESS,
                    ticket: None,
                }),
                None => refuse(record, None),
            };
        }
        match record.exits.look_up(&name) {
            Name::Known(address) => Some(Exit { address, ticket: None }),
            Name::Unknown => refuse(record, None),
            Name::TooMany => {
                let why = format!("more than {} names fit the patterns of the policy", exits::FOUND_MAX);
                refuse(record, Some(&why))
            }
            Name::Found(address, entry) => {
                if let Err(error) = record.save(&self.state_dir(environment.id.as_str())) {
                    tracing::warn!(environment = %environment.id, %error, "a name was not written down");
                }
                drop(inner);
                let order = Order::Add {
                    environment: environment.id.clone(),
                    address,
                    entry,
                };
                let ticket = self.desk.order(order, None);
                Some(Exit { address, ticket })
            }
        }
    }

    /// Brings the door to what the environment may reach now, and waits for it. Without a door there is nothing to do: the next one
    /// is told everything.
    pub(crate) async fn open_door(self: &Arc<Self>, environment: &Arc<Environment>) {
        let _turn = self.desk.turn.lock().await;
        if let Err(error) = self.open_door_in_turn(environment).await {
            tracing::warn!(environment = %environment.id, %error, "the door could not be opened");
        }
    }

    async fn open_door_in_turn(self: &Arc<Self>, environment: &Arc<Environment>) -> Result<(), runtime::RuntimeError> {
        let id = &environment.id;
        // Nothing is made for one that is just being removed.
        let Ok(hub) = environment.hub() else { return Ok(()) };
        let held = self.desk.held(id);
        let table = {
            let inner = environment.inner();
            let exits = &inner.record.exits;
            if !self.desk.is_open() || (exits.egress.is_empty() && held.is_none()) {
                return Ok(());
            }
            exits.table(|service| {
                let unit = inner.record.units.get(&UnitName::service(service))?;
                Some(container_address(unit.number))
            })
        };
        let action = || format!("opening the door of {id}");
        let network = hub.number().map_err(|e| failed(action(), &e))?;
        let listens = held.filter(|held| held.network == network).map(|held| held.ports);
        let missing: Vec<u16> = match listens {
            Some(ports) => table.ports.difference(&ports).copied().collect(),
            None => table.ports.iter().copied().collect(),
        };
        let mut last = self.desk.order(
            Order::Allow {
                environment: id.clone(),
                network,
                table,
            },
            None,
        );
        for port in missing {
            let hub = Arc::clone(&hub);
            let action = action();
            let socket = self
                .block(move |_| {
                    hub.listen_outward(port)
                        .map_err(|e| failed(format!("{action} on port {port}"), &e))
                })
                .await?;
            let order = Order::Listen {
                environment: id.clone(),
                network,
                port,
            };
            last = self.desk.order(order, Some(socket));
        }
        if let Some(ticket) = last
            && !ticket.within(PATIENCE).await
        {
            tracing::warn!(environment = %id, "the door is slow");
        }
        Ok(())
    }

    /// Takes everything of an environment from the door. What it does not give up at once is found by listing.
    pub(crate) async fn close_door(self: &Arc<Self>, id: &EnvironmentId) {
        let _turn = self.desk.turn.lock().await;
        if !self.desk.holds(id) {
            return;
        }
        let order = Order::Close {
            environment: id.clone(),
        };
        if let Some(ticket) = self.desk.order(order, None)
            && ticket.within(PATIENCE).await
        {
            self.desk.forget(id);
        }
    }

    /// Adds up what the door has counted.
    fn note_report(self: &Arc<Self>, report: Report) {
        let Ok(environment) = self.environment(&report.environment) else {
            return;
        };
        environment.inner().record.told.add(report, now());
        self.save_told_soon(&environment.id);
    }

    /// Has what was told written down in a moment, together with what comes until then.
    fn save_told_soon(self: &Arc<Self>, id: &EnvironmentId) {
        if self.desk.unsaved().insert(id.clone()) {
            let (host, id) = (Arc::clone(self), id.clone());
            tokio::spawn(async move {
                sleep(SAVED).await;
                host.save_told(&id);
            });
        }
    }

    /// Writes down what the door has counted, if that is to be done.
    fn save_told(&self, id: &EnvironmentId) {
        if !self.desk.unsaved().remove(id) {
            return;
        }
        let Ok(environment) = self.environment(id) else {
            return;
        };
        let inner = environment.inner();
        if inner.removed || inner.removing {
            return;
        }
        if let Err(error) = inner.record.save(&self.state_dir(id.as_str())) {
            tracing::warn!(environment = %id, %error, "what went through the door was not written down");
        }
    }

    /// Writes down all that the door has counted: this process ends.
    pub(crate) fn save_all_told(&self) {
        let unsaved: Vec<EnvironmentId> = self.desk.unsaved().iter().cloned().collect();
        unsaved.iter().for_each(|id| self.save_told(id));
    }

    /// What an environment did at its door.
    pub(crate) fn door_fact(&self, record: &Record) -> DoorFact {
        let closed = !record.exits.egress.is_empty() && !self.desk.is_open();
        let why = "the process of the door does not run";
        record.told.fact(closed.then(|| why.to_owned()))
    }
}

fn is_shut(record: &Record, from: IpAddr) -> bool {
    service_at(record, from).is_some_and(|service| record.exits.shut.contains(&service))
}

/// The service that has an address.
fn service_at(record: &Record, address: IpAddr) -> Option<ServiceName> {
    let mut units = record.units.iter();
    let unit = units.find(|(_, unit)| IpAddr::V4(container_address(unit.number)) == address);
    unit.and_then(|(name, _)| name.as_service())
}

/// A line of policy could allow it: names without a dot are those of services, and names of addresses lead nowhere.
fn is_worth_telling(name: &HostName) -> bool {
    let name = name.as_str();
    name.contains('.') && !name.ends_with(".arpa") && !name.ends_with(".localhost")
}
