//! Spares: rows of environments that become another environment, or end, in one statement.
//!
//! A spare may be adopted and unwanted at the same moment by two that know nothing of each other. Each of these statements says
//! what it takes the row for, so that only the first of them finds it so.

use crate::{
    EnvironmentRow, Result, Store, column,
    error::{conflict, failed},
};
use model::{CommitId, EnvironmentId, Origin};

impl Store {
    /// Turns a spare that is ready into this environment, which keeps the spare's id (`row.id` counts for nothing) and its newest
    /// generation; nothing of it was live for the environment yet. Returns whether it did: somebody may have been faster.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) as [`Self::environment_create`]; then the spare is as it was.
    pub async fn spare_adopt(&self, spare: &EnvironmentId, row: &EnvironmentRow) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE environment SET origin_json = ?2, label = ?3, created = ?4, reason = ?5, approved_commit = ?6, head_json = ?7,
                 overrides_json = ?8, power = 'running', live = NULL, failed = NULL, live_at = NULL, nudged = NULL,
                 suspended_json = NULL
             WHERE id = ?1 AND origin_json = ?9 AND project = ?10 AND wanted AND ended IS NULL AND live = newest",
        )
        .bind(spare.as_str())
        .bind(column::json("origin", &row.origin)?)
        .bind(row.label.as_str())
        .bind(column::time(row.created))
        .bind(&row.reason)
        .bind(row.approved_commit.as_ref().map(CommitId::as_str))
        .bind(column::json("head", &row.head)?)
        .bind(column::json("overrides", &row.overrides)?)
        .bind(column::json("origin", &Origin::Spare)?)
        .bind(row.project.as_str())
        .execute(&self.write)
        .await
        .inspect(|_| self.wrote())
        .map_err(conflict("spare_adopt", || format!("an environment of {} as {}", row.project, row.label)))?;
        Ok(done.rows_affected() == 1)
    }

    /// Wants a spare gone, unless it was adopted meanwhile. `overrides` takes the place of what it has, if given. Returns whether
    /// it is still a spare.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn spare_end(
        &self,
        spare: &EnvironmentId,
        reason: &str,
        overrides: Option<&serde_json::Value>,
    ) -> Result<bool> {
        let overrides = overrides.map(|value| column::json("overrides", value)).transpose()?;
        let done = sqlx::query(
            "UPDATE environment SET wanted = 0, reason = ?2, overrides_json = COALESCE(?3, overrides_json)
             WHERE id = ?1 AND origin_json = ?4 AND ended IS NULL",
        )
        .bind(spare.as_str())
        .bind(reason)
        .bind(overrides)
        .bind(column::json("origin", &Origin::Spare)?)
        .execute(&self.write)
        .await
        .inspect(|_| self.wrote())
        .map_err(failed("spare_end"))?;
        Ok(done.rows_affected() == 1)
    }
}
