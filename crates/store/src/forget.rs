//! Forgetting what is of no use any more. What that is decide the callers; here it goes in one piece or not at all.

use crate::{Result, Store, column, error::failed};
use model::{EnvironmentId, Generation, Timestamp};
use sqlx::{Sqlite, Transaction};

/// The tables with a row, or several, of an environment. Receipts outlive it. Generations go before what they refer to.
const OF_ENVIRONMENT: [&str; 8] = [
    "DELETE FROM job_run WHERE environment = ?",
    "DELETE FROM step WHERE environment = ?",
    "DELETE FROM attempt WHERE environment = ?",
    "DELETE FROM generation WHERE environment = ?",
    "DELETE FROM data_fact WHERE environment = ?",
    "DELETE FROM event WHERE environment = ?",
    "DELETE FROM ledger WHERE environment = ?",
    "DELETE FROM environment WHERE id = ? AND ended IS NOT NULL",
];

impl Store {
    async fn forget(&self, query: &'static str) -> Result<Transaction<'_, Sqlite>> {
        self.write.begin_with("BEGIN IMMEDIATE").await.map_err(failed(query))
    }

    /// Forgets generations with their tries and steps.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError); then nothing was forgotten.
    pub async fn generation_forget(&self, id: &EnvironmentId, generations: &[Generation]) -> Result<()> {
        const WHAT: &str = "generation_forget";
        let mut transaction = self.forget(WHAT).await?;
        for generation in generations {
            for statement in [
                "DELETE FROM step WHERE environment = ? AND generation = ?",
                "DELETE FROM attempt WHERE environment = ? AND generation = ?",
                "DELETE FROM generation WHERE environment = ? AND generation = ?",
            ] {
                sqlx::query(statement)
                    .bind(id.as_str())
                    .bind(column::generation(*generation))
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed(WHAT))?;
            }
        }
        transaction
            .commit()
            .await
            .inspect(|()| self.wrote())
            .map_err(failed(WHAT))
    }

    /// Forgets an environment that has ended, with everything but its receipt. One that has not ended is left alone.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError); then nothing was forgotten.
    pub async fn environment_forget(&self, id: &EnvironmentId) -> Result<()> {
        const WHAT: &str = "environment_forget";
        let mut transaction = self.forget(WHAT).await?;
        let ended: Option<bool> = sqlx::query_scalar("SELECT ended IS NOT NULL FROM environment WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed(WHAT))?;
        if ended == Some(true) {
            for statement in OF_ENVIRONMENT {
                sqlx::query(statement)
                    .bind(id.as_str())
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed(WHAT))?;
            }
        }
        transaction
            .commit()
            .await
            .inspect(|()| self.wrote())
            .map_err(failed(WHAT))
    }

    /// Forgets receipts that were completed before this time, and the oldest beyond `most`. Returns how many went.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn receipt_prune(&self, before: Timestamp, most: u32) -> Result<u64> {
        self.prune(
            "receipt_prune",
            "DELETE FROM receipt WHERE completed < ?1 OR environment IN (
                 SELECT environment FROM receipt ORDER BY completed DESC, environment LIMIT -1 OFFSET ?2)",
            before,
            most,
        )
        .await
    }

    /// Forgets deliveries that were accepted before this time, and the oldest beyond `most`. Returns how many went.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn delivery_prune(&self, before: Timestamp, most: u32) -> Result<u64> {
        self.prune(
            "delivery_prune",
            "DELETE FROM delivery WHERE at < ?1 OR at < (SELECT at FROM delivery ORDER BY at DESC LIMIT 1 OFFSET ?2)",
            before,
            most,
        )
        .await
    }

    /// Forgets events before this time of projects as a whole and of environments that the store does not have. Those of its
    /// environments go with them. Returns how many went.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn event_prune(&self, before: Timestamp) -> Result<u64> {
        self.prune(
            "event_prune",
            "DELETE FROM event WHERE at < ?1 AND ?2 = ?2
                 AND (environment IS NULL OR environment NOT IN (SELECT id FROM environment))",
            before,
            0,
        )
        .await
    }

    /// Forgets pull requests that are closed, were read last before this time and have no environment in the store, with what
    /// was told of them, and the oldest of these beyond `most`. Returns how many went.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn pull_request_prune(&self, before: Timestamp, most: u32) -> Result<u64> {
        let went = self
            .prune(
                "pull_request_prune",
                "DELETE FROM pull_request WHERE state <> 'open'
                     AND NOT EXISTS (SELECT 1 FROM environment WHERE environment.project = pull_request.project
                         AND json_extract(origin_json, '$.pull_request.number') = pull_request.number)
                     AND (observed < ?1 OR observed < (SELECT observed FROM pull_request WHERE state <> 'open'
                         ORDER BY observed DESC LIMIT 1 OFFSET ?2))",
                before,
                most,
            )
            .await?;
        if went > 0 {
            self.prune(
                "announcement_prune",
                "DELETE FROM announcement WHERE ?1 = ?1 AND ?2 = ?2 AND NOT EXISTS (SELECT 1 FROM pull_request p
                     WHERE p.project = announcement.project AND p.source = announcement.source AND p.number = announcement.number)",
                before,
                0,
            )
            .await?;
        }
        Ok(went)
    }

    /// Forgets links that have expired.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn link_prune(&self, at: Timestamp) -> Result<u64> {
        self.prune("link_prune", "DELETE FROM link WHERE expires < ?1 AND ?2 = ?2", at, 0)
            .await
    }

    async fn prune(&self, what: &'static str, statement: &'static str, before: Timestamp, most: u32) -> Result<u64> {
        let done = sqlx::query(statement)
            .bind(column::time(before))
            .bind(most)
            .execute(&self.write)
            .await
            .map_err(failed(what))?;
        if done.rows_affected() > 0 {
            self.wrote();
        }
        Ok(done.rows_affected())
    }
}
