//! Deliveries that were accepted, so that a repeated one is known.

use crate::{Result, Store, column, error::failed};
use model::{ProjectName, SourceName, Timestamp};

impl Store {
    /// Remembers a delivery; `false` if it was seen before.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn delivery_record(
        &self,
        project: &ProjectName,
        source: &SourceName,
        delivery: &str,
        kind: &str,
        at: Timestamp,
    ) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO delivery (project, source, delivery, kind, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(project.as_str())
        .bind(source.as_str())
        .bind(column::bounded(delivery, 200))
        .bind(column::bounded(kind, 100))
        .bind(column::time(at))
        .execute(&self.write)
        .await
        .inspect(|_| self.noted())
        .map_err(failed("delivery_record"))?;
        Ok(done.rows_affected() == 1)
    }
}
