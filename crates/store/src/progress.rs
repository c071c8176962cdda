//! Tries at steps, and the times that steps took.

use crate::{
    Failure, Result, Store,
    column::{self, Columns},
    error::failed,
};
use model::{EnvironmentId, Generation, Timestamp};
use std::collections::BTreeMap;

/// The tries at one step of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// How often it was tried.
    pub count: u32,
    /// When it was tried last.
    pub last: Timestamp,
    /// When it is tried again.
    pub next: Option<Timestamp>,
    /// How the last try failed.
    pub failure: Option<Failure>,
    /// Whether the last try succeeded.
    pub succeeded: bool,
    /// Whether it waits for room: it is tried again however often it failed.
    pub waits: bool,
}

/// When a step of a generation was carried out last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRow {
    /// The step.
    pub step: String,
    /// When it began.
    pub began: Timestamp,
    /// When it ended; `None` while it runs, or if its end was not seen.
    pub ended: Option<Timestamp>,
    /// Whether it succeeded.
    pub ok: Option<bool>,
}

impl Store {
    /// Counts a try at a step.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn attempt_record(
        &self,
        id: &EnvironmentId,
        n: Generation,
        step: &str,
        result: Result<(), &Failure>,
        at: Timestamp,
        next: Option<Timestamp>,
    ) -> Result<()> {
        let failure = result
            .err()
            .map(|failure| column::json("failure", failure))
            .transpose()?;
        sqlx::query(
            "INSERT INTO attempt (environment, generation, step, count, last, next, failure_json, succeeded)
             VALUES (?, ?, ?, 1, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET count = CASE WHEN succeeded THEN 1 ELSE count + 1 END,
                 last = excluded.last, next = excluded.next, failure_json = excluded.failure_json, succeeded = excluded.succeeded, waits = 0",
        )
        .bind(id.as_str())
        .bind(column::generation(n))
        .bind(step)
        .bind(column::time(at))
        .bind(next.map(column::time))
        .bind(failure)
        .bind(result.is_ok())
        .execute(&self.write)
        .await
        .inspect(|_| self.noted())
        .map_err(failed("attempt_record"))?;
        Ok(())
    }

    /// Notes that a step found no room and waits for some. That does not count as a try.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn attempt_wait(
        &self,
        id: &EnvironmentId,
        n: Generation,
        step: &str,
        failure: &Failure,
        at: Timestamp,
        next: Timestamp,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO attempt (environment, generation, step, count, last, next, failure_json, succeeded, waits)
             VALUES (?, ?, ?, 0, ?, ?, ?, 0, 1)
             ON CONFLICT DO UPDATE SET last = excluded.last, next = excluded.next, failure_json = excluded.failure_json,
                 succeeded = 0, waits = 1",
        )
        .bind(id.as_str())
        .bind(column::generation(n))
        .bind(step)
        .bind(column::time(at))
        .bind(column::time(next))
        .bind(column::json("failure", failure)?)
        .execute(&self.write)
        .await
        .inspect(|_| self.noted())
        .map_err(failed("attempt_wait"))?;
        Ok(())
    }

    /// The tries at every step of a generation, by step.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn attempt_list(&self, id: &EnvironmentId, n: Generation) -> Result<BTreeMap<String, AttemptRow>> {
        let rows = sqlx::query("SELECT * FROM attempt WHERE environment = ? AND generation = ?")
            .bind(id.as_str())
            .bind(column::generation(n))
            .fetch_all(&self.read)
            .await
            .map_err(failed("attempt_list"))?;
        let read = |row| {
            let row = Columns::new("attempt", row);
            let attempt = AttemptRow {
                count: row.count("count")?,
                last: row.time("last")?,
                next: row.time_opt("next")?,
                failure: row.json_opt("failure_json")?,
                succeeded: row.flag("succeeded")?,
                waits: row.flag("waits")?,
            };
            Ok((row.text("step")?, attempt))
        };
        rows.iter().map(read).collect()
    }

    /// Notes that a step begins. A step that begins again is timed anew.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn step_began(&self, id: &EnvironmentId, n: Generation, step: &str, at: Timestamp) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO step (environment, generation, step, began) VALUES (?, ?, ?, ?)")
            .bind(id.as_str())
            .bind(column::generation(n))
            .bind(step)
            .bind(column::time(at))
            .execute(&self.write)
            .await
            .inspect(|_| self.noted())
            .map_err(failed("step_began"))?;
        Ok(())
    }

    /// Notes that a step has ended. One whose beginning was not noted began and ended at once.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn step_ended(
        &self,
        id: &EnvironmentId,
        n: Generation,
        step: &str,
        at: Timestamp,
        ok: bool,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO step (environment, generation, step, began, ended, ok) VALUES (?1, ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT DO UPDATE SET ended = excluded.ended, ok = excluded.ok",
        )
        .bind(id.as_str())
        .bind(column::generation(n))
        .bind(step)
        .bind(column::time(at))
        .bind(ok)
        .execute(&self.write)
        .await
        .inspect(|_| self.noted())
        .map_err(failed("step_ended"))?;
        Ok(())
    }

    /// The steps of a generation in the order in which they began.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn step_list(&self, id: &EnvironmentId, n: Generation) -> Result<Vec<StepRow>> {
        let rows = sqlx::query("SELECT * FROM step WHERE environment = ? AND generation = ? ORDER BY began, step")
            .bind(id.as_str())
            .bind(column::generation(n))
            .fetch_all(&self.read)
            .await
            .map_err(failed("step_list"))?;
        let read = |row| {
            let row = Columns::new("step", row);
            Ok(StepRow {
                step: row.text("step")?,
                began: row.time("began")?,
                ended: row.time_opt("ended")?,
                ok: row.flag_opt("ok")?,
            })
        };
        rows.iter().map(read).collect()
    }
}
