//! Lists of a service in which each thing stands once: what says the same thing again replaces it.

use super::ports;
use crate::{
    tree,
    yaml::{Key, Node, NodeKind},
};
use std::{collections::HashMap, rc::Rc};

/// The tree with every list of its services made unique.
pub(super) fn enforce(root: &Rc<Node>) -> Rc<Node> {
    change(root, "services", |services| {
        let NodeKind::Map(entries) = &services.kind else {
            return Rc::clone(services);
        };
        let entries = entries.iter().map(|(key, node)| (key.clone(), service(node))).collect();
        Rc::new(Node {
            kind: NodeKind::Map(entries),
            ..(**services).clone()
        })
    })
}

/// The same mapping with another value for a key that it has.
pub(super) fn change(node: &Rc<Node>, wanted: &str, with: impl Fn(&Rc<Node>) -> Rc<Node>) -> Rc<Node> {
    let NodeKind::Map(entries) = &node.kind else {
        return Rc::clone(node);
    };
    if !entries.iter().any(|(key, _)| key.text == wanted) {
        return Rc::clone(node);
    }
    let entries = entries
        .iter()
        .map(|(key, value)| {
            let value = if key.text == wanted {
                with(value)
            } else {
                Rc::clone(value)
            };
            (key.clone(), value)
        })
        .collect();
    Rc::new(Node {
        kind: NodeKind::Map(entries),
        ..(**node).clone()
    })
}

fn service(node: &Rc<Node>) -> Rc<Node> {
    let NodeKind::Map(entries) = &node.kind else {
        return Rc::clone(node);
    };
    let entries = entries
        .iter()
        .map(|(key, value)| {
            let value = match (&value.kind, key.text.as_str()) {
                (NodeKind::List(items), "ports") => list(value, expanded(items), port),
                (NodeKind::List(items), "volumes") => list(value, items.clone(), mount),
                (NodeKind::List(items), "devices") => list(value, items.clone(), device),
                (NodeKind::List(items), "secrets") => list(value, items.clone(), |item| file(item, "/run/secrets/")),
                (NodeKind::List(items), "configs") => list(value, items.clone(), |item| file(item, "/")),
                (NodeKind::List(items), "env_file") => list(value, items.clone(), |item| named(item, "path")),
                (NodeKind::List(items), "tmpfs") => list(value, items.clone(), |item| {
                    text(item).map(|text| text.split(':').next().unwrap_or(text).to_owned())
                }),
                (
                    NodeKind::List(items),
                    "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "expose" | "links" | "profiles",
                ) => list(value, items.clone(), |item| text(item).map(str::to_owned)),
                (NodeKind::List(_), "environment" | "labels" | "annotations" | "sysctls") => super::merge::pairs(value)
                    .map_or_else(
                        || Rc::clone(value),
                        |entries| {
                            Rc::new(Node {
                                kind: NodeKind::Map(entries),
                                ..(**value).clone()
                            })
                        },
                    ),
                _ => Rc::clone(value),
            };
            (key.clone(), value)
        })
        .collect();
    Rc::new(Node {
        kind: NodeKind::Map(entries),
        ..(**node).clone()
    })
}

/// The last item of each key, at the place of the first one. Items without a key all stay.
fn list(node: &Node, items: Vec<Rc<Node>>, key: impl Fn(&Node) -> Option<String>) -> Rc<Node> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut all: Vec<Rc<Node>> = Vec::new();
    for item in items {
        let key = key(&item);
        match key.as_ref().and_then(|key| places.get(key)) {
            Some(place) => all[*place] = item,
            None => {
                places.extend(key.map(|key| (key, all.len())));
                all.push(item);
            }
        }
    }
    Rc::new(Node {
        kind: NodeKind::List(all),
        ..node.clone()
    })
}

fn text(node: &Node) -> Option<&str> {
    match &node.kind {
        NodeKind::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn entry<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.get(key).and_then(|node| text(node))
}

fn named(item: &Node, key: &str) -> Option<String> {
    text(item).or_else(|| entry(item, key)).map(str::to_owned)
}

/// Ranges of ports, port by port; the other items as they are.
fn expanded(items: &[Rc<Node>]) -> Vec<Rc<Node>> {
    let one = |item: &Rc<Node>| -> Vec<Rc<Node>> {
        let several = text(item).and_then(ports::parse).filter(|several| several.len() > 1);
        let Some(several) = several else {
            return vec![Rc::clone(item)];
        };
        several.iter().map(|port| long(item, port)).collect()
    };
    items.iter().flat_map(one).collect()
}

fn long(item: &Node, port: &ports::Port) -> Rc<Node> {
    let pair = |key: &str, value: String| {
        let key = Key {
            at: item.at,
            text: key.to_owned(),
        };
        (key, Node::text(item.at, value))
    };
    let mut entries = vec![
        pair("target", port.target.to_string()),
        pair("protocol", port.protocol.clone()),
    ];
    entries.extend(port.published.clone().map(|published| pair("published", published)));
    entries.extend(port.address.clone().map(|address| pair("host_ip", address)));
    Rc::new(Node::new(item.at, NodeKind::Map(entries)))
}

fn port(item: &Node) -> Option<String> {
    let key = |address: Option<&str>, published: Option<&str>, target: &str, protocol: &str| {
        let (address, published) = (address.unwrap_or("0.0.0.0"), published.unwrap_or_default());
        format!("{address} {published} {target} {protocol}")
    };
    if let Some(text) = text(item) {
        let port = ports::parse(text)?.into_iter().next()?;
        return Some(key(
            port.address.as_deref(),
            port.published.as_deref(),
            &port.target.to_string(),
            &port.protocol,
        ));
    }
    Some(key(
        entry(item, "host_ip"),
        entry(item, "published"),
        entry(item, "target")?,
        entry(item, "protocol").unwrap_or("tcp"),
    ))
}

fn mount(item: &Node) -> Option<String> {
    let target = match text(item) {
        Some(text) => super::mounts::parts(text).1,
        None => entry(item, "target")?,
    };
    let target = target.strip_prefix('/')?;
    tree::join("", target).ok().or_else(|| Some(target.to_owned()))
}

fn device(item: &Node) -> Option<String> {
    match text(item) {
        Some(text) => Some(text.split(':').nth(1).unwrap_or(text).to_owned()),
        None => entry(item, "target").map(str::to_owned),
    }
}

fn file(item: &Node, folder: &str) -> Option<String> {
    match text(item) {
        Some(name) => Some(format!("{folder}{name}")),
        None => entry(item, "target")
            .map(str::to_owned)
            .or_else(|| entry(item, "source").map(|name| format!("{folder}{name}"))),
    }
}
