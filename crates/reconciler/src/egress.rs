//! What an environment may reach outside of itself: what the policy says, for commits that are trusted.

use crate::{context::Context, heads::PolicyHead, trust::Trust};
use model::{Egress, Endpoint, HostName, ServiceName};
use std::collections::BTreeMap;

/// The hosts and endpoints that an operator has put under one word, by that word.
pub type Presets = BTreeMap<String, Egress>;

/// Reads presets as an operator lists them.
///
/// # Errors
/// What is wrong with the first that can not be read, and what to do.
pub fn presets(listed: &BTreeMap<String, Vec<String>>) -> Result<Presets, (String, String)> {
    let read = |(word, hosts): (&String, &Vec<String>)| match blueprint::egress_preset(hosts) {
        Ok(hosts) => Ok((word.clone(), hosts)),
        Err((message, hint)) => Err((format!("{word}: {message}"), hint)),
    };
    listed.iter().map(read).collect()
}

/// What the policy allows an environment at the commit that it has.
pub(crate) fn granted(context: &Context, trust: Trust, policy: &PolicyHead) -> Egress {
    if trust == Trust::Approved {
        return Egress::default();
    }
    let mut egress = policy.policy.egress.clone();
    let known = &context.settings.presets;
    for preset in policy.policy.presets.iter().filter_map(|word| known.get(word)) {
        for (pattern, ports) in &preset.hosts {
            egress.hosts.entry(pattern.clone()).or_default().extend(ports);
        }
        for (name, endpoints) in &preset.private {
            egress.private.entry(name.clone()).or_default().extend(endpoints);
        }
    }
    egress
}

/// The same with the services that are found elsewhere; and what people should know of those that are not allowed.
pub(crate) fn with_endpoints(
    mut egress: Egress,
    endpoints: &BTreeMap<ServiceName, Endpoint>,
    trust: Trust,
) -> (Egress, Vec<String>) {
    let mut notes = Vec::new();
    for (service, endpoint) in endpoints {
        match service.as_str().parse::<HostName>() {
            Ok(name) if endpoint.is_allowed(&egress) => {
                egress.endpoints.insert(name, endpoint.clone());
            }
            _ => notes.push(match trust {
                Trust::Full => format!(
                    "{service} can not be found at {endpoint}: the policy does not allow it. In the policy: {}",
                    endpoint.line(service.as_str())
                ),
                Trust::Approved => format!(
                    "{service} can not be found at {endpoint}: nobody who may push has pushed this commit, so it reaches nothing."
                ),
            }),
        }
    }
    (egress, notes)
}

/// What people should know: presets that the server does not have.
pub(crate) fn notes(context: &Context, trust: Trust, policy: &PolicyHead) -> Vec<String> {
    let known = &context.settings.presets;
    let unknown = policy.policy.presets.iter().filter(|word| !known.contains_key(*word));
    let note = |word: &String| {
        format!(
            "`egress` names the preset `{word}`, which this server does not have: its operator lists hosts under `door.presets`."
        )
    };
    match trust {
        Trust::Full => unknown.map(note).collect(),
        Trust::Approved => Vec::new(),
    }
}
