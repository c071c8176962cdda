//! `environment` and `env_file`.

use super::{Scene, keys};
use crate::{
    dotenv::{self, Style},
    escape::quoted,
    problem::At,
    read, tree,
    yaml::{Node, NodeKind},
};
use std::collections::{BTreeMap, BTreeSet};

/// The most files of one service.
const FILES_MAX: usize = 20;
/// The most text of their variables together, in bytes.
const FILES_BYTES_MAX: usize = 256 * 1024;

type Environment = BTreeMap<String, (At, String)>;

/// A mapping, or a list of `NAME=value`. A name without a value takes the documented value of that name; those that have none
/// are told apart.
pub(super) fn read(scene: &Scene<'_>, node: &Node, what: &str) -> (Environment, BTreeSet<String>) {
    let (mut out, mut unset) = (Environment::new(), BTreeSet::new());
    match &node.kind {
        NodeKind::List(_) => {
            for (at, line) in read::texts(scene.report, node, what, false).unwrap_or_default() {
                match line.split_once('=') {
                    Some((name, value)) => insert(scene, &mut out, at, name, value.to_owned()),
                    None => inherit(scene, &mut out, &mut unset, at, &line),
                }
            }
        }
        _ => {
            for (key, value) in read::map(scene.report, node, what).unwrap_or_default() {
                if matches!(value.kind, NodeKind::Null) {
                    inherit(scene, &mut out, &mut unset, key.at, &key.text);
                } else if let Some(text) = read::text(scene.report, value, &format!("{} in {what}", quoted(&key.text)))
                {
                    insert(scene, &mut out, key.at, &key.text, text.to_owned());
                }
            }
        }
    }
    (out, unset)
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

fn inherit(scene: &Scene<'_>, out: &mut Environment, unset: &mut BTreeSet<String>, at: At, name: &str) {
    match scene.scope.get(name) {
        Some(value) => insert(scene, out, at, name, value.to_owned()),
        None => {
            unset.insert(name.to_owned());
            scene.report.warn_hint(
                at,
                format!("{} has no value and is left out", quoted(name)),
                "give it a value here or in the file `.env` beside the Compose file",
            );
        }
    }
}

/// The variables of all files that `env_file` names; a later file wins.
pub(super) fn files(scene: &Scene<'_>, node: &Node) -> Environment {
    let report = scene.report;
    let mut out = Environment::new();
    let single = std::slice::from_ref(node);
    let items: Vec<&Node> = match &node.kind {
        NodeKind::List(items) => items.iter().map(|item| &**item).collect(),
        NodeKind::Null => return out,
        _ => single.iter().collect(),
    };
    if items.len() > FILES_MAX {
        report.error(node.at, format!("`env_file` names more than {FILES_MAX} files"));
        return out;
    }
    for item in items {
        if let Some(named) = named(scene, item) {
            variables(scene, item, &named, &mut out);
        }
        let size: usize = out.iter().map(|(name, (_, value))| name.len() + value.len()).sum();
        if size > FILES_BYTES_MAX {
            report.error(
                node.at,
                format!("the files of `env_file` hold more than {FILES_BYTES_MAX} bytes"),
            );
            break;
        }
    }
    out
}

struct Named<'a> {
    path: &'a str,
    required: bool,
    style: Style,
}

fn named<'a>(scene: &Scene<'_>, item: &'a Node) -> Option<Named<'a>> {
    let report = scene.report;
    let (mut path, mut required, mut style) = (None, true, Style::Compose);
    let NodeKind::Map(entries) = &item.kind else {
        path = read::text(report, item, "`env_file`");
        return path.map(|path| Named { path, required, style });
    };
    for (key, value) in entries {
        if !keys::admit(report, "services.*.env_file[]", key, "in `env_file`") {
            continue;
        }
        match key.text.as_str() {
            "path" => path = read::text(report, value, "`path` in `env_file`"),
            "required" => required = read::flag(report, value, "`required`").unwrap_or(true),
            _ => match read::text(report, value, "`format` in `env_file`") {
                Some("raw") => style = Style::Raw,
                Some("") | None => {}
                Some(other) => report.error_hint(
                    value.at,
                    format!("unknown value {} of `format`", quoted(other)),
                    crate::suggest::hint(other, &["raw"]),
                ),
            },
        }
    }
    if path.is_none() {
        report.error(item.at, "an entry of `env_file` has no `path`");
    }
    Some(Named {
        path: path?,
        required,
        style,
    })
}

fn variables(scene: &Scene<'_>, item: &Node, named: &Named<'_>, out: &mut Environment) {
    let report = scene.report;
    let found =
        tree::join(scene.folder, named.path).and_then(|path| tree::text(scene.tree, &path).map(|text| (path, text)));
    match found {
        Ok((path, text)) => {
            let file = report.add(&path, text, &format!("`env_file` of {}", report.name(item.at)));
            for line in dotenv::read(report, file, scene.scope, named.style) {
                out.insert(line.name, (line.at, line.value));
            }
        }
        Err(tree::PathError::Missing) if !named.required => {}
        Err(error) => {
            let hint = match error {
                tree::PathError::Missing => {
                    "commit it, or say `required: false`: `env_file: [{ path: …, required: false }]`"
                }
                _ => "use a file of the repository",
            };
            report.error_hint(item.at, format!("{} {error}", quoted(named.path)), hint);
        }
    }
}
