//! Which clusters are meant by the names that the configuration gives them.

use crate::{Result, Store, column::Columns, error::failed};
use model::ClusterName;

impl Store {
    /// Notes which cluster has a name, unless that is known otherwise. Returns the name that contradicts it, this one or another: a
    /// name stays with its cluster, and a cluster with its name, as long as there are environments of that name.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn cluster_meet(&self, name: &ClusterName, identity: &str) -> Result<Option<ClusterName>> {
        let failed = |error| failed("cluster_meet")(error);
        let statements = [
            "DELETE FROM cluster WHERE (name = ?1) <> (identity = ?2)
                 AND NOT EXISTS (SELECT 1 FROM environment WHERE environment.cluster = cluster.name AND ended IS NULL)",
            "INSERT OR IGNORE INTO cluster (name, identity) VALUES (?1, ?2)",
        ];
        let mut writing = self.write.begin().await.map_err(failed)?;
        for statement in statements {
            let statement = sqlx::query(statement).bind(name.as_str()).bind(identity);
            statement.execute(&mut *writing).await.map_err(failed)?;
        }
        let row = sqlx::query("SELECT name FROM cluster WHERE (name = ?1) <> (identity = ?2) ORDER BY name LIMIT 1")
            .bind(name.as_str())
            .bind(identity)
            .fetch_optional(&mut *writing)
            .await
            .map_err(failed)?;
        writing.commit().await.map_err(failed)?;
        row.map(|row| Columns::new("cluster", &row).word("name")).transpose()
    }
}
