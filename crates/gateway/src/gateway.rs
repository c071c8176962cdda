//! The way of a request, from its host to its answer.

use crate::{
    activity::{Activity, Book},
    answer::Answer,
    body::Reply,
    config::{Config, Limits, Timing},
    cookie::{self, Found},
    headers::TOKEN_HEADER,
    hold,
    host::{self, NoSite, Site},
    origin::{self, From},
    pages,
    pool::Pool,
    ports::{AuthState, Dial, NoWake, Route, RouteState, Routes, Visitor, Wake},
    secret::Secret,
    status,
    upstream::Upstream,
    visitor_kind::{self, Audience, Passive},
    websocket,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::body::Incoming;
use model::EnvironmentId;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Paths of the gateway's own; they never reach an application.
pub(crate) const OWN: &str = "/.maquette/";
/// An environment is asked to wake at most so often.
const WAKE_PAUSE: Duration = Duration::from_secs(1);

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
    wake: Arc<dyn Wake>,
    woken: Mutex<HashMap<EnvironmentId, Instant>>,
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

/// Somebody who has signed in, and how.
struct SignedIn {
    visitor: Visitor,
    /// By a token in a header, which no page can make a browser send.
    by_token: bool,
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

    fn routes(&self) -> &dyn Routes {
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
        let mut response = match self.refuse(&parts) {
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
                Err(no_site) => no_host(no_site).response(audience),
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

    /// What no request for any host may be.
    fn refuse(&self, parts: &Parts) -> Option<Answer> {
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            let detail = "This method is not served.";
            return Some(Answer::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed",
                detail,
            ));
        }
        let path = parts.uri.path();
        if !(path.starts_with('/') || path == "*" && parts.method == Method::OPTIONS) {
            return Some(Answer::bad_request("The target of the request is no path."));
        }
        let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
        let only_chunked = codings
            .next()
            .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if !only_chunked || codings.next().is_some() {
            let detail = "`chunked` is the only transfer coding that is served.";
            return Some(Answer::new(StatusCode::NOT_IMPLEMENTED, "Not implemented", detail));
        }
        let expects = parts.headers.get(header::EXPECT);
        if expects.is_some_and(|expect| !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            let detail = "`100-continue` is the only expectation that is met.";
            return Some(Answer::new(
                StatusCode::EXPECTATION_FAILED,
                "Expectation failed",
                detail,
            ));
        }
        None
    }

    async fn visit(&self, visit: Visit) -> Response<Reply> {
        let Some(admitted) = self.shared.book.admit(self.limits().requests) else {
            return Answer::busy("The gateway serves as many requests as it can.").response(visit.audience);
        };
        let path = visit.parts.uri.path().to_owned();
        let own = path.strip_prefix(OWN);
        if let Some(name) = own
            && is_sign_in_path(name, &visit.parts)
        {
            return self.sign_in(name, visit).await;
        }
        let signed_in = match self.signed_in(&visit).await {
            Ok(Some(signed_in)) => signed_in,
            Ok(None) => return refuse_stranger(&visit),
            Err(unavailable) => return unavailable.response(visit.audience),
        };
        let visible = |route: &Arc<Route>| signed_in.visitor.may_see(&route.project);
        let Some(route) = self.routes().route(&visit.site.key).filter(visible) else {
            return Answer::not_found().response(visit.audience);
        };
        match own {
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
            return answer_passive(passive);
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

    /// Who it is, by token or by cookie. A token that is there decides alone.
    async fn signed_in(&self, visit: &Visit) -> Result<Option<SignedIn>, Answer> {
        let mut tokens = visit.parts.headers.get_all(TOKEN_HEADER).iter();
        let (first, second) = (tokens.next(), tokens.next());
        let found = match first {
            Some(token) => {
                let token = Secret::parse(token.as_bytes()).filter(|_| second.is_none());
                let Some(token) = token else { return Ok(None) };
                self.shared.auth.automation(&token.hash()).await
            }
            None => {
                let Found::One(session) = cookie::read(&visit.parts.headers, visit.site.secure_cookies) else {
                    return Ok(None);
                };
                self.shared.auth.session(&session.hash(), &visit.site.name).await
            }
        };
        match found {
            Ok(found) => Ok(found.map(|visitor| SignedIn {
                visitor,
                by_token: first.is_some(),
            })),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "sign-in could not be checked");
                Err(Answer::sign_in_unavailable())
            }
        }
    }

    /// A page of another origin may read nothing through us (the browser sees to that) and change nothing (we do).
    fn refuse_origin(&self, visit: &Visit, signed_in: &SignedIn, route: &Route) -> Option<Answer> {
        if signed_in.by_token {
            return None;
        }
        let upgrade = websocket::is_upgrade(&visit.parts.headers);
        if !upgrade && origin::only_reads(&visit.parts) {
            return None;
        }
        let from = origin::of(
            &visit.parts.headers,
            &visit.site,
            &self.shared.config.bases,
            &self.ports,
        );
        let allowed = match from {
            // A WebSocket is read from too, and no browser protects it: the origin must be named and be the same.
            From::Same => !upgrade || visit.parts.headers.contains_key(header::ORIGIN),
            From::Nowhere => !upgrade,
            From::Sibling(sibling) => {
                let theirs = self.routes().route(&sibling.key);
                !upgrade && theirs.is_some_and(|theirs| theirs.target.environment == route.target.environment)
            }
            From::Elsewhere => false,
        };
        (!allowed).then(Answer::foreign_origin)
    }

    /// Waits for a live route, or answers why there is none.
    async fn when_live(&self, visit: &Visit, route: Arc<Route>) -> Result<Arc<Route>, Response<Reply>> {
        if route.state == RouteState::Live {
            return Ok(route);
        }
        let audience = visit.audience;
        if !hold::is_on_its_way(&route.state) {
            return Err(not_live(&route, audience));
        }
        self.wake(&route);
        let (limits, timing) = (self.limits(), self.timing());
        // Only what can be asked for again by loading the page is let go early: a form that was sent would be lost.
        let navigation = audience == Audience::Page && origin::only_reads(&visit.parts);
        let patience = if navigation {
            timing.navigation_hold
        } else {
            timing.hold
        };
        let place = self
            .shared
            .book
            .hold(&route.target.environment, limits.held_per_environment, limits.held);
        let route = match place {
            None if navigation => route,
            None => {
                let busy = Answer::busy("As many requests as may wait for this environment do so already.");
                return Err(busy.response(audience));
            }
            Some(_place) => match hold::wait(self.routes(), &visit.site.key, patience).await {
                Some(route) if route.state == RouteState::Live => return Ok(route),
                Some(route) => route,
                None => return Err(Answer::not_found().response(audience)),
            },
        };
        Err(match &route.state {
            state if !hold::is_on_its_way(state) => not_live(&route, audience),
            _ if navigation => pages::progress(&route),
            _ => {
                let detail = format!("The environment did not become live within {patience:?}.");
                Answer::new(StatusCode::GATEWAY_TIMEOUT, "Not live yet", detail)
                    .retry_after(5)
                    .response(audience)
            }
        })
    }

    /// Asks for a sleeping environment to be woken.
    fn wake(&self, route: &Route) {
        if route.state != RouteState::Sleeping {
            return;
        }
        let environment = route.target.environment.clone();
        {
            let mut woken = self.shared.woken.lock().unwrap_or_else(PoisonError::into_inner);
            if woken
                .get(&environment)
                .is_some_and(|asked| asked.elapsed() < WAKE_PAUSE)
            {
                return;
            }
            woken.insert(environment.clone(), Instant::now());
        }
        let (wake, epoch) = (self.shared.wake.clone(), route.epoch);
        tokio::spawn(async move { wake.wake(&environment, epoch).await });
    }
}

fn is_sign_in_path(name: &str, parts: &Parts) -> bool {
    match name {
        "sign-in" => matches!(parts.method, Method::GET | Method::HEAD),
        "session" | "sign-out" => parts.method == Method::POST,
        _ => false,
    }
}

fn no_host(no_site: NoSite) -> Answer {
    match no_site {
        NoSite::Malformed => Answer::bad_request("The request must name one host."),
        NoSite::Misdirected => Answer::new(
            StatusCode::MISDIRECTED_REQUEST,
            "Misdirected",
            "This host is not served here.",
        ),
    }
}

fn refuse_stranger(visit: &Visit) -> Response<Reply> {
    match visit.audience {
        Audience::Page => pages::sign_in(StatusCode::UNAUTHORIZED, pages::SignIn::Plain),
        Audience::Program => Answer::sign_in_required().response(Audience::Program),
    }
}

fn not_live(route: &Route, audience: Audience) -> Response<Reply> {
    match (&route.state, audience) {
        (RouteState::Failed { .. }, Audience::Page) => pages::failed(route),
        (RouteState::Failed { reason }, Audience::Program) => {
            let detail = "The environment could not be started.";
            let answer = Answer::new(StatusCode::SERVICE_UNAVAILABLE, "Start failed", detail);
            answer.lines(reason.clone()).response(audience)
        }
        _ => {
            let detail = "The environment that was here has ended, and nothing of it is left.";
            Answer::new(StatusCode::GONE, "Ended", detail).response(audience)
        }
    }
}

fn answer_passive(passive: Passive) -> Response<Reply> {
    match passive {
        Passive::Icon => {
            let mut response = crate::answer::own("text/plain", "");
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Passive::Robots => crate::answer::own("text/plain; charset=utf-8", "User-agent: *\nDisallow: /\n"),
        Passive::Prefetch | Passive::Probe => {
            let detail = "The environment is not live, and this kind of request does not start it.";
            let answer = Answer::new(StatusCode::SERVICE_UNAVAILABLE, "Not live", detail);
            answer.retry_after(30).response(Audience::Program)
        }
    }
}

/// Whether a request speaks the version in which protocols can be switched.
pub(crate) fn can_upgrade(parts: &Parts) -> bool {
    parts.version == Version::HTTP_11 && parts.method == Method::GET && websocket::is_upgrade(&parts.headers)
}
