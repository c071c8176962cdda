//! The ports, answered from memory: what a control plane feeds, and what tests use.

use crate::{
    ports::{AuthState, AuthUnavailable, Dial, DialError, Route, RouteKey, Routes, Session, Target, Visitor},
    secret::{Secret, TokenHash},
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::watch};

/// More sessions than this are not kept; the oldest goes.
const SESSIONS: usize = 100_000;

#[derive(Debug, Default)]
struct Snapshot {
    routes: HashMap<RouteKey, Arc<Route>>,
    awaited: HashMap<RouteKey, Target>,
}

/// A snapshot of routes that is replaced as a whole.
#[derive(Debug)]
pub struct RouteTable {
    snapshot: RwLock<Arc<Snapshot>>,
    changes: watch::Sender<u64>,
}

impl Default for RouteTable {
    fn default() -> Self {
        Self {
            snapshot: RwLock::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl RouteTable {
    /// Replaces all routes.
    pub fn replace(&self, routes: impl IntoIterator<Item = (RouteKey, Route)>) {
        self.replace_all(routes, []);
    }

    /// The same, with where hosts will lead once what is being started is live.
    pub fn replace_all(
        &self,
        routes: impl IntoIterator<Item = (RouteKey, Route)>,
        awaited: impl IntoIterator<Item = (RouteKey, Target)>,
    ) {
        let snapshot = Snapshot {
            routes: routes.into_iter().map(|(key, route)| (key, Arc::new(route))).collect(),
            awaited: awaited.into_iter().collect(),
        };
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Routes for RouteTable {
    fn route(&self, key: &RouteKey) -> Option<Arc<Route>> {
        self.snapshot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .routes
            .get(key)
            .cloned()
    }

    fn awaited(&self, key: &RouteKey) -> Option<Target> {
        self.snapshot
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .awaited
            .get(key)
            .cloned()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// What the token of a sign-in link gives.
#[derive(Clone, Debug)]
pub struct LinkGrant {
    /// Who signs in with it.
    pub visitor: Visitor,
    /// Until when.
    pub expires: Instant,
    /// How long a session lasts that begins with it.
    pub session_lifetime: Duration,
}

#[derive(Debug)]
struct Kept {
    visitor: Visitor,
    host: String,
    begun: Instant,
    lifetime: Duration,
}

#[derive(Debug, Default)]
struct Grants {
    links: HashMap<TokenHash, LinkGrant>,
    tokens: HashMap<TokenHash, Visitor>,
    sessions: HashMap<TokenHash, Kept>,
    control_plane: Option<TokenHash>,
}

/// Links, tokens and sessions in memory: sessions end with the process.
#[derive(Debug, Default)]
pub struct MemoryAuth {
    grants: Mutex<Grants>,
}

impl MemoryAuth {
    fn grants(&self) -> std::sync::MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a sign-in link. It may be used until it expires.
    pub fn add_link(&self, token: TokenHash, grant: LinkGrant) {
        self.grants().links.insert(token, grant);
    }

    /// Takes a sign-in link back. Sessions that began with it go on.
    pub fn remove_link(&self, token: &TokenHash) {
        self.grants().links.remove(token);
    }

    /// Sets the word of the control plane.
    pub fn set_control_plane(&self, word: TokenHash) {
        self.grants().control_plane = Some(word);
    }

    /// Adds an automation token.
    pub fn add_token(&self, token: TokenHash, visitor: Visitor) {
        self.grants().tokens.insert(token, visitor);
    }
}

#[async_trait]
impl AuthState for MemoryAuth {
    fn is_control_plane(&self, word: &TokenHash) -> bool {
        self.grants().control_plane.as_ref() == Some(word)
    }

    async fn exchange(&self, link: &TokenHash, host: &str) -> Result<Option<Session>, AuthUnavailable> {
        let secret = Secret::generate().map_err(|error| AuthUnavailable {
            source: Box::new(error),
        })?;
        let mut grants = self.grants();
        let now = Instant::now();
        let Some(grant) = grants.links.get(link).filter(|grant| grant.expires > now).cloned() else {
            return Ok(None);
        };
        if grants.sessions.len() >= SESSIONS {
            grants.sessions.retain(|_, kept| kept.begun.elapsed() < kept.lifetime);
            let oldest = grants
                .sessions
                .iter()
                .min_by_key(|(_, kept)| kept.begun)
                .map(|(hash, _)| *hash);
            if let Some(oldest) = oldest.filter(|_| grants.sessions.len() >= SESSIONS) {
                grants.sessions.remove(&oldest);
            }
        }
        let LinkGrant {
            visitor,
            session_lifetime: lifetime,
            ..
        } = grant;
        let kept = Kept {
            visitor: visitor.clone(),
            host: host.to_owned(),
            begun: now,
            lifetime,
        };
        grants.sessions.insert(secret.hash(), kept);
        Ok(Some(Session {
            secret,
            lifetime,
            visitor,
        }))
    }

    async fn session(&self, session: &TokenHash, host: &str) -> Result<Option<Visitor>, AuthUnavailable> {
        let grants = self.grants();
        let kept = grants.sessions.get(session);
        let valid = kept.filter(|kept| kept.host == host && kept.begun.elapsed() < kept.lifetime);
        Ok(valid.map(|kept| kept.visitor.clone()))
    }

    async fn automation(&self, token: &TokenHash) -> Result<Option<Visitor>, AuthUnavailable> {
        Ok(self.grants().tokens.get(token).cloned())
    }

    async fn revoke(&self, session: &TokenHash) -> Result<(), AuthUnavailable> {
        self.grants().sessions.remove(session);
        Ok(())
    }
}

/// Dials addresses of this machine.
#[derive(Debug, Default)]
pub struct TcpDial {
    addresses: RwLock<HashMap<Target, SocketAddr>>,
}

impl TcpDial {
    /// Says where a target listens.
    pub fn set(&self, target: Target, address: SocketAddr) {
        self.addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(target, address);
    }
}

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self, target: &Target, epoch: u64) -> Result<TcpStream, DialError> {
        let address = self
            .addresses
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(target)
            .copied();
        let Some(address) = address else {
            return Err(DialError::Stale {
                environment: target.environment.clone(),
                epoch,
            });
        };
        let refused = |source: io::Error| DialError::Refused {
            service: target.service.clone(),
            port: target.port,
            source,
        };
        TcpStream::connect(address).await.map_err(refused)
    }
}
