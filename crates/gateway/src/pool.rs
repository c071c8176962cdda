//! Idle connections to services, by environment, service and port.

use crate::{
    body::Outgoing,
    ports::{Route, RouteKey, RouteState, Routes, Target},
};
use hyper::client::conn::http1::SendRequest;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Outgoing>,
    since: Instant,
}

/// The connections of one target under one epoch.
#[derive(Debug)]
struct Shelf {
    /// A host that leads to the target: tells whether the epoch still holds.
    key: Arc<RouteKey>,
    epoch: u64,
    idle: Vec<Idle>,
}

/// All idle connections.
#[derive(Debug)]
pub(crate) struct Pool {
    shelves: Mutex<HashMap<Target, Shelf>>,
    per_target: usize,
    timeout: Duration,
}

impl Pool {
    pub(crate) fn new(per_target: usize, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            shelves: Mutex::default(),
            per_target,
            timeout,
        })
    }

    /// Takes the connection that was used last: the others then get old enough to be closed.
    /// None is taken that has been idle for longer than `idle`.
    pub(crate) fn take(self: &Arc<Self>, key: &Arc<RouteKey>, route: &Arc<Route>, idle: Duration) -> Option<Lease> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.get_mut(&route.target)?;
        if shelf.epoch < route.epoch {
            shelves.remove(&route.target);
            return None;
        }
        if shelf.epoch > route.epoch {
            return None;
        }
        shelf
            .idle
            .retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < self.timeout);
        // One that is not ready still carries the rest of an upload that nobody waits for.
        let at = shelf
            .idle
            .iter()
            .rposition(|one| one.sender.is_ready() && one.since.elapsed() < idle)?;
        let sender = shelf.idle.remove(at).sender;
        Some(self.lease(sender, key, route))
    }

    /// A connection that has just been made, to be given back after its first response.
    pub(crate) fn lease(
        self: &Arc<Self>,
        sender: SendRequest<Outgoing>,
        key: &Arc<RouteKey>,
        route: &Arc<Route>,
    ) -> Lease {
        Lease {
            sender,
            key: key.clone(),
            route: route.clone(),
            pool: self.clone(),
        }
    }

    fn put(&self, lease: Lease) {
        if lease.sender.is_closed() {
            return;
        }
        let (target, epoch) = (&lease.route.target, lease.route.epoch);
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if shelves.get(target).is_none_or(|shelf| shelf.epoch < epoch) {
            shelves.insert(
                target.clone(),
                Shelf {
                    key: lease.key.clone(),
                    epoch,
                    idle: Vec::new(),
                },
            );
        }
        if let Some(shelf) = shelves.get_mut(target)
            && shelf.epoch == epoch
            && shelf.idle.len() < self.per_target
        {
            shelf.idle.push(Idle {
                sender: lease.sender,
                since: Instant::now(),
            });
        }
    }

    /// Closes what has been idle for too long, and what leads to an environment that is not live under the same epoch.
    pub(crate) fn sweep(&self, routes: &dyn Routes) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.retain(|target, shelf| {
            let holds = routes.route(&shelf.key).is_some_and(|route| {
                route.epoch == shelf.epoch && route.state == RouteState::Live && route.target == *target
            });
            shelf
                .idle
                .retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < self.timeout);
            holds && !shelf.idle.is_empty()
        });
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection in use. Dropped, it is closed; given back, it may be used again.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<Outgoing>,
    key: Arc<RouteKey>,
    route: Arc<Route>,
    pool: Arc<Pool>,
}

impl Lease {
    pub(crate) fn give_back(self) {
        let pool = self.pool.clone();
        pool.put(self);
    }
}
