//! A whole application as JSON, for tools that compare it with what other readers make of the same files.

use super::{Scene, environment, profiles};
use crate::yaml::{Node, NodeKind};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The tree as JSON, with `env_file` of services carried out.
pub(crate) fn resolved(scene: &Scene<'_>) -> Value {
    let mut whole = json(scene.root);
    if let Value::Object(entries) = &mut whole {
        // What it names is in here already.
        entries.remove("include");
    }
    let Some(NodeKind::Map(services)) = scene.root.get("services").map(|node| &node.kind) else {
        return whole;
    };
    for (key, node) in services {
        let Some(Value::Object(service)) = whole.pointer_mut("/services").and_then(|all| all.get_mut(&key.text)) else {
            continue;
        };
        let own = node
            .get("environment")
            .map(|own| environment::read(scene, own, "`environment`"));
        let (mut all, unset) = own.unwrap_or_default();
        if let Some(files) = node.get("env_file") {
            for (name, value) in environment::files(scene, files) {
                if !unset.contains(&name) {
                    all.entry(name).or_insert(value);
                }
            }
        }
        service.remove("env_file");
        service.remove("environment");
        if !all.is_empty() {
            let all: Map<String, Value> = all.into_iter().map(|(name, (_, value))| (name, json!(value))).collect();
            service.insert("environment".to_owned(), Value::Object(all));
        }
    }
    whole
}

/// The services that have no profile, or one that is chosen.
pub(crate) fn chosen(scene: &Scene<'_>) -> BTreeSet<String> {
    let Some(NodeKind::Map(services)) = scene.root.get("services").map(|node| &node.kind) else {
        return BTreeSet::new();
    };
    let services = services.iter().filter(|(key, _)| !key.text.starts_with("x-"));
    services
        .filter(|(key, node)| profiles::chosen(scene, key, node))
        .map(|(key, _)| key.text.clone())
        .collect()
}

fn json(node: &Node) -> Value {
    match &node.kind {
        NodeKind::Null => Value::Null,
        NodeKind::Scalar { text, plain: true } => plain(text),
        NodeKind::Scalar { text, .. } => json!(text),
        NodeKind::List(items) => items.iter().map(|item| json(item)).collect(),
        NodeKind::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.text.clone(), json(value)))
            .collect::<Map<String, Value>>()
            .into(),
    }
}

/// Numbers and truth values as YAML reads them.
fn plain(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => return json!(true),
        "false" | "False" | "FALSE" => return json!(false),
        _ => {}
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i64::from_str_radix(digits, 8).map_or_else(|_| json!(text), |number| json!(number));
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<i64>() {
        Ok(number) if whole && (digits == "0" || !digits.starts_with('0')) => json!(number),
        _ if whole && digits.len() > 1 && digits.starts_with('0') => {
            i64::from_str_radix(digits, 8).map_or_else(|_| json!(text), |number| json!(number))
        }
        _ => match text.parse::<f64>() {
            Ok(number) if text.contains('.') && digits.starts_with(|c: char| c.is_ascii_digit()) => json!(number),
            _ => json!(text),
        },
    }
}
