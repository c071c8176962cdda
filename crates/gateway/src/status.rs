//! What the progress page asks for, once a second.

use crate::{
    answer,
    body::Reply,
    ports::{Route, RouteState, Step},
};
use http::Response;
use serde_json::{Value, json};
use std::time::SystemTime;

/// The state in a word.
pub(crate) fn word(state: &RouteState) -> &'static str {
    match state {
        RouteState::Live => "live",
        RouteState::Starting { .. } => "starting",
        RouteState::Failed { .. } => "failed",
        RouteState::Held { .. } => "held",
        RouteState::Sleeping => "sleeping",
        RouteState::Gone => "gone",
    }
}

/// Whole seconds that a step has been in its state.
pub(crate) fn seconds(step: &Step) -> Option<u64> {
    step.since
        .map(|since| SystemTime::now().duration_since(since).unwrap_or_default().as_secs())
}

/// The state of a route.
pub(crate) fn response(route: &Route) -> Response<Reply> {
    let steps: Vec<Value> = match &route.state {
        RouteState::Starting { steps } => steps
            .iter()
            .map(
                |step| json!({"name": step.name, "state": step.state, "detail": step.detail, "seconds": seconds(step)}),
            )
            .collect(),
        _ => Vec::new(),
    };
    let document = json!({"state": word(&route.state), "epoch": route.epoch, "steps": steps});
    answer::json(&document, "application/json")
}
