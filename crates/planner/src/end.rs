//! Jobs that belong to an end: before the services stop, and before the environment is removed.

use crate::{Action, Observed, Plan, StepState, retry::ATTEMPTS_MAX};
use model::{EnvironmentSpec, Job, JobEvent};

/// The jobs of a generation that run at this event.
pub(crate) fn jobs(spec: &EnvironmentSpec, event: JobEvent) -> impl Iterator<Item = &Job> {
    let all = spec.services().into_iter().flat_map(|stack| stack.jobs.values());
    all.filter(move |job| job.on == event)
}

/// The id of the step that runs a job.
pub(crate) fn step(job: &Job) -> String {
    format!("job:{}", job.name)
}

/// Whether a step was tried as often as it is going to be.
pub(crate) fn is_given_up(observed: &Observed, step: &str) -> bool {
    let attempt = observed.attempts.get(step);
    attempt.is_some_and(|attempt| !attempt.waits && (attempt.count >= ATTEMPTS_MAX || attempt.next.is_none()))
}

/// Whether nothing is left to do about a job. One that fails for good keeps nothing running: the reconciler tells of it. What
/// it did at an earlier end, or as an earlier generation had it, has another digest.
pub(crate) fn is_over(spec: &EnvironmentSpec, observed: &Observed, job: &Job) -> bool {
    let fact = observed.runtime.as_ref().and_then(|o| o.jobs.get(&job.name));
    let ran = fact.is_some_and(|f| f.exit == Some(0) && Some(&f.digest) == spec.job_digest(&job.name).as_ref());
    ran || is_given_up(observed, &step(job))
}

/// Plans the jobs that run before the services stop, and returns the ids of their steps.
pub(crate) fn push_jobs_on_stop(
    plan: &mut Plan,
    spec: &EnvironmentSpec,
    observed: &Observed,
    after: &[String],
) -> Vec<String> {
    let mut pushed = Vec::new();
    for job in jobs(spec, JobEvent::Stop) {
        let state = if is_over(spec, observed, job) {
            StepState::Done
        } else {
            StepState::Ready
        };
        plan.push_when_free(step(job), Action::Job(job.name.clone()), after.to_vec(), state);
        pushed.push(step(job));
    }
    pushed
}
