//! The ledger of what was made outside the store, and the receipts that nothing of it is left.
//!
//! Neither knows the `environment` table: both must be writable for what was found by listing after the store was lost.

use crate::{
    Result, Store,
    column::{self, Columns},
    error::failed,
};
use model::{EnvironmentId, LedgerEntry, Receipt, Resource, Timestamp};

impl Store {
    /// Writes down what is about to be made. What is written already stays as it is; what was seen gone is opened anew.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError); then nothing was written.
    pub async fn ledger_intend(&self, resources: &[Resource], at: Timestamp) -> Result<()> {
        let mut transaction = self
            .write
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed("ledger_intend"))?;
        for resource in resources {
            sqlx::query(
                "INSERT INTO ledger (environment, kind, name, intended) VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET intended = excluded.intended, gone = NULL WHERE gone IS NOT NULL",
            )
            .bind(resource.environment.as_str())
            .bind(&resource.kind)
            .bind(&resource.name)
            .bind(column::time(at))
            .execute(&mut *transaction)
            .await
            .map_err(failed("ledger_intend"))?;
        }
        transaction
            .commit()
            .await
            .inspect(|()| self.noted())
            .map_err(failed("ledger_intend"))
    }

    /// Notes that these were seen to be gone. What was noted before keeps its time.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError); then nothing was written.
    pub async fn ledger_gone(&self, resources: &[Resource], at: Timestamp) -> Result<()> {
        let mut transaction = self
            .write
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed("ledger_gone"))?;
        for resource in resources {
            sqlx::query("UPDATE ledger SET gone = ? WHERE environment = ? AND kind = ? AND name = ? AND gone IS NULL")
                .bind(column::time(at))
                .bind(resource.environment.as_str())
                .bind(&resource.kind)
                .bind(&resource.name)
                .execute(&mut *transaction)
                .await
                .map_err(failed("ledger_gone"))?;
        }
        transaction
            .commit()
            .await
            .inspect(|()| self.noted())
            .map_err(failed("ledger_gone"))
    }

    /// The whole ledger of an environment, by kind and name.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn ledger_list(&self, id: &EnvironmentId) -> Result<Vec<LedgerEntry>> {
        let rows = sqlx::query("SELECT * FROM ledger WHERE environment = ? ORDER BY kind, name")
            .bind(id.as_str())
            .fetch_all(&self.read)
            .await
            .map_err(failed("ledger_list"))?;
        let read = |row| {
            let row = Columns::new("ledger", row);
            let resource = Resource {
                environment: row.word("environment")?,
                kind: row.text("kind")?,
                name: row.text("name")?,
            };
            Ok(LedgerEntry {
                resource,
                intended: row.time("intended")?,
                gone: row.time_opt("gone")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Keeps a receipt, over one of the same environment.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn receipt_put(&self, receipt: &Receipt) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO receipt (environment, completed, receipt_json) VALUES (?, ?, ?)")
            .bind(receipt.environment.as_str())
            .bind(column::time(receipt.completed))
            .bind(column::json("receipt", receipt)?)
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("receipt_put"))?;
        Ok(())
    }

    /// The receipt of an environment.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn receipt_get(&self, id: &EnvironmentId) -> Result<Option<Receipt>> {
        let row = sqlx::query("SELECT receipt_json FROM receipt WHERE environment = ?")
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await
            .map_err(failed("receipt_get"))?;
        row.as_ref()
            .map(|row| Columns::new("receipt", row).json("receipt_json"))
            .transpose()
    }
}
