//! One connection from an environment to the outside.

use super::{
    Door,
    environment::{Admitted, Environment, ends_abruptly},
    outside::Unreachable,
    relay::{Cut, relay},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};

/// A connection on which nothing moves for so long ends.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// A connection that may be made. It counts as open until this is dropped.
pub(crate) struct Passing {
    pub(crate) door: Arc<Door>,
    pub(crate) environment: Arc<Environment>,
    pub(crate) admitted: Admitted,
    pub(crate) _slots: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Passing {
    /// Connects and moves bytes until both sides have ended, or one breaks. A connection that can not be made breaks at once.
    pub(crate) async fn run(self, inner: TcpStream) {
        let Admitted { entry, port, .. } = &self.admitted;
        let outside = &self.door.outside;
        let outer = outside
            .connect(&self.environment.lookups, &entry.name, &entry.target, *port)
            .await;
        let outer = match outer {
            Ok(outer) => outer,
            Err(error) => return self.failed(&error),
        };
        self.count(|tally| tally.connections += 1);
        ends_abruptly(&outer, true);
        for stream in [&inner, &outer] {
            // Pieces come as they were sent: what waits for more would wait twice.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection has its own pace");
            }
        }
        let moved = |sent: u64, received: u64| {
            self.admitted.flow.add(sent, received);
            self.door.news.notify_one();
            let bytes = sent.saturating_add(received);
            self.environment.budget.spend(bytes, Instant::now())
        };
        match relay(&self.door.pipes, &inner, &outer, IDLE, moved).await {
            Ok(()) => {
                ends_abruptly(&inner, false);
                ends_abruptly(&outer, false);
            }
            Err(Cut::Spent) => self.count(|tally| {
                tally.refused += 1;
                tally.why = Some(self.environment.budget.spent());
            }),
            Err(error) => tracing::debug!(environment = %self.environment.id, %error, "a connection was cut"),
        }
    }

    fn failed(&self, error: &Unreachable) {
        let why = crate::host::chain(error);
        self.count(|tally| {
            if error.is_refusal() {
                tally.refused += 1;
                tally.why = Some(why);
            } else {
                tally.failed += 1;
                tally.failure = Some(why);
            }
        });
    }

    fn count(&self, change: impl FnOnce(&mut super::wire::Tally)) {
        let Admitted { entry, port, .. } = &self.admitted;
        self.environment.counts.add(&entry.name, *port, change);
        self.door.news.notify_one();
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.environment.ended(self.admitted.number);
        self.door.news.notify_one();
    }
}
