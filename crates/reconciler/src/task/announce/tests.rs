//! A failure is told of the commit that failed, and of no other.

use super::of_head;
use model::{CommitId, Phase};

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
