//! How long and how much of what is kept that nobody needs at present. An operator may set all of it.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Bounds by age and by count. What is live, wanted for a restore or told by `why` is kept beyond them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Goldens that no environment and no policy branch wants: this long after somebody wanted them last. Under pressure in the
    /// pool they go earlier.
    pub golden_age: Duration,
    /// Such goldens of all projects together.
    pub goldens: usize,
    /// Images that no environment wants: this long after somebody wanted them last. Under pressure in the pool they go earlier.
    pub image_age: Duration,
    /// Such images.
    pub images: usize,
    /// The newest generations of an environment, with their steps and tries.
    pub generations: usize,
    /// Environments that have ended, with what happened to them.
    pub ended_age: Duration,
    /// Such environments of a project.
    pub ended: usize,
    /// Receipts.
    pub receipt_age: Duration,
    /// Receipts of all projects together.
    pub receipts: u32,
    /// Events of projects, and of environments that are forgotten.
    pub event_age: Duration,
    /// Pull requests that are closed and whose environments are forgotten.
    pub pull_request_age: Duration,
    /// Such pull requests of all projects together.
    pub pull_requests: u32,
    /// Mirrors of repositories that the configuration does not name any more.
    pub mirror_age: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            golden_age: 14 * DAY,
            goldens: 50,
            image_age: 7 * DAY,
            images: 50,
            generations: 20,
            ended_age: 30 * DAY,
            ended: 1000,
            receipt_age: 365 * DAY,
            receipts: 20_000,
            event_age: 90 * DAY,
            pull_request_age: 90 * DAY,
            pull_requests: 20_000,
            mirror_age: 7 * DAY,
        }
    }
}

/// What happens to environments whose forge can not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostAccess {
    /// After this long they stop and their addresses close.
    pub stop_after: Duration,
    /// After this long they are removed.
    pub remove_after: Duration,
}

impl Default for LostAccess {
    fn default() -> Self {
        Self {
            stop_after: DAY,
            remove_after: 14 * DAY,
        }
    }
}
