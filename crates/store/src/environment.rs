//! Environments: what is wanted of them, and how far they came.

use crate::{
    GenerationRow, Result, Store, StoreError,
    column::{self, Columns},
    error::{conflict, failed},
    generation,
};
use model::{
    ClusterName, CommitId, EnvironmentId, Generation, HostLabel, Origin, Power, ProjectName, SourceName, Timestamp,
};
use serde::{Deserialize, Serialize};
use sqlx::{SqliteExecutor, sqlite::SqliteRow};
use std::collections::BTreeMap;

/// A time in which an environment does not run although somebody wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Since when.
    pub since: Timestamp,
    /// Why, in words.
    pub reason: String,
    /// When it was over; `None` while it lasts.
    pub until: Option<Timestamp>,
}

/// One environment, also after its end.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentRow {
    /// Its id.
    pub id: EnvironmentId,
    /// The project.
    pub project: ProjectName,
    /// Why it exists.
    pub origin: Origin,
    /// Its label under the base.
    pub label: HostLabel,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it should exist.
    pub wanted: bool,
    /// Why it exists or ends, in words.
    pub reason: String,
    /// The commit that somebody approved, where an approval is needed.
    pub approved_commit: Option<CommitId>,
    /// The commits that are wanted now.
    pub head: BTreeMap<SourceName, CommitId>,
    /// The newest generation.
    pub newest: Option<Generation>,
    /// The generation that was verified to be live and still is.
    pub live: Option<Generation>,
    /// The newest generation that failed for good.
    pub failed: Option<Generation>,
    /// Whether it should run.
    pub power: Power,
    /// The last time in which it did not run although somebody wanted it.
    pub suspended: Option<Suspension>,
    /// When it ended; its label and origin are free from then on.
    pub ended: Option<Timestamp>,
    /// When a generation of it became live last.
    pub live_at: Option<Timestamp>,
    /// When it was nudged last.
    pub nudged: Option<Timestamp>,
    /// What somebody asked for beyond the blueprint, as the reconciler writes it.
    pub overrides: serde_json::Value,
    /// The cluster on which it is, for as long as it is; `None` is a cell of this machine.
    pub cluster: Option<ClusterName>,
}

/// Changes to an environment. `None` leaves a field alone; in fields that may be empty `Some(None)` empties it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnvironmentPatch {
    /// See [`EnvironmentRow::wanted`].
    pub wanted: Option<bool>,
    /// See [`EnvironmentRow::reason`].
    pub reason: Option<String>,
    /// See [`EnvironmentRow::approved_commit`].
    pub approved_commit: Option<Option<CommitId>>,
    /// See [`EnvironmentRow::head`].
    pub head: Option<BTreeMap<SourceName, CommitId>>,
    /// See [`EnvironmentRow::newest`].
    pub newest: Option<Option<Generation>>,
    /// See [`EnvironmentRow::live`].
    pub live: Option<Option<Generation>>,
    /// See [`EnvironmentRow::failed`].
    pub failed: Option<Option<Generation>>,
    /// See [`EnvironmentRow::power`].
    pub power: Option<Power>,
    /// See [`EnvironmentRow::suspended`].
    pub suspended: Option<Option<Suspension>>,
    /// See [`EnvironmentRow::ended`].
    pub ended: Option<Option<Timestamp>>,
    /// See [`EnvironmentRow::live_at`].
    pub live_at: Option<Option<Timestamp>>,
    /// See [`EnvironmentRow::nudged`].
    pub nudged: Option<Option<Timestamp>>,
    /// See [`EnvironmentRow::overrides`].
    pub overrides: Option<serde_json::Value>,
}

impl EnvironmentRow {
    /// Why and since when it is kept from running at present.
    #[must_use]
    pub fn suspension(&self) -> Option<&Suspension> {
        self.suspended.as_ref().filter(|suspension| suspension.until.is_none())
    }

    /// How it should run now.
    #[must_use]
    pub fn power_now(&self) -> Power {
        match self.suspension() {
            Some(_) => Power::Stopped,
            None => self.power,
        }
    }
}

fn power_word(power: Power) -> &'static str {
    match power {
        Power::Running => "running",
        Power::Frozen => "frozen",
        Power::Stopped => "stopped",
    }
}

