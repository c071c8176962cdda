//! One request to a service: over a connection that is idle, else over a new one.

use crate::{
    body::{Outgoing, Progress},
    config::{Limits, Timing},
    pool::{Lease, Pool},
    ports::{Dial, DialError, Route, RouteKey, RouteState, Routes, Target},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body_util::Empty;
use hyper::{
    body::{Body, Incoming},
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use std::{
    error::Error as _,
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How long a body that was not begun may take to come back from a connection that died.
const BODY_BACK: Duration = Duration::from_secs(1);

/// How long the answer to a question of the control plane may take.
const ASKED: Duration = Duration::from_secs(8);

/// There is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No attempt to connect succeeded in time.
    #[error("no connection to {} of environment {}", target.service, target.environment)]
    Connect { target: Target, source: DialError },
    /// Connecting took too long.
    #[error("connecting to {} of environment {} took more than {after:?}", target.service, target.environment)]
    ConnectTimeout { target: Target, after: Duration },
    /// The environment stopped being live while connecting.
    #[error("environment {} is no longer live", target.environment)]
    NoLongerLive { target: Target },
    /// The connection broke, or what came over it was no HTTP.
    #[error("{} of environment {} broke the connection off", target.service, target.environment)]
    Broken { target: Target, source: hyper::Error },
    /// No head of a response within the time.
    #[error("{} of environment {} did not answer within {after:?}", target.service, target.environment)]
    Silent { target: Target, after: Duration },
}

/// What sending needs. One for the whole gateway.
pub(crate) struct Upstream {
    pub(crate) pool: Arc<Pool>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) routes: Arc<dyn Routes>,
    pub(crate) limits: Limits,
    pub(crate) timing: Timing,
}

/// Whether a request may be sent again although it may have been carried out.
fn is_repeatable(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    )
}

/// Whether the connection ended before a response began, as an idle one may at any moment.
fn died_waiting(error: &hyper::Error) -> bool {
    let reset = || {
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(|io| {
            matches!(
                io.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
            )
        })
    };
    error.is_canceled() || error.is_incomplete_message() || error.is_closed() || reset()
}

fn broken(route: &Route, failed: TrySendError<Request<Outgoing>>) -> UpstreamError {
    UpstreamError::Broken {
        target: route.target.clone(),
        source: failed.into_error(),
    }
}

impl Upstream {
    /// Sends a request whose head has been prepared. `fresh` asks for a connection of its own (WebSocket).
    pub(crate) async fn send(
        &self,
        key: &Arc<RouteKey>,
        route: &Arc<Route>,
        head: Parts,
        body: Incoming,
        fresh: bool,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let body = (!body.is_end_stream()).then_some(body);
        let idle = if is_repeatable(&head.method) {
            self.timing.idle_connection
        } else {
            self.timing.surely_open
        };
        let lease = if fresh { None } else { self.pool.take(key, route, idle) };
        let (head, body) = match lease {
            None => (head, body),
            Some(lease) => match self.send_reused(lease, route, head, body).await? {
                Reused::Answered(response, lease) => return Ok((response, lease)),
                Reused::Again(head, body) => (head, body),
            },
        };
        let mut lease = self.connect(key, route).await?;
        let progress = Progress::default();
        let (outgoing, _) = Outgoing::new(body, progress.clone());
        let answer = lease.sender.send_request(Request::from_parts(head, outgoing));
        let response = self.in_time(route, &progress, answer).await?;
        match response {
            Ok(response) => Ok((response, lease)),
            Err(source) => Err(UpstreamError::Broken {
                target: route.target.clone(),
                source,
            }),
        }
    }

    /// Sends over a connection that was idle. It may have died a moment ago without anybody's fault: then the request comes
    /// back, unless the application may already have acted on it.
    async fn send_reused(
        &self,
        mut lease: Lease,
        route: &Route,
        head: Parts,
        body: Option<Incoming>,
    ) -> Result<Reused, UpstreamError> {
        let progress = Progress::default();
        let had_body = body.is_some();
        let copy = (had_body || is_repeatable(&head.method)).then(|| head.clone());
        let (outgoing, back) = Outgoing::new(body, progress.clone());
        let answer = lease.sender.try_send_request(Request::from_parts(head, outgoing));
        let mut failed = match self.in_time(route, &progress, answer).await? {
            Ok(response) => return Ok(Reused::Answered(response, lease)),
            Err(failed) => failed,
        };
        if let Some(request) = failed.take_message() {
            // Not a byte was written.
            let (head, outgoing) = request.into_parts();
            drop(outgoing);
            let body = back.await.ok();
            return if body.is_some() == had_body {
                Ok(Reused::Again(head, body))
            } else {
                Err(broken(route, failed))
            };
        }
        let copy = copy.filter(|_| died_waiting(failed.error()));
        let body = match (had_body, &copy) {
            (true, Some(_)) => timeout(BODY_BACK, back).await.ok().and_then(Result::ok),
            _ => None,
        };
        match copy {
            Some(head) if body.is_some() == had_body => Ok(Reused::Again(head, body)),
            _ => Err(broken(route, failed)),
        }
    }

