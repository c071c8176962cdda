//! What each configured repository was found to be on its forge, so that a name that changes hands is noticed.

use crate::{
    Result, Store,
    column::{self, Columns},
    error::failed,
};
use model::{Digest, ProjectName, SourceName};

/// The repository of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingRow {
    /// The project.
    pub project: ProjectName,
    /// The source.
    pub source: SourceName,
    /// Where the configuration says that it is; another one is looked up anew.
    pub address: String,
    /// The forge's id of the repository.
    pub repository: String,
    /// The forge's id of our webhook.
    pub webhook: Option<u64>,
    /// The digest of the webhook's address and secret.
    pub webhook_digest: Option<Digest>,
}

impl Store {
    /// What is known of a source's repository.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn binding_get(&self, project: &ProjectName, source: &SourceName) -> Result<Option<BindingRow>> {
        let row = sqlx::query("SELECT * FROM binding WHERE project = ? AND source = ?")
            .bind(project.as_str())
            .bind(source.as_str())
            .fetch_optional(&self.read)
            .await
            .map_err(failed("binding_get"))?;
        let read = |row| {
            let row = Columns::new("binding", row);
            Ok(BindingRow {
                project: row.word("project")?,
                source: row.word("source")?,
                address: row.text("address")?,
                repository: row.text("repository")?,
                webhook: row.number_opt("webhook")?,
                webhook_digest: row.word_opt("webhook_digest")?,
            })
        };
        row.as_ref().map(read).transpose()
    }

    /// Writes it, over what was known.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn binding_put(&self, row: &BindingRow) -> Result<()> {
        sqlx::query(
            "INSERT OR REPLACE INTO binding (project, source, address, repository, webhook, webhook_digest) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(row.project.as_str())
        .bind(row.source.as_str())
        .bind(&row.address)
        .bind(&row.repository)
        .bind(row.webhook.map(column::number))
        .bind(row.webhook_digest.as_ref().map(Digest::as_str))
        .execute(&self.write)
        .await
        .inspect(|_| self.wrote())
        .map_err(failed("binding_put"))?;
        Ok(())
    }
}
