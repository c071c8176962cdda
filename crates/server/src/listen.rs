//! Listening sockets and their connections: a limit on how many, on heads, and on silence.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once.
const CONNECTIONS: usize = 512;
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
    /// A Unix socket, for processes of this machine that run as the same user, or as root.
    Unix(UnixListener),
}

/// Serves until it is told to end, then lets what is in flight end.
pub async fn serve(listening: Listening, router: Router, end: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = end.cancelled() => break,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = end.cancelled() => break,
            accepted = accept(&listening) => accepted,
        };
        match accepted {
            Ok(Some(stream)) => {
                let (router, end) = (router.clone(), end.clone());
                tasks.spawn(async move {
                    connection(stream, router, end).await;
                    drop(place);
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

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn accept(listening: &Listening) -> io::Result<Option<Box<dyn Stream>>> {
    match listening {
        Listening::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Some(Box::new(stream)))
        }
        Listening::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if peer != 0 && peer != rustix::process::geteuid().as_raw() {
                tracing::warn!(
                    uid = peer,
                    "another user's connection to an internal socket was refused"
                );
                return Ok(None);
            }
            Ok(Some(Box::new(stream)))
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
