//! Which services of its stack an environment runs: what somebody wants it without, and with although the stack leaves it out.

use model::{Endpoint, ServiceName};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use store::EnvironmentRow;

const WITHOUT: &str = "without";
const WITH: &str = "with";
const ENDPOINTS: &str = "endpoints";

/// What somebody wants of one environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Left out, whatever the stack says.
    pub without: BTreeSet<ServiceName>,
    /// Run, although the stack leaves them out.
    pub with: BTreeSet<ServiceName>,
    /// Where services are found that are left out.
    pub endpoints: BTreeMap<ServiceName, Endpoint>,
}

impl Scope {
    /// What was asked for so far.
    pub(crate) fn of(environment: &EnvironmentRow) -> Self {
        let given = |key| environment.overrides.get(key).cloned().unwrap_or_default();
        let read = |key| serde_json::from_value(given(key)).unwrap_or_default();
        Self {
            without: read(WITHOUT),
            with: read(WITH),
            endpoints: serde_json::from_value(given(ENDPOINTS)).unwrap_or_default(),
        }
    }

    /// The same with a further wish. The newest wish about a service counts.
    pub(crate) fn changed(mut self, wish: &Self) -> Self {
        let Self {
            without,
            with,
            endpoints,
        } = wish;
        let out = |name: &ServiceName| without.contains(name) || endpoints.contains_key(name);
        self.with.retain(|name| !out(name));
        self.without.retain(|name| !with.contains(name));
        self.endpoints.retain(|name, _| !with.contains(name) && !out(name));
        self.endpoints.extend(
            endpoints
                .iter()
                .map(|(name, endpoint)| (name.clone(), endpoint.clone())),
        );
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
            fields.remove(ENDPOINTS);
            if !self.endpoints.is_empty() {
                fields.insert(ENDPOINTS.to_owned(), json!(self.endpoints));
            }
        }
        overrides
    }
}
