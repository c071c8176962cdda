//! Jobs by hand: what somebody asks for is noted, and `task::runs` carries it out.

use super::{Handle, Intent};
use crate::standing::standing;
use model::{EnvironmentId, JobEvent, JobName, Power};
use store::JobRunRow;

/// How many runs may be under way at a time, of all environments.
const OPEN_MAX: usize = 32;

impl Handle {
    /// Runs a job of an environment's live generation now.
    ///
    /// # Errors
    /// [`Intent::NoJob`] if the stack has none of that name that is run by hand, [`Intent::NotNow`] if the environment is not
    /// live or the job runs already.
    pub async fn run_job(&self, id: &EnvironmentId, job: &JobName, who: &str) -> Result<JobRunRow, Intent> {
        let store = &self.context.store;
        let row = self.environment(id).await?;
        let generations = store.generation_list(id).await?;
        let (facts, phase) = standing(&row, &generations);
        let live = facts
            .live
            .and_then(|live| generations.iter().find(|row| row.generation == live))
            .filter(|_| row.wanted && row.power_now() == Power::Running);
        let Some(live) = live else {
            let text = format!("jobs run in what is live, and {} is {}", row.label, phase.word());
            return Err(Intent::NotNow(text));
        };
        let stack = live.spec.services();
        match stack.and_then(|stack| stack.jobs.get(job)) {
            Some(job) if job.on == JobEvent::Hand => {}
            Some(_) => {
                let text = format!("the job {job} runs by itself; `on: hand` lets people run it");
                return Err(Intent::NotNow(text));
            }
            None => return Err(Intent::NoJob(job.clone())),
        }
        if generations
            .last()
            .is_some_and(|last| last.generation > live.generation && last.outcome.is_none())
        {
            let text = format!("{} is being updated; run the job once that is live", row.label);
            return Err(Intent::NotNow(text));
        }
        if store.job_run_list_open().await?.len() >= OPEN_MAX {
            return Err(Intent::NotNow(
                "too many jobs run at once; wait for one to end".to_owned(),
            ));
        }
        let begun = store
            .job_run_begin(id, job, live.generation, who, self.context.now())
            .await?;
        let Some(run) = begun else {
            return Err(Intent::NotNow(format!("the job {job} runs already")));
        };
        let text = format!("{who} runs the job {job} (run {})", run.number);
        store
            .event_add(Some(id), &row.project, self.context.now(), "job", &text)
            .await?;
        self.context.nudges.runs();
        Ok(run)
    }
}
