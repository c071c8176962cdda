//! Runs of jobs by hand: a bounded history of each job, and which of them have not ended.

use crate::{
    Result, Store,
    column::{self, Columns},
    error::failed,
};
use model::{EnvironmentId, Generation, JobName, Timestamp};
use sqlx::sqlite::SqliteRow;

/// How many runs are kept of each job.
pub const JOB_RUNS_KEPT: u32 = 20;
/// The longest text, in bytes.
const TEXT_MAX: usize = 1024;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRunRow {
    /// The environment.
    pub environment: EnvironmentId,
    /// The job.
    pub job: JobName,
    /// Which run of it, from 1.
    pub number: u64,
    /// The generation that it belongs to.
    pub generation: Generation,
    /// Who asked for it.
    pub asked_by: String,
    /// When it was asked for.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Its exit status; absent while it runs, and if nobody can tell.
    pub exit: Option<i32>,
    /// Whether it was ended because its time was over.
    pub timed_out: bool,
    /// What happened to it instead of an end of its own.
    pub message: Option<String>,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRunEnd {
    /// Its exit status.
    pub exit: Option<i32>,
    /// Whether its time was over.
    pub timed_out: bool,
    /// What happened to it instead of an end of its own.
    pub message: Option<String>,
}

impl Store {
    /// Notes that a run begins, and forgets the oldest ones. `None` if another run of the job has not ended.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn job_run_begin(
        &self,
        environment: &EnvironmentId,
        job: &JobName,
        generation: Generation,
        asked_by: &str,
        at: Timestamp,
    ) -> Result<Option<JobRunRow>> {
        const WHAT: &str = "job_run_begin";
        let mut transaction = self.write.begin_with("BEGIN IMMEDIATE").await.map_err(failed(WHAT))?;
        let row = sqlx::query(
            "INSERT INTO job_run (environment, job, number, generation, asked_by, started)
             SELECT ?1, ?2, 1 + coalesce((SELECT max(number) FROM job_run WHERE environment = ?1 AND job = ?2), 0), ?3, ?4, ?5
             WHERE NOT EXISTS (SELECT 1 FROM job_run WHERE environment = ?1 AND job = ?2 AND ended IS NULL)
             RETURNING *",
        )
        .bind(environment.as_str())
        .bind(job.as_str())
        .bind(column::generation(generation))
        .bind(column::bounded(asked_by, TEXT_MAX))
        .bind(column::time(at))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed(WHAT))?;
        let row = row.as_ref().map(read).transpose()?;
        sqlx::query(
            "DELETE FROM job_run WHERE environment = ?1 AND job = ?2 AND ended IS NOT NULL AND number <= (
                 SELECT max(number) FROM job_run WHERE environment = ?1 AND job = ?2) - ?3",
        )
        .bind(environment.as_str())
        .bind(job.as_str())
        .bind(JOB_RUNS_KEPT)
        .execute(&mut *transaction)
        .await
        .map_err(failed(WHAT))?;
        transaction
            .commit()
            .await
            .inspect(|()| self.wrote())
            .map_err(failed(WHAT))?;
        Ok(row)
    }

    /// Notes how a run ended. Nothing happens if that is known already.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn job_run_end(
        &self,
        environment: &EnvironmentId,
        job: &JobName,
        number: u64,
        end: &JobRunEnd,
        at: Timestamp,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE job_run SET ended = ?4, exit = ?5, timed_out = ?6, message = ?7
             WHERE environment = ?1 AND job = ?2 AND number = ?3 AND ended IS NULL",
        )
        .bind(environment.as_str())
        .bind(job.as_str())
        .bind(column::number(number))
        .bind(column::time(at))
        .bind(end.exit)
        .bind(end.timed_out)
        .bind(end.message.as_deref().map(|text| column::bounded(text, TEXT_MAX)))
        .execute(&self.write)
        .await
        .inspect(|_| self.wrote())
        .map_err(failed("job_run_end"))?;
        Ok(())
    }

    /// All runs of an environment's jobs, the newest of each job first.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn job_run_list(&self, environment: &EnvironmentId) -> Result<Vec<JobRunRow>> {
        let rows = sqlx::query("SELECT * FROM job_run WHERE environment = ? ORDER BY job, number DESC")
            .bind(environment.as_str())
            .fetch_all(&self.read)
            .await
            .map_err(failed("job_run_list"))?;
        rows.iter().map(read).collect()
    }

    /// Those of all environments that have not ended.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn job_run_list_open(&self) -> Result<Vec<JobRunRow>> {
        let rows = sqlx::query("SELECT * FROM job_run WHERE ended IS NULL ORDER BY environment, job")
            .fetch_all(&self.read)
            .await
            .map_err(failed("job_run_list_open"))?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &SqliteRow) -> Result<JobRunRow> {
    let row = Columns::new("job_run", row);
    Ok(JobRunRow {
        environment: row.word("environment")?,
        job: row.word("job")?,
        number: row.number("number")?,
        generation: Generation(row.number("generation")?),
        asked_by: row.text("asked_by")?,
        started: row.time("started")?,
        ended: row.time_opt("ended")?,
        exit: row.status_opt("exit")?,
        timed_out: row.flag("timed_out")?,
        message: row.text_opt("message")?,
    })
}
