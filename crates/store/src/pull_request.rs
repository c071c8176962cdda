//! Pull requests as a forge last told of them.

use crate::{
    Result, Store,
    column::{self, Columns},
    error::failed,
};
use model::{CommitId, ProjectName, SourceName, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

/// Whether a pull request is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullRequestState {
    /// Open.
    Open,
    /// Closed without a merge.
    Closed,
    /// Merged.
    Merged,
}

impl PullRequestState {
    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Merged => "merged",
        }
    }
}

/// A pull request as it was last observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequestRow {
    /// The project.
    pub project: ProjectName,
    /// The source that it belongs to.
    pub source: SourceName,
    /// Its number on the forge.
    pub number: u64,
    /// Its title, cleaned by the forge's adapter.
    pub title: String,
    /// Who opened it.
    pub author: String,
    /// The head branch, as text: it may not be a name that we accept.
    pub branch: String,
    /// The newest commit.
    pub head: CommitId,
    /// The branch that it is for.
    pub base: String,
    /// Whether it is open.
    pub state: PullRequestState,
    /// Whether its head lives in another repository.
    pub fork: bool,
    /// Whether its head is trusted.
    pub trusted: bool,
    /// Whether it is marked as not ready.
    pub draft: bool,
    /// Its labels.
    pub labels: Vec<String>,
    /// Its page for people.
    pub web_url: Option<String>,
    /// When it was read.
    pub observed: Timestamp,
    /// How often in a row it was read as closed.
    pub closed_reads: u32,
}

impl Store {
    /// Writes what was observed, over what was known.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn pull_request_put(&self, row: &PullRequestRow) -> Result<()> {
        sqlx::query(
            "INSERT OR REPLACE INTO pull_request (project, source, number, title, author, branch, head, base, state, fork, trusted,
                 draft, labels_json, web_url, observed, closed_reads)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(row.project.as_str())
        .bind(row.source.as_str())
        .bind(column::number(row.number))
        .bind(&row.title)
        .bind(&row.author)
        .bind(&row.branch)
        .bind(row.head.as_str())
        .bind(&row.base)
        .bind(row.state.word())
        .bind(row.fork)
        .bind(row.trusted)
        .bind(row.draft)
        .bind(column::json("labels", &row.labels)?)
        .bind(&row.web_url)
        .bind(column::time(row.observed))
        .bind(row.closed_reads)
        .execute(&self.write)
        .await
        .inspect(|_| self.wrote())
        .map_err(failed("pull_request_put"))?;
        Ok(())
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn pull_request_get(
        &self,
        project: &ProjectName,
        source: &SourceName,
        number: u64,
    ) -> Result<Option<PullRequestRow>> {
        let row = sqlx::query("SELECT * FROM pull_request WHERE project = ? AND source = ? AND number = ?")
            .bind(project.as_str())
            .bind(source.as_str())
            .bind(column::number(number))
            .fetch_optional(&self.read)
            .await
            .map_err(failed("pull_request_get"))?;
        row.as_ref().map(read).transpose()
    }

    /// All of a project, or those that are open, by source and number.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn pull_request_list(&self, project: &ProjectName, open_only: bool) -> Result<Vec<PullRequestRow>> {
        let rows = sqlx::query(
            "SELECT * FROM pull_request WHERE project = ?1 AND (NOT ?2 OR state = 'open') ORDER BY source, number",
        )
        .bind(project.as_str())
        .bind(open_only)
        .fetch_all(&self.read)
        .await
        .map_err(failed("pull_request_list"))?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<PullRequestRow> {
    let row = Columns::new("pull_request", row);
    Ok(PullRequestRow {
        project: row.word("project")?,
        source: row.word("source")?,
        number: row.number("number")?,
        title: row.text("title")?,
        author: row.text("author")?,
        branch: row.text("branch")?,
        head: row.word("head")?,
        base: row.text("base")?,
        state: row.word("state")?,
        fork: row.flag("fork")?,
        trusted: row.flag("trusted")?,
        draft: row.flag("draft")?,
        labels: row.json("labels_json")?,
        web_url: row.text_opt("web_url")?,
        observed: row.time("observed")?,
        closed_reads: row.count("closed_reads")?,
    })
}
