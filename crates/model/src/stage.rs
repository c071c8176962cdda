//! Stages: sets of things without inner order, into which the planner cuts a generation.

use crate::ServiceName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One stage of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// What surrounds everything: network, limits, identity. Volumes that the generation wants are made here too; one of an
    /// older incarnation is replaced (the planner has stopped its services before).
    Envelope,
    /// These services: those whose digest differs from what there is are replaced, those that were stopped are started, the
    /// others are left alone.
    Services(BTreeSet<ServiceName>),
    /// Services, jobs' remains and volumes that the generation no longer has are removed.
    Prune,
    /// The whole generation at once, for runtimes that order it themselves ([`crate::Staging::Whole`]).
    Whole,
}
