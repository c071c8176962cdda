//! Interpolates all values of a Compose file. Keys, and what extensions (`x-…`) hold, stay as they are.

use crate::{
    interpolate::{self, Fault, Values},
    problem::{At, Report},
    yaml::{Node, NodeKind},
};
use std::rc::Rc;

/// How much text all results together may be, in bytes.
const RESULTS_MAX: usize = 4 * 1024 * 1024;

/// A copy of the tree with all values resolved. What can't be resolved is a problem and stays as it is.
pub(crate) fn resolve(report: &Report, root: &Node, values: &Values) -> Node {
    let mut left = RESULTS_MAX;
    node(report, root, values, 0, &mut left)
}

fn node(report: &Report, from: &Node, values: &Values, depth: usize, left: &mut usize) -> Node {
    let kind = match &from.kind {
        NodeKind::Scalar { text, plain } if text.contains('$') => {
            let text = match interpolate::interpolate(text, values) {
                Ok(text) if text.len() > *left => {
                    report.error(
                        from.at,
                        format!("the values of the file grow beyond {RESULTS_MAX} bytes"),
                    );
                    String::new()
                }
                Ok(text) => text,
                Err(fault) => {
                    complain(report, from.at, &fault);
                    text.clone()
                }
            };
            *left = left.saturating_sub(text.len());
            NodeKind::Scalar { text, plain: *plain }
        }
        NodeKind::List(items) => NodeKind::List(
            items
                .iter()
                .map(|item| Rc::new(node(report, item, values, depth + 1, left)))
                .collect(),
        ),
        NodeKind::Map(entries) => NodeKind::Map(
            entries
                .iter()
                .map(|(key, value)| {
                    // Top level, and the level of a service's own keys.
                    let extension = matches!(depth, 0 | 2) && key.text.starts_with("x-");
                    let value = if extension {
                        Rc::clone(value)
                    } else {
                        Rc::new(node(report, value, values, depth + 1, left))
                    };
                    (key.clone(), value)
                })
                .collect(),
        ),
        other => other.clone(),
    };
    Node { at: from.at, kind }
}

fn complain(report: &Report, at: At, fault: &Fault) {
    let at = locate(&report.text, at, &fault.fragment);
    match &fault.hint {
        Some(hint) => report.error_hint(at, &fault.message, hint),
        None => report.error(at, &fault.message),
    }
}

/// Where a part of a value stands: in its own line or, in a block, in one of the next; else where the value begins.
fn locate(text: &str, at: At, fragment: &str) -> At {
    let first = at.line.saturating_sub(1) as usize;
    for (index, line) in text.lines().enumerate().skip(first).take(200) {
        let from = if index == first {
            line.char_indices()
                .nth(at.column.saturating_sub(1) as usize)
                .map_or(line.len(), |(byte, _)| byte)
        } else {
            0
        };
        if let Some(found) = line[from..].find(fragment) {
            let column = line[..from + found].chars().count() + 1;
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            return At {
                line: number(index + 1),
                column: number(column),
            };
        }
    }
    at
}
