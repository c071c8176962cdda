//! Paths of a Compose file that lies in a folder, written from the root of the repository, so that files of several folders can
//! be put together.

use super::unique::change;
use crate::{
    escape::quoted,
    problem::Report,
    tree::{self, PathError},
    yaml::{Key, Node, NodeKind},
};
use std::{collections::BTreeSet, rc::Rc};

/// What a path at some place of a file looks like.
#[derive(Clone, Copy)]
enum Form {
    /// A path.
    Path,
    /// A path, or the address of something else.
    PathOrAddress,
    /// `source:target[:options]`, where the source may be the name of a volume.
    Mount,
}

fn form(path: &[&str]) -> Option<Form> {
    Some(match path {
        ["configs" | "secrets", _, "file"] => Form::Path,
        ["services", _, rest @ ..] => match rest {
            ["build"] | ["build", "context"] | ["build", "additional_contexts", ..] => Form::PathOrAddress,
            ["env_file" | "label_file"]
            | ["env_file" | "label_file", "[]"]
            | ["env_file", "[]", "path"]
            | ["extends", "file"]
            | ["credential_spec", "file"]
            | ["develop", "watch", "[]", "path"] => Form::Path,
            ["volumes", "[]"] | ["volumes", "[]", "source"] => Form::Mount,
            _ => return None,
        },
        _ => return None,
    })
}

/// The tree with its paths written from the root of the repository.
pub(super) fn rooted(report: &Report, root: &Rc<Node>, folder: &str, elsewhere: &BTreeSet<String>) -> Rc<Node> {
    if folder.is_empty() {
        return Rc::clone(root);
    }
    let walk = Walk {
        report,
        folder,
        elsewhere,
    };
    walk.node(root, &mut Vec::new())
}

/// The tree with the folder of its application wherever a build names no context.
pub(super) fn with_contexts(root: &Rc<Node>, folder: &str, elsewhere: &BTreeSet<String>) -> Rc<Node> {
    if folder.is_empty() {
        return Rc::clone(root);
    }
    let build = |node: &Rc<Node>| match &node.kind {
        NodeKind::Map(entries) if node.get("context").is_none() => {
            let key = Key {
                at: node.at,
                text: "context".to_owned(),
            };
            let mut entries = entries.clone();
            entries.push((key, Node::text(node.at, format!("./{folder}"))));
            Rc::new(Node {
                kind: NodeKind::Map(entries),
                ..(**node).clone()
            })
        }
        _ => Rc::clone(node),
    };
    change(root, "services", |services| {
        let NodeKind::Map(entries) = &services.kind else {
            return Rc::clone(services);
        };
        let entries = entries
            .iter()
            .map(|(key, service)| match elsewhere.contains(&key.text) {
                true => (key.clone(), Rc::clone(service)),
                false => (key.clone(), change(service, "build", build)),
            })
            .collect();
        Rc::new(Node {
            kind: NodeKind::Map(entries),
            ..(**services).clone()
        })
    })
}

struct Walk<'a> {
    report: &'a Report,
    folder: &'a str,
    /// Services whose builds and mounts are of another repository: their paths start from its root.
    elsewhere: &'a BTreeSet<String>,
}

impl Walk<'_> {
    fn node<'n>(&self, node: &'n Rc<Node>, path: &mut Vec<&'n str>) -> Rc<Node> {
        // Nothing below this depth is a path.
        if path.len() > 6 || !matches!(path.first(), None | Some(&("services" | "configs" | "secrets"))) {
            return Rc::clone(node);
        }
        if matches!(path[..], ["services", name, "build" | "volumes"] if self.elsewhere.contains(name)) {
            return Rc::clone(node);
        }
        let kind = match &node.kind {
            NodeKind::Scalar { text, plain } => {
                let Some(form) = form(path) else {
                    return Rc::clone(node);
                };
                NodeKind::Scalar {
                    text: self.text(node, text, form, path.ends_with(&["[]"])),
                    plain: *plain,
                }
            }
            NodeKind::List(items) => {
                path.push("[]");
                let items = items.iter().map(|item| self.node(item, path)).collect();
                path.pop();
                NodeKind::List(items)
            }
            NodeKind::Map(entries) => {
                let named =
                    matches!(entries.iter().find(|(key, _)| key.text == "type"), Some((_, kind)) if !is_bind(kind));
                if named && matches!(path[..], ["services", _, "volumes", "[]"]) {
                    return Rc::clone(node);
                }
                let mut all: Vec<(Key, Rc<Node>)> = Vec::new();
                for (key, value) in entries {
                    path.push(&key.text);
                    all.push((key.clone(), self.node(value, path)));
                    path.pop();
                }
                NodeKind::Map(all)
            }
            NodeKind::Null => return Rc::clone(node),
        };
        Rc::new(Node {
            at: node.at,
            kind,
            mark: node.mark,
        })
    }

    fn text(&self, node: &Node, text: &str, form: Form, item: bool) -> String {
        match form {
            Form::Path => self.path(node, text),
            Form::PathOrAddress => {
                // A list of contexts has `name=path` items.
                let (name, path) = match text.split_once('=').filter(|_| item) {
                    Some((name, path)) => (format!("{name}="), path),
                    None => (String::new(), text),
                };
                if is_address(path) {
                    return text.to_owned();
                }
                name + &self.path(node, path)
            }
            Form::Mount if item => match text.split_once(':') {
                Some((source, rest)) if super::mounts::is_path(source) => {
                    format!("{}:{rest}", self.path(node, source))
                }
                _ => text.to_owned(),
            },
            Form::Mount => self.path(node, text),
        }
    }

    fn path(&self, node: &Node, text: &str) -> String {
        match tree::join(self.folder, text) {
            Ok(path) => format!("./{path}"),
            Err(error @ PathError::Escapes) => {
                self.report.error(node.at, format!("{} {error}", quoted(text)));
                ".".to_owned()
            }
            // Whoever reads it says what is wrong with it.
            Err(_) => text.to_owned(),
        }
    }
}

fn is_bind(node: &Node) -> bool {
    matches!(&node.kind, NodeKind::Scalar { text, .. } if text == "bind")
}

/// Whether something names a thing that is no folder of the repository.
pub(super) fn is_address(text: &str) -> bool {
    text.contains("://") || text.starts_with("service:") || text.starts_with("git@") || text.starts_with("github.com/")
}
