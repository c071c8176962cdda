//! Sources whose forge does not let us read them any more.

use crate::{
    Result, Store,
    column::{self, Columns},
    error::failed,
};
use model::{ProjectName, SourceName, Timestamp};
use std::time::Duration;

/// The longest reason that is kept, in bytes.
const REASON_MAX: usize = 1000;

/// A source that can not be read at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostAccessRow {
    /// The project.
    pub project: ProjectName,
    /// The source.
    pub source: SourceName,
    /// When it could not be read first.
    pub since: Timestamp,
    /// When that was seen last.
    pub last: Timestamp,
    /// For how long that was seen: times in which nobody looked do not count.
    pub seen: Duration,
    /// What the forge said last, in words.
    pub reason: String,
}

impl Store {
    /// Notes that a source can not be read. The time since it was noted last counts, at most `longest`.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn lost_access_note(
        &self,
        project: &ProjectName,
        source: &SourceName,
        reason: &str,
        at: Timestamp,
        longest: Duration,
    ) -> Result<LostAccessRow> {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let row = sqlx::query(
            "INSERT INTO lost_access (project, source, since, last, seen, reason) VALUES (?1, ?2, ?3, ?3, 0, ?4)
             ON CONFLICT DO UPDATE SET seen = seen + MIN(MAX(excluded.last - last, 0), ?5), last = excluded.last,
                 reason = excluded.reason
             RETURNING *",
        )
        .bind(project.as_str())
        .bind(source.as_str())
        .bind(column::time(at))
        .bind(column::bounded(reason, REASON_MAX))
        .bind(column::number(longest))
        .fetch_one(&self.write)
        .await
        .inspect(|_| self.wrote())
        .map_err(failed("lost_access_note"))?;
        read(&row)
    }

    /// The source can be read again. Returns what was noted of it.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn lost_access_clear(&self, project: &ProjectName, source: &SourceName) -> Result<Option<LostAccessRow>> {
        // Almost always there is nothing: that is found without writing.
        let known = self.lost_access_list().await?;
        if !known.iter().any(|row| row.project == *project && row.source == *source) {
            return Ok(None);
        }
        let row = sqlx::query("DELETE FROM lost_access WHERE project = ? AND source = ? RETURNING *")
            .bind(project.as_str())
            .bind(source.as_str())
            .fetch_optional(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("lost_access_clear"))?;
        row.as_ref().map(read).transpose()
    }

    /// All sources that can not be read at present.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn lost_access_list(&self) -> Result<Vec<LostAccessRow>> {
        let rows = sqlx::query("SELECT * FROM lost_access ORDER BY project, source")
            .fetch_all(&self.read)
            .await
            .map_err(failed("lost_access_list"))?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &sqlx::sqlite::SqliteRow) -> Result<LostAccessRow> {
    let row = Columns::new("lost_access", row);
    Ok(LostAccessRow {
        project: row.word("project")?,
        source: row.word("source")?,
        since: row.time("since")?,
        last: row.time("last")?,
        seen: Duration::from_millis(row.number("seen")?),
        reason: row.text("reason")?,
    })
}
