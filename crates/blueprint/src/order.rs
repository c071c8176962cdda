//! Dependencies between services: they exist, and they have an order.

use crate::{
    compose::{self, LeftOut, Need},
    escape::quoted,
    problem::Report,
    suggest,
};
use std::collections::{BTreeMap, BTreeSet};

/// Checks that every dependency exists and that there is no cycle; each cycle is told once.
pub(crate) fn check(report: &Report, file: &compose::File) {
    let names: Vec<&str> = file.services.iter().map(|service| service.name.as_str()).collect();
    let mut graph: BTreeMap<&str, Vec<(&str, crate::problem::At)>> = BTreeMap::new();
    for service in &file.services {
        let needs = graph.entry(service.name.as_str()).or_default();
        for Need {
            at,
            name: need,
            required,
            ..
        } in &service.body.depends_on
        {
            if let Some(known) = names.iter().find(|name| *name == need) {
                needs.push((known, *at));
            } else if !required || file.unreadable.contains(need) {
                // Nothing to wait for, or nothing to add.
            } else if let Some((_, why)) = file.left_out.iter().find(|(name, _)| name == need) {
                let (why, hint) = match why {
                    // Whoever leaves a service out wants the others without it.
                    LeftOut::Wish => continue,
                    LeftOut::Profile => (
                        "belongs to a profile that is not chosen",
                        "say `required: false`, or name the profile under `stack.profiles` of maquette.yaml",
                    ),
                    LeftOut::Replicas => ("has no replicas", "say `required: false`"),
                };
                let message = format!("service `{}` depends on `{need}`, which {why}", service.name);
                report.error_hint(*at, message, hint);
            } else {
                let message = format!(
                    "service `{}` depends on {}, which does not exist",
                    service.name,
                    quoted(need)
                );
                report.error_hint(*at, message, suggest::hint(need, &names));
            }
        }
    }
    let mut done = BTreeSet::new();
    for name in names {
        visit(report, &graph, name, &mut Vec::new(), &mut done);
    }
}

/// Follows dependencies; the number of services bounds the depth.
fn visit<'a>(
    report: &Report,
    graph: &BTreeMap<&'a str, Vec<(&'a str, crate::problem::At)>>,
    name: &'a str,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) {
    if done.contains(name) {
        return;
    }
    way.push(name);
    for (need, at) in graph.get(name).into_iter().flatten() {
        if let Some(start) = way.iter().position(|step| step == need) {
            let mut circle: Vec<String> = way[start..].iter().map(|step| quoted(step)).collect();
            circle.push(quoted(need));
            let message = format!("services depend on each other in a circle: {}", circle.join(" → "));
            report.error_hint(*at, message, "remove one of these dependencies");
        } else {
            visit(report, graph, need, way, done);
        }
    }
    way.pop();
    done.insert(name);
}