    /// Waits for the head of a response as long as something goes up.
    async fn in_time<T>(
        &self,
        route: &Route,
        progress: &Progress,
        answer: impl Future<Output = T>,
    ) -> Result<T, UpstreamError> {
        let after = self.timing.response;
        let mut answer = std::pin::pin!(answer);
        loop {
            let before = progress.load(Relaxed);
            match timeout(after, &mut answer).await {
                Ok(answer) => return Ok(answer),
                Err(_) if progress.load(Relaxed) != before => {}
                Err(_) => {
                    return Err(UpstreamError::Silent {
                        target: route.target.clone(),
                        after,
                    });
                }
            }
        }
    }

    /// Asks once, over a connection of its own that is not kept; the body of the answer is not read.
    pub(crate) async fn ask(&self, target: &Target, epoch: u64, head: Parts) -> Result<StatusCode, UpstreamError> {
        let dialled = timeout(self.timing.connect, self.dial.dial(target, epoch)).await;
        let stream = dialled
            .map_err(|_| UpstreamError::ConnectTimeout {
                target: target.clone(),
                after: self.timing.connect,
            })?
            .map_err(|source| UpstreamError::Connect {
                target: target.clone(),
                source,
            })?;
        let broken = |source| UpstreamError::Broken {
            target: target.clone(),
            source,
        };
        let (mut sender, connection) = self
            .builder()
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let connection = tokio::spawn(connection);
        let answer = timeout(ASKED, sender.send_request(Request::from_parts(head, Empty::new()))).await;
        connection.abort();
        match answer {
            Ok(answer) => Ok(answer.map_err(broken)?.status()),
            Err(_) => Err(UpstreamError::Silent {
                target: target.clone(),
                after: ASKED,
            }),
        }
    }

    fn builder(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .max_headers(self.limits.head_lines.max(100))
            .max_header_size(self.limits.head_bytes.max(8192));
        builder
    }

    /// Connects. Refused attempts are repeated while the route stays live.
    async fn connect(&self, key: &Arc<RouteKey>, route: &Arc<Route>) -> Result<Lease, UpstreamError> {
        let (mut route, begun) = (route.clone(), Instant::now());
        let mut pause = self.timing.reconnect_pause;
        loop {
            let target = &route.target;
            let after = self.timing.connect;
            let Ok(dialled) = timeout(after, self.dial.dial(target, route.epoch)).await else {
                return Err(UpstreamError::ConnectTimeout {
                    target: target.clone(),
                    after,
                });
            };
            let error = match dialled {
                Ok(stream) => return self.greet(stream, key, &route).await,
                Err(error) => error,
            };
            let patience = match error {
                DialError::Unavailable { .. } => self.timing.dialler_patience,
                _ => self.timing.connect_patience,
            };
            if begun.elapsed() + pause > patience {
                return Err(UpstreamError::Connect {
                    target: target.clone(),
                    source: error,
                });
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            // A push may have put another generation behind the host meanwhile.
            match self.routes.route(key) {
                Some(now) if now.state == RouteState::Live => route = now,
                _ => return Err(UpstreamError::NoLongerLive { target: target.clone() }),
            }
        }
    }

    async fn greet(
        &self,
        stream: tokio::net::TcpStream,
        key: &Arc<RouteKey>,
        route: &Arc<Route>,
    ) -> Result<Lease, UpstreamError> {
        let broken = |source| UpstreamError::Broken {
            target: route.target.clone(),
            source,
        };
        crate::listen::tune(&stream);
        let (mut sender, connection) = self
            .builder()
            .handshake::<_, Outgoing>(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Ends when the lease is dropped, or the service hangs up.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a service ended");
            }
        });
        sender.ready().await.map_err(broken)?;
        Ok(self.pool.lease(sender, key, route))
    }
}

/// What became of a request on a connection that was idle.
enum Reused {
    Answered(Response<Incoming>, Lease),
    Again(Parts, Option<Incoming>),
}
