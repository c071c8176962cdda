//! How an environment stands, from the rows of the store. Shared by all that people see.

use crate::pins;
use model::{Origin, Phase, Standing, phase};
use store::{EnvironmentRow, GenerationRow, Suspension};

/// The facts of an environment, and the phase that follows from them. `generations` are all of it, oldest first.
#[must_use]
pub fn standing(environment: &EnvironmentRow, generations: &[GenerationRow]) -> (Standing, Phase) {
    let newest = generations.iter().rev().find(|row| row.restores.is_none());
    let approved = environment.approved_commit.as_ref().is_some_and(|approved| {
        // What several pull requests share follows no commit that may not run.
        let shared = matches!(environment.origin, Origin::PullRequests { .. });
        shared || environment.head.values().any(|head| head == approved)
    });
    let facts = Standing {
        approved,
        moved: newest.is_some_and(|row| row.spec.sources != environment.head),
        wanted: environment.wanted,
        receipted: environment.ended.is_some(),
        suspended: environment.suspension().is_some(),
        newest: newest.map(|row| row.generation),
        live: environment.live,
        failed: environment.failed,
        power: environment.power_now(),
    };
    (facts, phase(&facts))
}

/// What people should know of an environment: that it is or was kept from running, of the newest generation, and of the older
/// one that was brought back because it failed.
#[must_use]
pub fn notes(environment: &EnvironmentRow, generations: &[GenerationRow]) -> Vec<String> {
    let newest = generations.iter().rev().find(|row| row.restores.is_none());
    let back = generations.last().filter(|row| row.restores.is_some());
    let suspended = environment.suspended.as_ref();
    let suspended = suspended.and_then(|suspension| of_suspension(suspension, generations.last()));
    let notes = newest.into_iter().chain(back).flat_map(|row| row.notes.iter().cloned());
    let of_sources = environment.wanted.then(|| pins::notes(environment));
    suspended
        .into_iter()
        .chain(of_sources.into_iter().flatten())
        .chain(notes)
        .collect()
}

/// One that is over is told until something new is made.
fn of_suspension(suspension: &Suspension, last: Option<&GenerationRow>) -> Option<String> {
    let Some(until) = suspension.until else {
        return Some(format!(
            "It is stopped and its addresses are closed: {}. It runs again as soon as that is over.",
            suspension.reason
        ));
    };
    if last.is_some_and(|last| last.created > until) {
        return None;
    }
    let minutes = until.since(suspension.since).as_secs() / 60;
    let long = match minutes / 60 {
        0 => format!("{minutes} min"),
        hours => format!("{hours} h"),
    };
    Some(format!(
        "It was stopped for {long} and runs again: {}.",
        suspension.reason
    ))
}
