//! Interpolates all values of a Compose file. Keys, and what extensions (`x-…`) hold, stay as they are.

use crate::{
    interpolate::{self, Fault, Values},
    problem::{At, Report},
    yaml::{Node, NodeKind},
};
use std::rc::Rc;

/// How much text all results together may be, in bytes.
const RESULTS_MAX: usize = 4 * 1024 * 1024;

/// Values that anyone who opens a pull request chooses freely.
const FOREIGN: [&str; 3] = ["MAQUETTE_TITLE", "MAQUETTE_BRANCH", "MAQUETTE_BASE_BRANCH"];

/// A copy of the tree with all values resolved. What can't be resolved is a problem and stays as it is.
pub(crate) fn resolve(report: &Report, root: &Node, values: &Values) -> Node {
    Resolver {
        report,
        values,
        left: RESULTS_MAX,
    }
    .node(root, 0, false)
}

struct Resolver<'a> {
    report: &'a Report,
    values: &'a Values,
    /// How much text the results may still be.
    left: usize,
}

impl Resolver<'_> {
    fn node(&mut self, from: &Node, depth: usize, command: bool) -> Node {
        let kind = match &from.kind {
            NodeKind::Scalar { text, plain } if text.contains('$') => {
                if command && let Some(name) = FOREIGN.iter().find(|name| text.contains(*name)) {
                    self.report.warn_hint(
                        from.at,
                        format!("`{name}` is part of a command, and others choose what it says"),
                        "read it from the environment of the process, where it is too",
                    );
                }
                NodeKind::Scalar {
                    text: self.text(from.at, text),
                    plain: *plain,
                }
            }
            NodeKind::List(items) => NodeKind::List(
                items
                    .iter()
                    .map(|item| Rc::new(self.node(item, depth + 1, command)))
                    .collect(),
            ),
            NodeKind::Map(entries) => NodeKind::Map(
                entries
                    .iter()
                    .map(|(key, value)| {
                        // Top level, and the level of a service's own keys.
                        let extension = matches!(depth, 0 | 2) && key.text.starts_with("x-");
                        let command = command || matches!(key.text.as_str(), "command" | "entrypoint" | "test");
                        let value = match extension {
                            true => Rc::clone(value),
                            false => Rc::new(self.node(value, depth + 1, command && depth > 1)),
                        };
                        (key.clone(), value)
                    })
                    .collect(),
            ),
            other => other.clone(),
        };
        Node { at: from.at, kind }
    }

    fn text(&mut self, at: At, text: &str) -> String {
        let result = match interpolate::interpolate(text, self.values) {
            Ok(result) if result.len() > self.left => {
                self.report
                    .error(at, format!("the values of the file grow beyond {RESULTS_MAX} bytes"));
                String::new()
            }
            Ok(result) => result,
            Err(fault) => {
                complain(self.report, at, &fault);
                text.to_owned()
            }
        };
        self.left = self.left.saturating_sub(result.len());
        result
    }
}

fn complain(report: &Report, at: At, fault: &Fault) {
    if report.is_full() {
        return;
    }
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
