//! Goldens: data directories that were migrated and seeded once, of which environments get clones.

use crate::{
    Failure, Result, Store, StoreError,
    column::{self, Columns},
    error::failed,
};
use model::{Digest, EnvironmentId, ProjectName, SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

/// How far a golden is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoldenState {
    /// It is being made.
    Making,
    /// It can be cloned.
    Ready,
    /// It could not be made.
    Failed,
}

impl GoldenState {
    fn word(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// One golden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenRow {
    /// Its id, made from all that determines its content.
    pub id: SnapshotId,
    /// The project.
    pub project: ProjectName,
    /// Engine and full version.
    pub engine: String,
    /// Digests of the migrations that were applied, in order.
    pub migrations: Vec<Digest>,
    /// Whether the seed files were run.
    pub seeded: bool,
    /// What it was made from, step by step, for people.
    pub chain: Vec<String>,
    /// How far it is.
    pub state: GoldenState,
    /// Why it could not be made.
    pub failure: Option<Failure>,
    /// When it was begun.
    pub created: Timestamp,
    /// When it was cloned last.
    pub last_used: Timestamp,
    /// The environment whose own code made it; nobody else may clone it.
    pub private_to: Option<EnvironmentId>,
}

impl Store {
    /// Writes a golden, over what was known of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn golden_put(&self, row: &GoldenRow) -> Result<()> {
        sqlx::query(
            "INSERT OR REPLACE INTO golden (id, project, engine, migrations_json, seeded, chain_json, state, failure_json, created,
                 last_used, private_to)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(row.id.as_str())
        .bind(row.project.as_str())
        .bind(&row.engine)
        .bind(column::json("migrations", &row.migrations)?)
        .bind(row.seeded)
        .bind(column::json("chain", &row.chain)?)
        .bind(row.state.word())
        .bind(row.failure.as_ref().map(|failure| column::json("failure", failure)).transpose()?)
        .bind(column::time(row.created))
        .bind(column::time(row.last_used))
        .bind(row.private_to.as_ref().map(EnvironmentId::as_str))
        .execute(&self.write)
        .await
        .inspect(|_| self.wrote())
        .map_err(failed("golden_put"))?;
        Ok(())
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn golden_get(&self, id: &SnapshotId) -> Result<Option<GoldenRow>> {
        let row = sqlx::query("SELECT * FROM golden WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await
            .map_err(failed("golden_get"))?;
        row.as_ref().map(read).transpose()
    }

    /// All of a project, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn golden_list(&self, project: &ProjectName) -> Result<Vec<GoldenRow>> {
        let rows = sqlx::query("SELECT * FROM golden WHERE project = ? ORDER BY created, id")
            .bind(project.as_str())
            .fetch_all(&self.read)
            .await
            .map_err(failed("golden_list"))?;
        rows.iter().map(read).collect()
    }

    /// Those of all projects, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn golden_list_all(&self) -> Result<Vec<GoldenRow>> {
        let rows = sqlx::query("SELECT * FROM golden ORDER BY created, id")
            .fetch_all(&self.read)
            .await
            .map_err(failed("golden_list_all"))?;
        rows.iter().map(read).collect()
    }

    /// Notes that it was cloned.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such golden.
    pub async fn golden_used(&self, id: &SnapshotId, at: Timestamp) -> Result<()> {
        let done = sqlx::query("UPDATE golden SET last_used = ? WHERE id = ?")
            .bind(column::time(at))
            .bind(id.as_str())
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("golden_used"))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotFound {
                what: format!("golden {id}"),
            });
        }
        Ok(())
    }

    /// Forgets a golden; nothing happens if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn golden_remove(&self, id: &SnapshotId) -> Result<()> {
        sqlx::query("DELETE FROM golden WHERE id = ?")
            .bind(id.as_str())
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("golden_remove"))?;
        Ok(())
    }
}

fn read(row: &SqliteRow) -> Result<GoldenRow> {
    let row = Columns::new("golden", row);
    Ok(GoldenRow {
        id: row.word("id")?,
        project: row.word("project")?,
        engine: row.text("engine")?,
        migrations: row.json("migrations_json")?,
        seeded: row.flag("seeded")?,
        chain: row.json("chain_json")?,
        state: row.word("state")?,
        failure: row.json_opt("failure_json")?,
        created: row.time("created")?,
        last_used: row.time("last_used")?,
        private_to: row.word_opt("private_to")?,
    })
}
