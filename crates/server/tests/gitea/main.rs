//! The whole server against a real Gitea: what a reviewer sees on a pull request, whatever happens to it there. The runtime is
//! simulated, everything else is real. Each test has users and a repository of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, too, fail by panicking"
)]

mod bench;
mod between;
mod deliveries;
mod hostile;
mod life;
mod outage;
mod seen;
mod sources;
mod trust;

use forge::{
    Secret,
    gitea::{Gitea, Limits},
};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Nothing here takes longer, unless it never happens.
const PATIENCE: Duration = Duration::from_secs(120);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name that no other test uses.
fn name(of: &str) -> String {
    format!("{of}{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Our own client with the token of some account.
fn connect(server: &test_support::gitea::Gitea, token: &str) -> Gitea {
    let url = server.url().parse().unwrap();
    Gitea::new(&url, Secret::new(token.to_owned()), Limits::default()).unwrap()
}

/// Asks until there is an answer.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(found) = ask().await {
            return found;
        }
        sleep(Duration::from_millis(30)).await;
    }
    panic!("{what}: it did not happen");
}
