//! How much of the way out one environment gets: connections at a time, bytes in an hour, and whether it leads to this machine.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Whoever has spent everything waits until this part of it is there again: else connections would be let through to break at once.
const PART: u64 = 60;

/// What the operator grants each environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections that are open at a time.
    pub connections: usize,
    /// Bytes that go through in an hour, both directions together.
    pub bytes_an_hour: u64,
    /// Whether `private` endpoints of policies may be on this machine itself.
    pub loopback: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 512,
            bytes_an_hour: 20 << 30,
            loopback: false,
        }
    }
}

/// The bytes that an environment may still move. They come back evenly, all of them in an hour.
#[derive(Debug)]
pub(crate) struct Budget {
    bound: u64,
    left: Mutex<Left>,
}

#[derive(Debug)]
struct Left {
    bytes: u64,
    at: Instant,
}

impl Budget {
    pub(crate) fn new(bound: u64) -> Self {
        let left = Left {
            bytes: bound,
            at: Instant::now(),
        };
        Self {
            bound,
            left: Mutex::new(left),
        }
    }

    /// What is left at a time.
    fn left(&self, now: Instant) -> MutexGuard<'_, Left> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(left.at).min(HOUR);
        let earned = u128::from(self.bound) * passed.as_nanos() / HOUR.as_nanos();
        if let Ok(earned) = u64::try_from(earned)
            && earned > 0
        {
            // What is less than a byte counts the next time.
            left.bytes = left.bytes.saturating_add(earned).min(self.bound);
            left.at = now;
        }
        left
    }

    /// Takes bytes that have moved; tells whether any are left.
    pub(crate) fn spend(&self, bytes: u64, now: Instant) -> bool {
        let mut left = self.left(now);
        left.bytes = left.bytes.saturating_sub(bytes);
        left.bytes > 0
    }

    /// Whether there is enough for a new connection.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        self.left(now).bytes > self.bound / PART
    }

    /// What is said to whoever has spent everything.
    pub(crate) fn spent(&self) -> String {
        format!(
            "the environment has moved its {} MiB of an hour: the server's operator sets that bound",
            self.bound >> 20
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_comes_back_within_an_hour() {
        let budget = Budget::new(3_600_000);
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert!(budget.admits(begin) && budget.spend(3_599_000, begin));
        assert!(!budget.admits(begin), "a few bytes are not worth a connection");
        assert!(!budget.spend(2_000, begin));
        assert!(!budget.admits(after(58)));
        assert!(budget.admits(after(62)));
        assert!(
            !budget.spend(3_600_000, after(20_000)),
            "no more than the bound is kept"
        );
    }

    #[test]
    fn questions_that_come_often_take_nothing_away() {
        let budget = Budget::new(3_600);
        let begin = Instant::now();
        assert!(!budget.spend(3_600, begin));
        for tick in 0..1_300_u32 {
            let _ = budget.admits(begin + Duration::from_millis(100) * tick);
        }
        assert!(
            budget.admits(begin + Duration::from_secs(130)),
            "it has earned 130 bytes"
        );
    }
}
