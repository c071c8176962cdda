//! What the demo did, as one JSON document: each step, how long it took, and what was verified from outside.

use serde::{Deserialize, Serialize};
use std::time::Instant;

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Its name.
    pub(crate) step: String,
    /// How long it took, in milliseconds.
    pub(crate) ms: u64,
    /// What was seen to be so.
    pub(crate) verified: Vec<String>,
}

/// The whole document.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Whether every step was verified.
    pub(crate) ok: bool,
    /// The environment of the pull request.
    pub(crate) environment: Option<String>,
    /// The spares that were made and that no pull request has adopted.
    #[serde(default)]
    pub(crate) spares: Vec<String>,
    /// The steps, in order.
    pub(crate) steps: Vec<Step>,
    /// Why it is not ok.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) failure: Option<String>,
}

impl Report {
    /// Notes a step that began at `since`.
    pub(crate) fn done<S: Into<String>>(&mut self, step: &str, since: Instant, verified: impl IntoIterator<Item = S>) {
        let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let verified = verified.into_iter().map(Into::into).collect();
        self.steps.push(Step {
            step: step.to_owned(),
            ms,
            verified,
        });
    }
}
