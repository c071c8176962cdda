//! `environment` and `env_file`.

use super::Scene;
use crate::{
    dotenv,
    escape::quoted,
    interpolate::Values,
    problem::At,
    read, tree,
    yaml::{Node, NodeKind},
};
use std::collections::BTreeMap;

/// The most files of one service.
const FILES_MAX: usize = 20;

type Environment = BTreeMap<String, (At, String)>;

/// A mapping, or a list of `NAME=value`. A name without a value takes the documented value of that name, if there is one.
pub(super) fn read(scene: &Scene<'_>, node: &Node, what: &str) -> Environment {
    let mut out = Environment::new();
    match &node.kind {
        NodeKind::List(_) => {
            for (at, line) in read::texts(scene.report, node, what, false).unwrap_or_default() {
                match line.split_once('=') {
                    Some((name, value)) => insert(scene, &mut out, at, name, value.to_owned()),
                    None => inherit(scene, &mut out, at, &line),
                }
            }
        }
        _ => {
            for (key, value) in read::map(scene.report, node, what).unwrap_or_default() {
                if matches!(value.kind, NodeKind::Null) {
                    inherit(scene, &mut out, key.at, &key.text);
                } else if let Some(text) = read::text(scene.report, value, &format!("{} in {what}", quoted(&key.text)))
                {
                    insert(scene, &mut out, key.at, &key.text, text.to_owned());
                }
            }
        }
    }
    out
}

fn insert(scene: &Scene<'_>, out: &mut Environment, at: At, name: &str, value: String) {
    if dotenv::is_name(name) {
        out.insert(name.to_owned(), (at, value));
    } else {
        scene.report.error(
            at,
            format!("{} can not be the name of an environment variable", quoted(name)),
        );
    }
}

fn inherit(scene: &Scene<'_>, out: &mut Environment, at: At, name: &str) {
    match scene.values.get(name) {
        Some(value) => insert(scene, out, at, name, value.clone()),
        None => scene.report.warn_hint(
            at,
            format!("{} has no value and is left out", quoted(name)),
            "give it a value here or in the file `.env` beside the Compose file",
        ),
    }
}

/// The variables of all files that `env_file` names; a later file wins.
pub(super) fn files(scene: &Scene<'_>, node: &Node) -> Environment {
    let report = scene.report;
    let mut out = Environment::new();
    let single = std::slice::from_ref(node);
    let items: Vec<&Node> = match &node.kind {
        NodeKind::List(items) => items.iter().map(|item| &**item).collect(),
        _ => single.iter().collect(),
    };
    if items.len() > FILES_MAX {
        report.error(node.at, format!("`env_file` names more than {FILES_MAX} files"));
        return out;
    }
    for item in items {
        let required = match item.get("required") {
            Some(node) => read::flag(report, node, "`required`").unwrap_or(true),
            None => true,
        };
        let path = match &item.kind {
            NodeKind::Map(entries) => {
                for (key, _) in entries {
                    if !matches!(key.text.as_str(), "path" | "required") {
                        read::unknown_key(report, key, "in `env_file`", &["path", "required"]);
                    }
                }
                item.get("path").map(|node| &**node)
            }
            _ => Some(item),
        };
        let Some(path) = path.and_then(|node| read::text(report, node, "`env_file`")) else {
            continue;
        };
        match tree::join(scene.folder, path).and_then(|path| tree::text(scene.tree, &path).map(|text| (path, text))) {
            Ok((path, text)) => {
                let file = crate::problem::Report::new(report.whose, &path, text);
                let found: Values = dotenv::read(&file, scene.values);
                for problem in file.take() {
                    let line = problem.line.unwrap_or_default();
                    let message = format!("{}: line {line}: {}", file.file, problem.message);
                    match problem.hint {
                        Some(hint) => report.error_hint(item.at, message, hint),
                        None => report.error(item.at, message),
                    }
                }
                out.extend(found.into_iter().map(|(name, value)| (name, (item.at, value))));
            }
            Err(tree::PathError::Missing) if !required => {}
            Err(error) => report.error(item.at, format!("{} {error}", quoted(path))),
        }
    }
    out
}
