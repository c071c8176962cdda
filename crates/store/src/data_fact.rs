//! What is known to be in the databases of an environment.

use crate::{
    Result, Store,
    column::{self, Columns},
    error::failed,
};
use model::{DataFact, EnvironmentId, ServiceName};
use std::collections::BTreeMap;

impl Store {
    /// Writes what is known about the database of one service.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn data_fact_put(&self, id: &EnvironmentId, service: &ServiceName, fact: &DataFact) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO data_fact (environment, service, fact_json) VALUES (?, ?, ?)")
            .bind(id.as_str())
            .bind(service.as_str())
            .bind(column::json("fact", fact)?)
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("data_fact_put"))?;
        Ok(())
    }

    /// All that is known about an environment's databases.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn data_fact_list(&self, id: &EnvironmentId) -> Result<BTreeMap<ServiceName, DataFact>> {
        let rows = sqlx::query("SELECT service, fact_json FROM data_fact WHERE environment = ?")
            .bind(id.as_str())
            .fetch_all(&self.read)
            .await
            .map_err(failed("data_fact_list"))?;
        rows.iter()
            .map(|row| {
                let row = Columns::new("data_fact", row);
                Ok((row.word("service")?, row.json("fact_json")?))
            })
            .collect()
    }

    /// Forgets what is known about one database; nothing happens if nothing is.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn data_fact_remove(&self, id: &EnvironmentId, service: &ServiceName) -> Result<()> {
        sqlx::query("DELETE FROM data_fact WHERE environment = ? AND service = ?")
            .bind(id.as_str())
            .bind(service.as_str())
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("data_fact_remove"))?;
        Ok(())
    }
}
