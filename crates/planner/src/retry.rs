//! Tries and pauses: what happens to a step that failed before.

use crate::{Observed, Plan, StepState};
use model::Timestamp;
use std::time::Duration;

/// After so many failures in one generation a step has failed for good.
pub const ATTEMPTS_MAX: u32 = 5;

/// The pause after the `count`-th failure: half a second, doubled each time, at most 30 seconds.
#[must_use]
pub fn backoff(count: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(10);
    Duration::from_millis(500u64 << doublings).min(Duration::from_secs(30))
}

/// Marks steps that are being carried out, that wait after a failure, and that have failed for good. A removal is never given
/// up: `patient` plans wait for the next try, however often it failed.
pub(crate) fn apply(plan: &mut Plan, observed: &Observed, patient: bool, now: Timestamp) {
    for step in &mut plan.steps {
        if step.state != StepState::Ready {
            continue;
        }
        if observed.running.contains(&step.id) {
            step.state = StepState::InProgress {
                waiting_for: "this step".to_owned(),
                until: None,
            };
            continue;
        }
        let Some(attempt) = observed.attempts.get(&step.id) else {
            continue;
        };
        step.state = match attempt.next {
            Some(next) if attempt.count < ATTEMPTS_MAX && next > now => StepState::BackingOff {
                count: attempt.count,
                until: next,
                failure: attempt.failure.clone(),
            },
            Some(_) if patient || attempt.count < ATTEMPTS_MAX => StepState::Ready,
            _ => StepState::Failed {
                failure: attempt.failure.clone(),
            },
        };
    }
}
