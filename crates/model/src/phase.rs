//! The phase of an environment: a name derived from facts, never stored.

use crate::{CommitId, Generation, Power};
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
    /// An older generation is live; the newest commit needs approval before anything of it runs.
    LiveUnapproved,
    /// No generation is live; the newest one failed.
    Failed,
    /// It is stopped and closed for a reason of its own, for example because its forge can not be read; it runs again when that
    /// is over.
    Suspended,
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
            Self::LiveUnapproved => "live, update needs approval",
            Self::Failed => "failed",
            Self::Suspended => "stopped, waiting",
            Self::Sleeping => "sleeping",
            Self::Ending => "ending",
            Self::Ended => "ended",
        }
    }

    /// The same in more words where two commits are in play: what is live, and what became of the newest one. Every place
    /// where people read how an environment stands says it with these words.
    #[must_use]
    pub fn told(self, live: Option<&CommitId>, newest: Option<&CommitId>) -> String {
        let became = match self {
            Self::LiveOlder => "failed",
            Self::LiveUnapproved => "needs approval",
            _ => return self.word().to_owned(),
        };
        match (live, newest) {
            (Some(live), Some(newest)) if live != newest => {
                format!("{} is live, {} {became}", live.short(), newest.short())
            }
            // The same commit under another policy, for example.
            (Some(live), _) => format!("{} is live, an update of it {became}", live.short()),
            _ => self.word().to_owned(),
        }
    }
}

/// The facts from which a phase is derived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether the newest commit may run.
    pub approved: bool,
    /// Whether the newest commit is another one than that of the newest generation.
    pub moved: bool,
    /// Whether the environment should exist.
    pub wanted: bool,
    /// Whether its receipt is complete.
    pub receipted: bool,
    /// Whether it is kept from running for a reason of its own.
    pub suspended: bool,
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
        Standing { suspended: true, .. } => Phase::Suspended,
        Standing {
            approved: false,
            live: None,
            ..
        } => Phase::NeedsApproval,
        Standing {
            approved: false,
            live: Some(_),
            ..
        } => Phase::LiveUnapproved,
        Standing {
            live: Some(_),
            moved: true,
            ..
        } => Phase::Updating,
        Standing {
            live: Some(live),
            newest: Some(newest),
            power,
            ..
        } if live >= newest => match power {
            Power::Running => Phase::Live,
            Power::Frozen | Power::Stopped => Phase::Sleeping,
        },
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
        } if failed >= newest && !facts.moved => Phase::Failed,
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
    fn what_is_live_says_so_while_the_newest_commit_waits_for_somebody() {
        let mut facts = Standing {
            wanted: true,
            newest: Some(Generation(1)),
            live: Some(Generation(1)),
            moved: true,
            ..Standing::default()
        };
        assert_eq!(phase(&facts), Phase::LiveUnapproved);
        facts.approved = true;
        assert_eq!(phase(&facts), Phase::Updating);
        let (live, newest) = ("a".repeat(40).parse().unwrap(), "b".repeat(40).parse().unwrap());
        let told = |phase: Phase| phase.told(Some(&live), Some(&newest));
        assert_eq!(told(Phase::LiveUnapproved), "aaaaaaa is live, bbbbbbb needs approval");
        assert_eq!(told(Phase::LiveOlder), "aaaaaaa is live, bbbbbbb failed");
        assert_eq!(told(Phase::Live), "live");
        assert_eq!(
            Phase::LiveOlder.told(Some(&live), Some(&live)),
            "aaaaaaa is live, an update of it failed"
        );
    }

    #[test]
    fn a_failed_update_is_told_of_what_sleeps_too() {
        let facts = Standing {
            approved: true,
            wanted: true,
            newest: Some(Generation(2)),
            live: Some(Generation(1)),
            failed: Some(Generation(2)),
            power: Power::Stopped,
            ..Standing::default()
        };
        assert_eq!(phase(&facts), Phase::LiveOlder);
        let settled = Standing {
            live: Some(Generation(2)),
            ..facts
        };
        assert_eq!(phase(&settled), Phase::Sleeping);
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
