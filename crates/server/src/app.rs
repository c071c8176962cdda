//! What every handler has at hand.

use model::{ProjectName, SourceName, Timestamp};
use reconciler::{Handle, Project};
use runtime::Runtime;
use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use store::Store;
use tokio::sync::Semaphore;

/// Commands that run in containers at once, for all callers together.
const EXECS: usize = 32;
/// Logs that are followed at once.
const FOLLOWED: usize = 128;

/// What deliveries are signed with, by project and source. A source without a secret takes no deliveries.
pub type WebhookSecrets = BTreeMap<(ProjectName, SourceName), forge::Secret>;

/// What every handler has at hand. Clones share everything.
#[derive(Clone)]
pub struct App {
    pub(crate) store: Store,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) reconciler: Handle,
    pub(crate) webhook_secrets: Arc<WebhookSecrets>,
    pub(crate) execs: Arc<Semaphore>,
    pub(crate) followed: Arc<Semaphore>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl App {
    /// Puts it together.
    #[must_use]
    pub fn new(store: Store, runtime: Arc<dyn Runtime>, reconciler: Handle, webhook_secrets: WebhookSecrets) -> Self {
        Self {
            store,
            runtime,
            reconciler,
            webhook_secrets: Arc::new(webhook_secrets),
            execs: Arc::new(Semaphore::new(EXECS)),
            followed: Arc::new(Semaphore::new(FOLLOWED)),
        }
    }

    pub(crate) fn project(&self, name: &ProjectName) -> Option<&Project> {
        self.reconciler.projects().find(|project| project.name == *name)
    }
}

/// The time. Everything below takes it as an argument.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
