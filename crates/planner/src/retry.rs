//! Tries and pauses: what happens to a step that failed before.

use crate::{Observed, Plan, StepState};
use model::Timestamp;
use std::time::Duration;

/// After so many failures in one generation a step has failed for good.
pub const ATTEMPTS_MAX: u32 = 5;

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a step waits for that found no room.
pub const ROOM: &str = "room";

/// What a step waits for whose registry is away or does not want to be asked for some time.
pub const REGISTRY: &str = "the registry";

/// What the last step waits for when there is nothing through which it could ask.
pub const GATEWAY: &str = "the gateway";

/// The pause after the `count`-th failure: half a second, doubled each time, at most 30 seconds.
#[must_use]
pub fn backoff(count: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(10);
    Duration::from_millis(500u64 << doublings).min(PAUSE_MAX)
}

/// What a step waits for that is not given up, by why it could not be carried out.
#[must_use]
pub fn waits_for(step: &str, failure: &str) -> &'static str {
    let fetches = step.starts_with("image:") || step.starts_with("build:");
    match step {
        "verify" => GATEWAY,
        // Runtimes say so of themselves.
        _ if fetches && !failure.starts_with("no room") => REGISTRY,
        _ => ROOM,
    }
}

/// Marks steps that are being carried out, that wait after a failure, and that have failed for good. A removal and a stop are never
/// given up: `patient` plans wait for the next try, however often it failed.
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
        if let (true, Some(next)) = (attempt.waits, attempt.next) {
            if next > now && next.since(now) <= PAUSE_MAX {
                step.state = StepState::InProgress {
                    waiting_for: waits_for(&step.id, &attempt.failure).to_owned(),
                    until: Some(next),
                };
            }
            continue;
        }
        step.state = match attempt.next {
            // A pause that is longer than any was noted before the clock was set back.
            Some(next) if (patient || attempt.count < ATTEMPTS_MAX) && next > now && next.since(now) <= PAUSE_MAX => {
                StepState::BackingOff {
                    count: attempt.count,
                    until: next,
                    failure: attempt.failure.clone(),
                }
            }
            Some(_) if patient || attempt.count < ATTEMPTS_MAX => StepState::Ready,
            _ => StepState::Failed {
                failure: attempt.failure.clone(),
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Attempt};

    fn state(count: u32, next: u64, patient: bool) -> StepState {
        let mut plan = Plan::default();
        plan.push("remove", Action::Remove, Vec::new(), StepState::Ready);
        let attempt = Attempt {
            count,
            next: Some(Timestamp(next)),
            failure: "busy".to_owned(),
            waits: false,
        };
        let observed = Observed {
            attempts: [("remove".to_owned(), attempt)].into(),
            ..Observed::default()
        };
        apply(&mut plan, &observed, patient, Timestamp(100_000));
        plan.steps.remove(0).state
    }

    #[test]
    fn a_removal_that_keeps_failing_still_pauses() {
        for count in [1, ATTEMPTS_MAX, 1000] {
            assert!(
                matches!(state(count, 110_000, true), StepState::BackingOff { .. }),
                "{count}"
            );
            assert_eq!(state(count, 100_000, true), StepState::Ready, "{count}");
        }
        assert!(matches!(state(ATTEMPTS_MAX, 110_000, false), StepState::Failed { .. }));
    }

    #[test]
    fn a_step_that_waits_for_room_is_never_given_up() {
        let mut plan = Plan::default();
        plan.push("envelope", Action::Remove, Vec::new(), StepState::Ready);
        let mut attempt = Attempt {
            count: 1000,
            next: Some(Timestamp(105_000)),
            failure: "no room".to_owned(),
            waits: true,
        };
        let after = |attempt: &Attempt| {
            let mut plan = plan.clone();
            let attempts = [("envelope".to_owned(), attempt.clone())].into();
            let observed = Observed {
                attempts,
                ..Observed::default()
            };
            apply(&mut plan, &observed, false, Timestamp(100_000));
            plan
        };
        assert_eq!(after(&attempt).next_look(), Some(Timestamp(105_000)));
        attempt.next = Some(Timestamp(100_000));
        assert_eq!(after(&attempt).ready().count(), 1);
    }

    #[test]
    fn a_step_that_waits_says_for_what() {
        let limits = "ghcr.io limits how often we may ask";
        let full = "no room for unpacking the image 0123: the pool is full";
        assert_eq!(waits_for("image:0123", limits), REGISTRY);
        assert_eq!(waits_for("build:web", limits), REGISTRY);
        assert_eq!(waits_for("image:0123", full), ROOM);
        assert_eq!(waits_for("envelope", full), ROOM);
        assert_eq!(waits_for("verify", "the gateway does not answer"), GATEWAY);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        assert_eq!(state(1, 3_700_000, false), StepState::Ready);
    }
}
