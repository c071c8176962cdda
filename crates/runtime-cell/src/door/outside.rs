//! Names and connections outside: the host's resolver, which addresses may be connected to, and how long all that may take.

use super::wire::Target;
use model::{HostName, is_public};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout},
};

/// How long an answer of the resolver is used again. It is short because the resolver does not say how long it may be.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How long it is remembered that there is no answer.
const REMEMBERED_NONE: Duration = Duration::from_secs(1);
const REMEMBERED_MAX: usize = 4096;
/// How long the resolver is waited for.
const RESOLVER: Duration = Duration::from_secs(10);
/// How long one address is tried.
const CONNECT: Duration = Duration::from_secs(5);
/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 4;

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// The resolver has no address.
    #[error("the name has no address: {0}")]
    Unknown(String),
    /// It has one that nobody may be led to.
    #[error(
        "the name leads to {0}, which is not an address of the public internet: `private` in the policy can name it"
    )]
    NotPublic(IpAddr),
    /// It is an address of this machine.
    #[error("the name leads to {0}, which is this machine: `private` in the policy can name it")]
    Here(IpAddr),
    /// An endpoint of the policy is on this machine, whose operator does not want that.
    #[error(
        "{0} is an address of this machine: its operator would have to allow such endpoints with `door: {{ loopback: true }}`"
    )]
    Forbidden(IpAddr),
    /// Nobody answers there.
    #[error("{address} does not answer")]
    Silent {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Unreachable {
    /// Whether it was the door that did not want to.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::NotPublic(_) | Self::Here(_) | Self::Forbidden(_))
    }
}

type Addresses = Result<Vec<IpAddr>, String>;

/// What is known of names outside.
#[derive(Debug)]
pub(crate) struct Outside {
    /// Whether endpoints of policies may be on this machine.
    loopback: bool,
    known: Mutex<HashMap<HostName, (Instant, Addresses)>>,
}

impl Outside {
    pub(crate) fn new(loopback: bool) -> Self {
        Self {
            loopback,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<HostName, (Instant, Addresses)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to what stands behind a name. `turns` bounds how many of an environment's names are looked up at a time.
    pub(crate) async fn connect(
        &self,
        turns: &Arc<Semaphore>,
        name: &HostName,
        target: &Target,
        port: u16,
    ) -> Result<TcpStream, Unreachable> {
        if let Target::Private(endpoints) = target {
            let endpoint = endpoints.iter().find(|endpoint| endpoint.port() == port);
            let endpoint = endpoint.ok_or_else(|| Unreachable::Unknown("no endpoint has that port".to_owned()))?;
            return self.dial_private(*endpoint).await;
        }
        if let Some(addresses) = self.remembered(name) {
            match first_of(addresses, port).await {
                // It may have moved.
                Err(Unreachable::Silent { .. }) => {}
                other => return other,
            }
        }
        first_of(self.resolve(turns, name).await, port).await
    }

    async fn dial_private(&self, endpoint: SocketAddr) -> Result<TcpStream, Unreachable> {
        let address = endpoint.ip().to_canonical();
        if !self.loopback && (address.is_loopback() || address.is_unspecified()) {
            return Err(Unreachable::Forbidden(address));
        }
        let stream = dial(endpoint).await?;
        if !self.loopback && is_here(&stream) {
            return Err(Unreachable::Forbidden(address));
        }
        Ok(stream)
    }

    fn remembered(&self, name: &HostName) -> Option<Addresses> {
        let known = self.known();
        let (since, addresses) = known.get(name)?;
        let bound = if addresses.is_ok() { REMEMBERED } else { REMEMBERED_NONE };
        (since.elapsed() < bound).then(|| addresses.clone())
    }

    /// Asks the host's resolver, which may take its time: on a thread of its own.
    async fn resolve(&self, turns: &Arc<Semaphore>, name: &HostName) -> Addresses {
        let since = Instant::now();
        // With a dot at the end no domain of the host's is tried behind it.
        let asked = format!("{name}.");
        let looked_up = async {
            let turn = Arc::clone(turns).acquire_owned().await;
            let answer = tokio::task::spawn_blocking(move || {
                // Kept until the resolver answers, also when nobody waits for it any more.
                let _turn = turn;
                let found = (asked.as_str(), 0).to_socket_addrs();
                found.map(|found| found.map(|address| address.ip().to_canonical()).collect::<Vec<_>>())
            });
            answer.await.map_err(io::Error::other)?
        };
        let addresses = match timeout(RESOLVER, looked_up).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the resolver does not answer within {} s", RESOLVER.as_secs())),
        };
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(name.clone(), (since, addresses.clone()));
        addresses
    }
}

/// Connects to the first address that answers. Each one is looked at right before it is connected to.
async fn first_of(addresses: Addresses, port: u16) -> Result<TcpStream, Unreachable> {
    let addresses = addresses.map_err(Unreachable::Unknown)?;
    let mut last = Unreachable::Unknown("the resolver found none".to_owned());
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        if !is_public(address) {
            last = Unreachable::NotPublic(address);
            continue;
        }
        match dial(SocketAddr::new(address, port)).await {
            Ok(stream) if is_here(&stream) => last = Unreachable::Here(address),
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A public address may be this machine's own, on which more listens than is meant for the internet.
fn is_here(stream: &TcpStream) -> bool {
    let own = stream.local_addr().map(|address| address.ip().to_canonical());
    let theirs = stream.peer_addr().map(|address| address.ip().to_canonical());
    !matches!((own, theirs), (Ok(own), Ok(theirs)) if own != theirs)
}

async fn dial(address: SocketAddr) -> Result<TcpStream, Unreachable> {
    let silent = |source| Unreachable::Silent { address, source };
    match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(silent),
        Err(_) => Err(silent(io::ErrorKind::TimedOut.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_that_are_not_public_are_never_dialled() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        for address in ["127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::1", "169.254.169.254"] {
            let refused = first_of(Ok(vec![address.parse().unwrap()]), port).await.unwrap_err();
            assert!(refused.is_refusal(), "{address}: {refused}");
        }
        assert!(listener.accept().is_err(), "nobody has connected");
    }

    #[tokio::test]
    async fn an_endpoint_of_the_policy_is_reached_wherever_it_is() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap();
        let target = Target::Private([endpoint].into());
        let (outside, turns) = (Outside::new(true), Arc::new(Semaphore::new(1)));
        let name: HostName = "search".parse().unwrap();
        let stream = outside.connect(&turns, &name, &target, endpoint.port()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), endpoint);
        let other = outside.connect(&turns, &name, &target, 1).await;
        assert!(matches!(other, Err(Unreachable::Unknown(_))));
        let careful = Outside::new(false);
        let refused = careful.connect(&turns, &name, &target, endpoint.port()).await;
        assert!(matches!(&refused, Err(error) if error.is_refusal()), "{refused:?}");
    }
}
