//! The listening socket, its connections, and their end.

use crate::{
    body::Reply,
    gateway::{Gateway, Peer},
};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use std::{convert::Infallible, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket has no address.
    #[error("the listening socket has no address")]
    NoAddress {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A pause after `accept` failed, because this process or the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// A peer that has vanished is noticed after about so long: half of it silent, half of it asked.
const KEEPALIVE_SECONDS: u32 = 120;

/// No delay for small pieces, and a peer that vanished (a closed lid, a pulled cable) does not hold a tunnel for ever.
pub(crate) fn tune(stream: &TcpStream) {
    let asked = stream
        .set_nodelay(true)
        .and_then(|()| Ok(setsockopt(stream, sockopt::KeepAlive, &true)?))
        .and_then(|()| Ok(setsockopt(stream, sockopt::TcpKeepIdle, &(KEEPALIVE_SECONDS / 2))?))
        .and_then(|()| Ok(setsockopt(stream, sockopt::TcpKeepInterval, &(KEEPALIVE_SECONDS / 8))?))
        .and_then(|()| Ok(setsockopt(stream, sockopt::TcpKeepCount, &4)?));
    if let Err(error) = asked {
        tracing::debug!(%error, "a socket could not be tuned");
    }
}

/// What is shared by all connections of a listener.
struct Door {
    gateway: Gateway,
    builder: http1::Builder,
    tasks: TaskTracker,
    /// No further request: what is in flight is completed.
    ending: CancellationToken,
}

impl Gateway {
    /// Serves until `shutdown` completes, then lets what is in flight end, at most [`crate::Timing::drain`] long; WebSockets are
    /// cut after that time. A gateway serves one listener, once.
    ///
    /// # Errors
    /// [`ServeError`] when the listener is unusable. A connection's trouble is its own.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let port = listener
            .local_addr()
            .map_err(|source| ServeError::NoAddress { source })?
            .port();
        let (limits, timing) = (self.limits(), self.timing());
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(timing.head)
            .max_headers(limits.head_lines)
            .max_header_size(limits.head_bytes);
        let door = Arc::new(Door {
            gateway: self.listening_on(port),
            builder,
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
        });
        let sweeper = tokio::spawn(sweep(self.clone()));
        let places = Arc::new(Semaphore::new(limits.connections));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await.ok();
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let door_of_it = door.clone();
                    door.tasks.spawn(async move {
                        door_of_it.connection(stream, Peer { ip: address.ip() }).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        door.drain(timing.drain).await;
        sweeper.abort();
        self.close_idle();
        Ok(())
    }
}

impl Door {
    async fn connection(&self, stream: TcpStream, peer: Peer) {
        tune(&stream);
        // TLS has its place here: accept, then serve what came out of it, with the scheme `https`.
        let service = service_fn(|request: Request<Incoming>| async move {
            Ok::<Response<Reply>, Infallible>(self.gateway.answer(request, peer).await)
        });
        let connection = self
            .builder
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = self.ending.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = self.gateway.tunnels().end.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a visitor's connection ended");
        }
    }

    async fn drain(&self, patience: Duration) {
        self.ending.cancel();
        self.tasks.close();
        let tunnels = self.gateway.tunnels();
        tunnels.tasks.close();
        let quiet = async {
            self.tasks.wait().await;
            tunnels.tasks.wait().await;
        };
        if timeout(patience, quiet).await.is_err() {
            tracing::info!(
                connections = self.tasks.len(),
                tunnels = tunnels.tasks.len(),
                "cut what did not end in time"
            );
            tunnels.end.cancel();
            self.tasks.wait().await;
            tunnels.tasks.wait().await;
        }
    }
}

/// Closes idle connections when their time has come, and at once when routes have changed.
async fn sweep(gateway: Gateway) {
    let mut changes = gateway.route_changes();
    loop {
        if let Ok(Err(_)) = timeout(SWEEP, changes.changed()).await {
            // Nobody feeds the routes any more; time still passes.
            sleep(SWEEP).await;
        }
        gateway.sweep();
    }
}
