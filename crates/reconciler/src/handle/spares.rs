//! Spares, as others ask for them.

use super::{Handle, Intent};
use crate::{spare::SpareReport, task};
use store::EnvironmentRow;

impl Handle {
    /// How the spares of each project stand, and why there are fewer than are wanted.
    ///
    /// # Errors
    /// [`Intent::DiskFull`] or [`Intent::Failed`], when the store can not be read.
    pub async fn spares(&self) -> Result<Vec<SpareReport>, Intent> {
        Ok(task::spares::report(&self.context).await?)
    }

    /// Wants a spare gone. None takes its place before the next environment is made or the policy branch moves.
    pub(super) async fn delete_spare(&self, row: &EnvironmentRow, reason: &str) -> Result<(), Intent> {
        let mut overrides = row.overrides.as_object().cloned().unwrap_or_default();
        overrides.insert(task::forges::DELETED.to_owned(), serde_json::json!(true));
        let ended = self
            .context
            .store
            .spare_end(&row.id, reason, Some(&overrides.into()))
            .await?;
        if !ended {
            // An environment has adopted it meanwhile, and that is not what was to go.
            return Err(Intent::NoEnvironment(row.id.clone()));
        }
        self.nudge_environment(&row.id);
        Ok(())
    }
}
