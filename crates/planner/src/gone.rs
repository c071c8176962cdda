//! The plan that ends an environment.

use crate::{Action, Observed, Plan, START_DEADLINE_DEFAULT, StepState, end};
use model::{EnvironmentSpec, Generation, Job, JobEvent, Observation, Power, ServiceState, Timestamp};

/// Jobs that belong to the end, then removal, then the receipt. A job that fails for good does not keep the environment
/// alive: it counts as done, and the reconciler says so in the receipt.
pub(crate) fn plan(
    last: Option<&EnvironmentSpec>,
    _generation: Generation,
    observed: &Observed,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut after = Vec::new();
    if let (Some(spec), Some(runtime)) = (last, &observed.runtime) {
        after = jobs(&mut plan, spec, runtime, observed, now);
    }
    let state = if observed.runtime.is_none() {
        StepState::Done
    } else {
        StepState::Ready
    };
    plan.push_when_free("remove", Action::Remove, after, state);
    let state = if observed.receipted {
        StepState::Done
    } else {
        StepState::Ready
    };
    plan.push_when_free("receipt", Action::Receipt, vec!["remove".to_owned()], state);
    plan
}

/// One job after the other, in an environment that is woken for them. Where nothing ever ran there is nothing to undo.
fn jobs(
    plan: &mut Plan,
    spec: &EnvironmentSpec,
    runtime: &Observation,
    observed: &Observed,
    now: Timestamp,
) -> Vec<String> {
    if runtime.services.is_empty() && runtime.jobs.is_empty() {
        return Vec::new();
    }
    // What is stopped had its jobs on stop before that.
    let on_stop = end::jobs(spec, JobEvent::Stop).filter(|_| runtime.power != Power::Stopped);
    let all: Vec<&Job> = on_stop.chain(end::jobs(spec, JobEvent::Delete)).collect();
    let mut after = Vec::new();
    if runtime.power != Power::Running && all.iter().any(|job| !end::is_over(spec, observed, job)) {
        let state = if end::is_given_up(observed, "wake") {
            StepState::Done
        } else {
            StepState::Ready
        };
        plan.push("wake", Action::Wake, Vec::new(), state);
        after.push("wake".to_owned());
    }
    for job in all {
        let state = if end::is_over(spec, observed, job) {
            StepState::Done
        } else {
            waiting(job, runtime, now).unwrap_or(StepState::Ready)
        };
        plan.push_when_free(end::step(job), Action::Job(job.name.clone()), after.clone(), state);
        after.push(end::step(job));
    }
    after
}

/// What a job waits for that was just woken. What does not come is not waited for: the job then says what it misses.
fn waiting(job: &Job, runtime: &Observation, now: Timestamp) -> Option<StepState> {
    let coming = |name: &&model::ServiceName| {
        let fact = runtime.services.get(*name)?;
        let until = fact.since.plus(START_DEADLINE_DEFAULT);
        (fact.state == ServiceState::Starting && now < until).then_some(until)
    };
    let (name, until) = job.needs.iter().find_map(|name| Some((name, coming(&name)?)))?;
    (runtime.power == Power::Running).then(|| StepState::InProgress {
        waiting_for: format!("{name} to be ready"),
        until: Some(until),
    })
}
