//! How one service's step stands, from what is observed of its container.

use crate::StepState;
use model::{
    Condition, Digest, EnvironmentSpec, Observation, Restart, Service, ServiceFact, ServiceName, ServiceStack,
    ServiceState, Timestamp,
};
use std::time::Duration;

/// How long a service without a start period may take to get ready.
pub const START_DEADLINE_DEFAULT: Duration = Duration::from_secs(120);

/// A service that ends so often before it was ready has failed.
const RESTARTS_MAX: u32 = 3;

/// How long a service may take to its end that others wait for: as long as the longest job.
pub const END_DEADLINE: Duration = Duration::from_secs(3600);

/// A service as a generation wants it.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a ServiceName,
    pub(crate) service: &'a Service,
    pub(crate) digest: Digest,
    /// Those that start when it has run to its end. Without any it has only to run.
    pub(crate) awaited_by: Vec<&'a ServiceName>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn new(
        spec: &EnvironmentSpec,
        stack: &'a ServiceStack,
        name: &'a ServiceName,
        service: &'a Service,
    ) -> Self {
        Self {
            name,
            service,
            digest: spec.service_digest(name).unwrap_or_else(|| Digest::of(&[])),
            awaited_by: stack.awaiting_end_of(name).collect(),
        }
    }

    /// What there is of it, if that is what is wanted.
    fn current<'o>(&self, observation: Option<&'o Observation>) -> Option<&'o ServiceFact> {
        let fact = observation.and_then(|o| o.services.get(self.name));
        fact.filter(|fact| fact.digest == self.digest)
    }

    /// Whether it is as another service waits for it to be.
    pub(crate) fn meets(&self, condition: Condition, observation: Option<&Observation>) -> bool {
        let Some(fact) = self.current(observation) else {
            return false;
        };
        let completed = fact.state == ServiceState::Exited { code: 0 };
        match condition {
            Condition::Started => true,
            Condition::Healthy => fact.state == ServiceState::Ready || completed,
            Condition::Completed => completed,
        }
    }

    /// The state of the step that starts it. `settled` says that this generation was live before: from then on a service
    /// that ends is the runtime's to start again, and no longer a failure of the generation. `inherited` says that this generation has
    /// not started it: that it failed under an older one says nothing about this one, which may give it more memory.
    pub(crate) fn state(
        &self,
        observation: Option<&Observation>,
        settled: bool,
        inherited: bool,
        now: Timestamp,
    ) -> StepState {
        let state = self.current(observation).map(|fact| self.state_of(fact, settled, now));
        match state {
            None => StepState::Ready,
            Some(StepState::Failed { .. }) if inherited => StepState::Ready,
            Some(state) => state,
        }
    }

    /// Whether a container as it is wanted has failed and has not ended: a runtime that is asked to start it would leave it alone.
    pub(crate) fn is_stuck(&self, fact: &ServiceFact, now: Timestamp) -> bool {
        let ended = matches!(fact.state, ServiceState::Exited { code } if code != 0);
        fact.digest == self.digest && !ended && matches!(self.state_of(fact, false, now), StepState::Failed { .. })
    }

    fn state_of(&self, fact: &ServiceFact, settled: bool, now: Timestamp) -> StepState {
        let name = self.name;
        match &fact.state {
            ServiceState::Ready if self.awaited_by.is_empty() => StepState::Done,
            ServiceState::Stopped => StepState::Ready,
            ServiceState::Exited { code: 0 } if self.service.restart != Restart::Always => StepState::Done,
            ServiceState::Exited { code } => StepState::Failed {
                failure: self.ended(*code, fact),
            },
            ServiceState::BackingOff { code, .. } if !settled && fact.restarts >= RESTARTS_MAX => StepState::Failed {
                failure: self.ended(*code, fact),
            },
            ServiceState::BackingOff { code, until } => StepState::InProgress {
                waiting_for: format!("{name} is started again after it ended with status {code}"),
                until: Some(*until),
            },
            ServiceState::Starting | ServiceState::Unhealthy | ServiceState::Ready => self.waiting(fact, settled, now),
        }
    }

    fn waiting(&self, fact: &ServiceFact, settled: bool, now: Timestamp) -> StepState {
        let name = self.name;
        let (what, limit) = match self.awaited_by.is_empty() {
            true => ("be ready", start_deadline(self.service)),
            false => ("run to its end", END_DEADLINE),
        };
        let deadline = fact.since.plus(limit);
        if now >= deadline && !settled {
            let probe = fact
                .message
                .as_deref()
                .map_or_else(String::new, |text| format!(": {text}"));
            let seconds = limit.as_secs();
            let failure = match self.awaited_by.is_empty() {
                true => format!("{name} was not ready {seconds} s after its start{probe}"),
                false => format!("{name} had not ended {seconds} s after its start{}", self.held_up()),
            };
            return StepState::Failed { failure };
        }
        let until = if settled { None } else { Some(deadline) };
        StepState::InProgress {
            waiting_for: format!("{name} to {what}"),
            until,
        }
    }

    /// Who is not started for its sake.
    fn held_up(&self) -> String {
        let names: Vec<&str> = self.awaited_by.iter().map(|name| name.as_str()).collect();
        match names.as_slice() {
            [] => String::new(),
            [only] => format!("; {only} waits for it to complete"),
            [..] => format!("; {} wait for it to complete", names.join(", ")),
        }
    }

    fn ended(&self, code: i32, fact: &ServiceFact) -> String {
        let name = self.name;
        let times = if fact.restarts > 0 {
            format!(", {} times in a row", fact.restarts + 1)
        } else {
            String::new()
        };
        // A runtime that knows nothing more says the same in the same words.
        let more = fact
            .message
            .as_deref()
            .filter(|text| *text != format!("ended with status {code}"));
        let message = more.map_or_else(String::new, |text| format!(" ({text})"));
        format!("{name} ended with status {code}{times}{message}{}", self.held_up())
    }
}

fn start_deadline(service: &Service) -> Duration {
    let probes = service.health.as_ref().map_or(0, |health| {
        health.start_period_ms + u64::from(health.retries) * (health.interval_ms + health.timeout_ms)
    });
    START_DEADLINE_DEFAULT.max(Duration::from_millis(probes))
}
