//! Interpolates all values of a Compose file. Keys, and what extensions (`x-…`) hold, stay as they are.

use crate::{
    escape::quoted,
    interpolate::{self, Done, Fault, Giver, Known, Scope},
    problem::{At, Report},
    yaml::{Node, NodeKind},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
};

/// How much text all results together may be, in bytes.
pub(crate) const RESULTS_MAX: usize = 4 * 1024 * 1024;

/// Values that anyone who opens a pull request chooses freely.
const FOREIGN: [&str; 3] = ["MAQUETTE_TITLE", "MAQUETTE_BRANCH", "MAQUETTE_BASE_BRANCH"];

/// A copy of the tree with all values resolved. What can't be resolved is a problem and stays as it is. `told` has the names
/// without a value that were told already, `left` says how much text the results may still be.
pub(crate) fn resolve(
    report: &Report,
    root: &Node,
    scope: &Scope,
    told: &RefCell<BTreeSet<String>>,
    left: &Cell<usize>,
) -> Node {
    let mut with_folder = scope.clone();
    // The folder that paths start from, where a path is meant; the program that reads them adds it itself.
    with_folder.add("PWD", ".", Giver::Maquette);
    Resolver {
        report,
        scope,
        with_folder: &with_folder,
        told,
        left,
        path: Vec::new(),
    }
    .node(root)
}

struct Resolver<'a> {
    report: &'a Report,
    scope: &'a Scope,
    with_folder: &'a Scope,
    told: &'a RefCell<BTreeSet<String>>,
    /// How much text the results may still be.
    left: &'a Cell<usize>,
    /// The keys that lead to the node at work.
    path: Vec<&'a str>,
}

impl<'a> Resolver<'a> {
    fn node(&mut self, from: &'a Node) -> Node {
        let kind = match &from.kind {
            NodeKind::Scalar { text, plain } if text.contains('$') => NodeKind::Scalar {
                text: self.text(from.at, text),
                plain: *plain,
            },
            NodeKind::List(items) => NodeKind::List(items.iter().map(|item| Rc::new(self.node(item))).collect()),
            NodeKind::Map(entries) => NodeKind::Map(
                entries
                    .iter()
                    .map(|(key, value)| {
                        // Top level, and the level of a service's own keys.
                        let extension = matches!(self.path.len(), 0 | 2) && key.text.starts_with("x-");
                        if extension {
                            return (key.clone(), Rc::clone(value));
                        }
                        self.path.push(&key.text);
                        let value = Rc::new(self.node(value));
                        self.path.pop();
                        (key.clone(), value)
                    })
                    .collect(),
            ),
            other => other.clone(),
        };
        Node {
            at: from.at,
            kind,
            mark: from.mark,
        }
    }

    fn is_command(&self) -> bool {
        matches!(
            self.path[..],
            ["services", _, "command" | "entrypoint"] | ["services", _, "healthcheck", "test"]
        )
    }

    fn is_path(&self) -> bool {
        matches!(
            self.path[..],
            ["include", ..]
                | ["configs" | "secrets", _, "file"]
                | [
                    "services",
                    _,
                    "volumes" | "env_file" | "label_file" | "build" | "extends",
                    ..
                ]
        )
    }

    /// Whether a secret may stand here.
    fn may_be_secret(&self) -> bool {
        matches!(
            self.path[..],
            ["services", _, "environment", ..] | ["configs", _, "content"]
        )
    }

    fn text(&mut self, at: At, text: &str) -> String {
        if self.is_command()
            && let Some(name) = FOREIGN.iter().find(|name| text.contains(*name))
        {
            self.report.warn_hint(
                at,
                format!("`{name}` is part of a command, and others choose what it says"),
                "read it from the environment of the process, where it is too",
            );
        }
        let scope = if self.is_path() { self.with_folder } else { self.scope };
        let result = match interpolate::interpolate(text, scope) {
            Ok(done) if done.text.len() > self.left.get() => {
                self.report
                    .error(at, format!("the values of the file grow beyond {RESULTS_MAX} bytes"));
                String::new()
            }
            Ok(done) => {
                self.tell(at, &done);
                done.text
            }
            Err(fault) => {
                self.complain(at, &fault, true);
                text.to_owned()
            }
        };
        self.left.set(self.left.get().saturating_sub(result.len()));
        result
    }

    /// Notes where the parts of a value come from, and what is empty in it.
    fn tell(&mut self, at: At, done: &Done) {
        for fault in &done.empty {
            if self.told.borrow_mut().insert(fault.message.clone()) {
                self.complain(at, fault, false);
            }
        }
        let mut origins = Vec::new();
        for name in &done.used {
            match self.scope.0.get(name) {
                Some(Known {
                    from: Giver::File(place),
                    ..
                }) => origins.push(format!("{} comes from {place}", quoted(name))),
                Some(Known {
                    from: Giver::Secret, ..
                }) if !self.may_be_secret() => {
                    self.report.error_hint(
                        at,
                        format!("{} is a secret, and a secret can not stand here", quoted(name)),
                        "secrets are given to services by `environment` and `secrets`, and nowhere else",
                    );
                }
                _ => {}
            }
        }
        if !origins.is_empty() {
            self.report.note(at, &origins.join(", "));
        }
    }

    fn complain(&self, at: At, fault: &Fault, error: bool) {
        if self.report.is_full() {
            return;
        }
        let at = locate(&self.report.text(at.file), at, &fault.fragment);
        match (&fault.hint, error) {
            (Some(hint), true) => self.report.error_hint(at, &fault.message, hint),
            (None, true) => self.report.error(at, &fault.message),
            (Some(hint), false) => self.report.warn_hint(at, &fault.message, hint),
            (None, false) => self.report.warn(at, &fault.message),
        }
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
                file: at.file,
                line: number(index + 1),
                column: number(column),
            };
        }
    }
    at
}
