//! `depends_on` of a service.

use super::{Scene, keys};
use crate::{
    escape::quoted,
    problem::At,
    read,
    yaml::{Node, NodeKind},
};
use model::Condition;

/// A service that another one needs.
#[derive(Debug)]
pub(crate) struct Need {
    pub(crate) at: At,
    pub(crate) name: String,
    pub(crate) condition: Condition,
    /// Whether its absence is an error.
    pub(crate) required: bool,
    /// Whether its change starts the other one again.
    pub(crate) restart: bool,
}

impl Need {
    /// A need that says nothing further.
    pub(super) fn plain(at: At, name: String) -> Self {
        Self {
            at,
            name,
            condition: Condition::Started,
            required: true,
            restart: false,
        }
    }
}

pub(super) fn read(scene: &Scene<'_>, node: &Node, what: &str) -> Vec<Need> {
    let report = scene.report;
    if let NodeKind::List(_) = node.kind {
        let names = read::texts(report, node, what, false).unwrap_or_default();
        return names.into_iter().map(|(at, name)| Need::plain(at, name)).collect();
    }
    let mut needs = Vec::new();
    for (key, value) in read::map(report, node, what).unwrap_or_default() {
        if key.text.starts_with("x-") && matches!(value.kind, NodeKind::Null) {
            continue;
        }
        let mut need = Need::plain(key.at, key.text.clone());
        let of = format!("in {what}");
        for (option, value) in read::map(report, value, &format!("{} in {what}", quoted(&key.text))).unwrap_or_default()
        {
            if !keys::admit(report, "services.*.depends_on.*", option, &of) {
                continue;
            }
            match option.text.as_str() {
                "condition" => need.condition = condition(scene, value).unwrap_or(Condition::Started),
                "required" => need.required = read::flag(report, value, "`required`").unwrap_or(true),
                _ => need.restart = read::flag(report, value, "`restart`").unwrap_or_default(),
            }
        }
        needs.push(need);
    }
    needs
}

fn condition(scene: &Scene<'_>, node: &Node) -> Option<Condition> {
    let known = ["service_started", "service_healthy", "service_completed_successfully"];
    match read::text(scene.report, node, "`condition`")? {
        "service_started" => Some(Condition::Started),
        "service_healthy" => Some(Condition::Healthy),
        "service_completed_successfully" => Some(Condition::Completed),
        other => {
            let hint = crate::suggest::hint(other, &known);
            scene
                .report
                .error_hint(node.at, format!("unknown condition {}", quoted(other)), hint);
            None
        }
    }
}
