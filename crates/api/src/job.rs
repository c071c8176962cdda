//! Jobs that people run.

use model::{Generation, JobName, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One run of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobRunView {
    /// The job.
    #[schema(value_type = String)]
    pub job: JobName,
    /// Which run of it, from 1.
    pub number: u64,
    /// The generation that it belongs to.
    #[schema(value_type = u64)]
    pub generation: Generation,
    /// Who asked for it.
    pub asked_by: String,
    /// When it was asked for.
    #[schema(value_type = u64)]
    pub started: Timestamp,
    /// When it ended; absent while it runs.
    #[schema(value_type = Option<u64>)]
    pub ended: Option<Timestamp>,
    /// Its exit status, 128 + n after signal n; absent while it runs, and if it was cut.
    pub exit: Option<i32>,
    /// Whether it was ended because its time was over.
    pub timed_out: bool,
    /// Why it was cut.
    pub message: Option<String>,
}

impl JobRunView {
    /// How it stands, in words.
    #[must_use]
    pub fn status(&self) -> String {
        match (self.ended, self.exit, &self.message) {
            (None, ..) => "runs".to_owned(),
            (_, _, Some(why)) => format!("was cut: {why}"),
            (_, Some(exit), _) if self.timed_out => format!("took too long and was ended (status {exit})"),
            (_, Some(0), _) => "succeeded".to_owned(),
            (_, Some(exit), _) => format!("failed (status {exit})"),
            (_, None, None) => "was cut".to_owned(),
        }
    }
}

/// A job that people run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: JobName,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The times at which it runs in production, if it says so. Here it is run by hand only.
    pub schedule: Option<String>,
    /// How long it may run, in milliseconds.
    pub timeout_ms: u64,
    /// Its newest runs, the newest first.
    pub runs: Vec<JobRunView>,
}

/// The jobs of an environment that people run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// By name.
    pub jobs: Vec<JobView>,
}
