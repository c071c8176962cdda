//! A failure is told of the commit that failed, and of no other; what is waited for, for as long as it is.

use super::{awaited, of_head};
use model::{CommitId, Phase, Timestamp};
use planner::{Action, Attempt, Step, StepState};
use std::collections::BTreeMap;

fn commit(letter: &str) -> CommitId {
    letter.repeat(40).parse().unwrap()
}

#[test]
fn a_failure_of_another_commit_says_nothing_of_the_newest() {
    let (live, tried, head) = (commit("a"), commit("b"), commit("c"));
    let told = |phase, approved| of_head(phase, &head, approved, Some(&tried), Some(&live));
    assert_eq!(told(Phase::LiveOlder, true), Phase::Updating);
    assert_eq!(told(Phase::LiveOlder, false), Phase::LiveUnapproved);
    let told = |phase, approved| of_head(phase, &head, approved, Some(&tried), None);
    assert_eq!(told(Phase::Failed, true), Phase::Starting);
    assert_eq!(told(Phase::Failed, false), Phase::NeedsApproval);

    // A push back to what is live, before anything is made of it.
    let told = of_head(Phase::LiveOlder, &live, true, Some(&tried), Some(&live));
    assert_eq!(told, Phase::Updating);
}

#[test]
fn a_failure_of_the_newest_commit_is_told() {
    let (live, head) = (commit("a"), commit("c"));
    let told = |phase| of_head(phase, &head, true, Some(&head), Some(&live));
    assert_eq!(told(Phase::LiveOlder), Phase::LiveOlder);
    let told = |phase| of_head(phase, &head, true, Some(&head), None);
    assert_eq!(told(Phase::Failed), Phase::Failed);
}

#[test]
fn a_commit_that_was_not_followed_yet_is_on_its_way_or_waits() {
    let (live, head) = (commit("a"), commit("c"));
    let told = |phase, approved| of_head(phase, &head, approved, Some(&live), Some(&live));
    assert_eq!(told(Phase::Live, true), Phase::Updating);
    assert_eq!(told(Phase::Sleeping, true), Phase::Sleeping);
    assert_eq!(told(Phase::Live, false), Phase::LiveUnapproved);
    assert_eq!(told(Phase::Ended, false), Phase::Ended);
}

#[test]
fn what_waits_for_a_gateway_is_told_also_while_it_is_tried_again() {
    let step = |state| Step {
        id: "verify".to_owned(),
        action: Action::Verify,
        after: Vec::new(),
        state,
    };
    let known = |waits| {
        let attempt = Attempt {
            count: 0,
            next: Some(Timestamp(5)),
            failure: "the gateway is not there".to_owned(),
            waits,
        };
        BTreeMap::from([("verify".to_owned(), attempt)])
    };
    let trying = step(StepState::Ready);
    assert_eq!(awaited(&trying, &known(true)), Some(planner::GATEWAY));
    assert_eq!(awaited(&trying, &known(false)), None);
    assert_eq!(awaited(&trying, &BTreeMap::new()), None);
    assert_eq!(awaited(&step(StepState::Done), &known(true)), None);
}
