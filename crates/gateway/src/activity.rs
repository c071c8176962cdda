//! Who uses which environment, for sleep; and the caps on how much at once.

use model::EnvironmentId;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// An environment that nobody has used for so long is forgotten here.
const FORGET: Duration = Duration::from_secs(48 * 3600);

/// What goes on in an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Requests whose response is not complete. Held ones count.
    pub requests: usize,
    /// Open WebSockets.
    pub tunnels: usize,
    /// Bytes that have gone through WebSockets, both ways, since the gateway began.
    pub tunnel_bytes: u64,
    /// Since when nothing has moved: no request begun or ended, no piece of a body, no WebSocket message. Pings move nothing.
    pub quiet: Duration,
}

/// The counters of one environment.
#[derive(Debug)]
struct Counters {
    begun: Instant,
    requests: AtomicUsize,
    tunnels: AtomicUsize,
    tunnel_bytes: AtomicU64,
    held: AtomicUsize,
    /// Milliseconds since `begun`.
    last: AtomicU64,
}

impl Counters {
    fn touch(&self) {
        self.last.fetch_max(
            u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            Relaxed,
        );
    }

    fn quiet(&self) -> Duration {
        self.begun
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Relaxed)))
    }

    fn is_idle(&self) -> bool {
        [&self.requests, &self.tunnels, &self.held]
            .iter()
            .all(|count| count.load(Relaxed) == 0)
    }
}

/// The counters of all environments.
#[derive(Debug)]
pub(crate) struct Book {
    begun: Instant,
    environments: Mutex<HashMap<EnvironmentId, Arc<Counters>>>,
    requests: Arc<AtomicUsize>,
    held: Arc<AtomicUsize>,
}

impl Book {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            environments: Mutex::default(),
            requests: Arc::default(),
            held: Arc::default(),
        }
    }

    fn counters(&self, environment: &EnvironmentId) -> Arc<Counters> {
        let mut environments = self.environments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = environments.get(environment) {
            return counters.clone();
        }
        let counters = Arc::new(Counters {
            begun: self.begun,
            requests: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            tunnel_bytes: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            last: AtomicU64::new(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)),
        });
        environments.insert(environment.clone(), counters.clone());
        counters
    }

    /// Counts any request, ours or an application's; `None` when there are too many.
    pub(crate) fn admit(&self, limit: usize) -> Option<Counted> {
        Counted::one_of(&self.requests, limit)
    }

    /// Counts a request of an environment; `None` when there are too many.
    pub(crate) fn flight(&self, environment: &EnvironmentId, limit: usize, admitted: Counted) -> Option<Flight> {
        let counters = self.counters(environment);
        if counters.requests.fetch_add(1, Relaxed) >= limit {
            counters.requests.fetch_sub(1, Relaxed);
            return None;
        }
        counters.touch();
        Some(Flight {
            counters,
            _admitted: admitted,
        })
    }

    /// Counts a request that waits; `None` when too many do.
    pub(crate) fn hold(&self, environment: &EnvironmentId, limit: usize, limit_in_all: usize) -> Option<Held> {
        let all = Counted::one_of(&self.held, limit_in_all)?;
        let counters = self.counters(environment);
        if counters.held.fetch_add(1, Relaxed) >= limit {
            counters.held.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Held { counters, _all: all })
    }

    /// What goes on where.
    pub(crate) fn activity(&self) -> Vec<(EnvironmentId, Activity)> {
        let environments = self.environments.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |counters: &Counters| Activity {
            requests: counters.requests.load(Relaxed),
            tunnels: counters.tunnels.load(Relaxed),
            tunnel_bytes: counters.tunnel_bytes.load(Relaxed),
            quiet: counters.quiet(),
        };
        environments
            .iter()
            .map(|(environment, counters)| (environment.clone(), read(counters)))
            .collect()
    }

    /// Forgets environments that have long been quiet, so that the book does not grow with every pull request.
    pub(crate) fn forget(&self) {
        let mut environments = self.environments.lock().unwrap_or_else(PoisonError::into_inner);
        environments
            .retain(|_, counters| Arc::strong_count(counters) > 1 || !counters.is_idle() || counters.quiet() < FORGET);
    }
}

/// One of a counted kind, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn one_of(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let counted = Self(count.clone());
        // Dropping `counted` takes the one away again that was too much.
        (count.fetch_add(1, Relaxed) < limit).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A request of an environment, until its response is complete.
#[derive(Debug)]
pub(crate) struct Flight {
    counters: Arc<Counters>,
    _admitted: Counted,
}

impl Flight {
    /// Something moved.
    pub(crate) fn touch(&self) {
        self.counters.touch();
    }

    /// The request has become a tunnel.
    pub(crate) fn into_tunnel(self) -> TunnelFlight {
        self.counters.tunnels.fetch_add(1, Relaxed);
        TunnelFlight(self)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.counters.requests.fetch_sub(1, Relaxed);
        self.counters.touch();
    }
}

/// A tunnel, until both ends are closed. It goes on counting against the cap on requests.
#[derive(Debug)]
pub(crate) struct TunnelFlight(Flight);

impl TunnelFlight {
    /// Bytes went through; `talk` tells whether they were more than pings.
    pub(crate) fn moved(&self, bytes: usize, talk: bool) {
        self.0.counters.tunnel_bytes.fetch_add(bytes as u64, Relaxed);
        if talk {
            self.0.counters.touch();
        }
    }
}

impl Drop for TunnelFlight {
    fn drop(&mut self) {
        self.0.counters.tunnels.fetch_sub(1, Relaxed);
    }
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Held {
    counters: Arc<Counters>,
    _all: Counted,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counters.held.fetch_sub(1, Relaxed);
    }
}
