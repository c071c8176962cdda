//! Reads values of a kind from nodes; what is of another kind becomes a problem that says what was expected.

use crate::{
    escape::quoted,
    problem::{At, Report},
    suggest, units,
    yaml::{Key, Node, NodeKind},
};
use std::rc::Rc;

fn wrong(report: &Report, node: &Node, what: &str, expected: &str) {
    match &node.kind {
        NodeKind::Scalar { text, .. } => {
            report.error(
                node.at,
                format!("{what} must be {expected}, and this is {}", quoted(text)),
            );
        }
        _ => report.error(
            node.at,
            format!("{what} must be {expected}, and this is {}", node.what()),
        ),
    }
}

/// The entries of a mapping; nothing counts as an empty one.
pub(crate) fn map<'a>(report: &Report, node: &'a Node, what: &str) -> Option<&'a [(Key, Rc<Node>)]> {
    match &node.kind {
        NodeKind::Map(entries) => Some(entries),
        NodeKind::Null => Some(&[]),
        _ => {
            wrong(report, node, what, "a mapping");
            None
        }
    }
}

/// The items of a list; nothing counts as an empty one.
pub(crate) fn list<'a>(report: &Report, node: &'a Node, what: &str) -> Option<&'a [Rc<Node>]> {
    match &node.kind {
        NodeKind::List(items) => Some(items),
        NodeKind::Null => Some(&[]),
        _ => {
            wrong(report, node, what, "a list");
            None
        }
    }
}

/// A text; numbers and truth values are the text that stands there.
pub(crate) fn text<'a>(report: &Report, node: &'a Node, what: &str) -> Option<&'a str> {
    if let NodeKind::Scalar { text, .. } = &node.kind {
        return Some(text);
    }
    wrong(report, node, what, "text");
    None
}

/// A list of texts; a single text is a list of one where `single` allows that.
pub(crate) fn texts(report: &Report, node: &Node, what: &str, single: bool) -> Option<Vec<(At, String)>> {
    if let NodeKind::Scalar { text, .. } = &node.kind
        && single
    {
        return Some(vec![(node.at, text.clone())]);
    }
    let item = format!("each item of {what}");
    let items = list(report, node, what)?;
    items
        .iter()
        .map(|node| text(report, node, &item).map(|text| (node.at, text.to_owned())))
        .collect()
}

fn is_true(text: &str) -> bool {
    ["true", "yes", "on", "y"].contains(&text.to_ascii_lowercase().as_str())
}

fn is_false(text: &str) -> bool {
    ["false", "no", "off", "n"].contains(&text.to_ascii_lowercase().as_str())
}

/// `true` or `false`, or one of the other words that YAML had for them.
pub(crate) fn flag(report: &Report, node: &Node, what: &str) -> Option<bool> {
    match &node.kind {
        NodeKind::Scalar { text, .. } if is_true(text) => Some(true),
        NodeKind::Scalar { text, .. } if is_false(text) => Some(false),
        _ => {
            wrong(report, node, what, "`true` or `false`");
            None
        }
    }
}

fn parsed<T>(report: &Report, node: &Node, what: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let value = match &node.kind {
        NodeKind::Scalar { text, .. } => parse(text),
        _ => None,
    };
    if value.is_none() {
        wrong(report, node, what, expected);
    }
    value
}

/// A whole number that is not negative.
pub(crate) fn number(report: &Report, node: &Node, what: &str) -> Option<u64> {
    parsed(report, node, what, "a whole number", |text| {
        (text.len() <= 18 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    })
}

/// A duration, in milliseconds.
pub(crate) fn duration_ms(report: &Report, node: &Node, what: &str) -> Option<u64> {
    parsed(
        report,
        node,
        what,
        "a duration such as `30s` or `5m`",
        units::duration_ms,
    )
}

/// A duration, in milliseconds, where a number may stand as well; what is none is no problem yet.
pub(crate) fn duration_ms_quiet(node: &Node) -> Option<u64> {
    match &node.kind {
        NodeKind::Scalar { text, .. } => units::duration_ms(text),
        _ => None,
    }
}

/// A size, in bytes.
pub(crate) fn bytes(report: &Report, node: &Node, what: &str) -> Option<u64> {
    parsed(report, node, what, "a size such as `512m` or `2g`", units::bytes)
}

/// A number of CPUs, in thousandths.
pub(crate) fn cpu_millis(report: &Report, node: &Node, what: &str) -> Option<u64> {
    parsed(
        report,
        node,
        what,
        "a number of CPUs such as `0.5` or `2`",
        units::cpu_millis,
    )
}

/// A port number.
pub(crate) fn port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok().filter(|port| *port > 0))?
}

/// A name of one of the model's types.
pub(crate) fn name<T>(report: &Report, at: At, text: &str) -> Option<T>
where
    T: std::str::FromStr<Err = model::InvalidName>,
{
    match text.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            report.error(at, error.to_string());
            None
        }
    }
}

/// A key that is not known is a problem, with the nearest known one as a hint. `x-` is for extensions, here as in Compose.
pub(crate) fn unknown_key(report: &Report, key: &Key, place: &str, known: &[&str]) {
    if !key.text.starts_with("x-") && !report.is_full() {
        report.error_hint(
            key.at,
            format!("unknown key {} {place}", quoted(&key.text)),
            suggest::hint(&key.text, known),
        );
    }
}
