//! What is shown: read from the store and the runtime, never kept.

mod door;
mod environment;
mod job;
mod progress;
mod receipt;

pub(crate) use environment::{environment, environment_list, public_services};
pub(crate) use job::{job_run, jobs};
pub(crate) use progress::{events, events_of_project, steps, why};
pub(crate) use receipt::ledger;

use api::FailureView;
use store::Failure;

fn failure(failure: &Failure) -> FailureView {
    FailureView {
        step: failure.step.clone(),
        message: failure.message.clone(),
        hint: failure.hint.clone(),
        log: failure.log.clone(),
    }
}
