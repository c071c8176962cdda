//! What an environment did at its door, with the line of policy that would allow what was refused.

use api::{DoorView, PassedView, RefusedView};
use model::{DoorFact, PassedFact, RefusedFact};

/// `trusted` is false where the policy's list does not hold for the commit.
pub(super) fn door(fact: &DoorFact, trusted: bool) -> DoorView {
    let passed = |passed: &PassedFact| PassedView {
        name: passed.name.clone(),
        port: passed.port,
        connections: passed.connections,
        failed: passed.failed,
        failure: passed.failure.clone(),
        sent: passed.sent,
        received: passed.received,
    };
    let refused = |refused: &RefusedFact| {
        // Also over what the runtime says: nobody is told how to open something for a stranger's commit.
        let untrusted = (!trusted).then(|| "nobody who may push has pushed this commit: it reaches nothing".to_owned());
        let why = untrusted.or_else(|| refused.why.clone());
        RefusedView {
            allow: why.is_none().then(|| line(&refused.name, refused.port)),
            name: refused.name.clone(),
            port: refused.port,
            count: refused.count,
            last: refused.last,
            udp: refused.udp,
            from: refused.from.as_ref().map(ToString::to_string),
            why,
        }
    };
    DoorView {
        passed: fact.passed.iter().map(passed).collect(),
        refused: fact.refused.iter().map(refused).collect(),
        refused_more: fact.refused_more,
        closed: fact.closed.clone(),
    }
}

fn line(name: &str, port: Option<u16>) -> String {
    match port {
        Some(port) => format!("egress: [\"{name}:{port}\"]"),
        None => format!("egress: [{name}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;

    #[test]
    fn a_line_is_told_only_where_it_would_help() {
        let refused = |port, why: Option<&str>| RefusedFact {
            name: "api.stripe.com".to_owned(),
            port,
            count: 2,
            last: Timestamp(1),
            why: why.map(str::to_owned),
            udp: false,
            from: None,
        };
        let fact = DoorFact {
            refused: vec![
                refused(None, None),
                refused(Some(80), None),
                refused(None, Some("internal")),
            ],
            ..DoorFact::default()
        };
        let lines = |trusted| {
            let view = door(&fact, trusted);
            view.refused
                .into_iter()
                .map(|refused| refused.allow)
                .collect::<Vec<_>>()
        };
        let told = ["egress: [api.stripe.com]", "egress: [\"api.stripe.com:80\"]"].map(|line| Some(line.to_owned()));
        assert_eq!(lines(true)[..2], told);
        assert_eq!(lines(true)[2], None);
        assert_eq!(lines(false), [None, None, None]);
        let strangers = door(&fact, false).refused;
        let reaches_nothing = |refused: &RefusedView| {
            refused
                .why
                .as_deref()
                .is_some_and(|why| why.contains("it reaches nothing"))
        };
        assert!(strangers.iter().all(reaches_nothing), "{strangers:?}");
    }
}
