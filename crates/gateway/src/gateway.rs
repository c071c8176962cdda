//! The way of a request, from its host to its answer.

use crate::{
    access,
    activity::{Activity, Book},
    answer::Answer,
    awake::{self, WAKE_PAUSE},
    body::Reply,
    config::{Config, Limits, Timing},
    host::{self, Site},
    pool::Pool,
    ports::{AuthState, Dial, NoWake, Route, RouteState, Routes, Wake},
    status,
    upstream::Upstream,
    visitor_kind::{self, Audience},
    websocket,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::body::Incoming;
use model::EnvironmentId;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Paths of the gateway's own; they never reach an application.
pub(crate) const OWN: &str = "/.maquette/";

/// The gateway. Clones are the same gateway.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
    /// Ports that may stand in an address.
    pub(crate) ports: Arc<[u16]>,
}

/// What all clones share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) auth: Arc<dyn AuthState>,
    pub(crate) book: Book,
    pub(crate) upstream: Upstream,
    pub(crate) tunnels: Tunnels,
    pub(crate) sign_ins: Semaphore,
    pub(crate) wake: Arc<dyn Wake>,
    pub(crate) woken: Mutex<HashMap<EnvironmentId, Instant>>,
}

/// Open WebSockets. hyper forgets a connection when it is upgraded; the gateway must not, or shutting down would cut it.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    pub(crate) tasks: TaskTracker,
    /// Cuts all.
    pub(crate) end: CancellationToken,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
}

/// A request on its way, once its host is known.
pub(crate) struct Visit {
    pub(crate) site: Site,
    pub(crate) parts: Parts,
    pub(crate) body: Incoming,
    pub(crate) audience: Audience,
    pub(crate) peer: Peer,
}

impl Gateway {
    /// A gateway that answers nothing yet: see [`Gateway::serve`].
    #[must_use]
    pub fn new(config: Config, routes: Arc<dyn Routes>, auth: Arc<dyn AuthState>, dial: Arc<dyn Dial>) -> Self {
        Self::with_wake(config, routes, auth, dial, Arc::new(NoWake))
    }

    /// The same, with somebody to ask for sleeping environments.
    #[must_use]
    pub fn with_wake(
        config: Config,
        routes: Arc<dyn Routes>,
        auth: Arc<dyn AuthState>,
        dial: Arc<dyn Dial>,
        wake: Arc<dyn Wake>,
    ) -> Self {
        let (limits, timing) = (config.limits.clone(), config.timing.clone());
        let pool = Pool::new(limits.idle_connections, timing.idle_connection);
        let ports = config.public_ports.as_slice().into();
        let shared = Shared {
            auth,
            book: Book::new(),
            tunnels: Tunnels::default(),
            sign_ins: Semaphore::new(limits.sign_ins),
            wake,
            woken: Mutex::default(),
            upstream: Upstream {
                pool,
                dial,
                routes,
                limits,
                timing,
            },
            config,
        };
        Self {
            shared: Arc::new(shared),
            ports,
        }
    }

    /// What goes on in each environment that somebody used since the gateway began. One that is missing was not used.
    #[must_use]
    pub fn activity(&self) -> Vec<(EnvironmentId, Activity)> {
        self.shared.book.activity()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.config.limits
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.shared.config.timing
    }

    pub(crate) fn tunnels(&self) -> &Tunnels {
        &self.shared.tunnels
    }

    pub(crate) fn routes(&self) -> &dyn Routes {
        &*self.shared.upstream.routes
    }

    pub(crate) fn route_changes(&self) -> watch::Receiver<u64> {
        self.routes().changes()
    }

    pub(crate) fn listening_on(&self, port: u16) -> Self {
        let ports = self.ports.iter().copied().chain([port]).collect();
        Self {
            shared: self.shared.clone(),
            ports,
        }
    }

    pub(crate) fn sweep(&self) {
        self.shared.upstream.pool.sweep(self.routes());
        self.shared.book.forget();
        let mut woken = self.shared.woken.lock().unwrap_or_else(PoisonError::into_inner);
        woken.retain(|_, asked| asked.elapsed() < WAKE_PAUSE);
    }

    pub(crate) fn close_idle(&self) {
        self.shared.upstream.pool.clear();
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Reply> {
        let (parts, body) = request.into_parts();
        let audience = visitor_kind::audience(&parts);
        let head_only = parts.method == Method::HEAD;
        let wanted_upgrade = parts.headers.contains_key(header::UPGRADE);
        let mut response = match access::refuse(&parts) {
            Some(refusal) => {
                let mut response = refusal.response(audience);
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
                response
            }
            None => match host::site(&parts, &self.shared.config.bases, &self.ports) {
                Ok(site) => {
                    self.visit(Visit {
                        site,
                        parts,
                        body,
                        audience,
                        peer,
                    })
                    .await
                }
                Err(no_site) => access::no_host(no_site).response(audience),
            },
        };
        if wanted_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // What the visitor sent in advance for another protocol must not be read as a request.
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if head_only && let Reply::Own(_) = response.body() {
            *response.body_mut() = Reply::empty();
        }
        response
    }

    async fn visit(&self, visit: Visit) -> Response<Reply> {
        let Some(admitted) = self.shared.book.admit(self.limits().requests) else {
            return Answer::busy("The gateway serves as many requests as it can.").response(visit.audience);
        };
        let own = visit.parts.uri.path().strip_prefix(OWN).map(str::to_owned);
        if let Some(name) = &own
            && self.is_probe(name, &visit.parts)
        {
            return self.probe(&visit).await;
        }
        if let Some(name) = &own
            && is_sign_in_path(name, &visit.parts)
        {
            return self.sign_in(name, visit).await;
        }
        let signed_in = match self.signed_in(&visit).await {
            Ok(Some(signed_in)) => signed_in,
            Ok(None) => return access::refuse_stranger(&visit),
            Err(unavailable) => return unavailable.response(visit.audience),
        };
        let visible = |route: &Arc<Route>| signed_in.visitor.may_see(&route.project);
        let Some(route) = self.routes().route(&visit.site.key).filter(visible) else {
            return Answer::not_found().response(visit.audience);
        };
        match own.as_deref() {
            Some("status") => {
                self.wake(&route);
                return status::response(&route);
            }
            Some(_) => return Answer::not_found().response(visit.audience),
            None => {}
        }
        if let Some(refusal) = self.refuse_origin(&visit, &signed_in, &route) {
            return refusal.response(visit.audience);
        }
        if route.state != RouteState::Live
            && let Some(passive) = visitor_kind::passive(&visit.parts)
        {
            return awake::answer_passive(passive);
        }
        let limit = self.limits().requests_per_environment;
        let Some(flight) = self.shared.book.flight(&route.target.environment, limit, admitted) else {
            return Answer::busy("The environment serves as many requests as it may.").response(visit.audience);
        };
        tracing::trace!(subject = %signed_in.visitor.subject, environment = %route.target.environment, "visit");
        match self.when_live(&visit, route).await {
            Ok(route) => self.forward(visit, &route, flight).await,
            Err(response) => response,
        }
    }
}

fn is_sign_in_path(name: &str, parts: &Parts) -> bool {
    match name {
        "sign-in" => matches!(parts.method, Method::GET | Method::HEAD),
        "session" | "sign-out" => parts.method == Method::POST,
        _ => false,
    }
}

/// Whether a request speaks the version in which protocols can be switched.
pub(crate) fn can_upgrade(parts: &Parts) -> bool {
    parts.version == Version::HTTP_11 && parts.method == Method::GET && websocket::is_upgrade(&parts.headers)
}
