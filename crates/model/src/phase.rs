//! The phase of an environment: a name derived from facts, never stored.

use crate::{Generation, Power};
use serde::{Deserialize, Serialize};

/// The name for how an environment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing runs until somebody who may push approves the commit.
    NeedsApproval,
    /// It is on its way to its first live generation.
    Starting,
    /// The newest generation is live.
    Live,
    /// An older generation is live while a newer one is on its way.
    Updating,
    /// An older generation is live; the newer one failed.
    LiveOlder,
    /// No generation is live; the newest one failed.
    Failed,
    /// It has run and is frozen or stopped until somebody wants it.
    Sleeping,
    /// It is being removed.
    Ending,
    /// It is gone and has its receipt.
    Ended,
}

impl Phase {
    /// The word that people see.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NeedsApproval => "needs approval",
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Updating => "live, updating",
            Self::LiveOlder => "live, update failed",
            Self::Failed => "failed",
            Self::Sleeping => "sleeping",
            Self::Ending => "ending",
            Self::Ended => "ended",
        }
    }
}

/// The facts from which a phase is derived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether the commit may run.
    pub approved: bool,
    /// Whether the environment should exist.
    pub wanted: bool,
    /// Whether its receipt is complete.
    pub receipted: bool,
    /// The newest generation, once there is one.
    pub newest: Option<Generation>,
    /// The generation that was verified to be live and still is.
    pub live: Option<Generation>,
    /// The newest generation that failed for good.
    pub failed: Option<Generation>,
    /// Whether it runs.
    pub power: Power,
}

/// Derives the phase.
#[must_use]
pub fn phase(facts: &Standing) -> Phase {
    match facts {
        Standing {
            receipted: true,
            wanted: false,
            ..
        } => Phase::Ended,
        Standing { wanted: false, .. } => Phase::Ending,
        Standing {
            approved: false,
            live: None,
            ..
        } => Phase::NeedsApproval,
        Standing {
            live: Some(_),
            power: Power::Frozen | Power::Stopped,
            ..
        } => Phase::Sleeping,
        Standing {
            live: Some(live),
            newest: Some(newest),
            ..
        } if live >= newest => Phase::Live,
        Standing {
            live: Some(_),
            newest: Some(newest),
            failed: Some(failed),
            ..
        } if failed >= newest => Phase::LiveOlder,
        Standing { live: Some(_), .. } => Phase::Updating,
        Standing {
            newest: Some(newest),
            failed: Some(failed),
            ..
        } if failed >= newest => Phase::Failed,
        _ => Phase::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_update_says_that_the_older_one_is_live() {
        let mut facts = Standing {
            approved: true,
            wanted: true,
            newest: Some(Generation(2)),
            ..Standing::default()
        };
        assert_eq!(phase(&facts), Phase::Starting);
        facts.live = Some(Generation(1));
        assert_eq!(phase(&facts), Phase::Updating);
        facts.failed = Some(Generation(2));
        assert_eq!(phase(&facts), Phase::LiveOlder);
        facts.newest = Some(Generation(3));
        assert_eq!(phase(&facts), Phase::Updating);
        facts.live = Some(Generation(3));
        assert_eq!(phase(&facts), Phase::Live);
        facts.wanted = false;
        assert_eq!(phase(&facts), Phase::Ending);
    }

    #[test]
    fn nothing_runs_before_approval() {
        let facts = Standing {
            wanted: true,
            newest: Some(Generation(1)),
            ..Standing::default()
        };
        assert_eq!(phase(&facts), Phase::NeedsApproval);
    }
}
