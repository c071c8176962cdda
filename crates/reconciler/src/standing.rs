//! How an environment stands, from the rows of the store. Shared by all that people see.

use model::{Phase, Standing, phase};
use store::{EnvironmentRow, GenerationRow};

/// The facts of an environment, and the phase that follows from them. `generations` are all of it, oldest first.
#[must_use]
pub fn standing(environment: &EnvironmentRow, generations: &[GenerationRow]) -> (Standing, Phase) {
    let newest = generations.iter().rev().find(|row| row.restores.is_none());
    let approved = environment
        .approved_commit
        .as_ref()
        .is_some_and(|approved| environment.head.values().any(|head| head == approved));
    let facts = Standing {
        approved,
        moved: newest.is_some_and(|row| row.spec.sources != environment.head),
        wanted: environment.wanted,
        receipted: environment.ended.is_some(),
        newest: newest.map(|row| row.generation),
        live: environment.live,
        failed: environment.failed,
        power: environment.power,
    };
    (facts, phase(&facts))
}

/// What people should know of the newest generation, and of the older one that was brought back because it failed.
#[must_use]
pub fn notes(generations: &[GenerationRow]) -> Vec<String> {
    let newest = generations.iter().rev().find(|row| row.restores.is_none());
    let back = generations.last().filter(|row| row.restores.is_some());
    let notes = newest.into_iter().chain(back).flat_map(|row| row.notes.iter().cloned());
    notes.collect()
}
