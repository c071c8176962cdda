//! What an operator says of how long things are kept that nobody needs at present, and of forges that can not be read.

use reconciler::{Keep, LostAccess};
use serde::Deserialize;
use std::time::Duration;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Bounds by age and by count; what is not given has the reconciler's own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepConfig {
    /// Goldens that nobody wants, in days since somebody wanted them last; 14 unless given.
    #[serde(default)]
    pub golden_days: Option<u64>,
    /// Such goldens at most; 50 unless given.
    #[serde(default)]
    pub goldens: Option<usize>,
    /// Images that no environment wants, in days since somebody wanted them last; 7 unless given.
    #[serde(default)]
    pub image_days: Option<u64>,
    /// Such images at most; 50 unless given.
    #[serde(default)]
    pub images: Option<usize>,
    /// Generations of an environment, beside what it would be brought back to; 20 unless given.
    #[serde(default)]
    pub generations: Option<usize>,
    /// Environments that have ended, in days; 30 unless given.
    #[serde(default)]
    pub ended_days: Option<u64>,
    /// Such environments of a project at most; 1000 unless given.
    #[serde(default)]
    pub ended: Option<usize>,
    /// Receipts, in days; 365 unless given.
    #[serde(default)]
    pub receipt_days: Option<u64>,
    /// Receipts at most; 20,000 unless given.
    #[serde(default)]
    pub receipts: Option<u32>,
    /// Events of projects, in days; 90 unless given.
    #[serde(default)]
    pub event_days: Option<u64>,
}

/// What happens to environments whose forge can not be read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LostAccessConfig {
    /// After so many hours they stop and their addresses close; 24 unless given.
    #[serde(default)]
    pub stop_after_hours: Option<u64>,
    /// After so many days they are removed, where the policy's own age of expiry is not known; 14 unless given.
    #[serde(default)]
    pub remove_after_days: Option<u64>,
}

fn times(count: Option<u64>, unit: u64, otherwise: Duration) -> Duration {
    count.map_or(otherwise, |count| Duration::from_secs(count.saturating_mul(unit)))
}

impl KeepConfig {
    /// The same for the reconciler.
    #[must_use]
    pub fn settings(&self) -> Keep {
        let own = Keep::default();
        Keep {
            golden_age: times(self.golden_days, DAY, own.golden_age),
            goldens: self.goldens.unwrap_or(own.goldens),
            image_age: times(self.image_days, DAY, own.image_age),
            images: self.images.unwrap_or(own.images),
            generations: self.generations.unwrap_or(own.generations).max(1),
            ended_age: times(self.ended_days, DAY, own.ended_age),
            ended: self.ended.unwrap_or(own.ended),
            receipt_age: times(self.receipt_days, DAY, own.receipt_age),
            receipts: self.receipts.unwrap_or(own.receipts),
            event_age: times(self.event_days, DAY, own.event_age),
            ..own
        }
    }
}

impl LostAccessConfig {
    /// The same for the reconciler.
    #[must_use]
    pub fn settings(&self) -> LostAccess {
        let own = LostAccess::default();
        LostAccess {
            stop_after: times(self.stop_after_hours, HOUR, own.stop_after),
            remove_after: times(self.remove_after_days, DAY, own.remove_after),
        }
    }
}
