//! News of a local forge: what webhooks are to others, within one process.

use super::{LocalForge, client::random_hex};
use crate::{Delivery, DeliveryId, ForgeError, Result, Subject};
use tokio::sync::broadcast;

/// How many news are kept for a slow receiver. One that lost some polls, as after a lost webhook.
pub const EVENTS_KEPT: usize = 256;

impl LocalForge {
    /// The news from now on. Pushes by plain git and changes by other processes are not among them: they are found by
    /// polling.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Delivery> {
        self.events.subscribe()
    }

    pub(super) fn emit(&self, subject: Subject) -> Result<()> {
        let id =
            DeliveryId::parse(&random_hex()?).ok_or_else(|| ForgeError::invalid("delivery id", "it is not valid"))?;
        let sender = Some(Self::developer());
        // That nobody listens is not an error.
        let _ = self.events.send(Delivery {
            id,
            repository: self.id.clone(),
            sender,
            subject,
        });
        Ok(())
    }
}
