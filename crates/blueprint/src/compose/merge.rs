//! How Compose files are put together: what a later one says over what an earlier one said, for overrides, `extends` and
//! `include` alike.

use crate::{
    problem::{At, Report},
    yaml::{Key, Mark, Node, NodeKind},
};
use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

type Entries = Vec<(Key, Rc<Node>)>;

/// How two values of a key become one.
enum Rule {
    /// Mappings key by key, lists one behind the other, else the later one.
    Default,
    /// The later one.
    Replace,
    /// `NAME=value` in a list or a mapping: name by name.
    Pairs,
    /// Lists one behind the other, where a single text or a mapping is a list too.
    Sequence,
    /// Names in a list are mappings without content.
    Names,
    /// As `Names`; a name in a list says the defaults.
    Needs,
    /// A text is `context`.
    Build,
    /// Options of another driver are none of this one.
    Logging,
    /// A number and a mapping replace each other.
    Ulimit,
}

fn rule(path: &[String]) -> Rule {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["services", _, ref rest @ ..] => match *rest {
            ["command" | "entrypoint"] | ["healthcheck", "test"] => Rule::Replace,
            ["environment" | "labels" | "annotations" | "sysctls"]
            | ["build", "args" | "labels" | "additional_contexts"]
            | ["deploy", "labels"] => Rule::Pairs,
            ["dns" | "dns_opt" | "dns_search" | "env_file" | "label_file" | "tmpfs" | "extra_hosts"]
            | ["build", "extra_hosts"] => Rule::Sequence,
            ["networks" | "models"] => Rule::Names,
            ["depends_on"] => Rule::Needs,
            ["build"] => Rule::Build,
            ["logging"] => Rule::Logging,
            ["ulimits", _] => Rule::Ulimit,
            _ => Rule::Default,
        },
        ["networks" | "volumes" | "secrets" | "configs", _, "labels"] => Rule::Pairs,
        _ => Rule::Default,
    }
}

/// Puts trees together and tells what does not fit.
pub(super) struct Merger<'a> {
    pub(super) report: &'a Report,
    path: Vec<String>,
}

impl<'a> Merger<'a> {
    /// For trees that stand at this path of a Compose file.
    pub(super) fn at(report: &'a Report, path: &[&str]) -> Self {
        Self {
            report,
            path: path.iter().map(|part| (*part).to_owned()).collect(),
        }
    }

    /// What the later tree says over what the earlier one says.
    pub(super) fn merge(&mut self, earlier: &Rc<Node>, later: &Rc<Node>) -> Rc<Node> {
        if later.mark != Mark::None {
            return Rc::clone(later);
        }
        match rule(&self.path) {
            Rule::Replace => Rc::clone(later),
            Rule::Pairs => self.converted(earlier, later, pairs),
            Rule::Names => self.converted(earlier, later, |node| names(node, false)),
            Rule::Needs => self.converted(earlier, later, |node| names(node, true)),
            Rule::Build => self.converted(earlier, later, build),
            Rule::Sequence => match (sequence(earlier), sequence(later)) {
                (Some(a), Some(b)) => Rc::new(Node {
                    kind: NodeKind::List(append(&a, &b)),
                    ..(**earlier).clone()
                }),
                (None, _) => Rc::clone(earlier),
                (_, None) => Rc::clone(later),
            },
            Rule::Logging => {
                let driver = |node: &Node| node.get("driver").and_then(|driver| scalar(driver).map(str::to_owned));
                match (driver(earlier), driver(later)) {
                    (Some(a), Some(b)) if a != b => Rc::clone(later),
                    _ => self.plain(earlier, later),
                }
            }
            Rule::Ulimit => match (&earlier.kind, &later.kind) {
                (NodeKind::Map(_), NodeKind::Map(_)) => self.plain(earlier, later),
                _ => Rc::clone(later),
            },
            Rule::Default => self.plain(earlier, later),
        }
    }

