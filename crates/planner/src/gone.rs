//! The plan that ends an environment.

use crate::{Action, Observed, Plan, StepState, retry::ATTEMPTS_MAX};
use model::{EnvironmentSpec, Generation, JobEvent, Power, ServiceState};

/// Jobs that belong to the end, then removal, then the receipt. A job that fails for good does not keep the environment
/// alive: it counts as done, and the reconciler says so in the receipt.
pub(crate) fn plan(last: Option<&EnvironmentSpec>, _generation: Generation, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let mut after = Vec::new();
    if let (Some(spec), Some(runtime)) = (last, &observed.runtime) {
        let runs =
            runtime.power == Power::Running && runtime.services.values().any(|fact| fact.state == ServiceState::Ready);
        for event in [JobEvent::Stop, JobEvent::Delete] {
            for job in spec
                .services()
                .into_iter()
                .flat_map(|s| s.jobs.values())
                .filter(|job| job.on == event)
            {
                let id = format!("job:{}", job.name);
                let ran = runtime.jobs.get(&job.name).is_some_and(|fact| fact.exit == Some(0));
                let given_up = observed
                    .attempts
                    .get(&id)
                    .is_some_and(|a| a.count >= ATTEMPTS_MAX || a.next.is_none());
                let state = if ran || given_up || !runs {
                    StepState::Done
                } else {
                    StepState::Ready
                };
                plan.push_when_free(id.clone(), Action::Job(job.name.clone()), after.clone(), state);
                after.push(id);
            }
        }
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
