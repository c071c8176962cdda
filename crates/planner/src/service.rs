//! How one service's step stands, from what is observed of its container.

use crate::StepState;
use model::{Digest, Observation, Restart, Service, ServiceFact, ServiceName, ServiceState, Timestamp};
use std::time::Duration;

/// How long a service without a start period may take to get ready.
pub const START_DEADLINE_DEFAULT: Duration = Duration::from_secs(120);

/// A service that ends so often before it was ready has failed.
const RESTARTS_MAX: u32 = 3;

/// The state of the step that starts `service`. `settled` says that this generation was live before: from then on a service
/// that ends is the runtime's to start again, and no longer a failure of the generation. `inherited` says that this generation has
/// not started it: that it failed under an older one says nothing about this one, which may give it more memory.
pub(crate) fn state(
    name: &ServiceName,
    service: &Service,
    wanted: &Digest,
    observation: Option<&Observation>,
    settled: bool,
    inherited: bool,
    now: Timestamp,
) -> StepState {
    match observation.and_then(|o| o.services.get(name)) {
        Some(fact) if fact.digest == *wanted => match state_of_current(name, service, fact, settled, now) {
            StepState::Failed { .. } if inherited => StepState::Ready,
            state => state,
        },
        _ => StepState::Ready,
    }
}

/// Whether a container as it is wanted has failed and has not ended: a runtime that is asked to start it would leave it alone.
pub(crate) fn is_stuck(
    name: &ServiceName,
    service: &Service,
    wanted: &Digest,
    fact: &ServiceFact,
    now: Timestamp,
) -> bool {
    let ended = matches!(fact.state, ServiceState::Exited { code } if code != 0);
    fact.digest == *wanted
        && !ended
        && matches!(
            state_of_current(name, service, fact, false, now),
            StepState::Failed { .. }
        )
}

fn state_of_current(
    name: &ServiceName,
    service: &Service,
    fact: &ServiceFact,
    settled: bool,
    now: Timestamp,
) -> StepState {
    match &fact.state {
        ServiceState::Ready => StepState::Done,
        ServiceState::Stopped => StepState::Ready,
        ServiceState::Exited { code: 0 } if service.restart != Restart::Always => StepState::Done,
        ServiceState::Exited { code } => StepState::Failed {
            failure: ended(name, *code, fact),
        },
        ServiceState::BackingOff { code, .. } if !settled && fact.restarts >= RESTARTS_MAX => StepState::Failed {
            failure: ended(name, *code, fact),
        },
        ServiceState::BackingOff { code, until } => StepState::InProgress {
            waiting_for: format!("{name} is started again after it ended with status {code}"),
            until: Some(*until),
        },
        ServiceState::Starting | ServiceState::Unhealthy => waiting(name, service, fact, settled, now),
    }
}

fn waiting(name: &ServiceName, service: &Service, fact: &ServiceFact, settled: bool, now: Timestamp) -> StepState {
    let deadline = fact.since.plus(start_deadline(service));
    if now >= deadline && !settled {
        let probe = fact
            .message
            .as_deref()
            .map_or_else(String::new, |text| format!(": {text}"));
        let seconds = start_deadline(service).as_secs();
        return StepState::Failed {
            failure: format!("{name} was not ready {seconds} s after its start{probe}"),
        };
    }
    let until = if settled { None } else { Some(deadline) };
    StepState::InProgress {
        waiting_for: format!("{name} to be ready"),
        until,
    }
}

fn start_deadline(service: &Service) -> Duration {
    let probes = service.health.as_ref().map_or(0, |health| {
        health.start_period_ms + u64::from(health.retries) * (health.interval_ms + health.timeout_ms)
    });
    START_DEADLINE_DEFAULT.max(Duration::from_millis(probes))
}

fn ended(name: &ServiceName, code: i32, fact: &ServiceFact) -> String {
    let times = if fact.restarts > 0 {
        format!(", {} times in a row", fact.restarts + 1)
    } else {
        String::new()
    };
    let message = fact
        .message
        .as_deref()
        .map_or_else(String::new, |text| format!(" ({text})"));
    format!("{name} ended with status {code}{times}{message}")
}