    fn plain(&mut self, earlier: &Rc<Node>, later: &Rc<Node>) -> Rc<Node> {
        match (&earlier.kind, &later.kind) {
            (_, NodeKind::Null) => Rc::clone(earlier),
            (NodeKind::Map(a), NodeKind::Map(b)) => self.mappings(earlier, a, b, false),
            (NodeKind::List(a), NodeKind::List(b)) => Rc::new(Node {
                kind: NodeKind::List(append(a, b)),
                ..(**earlier).clone()
            }),
            (NodeKind::Map(_) | NodeKind::List(_), _) => {
                let message = format!(
                    "`{}` is {} here, and {} in {}, so that they can not be put together",
                    self.path.last().map_or("the file", String::as_str),
                    later.what(),
                    earlier.what(),
                    self.report.name(earlier.at),
                );
                self.report.error_hint(
                    later.at,
                    message,
                    "write both in the same form, or `!override` before this one",
                );
                Rc::clone(earlier)
            }
            _ => Rc::clone(later),
        }
    }

    /// Entry by entry, in the order of the earlier mapping. `nothing` says that an empty value counts.
    fn mappings(&mut self, earlier: &Node, a: &[(Key, Rc<Node>)], b: &[(Key, Rc<Node>)], nothing: bool) -> Rc<Node> {
        let mut entries: Entries = a.to_vec();
        let places: HashMap<&str, usize> = a
            .iter()
            .enumerate()
            .map(|(place, (key, _))| (key.text.as_str(), place))
            .collect();
        for (key, node) in b {
            match places.get(key.text.as_str()) {
                Some(place) => {
                    let there = &mut entries[*place];
                    if nothing && node.mark == Mark::None {
                        *there = (key.clone(), Rc::clone(node));
                        continue;
                    }
                    self.path.push(key.text.clone());
                    there.1 = self.merge(&there.1, node);
                    self.path.pop();
                }
                None => entries.push((key.clone(), Rc::clone(node))),
            }
        }
        Rc::new(Node {
            at: earlier.at,
            kind: NodeKind::Map(entries),
            mark: earlier.mark,
        })
    }

