//! Generations of environments and what came of them.

use crate::{
    Result, Store, StoreError,
    column::{self, Columns},
    error::failed,
};
use model::{CommitId, Digest, EnvironmentId, EnvironmentSpec, Generation, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::{SqliteExecutor, sqlite::SqliteRow};

/// What came of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was verified to be live.
    Live,
    /// It failed for good.
    Failed,
    /// A newer one took its place before it was live.
    Superseded,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }
}

/// Why a step failed, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step.
    pub step: String,
    /// What went wrong.
    pub message: String,
    /// What would help.
    pub hint: Option<String>,
    /// The lines of log that matter.
    pub log: Vec<String>,
}

/// One generation of one environment.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationRow {
    /// The environment.
    pub environment: EnvironmentId,
    /// Which generation.
    pub generation: Generation,
    /// The digest of all that it was made from: equal inputs make no new generation.
    pub inputs: Digest,
    /// What it should be.
    pub spec: EnvironmentSpec,
    /// The commit that its policy was read from; `None` is the strict default.
    pub policy_commit: Option<CommitId>,
    /// The older generation that it brings back.
    pub restores: Option<Generation>,
    /// When it was made.
    pub created: Timestamp,
    /// What came of it.
    pub outcome: Option<Outcome>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What people should know about it, for example that data was cloned anew.
    pub notes: Vec<String>,
}

impl Store {
    /// Replaces what a generation describes by the same with what has been built for it.
    ///
    /// # Errors
    /// When the database can not be written.
    pub async fn generation_complete(&self, spec: &model::EnvironmentSpec) -> Result<()> {
        sqlx::query("UPDATE generation SET spec_json = ? WHERE environment = ? AND generation = ?")
            .bind(column::json("spec", spec)?)
            .bind(spec.environment.as_str())
            .bind(column::generation(spec.generation))
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("generation_complete"))?;
        Ok(())
    }

    /// Adds a generation. Adding the same again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is one with this number that was made from other inputs.
    pub async fn generation_put(&self, row: &GenerationRow) -> Result<()> {
        let added = insert(row, &self.write).await.inspect(|_| self.wrote())?;
        if !added {
            let what = format!("generation {} of {} with other inputs", row.generation, row.environment);
            return Err(StoreError::Conflict { what });
        }
        self.to_disk("generation_put").await
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn generation_get(&self, id: &EnvironmentId, n: Generation) -> Result<Option<GenerationRow>> {
        let row = sqlx::query("SELECT * FROM generation WHERE environment = ? AND generation = ?")
            .bind(id.as_str())
            .bind(column::generation(n))
            .fetch_optional(&self.read)
            .await
            .map_err(failed("generation_get"))?;
        row.as_ref().map(read).transpose()
    }

    /// The newest one. Specs are large: whoever needs one does not read all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn generation_newest(&self, id: &EnvironmentId) -> Result<Option<GenerationRow>> {
        let row = sqlx::query("SELECT * FROM generation WHERE environment = ? ORDER BY generation DESC LIMIT 1")
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await
            .map_err(failed("generation_newest"))?;
        row.as_ref().map(read).transpose()
    }

    /// All of an environment, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn generation_list(&self, id: &EnvironmentId) -> Result<Vec<GenerationRow>> {
        let rows = sqlx::query("SELECT * FROM generation WHERE environment = ? ORDER BY generation")
            .bind(id.as_str())
            .fetch_all(&self.read)
            .await
            .map_err(failed("generation_list"))?;
        rows.iter().map(read).collect()
    }

    /// Writes what came of a generation.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such generation.
    pub async fn generation_outcome(
        &self,
        id: &EnvironmentId,
        n: Generation,
        outcome: Outcome,
        failure: Option<&Failure>,
    ) -> Result<()> {
        let done =
            sqlx::query("UPDATE generation SET outcome = ?, failure_json = ? WHERE environment = ? AND generation = ?")
                .bind(outcome.word())
                .bind(failure.map(|failure| column::json("failure", failure)).transpose()?)
                .bind(id.as_str())
                .bind(column::generation(n))
                .execute(&self.write)
                .await
                .inspect(|_| self.wrote())
                .map_err(failed("generation_outcome"))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotFound {
                what: format!("generation {n} of {id}"),
            });
        }
        Ok(())
    }
}

/// Returns whether it, or the same before, was added.
pub(crate) async fn insert<'c>(row: &GenerationRow, into: impl SqliteExecutor<'c>) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO generation (environment, generation, inputs, spec_json, policy_commit, restores, created, outcome,
             failure_json, notes_json)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (environment, generation) DO UPDATE SET notes_json = excluded.notes_json WHERE inputs = excluded.inputs",
    )
    .bind(row.environment.as_str())
    .bind(column::generation(row.generation))
    .bind(row.inputs.as_str())
    .bind(column::json("spec", &row.spec)?)
    .bind(row.policy_commit.as_ref().map(CommitId::as_str))
    .bind(row.restores.map(column::generation))
    .bind(column::time(row.created))
    .bind(row.outcome.map(Outcome::word))
    .bind(row.failure.as_ref().map(|failure| column::json("failure", failure)).transpose()?)
    .bind(column::json("notes", &row.notes)?)
    .execute(into)
    .await
    .map_err(failed("generation_put"))?;
    Ok(done.rows_affected() > 0)
}

fn read(row: &SqliteRow) -> Result<GenerationRow> {
    let row = Columns::new("generation", row);
    Ok(GenerationRow {
        environment: row.word("environment")?,
        generation: Generation(row.number("generation")?),
        inputs: row.word("inputs")?,
        spec: row.json("spec_json")?,
        policy_commit: row.word_opt("policy_commit")?,
        restores: row.generation_opt("restores")?,
        created: row.time("created")?,
        outcome: row.word_opt("outcome")?,
        failure: row.json_opt("failure_json")?,
        notes: row.json("notes_json")?,
    })
}
