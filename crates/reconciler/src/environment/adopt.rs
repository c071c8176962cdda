//! The first generation of an environment that has adopted a spare: what of the spare's volumes stays.
//!
//! The environment is to be what it would have been without a spare. So a volume of the spare stays only if a new one would be
//! made from the same origin, and nobody but the engines that are still wanted, as they are, has written to it.

use crate::spare::{is_untouched, origin_of_new};
use data::{Decision, keep_or_clone};
use model::{Capabilities, DataFact, DataSet, Generation, Service, ServiceName, ServiceStack, Volume, VolumeOrigin};
use std::collections::BTreeMap;

/// Decides for every volume of `stack` whether it is the spare's or a new one.
pub(super) fn volumes(
    capabilities: &Capabilities,
    stack: &mut ServiceStack,
    generation: Generation,
    spare: &ServiceStack,
    facts: &BTreeMap<ServiceName, DataFact>,
    policy: &BTreeMap<ServiceName, (Service, DataSet)>,
) {
    let mut decided = BTreeMap::new();
    for name in stack.volumes.keys() {
        let data = stack.data.iter().find(|(_, set)| set.volume == *name);
        let origin = data.map_or(VolumeOrigin::Empty, |(service, set)| {
            origin_of_new(capabilities, stack.services.get(service), policy.get(service), set)
        });
        let stays = |before: &&Volume| {
            before.origin == origin
                && is_untouched(name, spare, stack)
                && data.is_none_or(|(service, set)| {
                    // What seeds were run is not known of a database, only that it has what its set says.
                    let same_seeds = spare.data.get(service).is_some_and(|made| made.seeds == set.seeds);
                    same_seeds && can_go_on(before, facts.get(service), set)
                })
        };
        let incarnation = spare.volumes.get(name).filter(stays).map(|before| before.incarnation);
        decided.insert(name.clone(), (origin, incarnation.unwrap_or(generation)));
    }
    for (name, volume) in &mut stack.volumes {
        if let Some((origin, incarnation)) = decided.remove(name) {
            volume.origin = origin;
            volume.incarnation = incarnation;
        }
    }
}

/// Whether the database that the spare has filled needs no more than migrations.
fn can_go_on(before: &Volume, fact: Option<&DataFact>, set: &DataSet) -> bool {
    fact.is_some_and(|fact| {
        fact.incarnation == before.incarnation && matches!(keep_or_clone(&fact.applied, set), Decision::Keep { .. })
    })
}

#[cfg(test)]
mod tests;
