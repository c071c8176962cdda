//! Listening sockets and their connections: a limit on how many, on heads, and on silence.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once.
const CONNECTIONS: usize = 512;
/// Connections at once from one address: so many slow ones leave room for everybody else's. A proxy in front is one address.
const CONNECTIONS_OF_ONE: usize = 128;
/// How long a head may take, and how long a connection may be silent between requests.
const HEAD: Duration = Duration::from_secs(30);
/// The longest head, in bytes.
const HEAD_BYTES: usize = 32 * 1024;
/// How long answers in flight may take when the server is told to end.
const DRAIN: Duration = Duration::from_secs(5);
/// A pause after `accept` failed, because there are no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that is listened on.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, for processes of this machine that run as the same user, in this group, or as root.
    Unix(UnixListener, u32),
}

/// Serves until it is told to end, then lets what is in flight end.
pub async fn serve(listening: Listening, router: Router, end: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let peers = Arc::new(Peers::default());
    let tasks = TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = end.cancelled() => break,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = end.cancelled() => break,
            accepted = accept(&listening, &peers) => accepted,
        };
        match accepted {
            Ok(Some((stream, guest))) => {
                let (router, end) = (router.clone(), end.clone());
                tasks.spawn(async move {
                    connection(stream, router, end).await;
                    drop((place, guest));
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listening);
    tasks.close();
    if timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::info!(connections = tasks.len(), "cut what did not end in time");
    }
}

/// How many connections there are from where. IPv6 hosts choose the lower half of their address as they like.
#[derive(Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

struct Guest {
    peers: Arc<Peers>,
    network: IpAddr,
}

impl Peers {
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        let network = match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            address @ IpAddr::V4(_) => address,
        };
        let mut counts = self.counts();
        let count = counts.entry(network).or_default();
        if *count >= CONNECTIONS_OF_ONE {
            return None;
        }
        *count += 1;
        let peers = Arc::clone(self);
        Some(Guest { peers, network })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.peers.counts();
        if let Entry::Occupied(mut count) = counts.entry(self.network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection; `None` if it was refused. The guest is let go when it ends.
type Accepted = Option<(Box<dyn Stream>, Option<Guest>)>;

async fn accept(listening: &Listening, peers: &Arc<Peers>) -> io::Result<Accepted> {
    match listening {
        Listening::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            let Some(guest) = peers.enter(address.ip()) else {
                tracing::debug!(%address, "a connection too many from one address was refused");
                return Ok(None);
            };
            stream.set_nodelay(true)?;
            Ok(Some((Box::new(stream), Some(guest))))
        }
        Listening::Unix(listener, group) => {
            let (stream, _) = listener.accept().await?;
            let peer = stream.peer_cred()?;
            let ours = [0, rustix::process::geteuid().as_raw()].contains(&peer.uid());
            if !ours && peer.gid() != *group {
                tracing::warn!(
                    uid = peer.uid(),
                    "another user's connection to an internal socket was refused"
                );
                return Ok(None);
            }
            Ok(Some((Box::new(stream), None)))
        }
    }
}

async fn connection(stream: Box<dyn Stream>, router: Router, end: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(HEAD_BYTES);
    let served = builder
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = end.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpSocket, TcpStream},
    };

    async fn from(address: [u8; 4], to: std::net::SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        socket.connect(to).await.unwrap()
    }

    /// What the server says to a request, if anything.
    async fn asked(mut stream: TcpStream) -> String {
        let mut text = String::new();
        // A connection that was refused breaks while it is written to or read from.
        let _ = stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await;
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn silent_connections_of_one_address_leave_room_for_all_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "here" }));
        let end = CancellationToken::new();
        let server = tokio::spawn(serve(Listening::Tcp(listener), router, end.clone()));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS + 50 {
            silent.push(from([127, 0, 0, 2], address).await);
        }
        assert_eq!(asked(from([127, 0, 0, 2], address).await).await, "", "it has enough");
        assert!(asked(from([127, 0, 0, 3], address).await).await.ends_with("here"));
        drop(silent);
        let since = std::time::Instant::now();
        while !asked(from([127, 0, 0, 2], address).await).await.ends_with("here") {
            assert!(since.elapsed() < Duration::from_secs(120), "it may come again");
            sleep(Duration::from_millis(20)).await;
        }
        end.cancel();
        server.await.unwrap();
    }

    #[test]
    fn the_lower_half_of_an_address_does_not_make_another_peer() {
        let peers = Arc::new(Peers::default());
        let guests: Vec<Guest> = (0..1000u128)
            .filter_map(|n| peers.enter(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n))))
            .collect();
        assert_eq!(guests.len(), CONNECTIONS_OF_ONE);
        assert!(peers.enter("2001:db8:0:1::1".parse().unwrap()).is_some());
        drop(guests);
        assert!(peers.counts().is_empty());
    }
}