impl Store {
    /// Adds an environment.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if one that has not ended has the same label, or the same project and origin (which clones and
    /// builders of goldens may share).
    pub async fn environment_create(&self, row: &EnvironmentRow) -> Result<()> {
        insert(row, &self.write).await.inspect(|()| self.wrote())
    }

    /// Adds one that was found with what it was meant to be, both or neither.
    ///
    /// # Errors
    /// As [`Self::environment_create`].
    pub async fn environment_take_up(&self, row: &EnvironmentRow, generation: &GenerationRow) -> Result<()> {
        const WHAT: &str = "environment_take_up";
        let mut transaction = self.write.begin_with("BEGIN IMMEDIATE").await.map_err(failed(WHAT))?;
        insert(row, &mut *transaction).await?;
        generation::insert(generation, &mut *transaction).await?;
        transaction
            .commit()
            .await
            .inspect(|()| self.wrote())
            .map_err(failed(WHAT))?;
        self.to_disk(WHAT).await
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn environment_get(&self, id: &EnvironmentId) -> Result<Option<EnvironmentRow>> {
        let row = sqlx::query("SELECT * FROM environment WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await
            .map_err(failed("environment_get"))?;
        row.as_ref().map(read).transpose()
    }

    /// The environment of this origin that has not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn environment_find(&self, project: &ProjectName, origin: &Origin) -> Result<Option<EnvironmentRow>> {
        let row = sqlx::query(
            "SELECT * FROM environment WHERE project = ? AND origin_json = ? AND ended IS NULL ORDER BY created LIMIT 1",
        )
        .bind(project.as_str())
        .bind(column::json("origin", origin)?)
        .fetch_optional(&self.read)
        .await
        .map_err(failed("environment_find"))?;
        row.as_ref().map(read).transpose()
    }

    /// The environment with this label that has not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn environment_find_label(&self, label: &HostLabel) -> Result<Option<EnvironmentRow>> {
        let row = sqlx::query("SELECT * FROM environment WHERE label = ? AND ended IS NULL ORDER BY created LIMIT 1")
            .bind(label.as_str())
            .fetch_optional(&self.read)
            .await
            .map_err(failed("environment_find_label"))?;
        row.as_ref().map(read).transpose()
    }

    /// All environments, or those of a project, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn environment_list(
        &self,
        project: Option<&ProjectName>,
        include_ended: bool,
    ) -> Result<Vec<EnvironmentRow>> {
        let rows = sqlx::query(
            "SELECT * FROM environment WHERE (?1 IS NULL OR project = ?1) AND (?2 OR ended IS NULL) ORDER BY created, id",
        )
        .bind(project.map(ProjectName::as_str))
        .bind(include_ended)
        .fetch_all(&self.read)
        .await
        .map_err(failed("environment_list"))?;
        rows.iter().map(read).collect()
    }

    /// Changes the given fields and leaves the others alone, in one statement: writers of different fields do not undo each other.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such environment.
    pub async fn environment_update(&self, id: &EnvironmentId, patch: &EnvironmentPatch) -> Result<()> {
        let head = patch.head.as_ref().map(|head| column::json("head", head)).transpose()?;
        let overrides = patch
            .overrides
            .as_ref()
            .map(|value| column::json("overrides", value))
            .transpose()?;
        let suspended = patch.suspended.as_ref().and_then(Option::as_ref);
        let suspended = suspended.map(|value| column::json("suspended", value)).transpose()?;
        let approved = patch
            .approved_commit
            .as_ref()
            .and_then(Option::as_ref)
            .map(CommitId::as_str);
        let done = sqlx::query(
            "UPDATE environment SET
                 wanted = COALESCE(?2, wanted), reason = COALESCE(?3, reason), head_json = COALESCE(?4, head_json),
                 power = COALESCE(?5, power), overrides_json = COALESCE(?6, overrides_json),
                 approved_commit = CASE WHEN ?7 THEN ?8 ELSE approved_commit END,
                 newest = CASE WHEN ?9 THEN ?10 ELSE newest END,
                 live = CASE WHEN ?11 THEN ?12 ELSE live END,
                 failed = CASE WHEN ?13 THEN ?14 ELSE failed END,
                 ended = CASE WHEN ?15 THEN ?16 ELSE ended END,
                 live_at = CASE WHEN ?17 THEN ?18 ELSE live_at END,
                 nudged = CASE WHEN ?19 THEN ?20 ELSE nudged END,
                 suspended_json = CASE WHEN ?21 THEN ?22 ELSE suspended_json END
             WHERE id = ?1",
        )
        .bind(id.as_str())
        .bind(patch.wanted)
        .bind(patch.reason.as_deref())
        .bind(head)
        .bind(patch.power.map(power_word))
        .bind(overrides)
        .bind(patch.approved_commit.is_some())
        .bind(approved)
        .bind(patch.newest.is_some())
        .bind(patch.newest.flatten().map(column::generation))
        .bind(patch.live.is_some())
        .bind(patch.live.flatten().map(column::generation))
        .bind(patch.failed.is_some())
        .bind(patch.failed.flatten().map(column::generation))
        .bind(patch.ended.is_some())
        .bind(patch.ended.flatten().map(column::time))
        .bind(patch.live_at.is_some())
        .bind(patch.live_at.flatten().map(column::time))
        .bind(patch.nudged.is_some())
        .bind(patch.nudged.flatten().map(column::time))
        .bind(patch.suspended.is_some())
        .bind(suspended)
        .execute(&self.write)
        .await
        .inspect(|_| self.wrote())
        .map_err(conflict("environment_update", || format!("an environment beside {id}")))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotFound {
                what: format!("environment {id}"),
            });
        }
        match patch.wanted {
            Some(_) => self.to_disk("environment_update").await,
            None => Ok(()),
        }
    }
}

