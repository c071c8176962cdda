//! What happened, for people: a bounded history of every environment and project.

use crate::{
    Result, Store,
    column::{self, Columns},
    error::failed,
};
use model::{EnvironmentId, ProjectName, Timestamp};
use sqlx::sqlite::SqliteRow;

/// How many events are kept of each environment, and of each project beside its environments.
pub const EVENTS_KEPT: u32 = 500;
/// The longest text, in bytes.
const TEXT_MAX: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// The environment, unless it happened to the project as a whole.
    pub environment: Option<EnvironmentId>,
    /// The project.
    pub project: ProjectName,
    /// When.
    pub at: Timestamp,
    /// A word for programs.
    pub kind: String,
    /// A sentence for people.
    pub text: String,
}

impl Store {
    /// Adds an event and forgets the oldest beyond [`EVENTS_KEPT`]. Long text is cut.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn event_add(
        &self,
        environment: Option<&EnvironmentId>,
        project: &ProjectName,
        at: Timestamp,
        kind: &str,
        text: &str,
    ) -> Result<()> {
        let environment = environment.map(EnvironmentId::as_str);
        let mut transaction = self
            .write
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed("event_add"))?;
        sqlx::query("INSERT INTO event (environment, project, at, kind, text) VALUES (?, ?, ?, ?, ?)")
            .bind(environment)
            .bind(project.as_str())
            .bind(column::time(at))
            .bind(column::bounded(kind, 64))
            .bind(column::bounded(text, TEXT_MAX))
            .execute(&mut *transaction)
            .await
            .map_err(failed("event_add"))?;
        sqlx::query(
            "DELETE FROM event WHERE environment IS ?1 AND (?1 IS NOT NULL OR project = ?2) AND id <= (
                 SELECT id FROM event WHERE environment IS ?1 AND (?1 IS NOT NULL OR project = ?2)
                 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
        )
        .bind(environment)
        .bind(project.as_str())
        .bind(EVENTS_KEPT)
        .execute(&mut *transaction)
        .await
        .map_err(failed("event_add"))?;
        transaction
            .commit()
            .await
            .inspect(|()| self.noted())
            .map_err(failed("event_add"))
    }

    /// The newest events of an environment, the newest first.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn event_list(&self, environment: &EnvironmentId, limit: u32) -> Result<Vec<EventRow>> {
        let rows = sqlx::query("SELECT * FROM event WHERE environment = ? ORDER BY id DESC LIMIT ?")
            .bind(environment.as_str())
            .bind(limit)
            .fetch_all(&self.read)
            .await
            .map_err(failed("event_list"))?;
        rows.iter().map(read).collect()
    }

    /// The newest events of a project and all its environments, the newest first.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn event_list_project(&self, project: &ProjectName, limit: u32) -> Result<Vec<EventRow>> {
        let rows = sqlx::query("SELECT * FROM event WHERE project = ? ORDER BY id DESC LIMIT ?")
            .bind(project.as_str())
            .bind(limit)
            .fetch_all(&self.read)
            .await
            .map_err(failed("event_list_project"))?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<EventRow> {
    let row = Columns::new("event", row);
    Ok(EventRow {
        environment: row.word_opt("environment")?,
        project: row.word("project")?,
        at: row.time("at")?,
        kind: row.text("kind")?,
        text: row.text("text")?,
    })
}
