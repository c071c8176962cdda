//! What was last written on a pull request: so that the same is not written twice.

use crate::{
    Result, Store,
    column::{self, Columns},
    error::failed,
};
use model::{CommitId, Digest, ProjectName, SourceName};

/// Our comment and our commit status on one pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncementRow {
    /// The project.
    pub project: ProjectName,
    /// The source.
    pub source: SourceName,
    /// The number of the pull request.
    pub number: u64,
    /// The forge's id of our comment.
    pub comment_id: Option<String>,
    /// The digest of its text.
    pub comment_digest: Option<Digest>,
    /// The commit that our status was set on.
    pub status_commit: Option<CommitId>,
    /// The digest of that status.
    pub status_digest: Option<Digest>,
}

impl Store {
    /// What was last written.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn announcement_get(
        &self,
        project: &ProjectName,
        source: &SourceName,
        number: u64,
    ) -> Result<Option<AnnouncementRow>> {
        let row = sqlx::query("SELECT * FROM announcement WHERE project = ? AND source = ? AND number = ?")
            .bind(project.as_str())
            .bind(source.as_str())
            .bind(column::number(number))
            .fetch_optional(&self.read)
            .await
            .map_err(failed("announcement_get"))?;
        let read = |row| {
            let row = Columns::new("announcement", row);
            Ok(AnnouncementRow {
                project: row.word("project")?,
                source: row.word("source")?,
                number: row.number("number")?,
                comment_id: row.text_opt("comment_id")?,
                comment_digest: row.word_opt("comment_digest")?,
                status_commit: row.word_opt("status_commit")?,
                status_digest: row.word_opt("status_digest")?,
            })
        };
        row.as_ref().map(read).transpose()
    }

    /// Notes what was written.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn announcement_put(&self, row: &AnnouncementRow) -> Result<()> {
        sqlx::query(
            "INSERT OR REPLACE INTO announcement (project, source, number, comment_id, comment_digest, status_commit, status_digest)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(row.project.as_str())
        .bind(row.source.as_str())
        .bind(column::number(row.number))
        .bind(&row.comment_id)
        .bind(row.comment_digest.as_ref().map(Digest::as_str))
        .bind(row.status_commit.as_ref().map(CommitId::as_str))
        .bind(row.status_digest.as_ref().map(Digest::as_str))
        .execute(&self.write)
        .await
        .inspect(|_| self.noted())
        .map_err(failed("announcement_put"))?;
        Ok(())
    }
}