async fn insert<'c>(row: &EnvironmentRow, into: impl SqliteExecutor<'c>) -> Result<()> {
    sqlx::query(
        "INSERT INTO environment (id, project, origin_json, label, created, wanted, reason, approved_commit, head_json, newest,
             live, failed, power, ended, live_at, nudged, overrides_json, suspended_json, cluster)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(row.id.as_str())
    .bind(row.project.as_str())
    .bind(column::json("origin", &row.origin)?)
    .bind(row.label.as_str())
    .bind(column::time(row.created))
    .bind(row.wanted)
    .bind(&row.reason)
    .bind(row.approved_commit.as_ref().map(CommitId::as_str))
    .bind(column::json("head", &row.head)?)
    .bind(row.newest.map(column::generation))
    .bind(row.live.map(column::generation))
    .bind(row.failed.map(column::generation))
    .bind(power_word(row.power))
    .bind(row.ended.map(column::time))
    .bind(row.live_at.map(column::time))
    .bind(row.nudged.map(column::time))
    .bind(column::json("overrides", &row.overrides)?)
    .bind(
        row.suspended
            .as_ref()
            .map(|suspended| column::json("suspended", suspended))
            .transpose()?,
    )
    .bind(row.cluster.as_ref().map(ClusterName::as_str))
    .execute(into)
    .await
    .map_err(conflict("environment_create", || {
        format!("an environment of {} as {}", row.project, row.label)
    }))?;
    Ok(())
}

fn read(row: &SqliteRow) -> Result<EnvironmentRow> {
    let row = Columns::new("environment", row);
    Ok(EnvironmentRow {
        id: row.word("id")?,
        project: row.word("project")?,
        origin: row.json("origin_json")?,
        label: row.word("label")?,
        created: row.time("created")?,
        wanted: row.flag("wanted")?,
        reason: row.text("reason")?,
        approved_commit: row.word_opt("approved_commit")?,
        head: row.json("head_json")?,
        newest: row.generation_opt("newest")?,
        live: row.generation_opt("live")?,
        failed: row.generation_opt("failed")?,
        power: row.word("power")?,
        suspended: row.json_opt("suspended_json")?,
        ended: row.time_opt("ended")?,
        live_at: row.time_opt("live_at")?,
        nudged: row.time_opt("nudged")?,
        overrides: row.json("overrides_json")?,
        cluster: row.word_opt("cluster")?,
    })
}