    /// Merges mappings into which both are turned; what can't be is left for the reader to complain of.
    fn converted(
        &mut self,
        earlier: &Rc<Node>,
        later: &Rc<Node>,
        convert: impl Fn(&Node) -> Option<Entries>,
    ) -> Rc<Node> {
        let whole = matches!(rule(&self.path), Rule::Pairs);
        match (convert(earlier), convert(later)) {
            (Some(a), Some(b)) => self.mappings(earlier, &a, &b, whole),
            (None, _) => Rc::clone(earlier),
            (_, None) => Rc::clone(later),
        }
    }
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.kind {
        NodeKind::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn key(at: At, text: &str) -> Key {
    Key {
        at,
        text: text.to_owned(),
    }
}

/// `NAME=value` items as a mapping; a later one of the same name wins.
pub(super) fn pairs(node: &Node) -> Option<Entries> {
    match &node.kind {
        NodeKind::Null => Some(Vec::new()),
        NodeKind::Map(entries) => Some(entries.clone()),
        NodeKind::List(items) => {
            let mut entries: Entries = Vec::new();
            let mut places: HashMap<String, usize> = HashMap::new();
            for item in items {
                let text = scalar(item)?;
                let entry = match text.split_once('=') {
                    Some((name, value)) => (key(item.at, name), Node::text(item.at, value)),
                    None => (key(item.at, text), Rc::new(Node::new(item.at, NodeKind::Null))),
                };
                match places.get(&entry.0.text) {
                    Some(place) => entries[*place] = entry,
                    None => {
                        places.insert(entry.0.text.clone(), entries.len());
                        entries.push(entry);
                    }
                }
            }
            Some(entries)
        }
        NodeKind::Scalar { .. } => None,
    }
}

fn names(node: &Node, needs: bool) -> Option<Entries> {
    match &node.kind {
        NodeKind::Null => Some(Vec::new()),
        NodeKind::Map(entries) => Some(entries.clone()),
        NodeKind::List(items) => items
            .iter()
            .map(|item| {
                let kind = if needs {
                    NodeKind::Map(vec![
                        (key(item.at, "condition"), Node::text(item.at, "service_started")),
                        (key(item.at, "required"), Node::text(item.at, "true")),
                    ])
                } else {
                    NodeKind::Null
                };
                Some((key(item.at, scalar(item)?), Rc::new(Node::new(item.at, kind))))
            })
            .collect(),
        NodeKind::Scalar { .. } => None,
    }
}

fn build(node: &Node) -> Option<Entries> {
    match &node.kind {
        NodeKind::Null => Some(Vec::new()),
        NodeKind::Map(entries) => Some(entries.clone()),
        NodeKind::Scalar { text, .. } => Some(vec![(key(node.at, "context"), Node::text(node.at, text))]),
        NodeKind::List(_) => None,
    }
}

fn sequence(node: &Node) -> Option<Vec<Rc<Node>>> {
    match &node.kind {
        NodeKind::Null => Some(Vec::new()),
        NodeKind::List(items) => Some(items.clone()),
        NodeKind::Scalar { text, .. } => Some(vec![Node::text(node.at, text)]),
        NodeKind::Map(entries) => {
            let mut items = Vec::new();
            for (key, value) in entries {
                let values = match &value.kind {
                    NodeKind::List(values) => values.iter().map(|value| scalar(value)).collect::<Option<Vec<_>>>()?,
                    _ => vec![scalar(value)?],
                };
                items.extend(
                    values
                        .into_iter()
                        .map(|value| Node::text(key.at, format!("{}={value}", key.text))),
                );
            }
            Some(items)
        }
    }
}

/// One list behind the other, without items that are there already.
fn append(a: &[Rc<Node>], b: &[Rc<Node>]) -> Vec<Rc<Node>> {
    let mut all = a.to_vec();
    let mut known: HashSet<String> = a.iter().map(|item| print(item)).collect();
    for item in b {
        if known.insert(print(item)) {
            all.push(Rc::clone(item));
        }
    }
    all
}

/// What a tree says, wherever it stands.
pub(super) fn print(node: &Node) -> String {
    fn write(node: &Node, out: &mut String) {
        match &node.kind {
            NodeKind::Null => out.push('~'),
            NodeKind::Scalar { text, .. } => out.push_str(&format!("{}\"{text}", text.len())),
            NodeKind::List(items) => {
                out.push_str(&format!("{}[", items.len()));
                items.iter().for_each(|item| write(item, out));
            }
            NodeKind::Map(entries) => {
                let mut entries: Vec<&(Key, Rc<Node>)> = entries.iter().collect();
                entries.sort_by(|(a, _), (b, _)| a.text.cmp(&b.text));
                out.push_str(&format!("{}{{", entries.len()));
                for (key, value) in entries {
                    out.push_str(&format!("{}\"{}", key.text.len(), key.text));
                    write(value, out);
                }
            }
        }
    }
    let mut out = String::new();
    write(node, &mut out);
    out
}

/// The tree without what is reset, and without tags.
pub(super) fn settle(node: &Rc<Node>) -> Rc<Node> {
    if !is_marked(node) {
        return Rc::clone(node);
    }
    let stays = |node: &Rc<Node>| (node.mark != Mark::Reset).then(|| settle(node));
    let kind = match &node.kind {
        NodeKind::Map(entries) => NodeKind::Map(
            entries
                .iter()
                .filter_map(|(key, node)| Some((key.clone(), stays(node)?)))
                .collect(),
        ),
        NodeKind::List(items) => NodeKind::List(items.iter().filter_map(stays).collect()),
        other => other.clone(),
    };
    Rc::new(Node::new(node.at, kind))
}

fn is_marked(node: &Node) -> bool {
    node.mark != Mark::None
        || match &node.kind {
            NodeKind::Map(entries) => entries.iter().any(|(_, node)| is_marked(node)),
            NodeKind::List(items) => items.iter().any(|node| is_marked(node)),
            _ => false,
        }
}
