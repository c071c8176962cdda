//! Which services of its stack an environment runs: what somebody wants it without, and with although the stack leaves it out.

use model::ServiceName;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store::EnvironmentRow;

const WITHOUT: &str = "without";
const WITH: &str = "with";

/// What somebody wants of one environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Left out, whatever the stack says.
    pub(crate) without: BTreeSet<ServiceName>,
    /// Run, although the stack leaves them out.
    pub(crate) with: BTreeSet<ServiceName>,
}

impl Scope {
    /// What was asked for so far.
    pub(crate) fn of(environment: &EnvironmentRow) -> Self {
        let read = |key| {
            let given = environment.overrides.get(key).cloned().unwrap_or_default();
            serde_json::from_value(given).unwrap_or_default()
        };
        Self {
            without: read(WITHOUT),
            with: read(WITH),
        }
    }

    /// The same with a further wish. The newest wish about a service counts.
    pub(crate) fn changed(mut self, without: &BTreeSet<ServiceName>, with: &BTreeSet<ServiceName>) -> Self {
        self.with.retain(|name| !without.contains(name));
        self.without.retain(|name| !with.contains(name));
        self.without.extend(without.iter().cloned());
        self.with.extend(with.iter().cloned());
        self
    }

    /// The overrides of an environment with this scope.
    pub(crate) fn write(&self, environment: &EnvironmentRow) -> Value {
        let mut overrides = environment.overrides.clone();
        if let Some(fields) = overrides.as_object_mut() {
            for (key, names) in [(WITHOUT, &self.without), (WITH, &self.with)] {
                if names.is_empty() {
                    fields.remove(key);
                } else {
                    fields.insert(key.to_owned(), json!(names));
                }
            }
        }
        overrides
    }
}
