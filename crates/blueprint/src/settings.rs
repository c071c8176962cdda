//! `maquette.yaml`: what Compose can't say. Its keys are described once, in `settings/keys.rs`; the reader, the hints and the
//! published schema all come from that description.

mod egress;
pub(crate) mod keys;
mod policy;
mod schema;
mod stack;

pub use egress::preset;
pub use policy::{Baseline, Policy, Triggers, Uncovered};
pub use schema::schema;
pub(crate) use stack::{Build, Data, Job, Mail, Public, Stack, read as stack};

use crate::{
    problem::{Report, Whose},
    read,
    tree::{self, Kind, Tree},
    yaml::{self, Key, Node},
};
use keys::Shape;
use std::rc::Rc;

/// Where settings are looked for.
pub const FILE: &str = "maquette.yaml";

/// A settings file that was parsed.
pub(crate) struct Settings {
    pub(crate) report: Report,
    /// The value of `stack`.
    pub(crate) stack: Option<Rc<Node>>,
    /// The key and value of `policy`.
    pub(crate) policy: Option<(Key, Rc<Node>)>,
}

/// Reads the two keys of a tree's settings; a tree without the file has none.
pub(crate) fn read(tree: &dyn Tree, whose: Whose) -> Settings {
    let (report, opened) = match tree.kind(FILE) {
        Some(_) => tree::open(tree, whose, FILE),
        None => (Report::new(whose, FILE, String::new()), false),
    };
    if whose == Whose::Head && !opened && matches!(tree.kind("maquette.yml"), Some(Kind::File { .. })) {
        report.warn_hint(
            None,
            "there is a file `maquette.yml`, which is not read",
            "rename it to `maquette.yaml`",
        );
    }
    let mut settings = Settings {
        report,
        stack: None,
        policy: None,
    };
    let root = if opened { yaml::load(&settings.report) } else { None };
    let Some(root) = root else { return settings };
    let known = keys::names(&keys::ROOT);
    for (key, node) in read::map(&settings.report, &root, "`maquette.yaml`").unwrap_or_default() {
        match key.text.as_str() {
            "stack" => settings.stack = Some(Rc::clone(node)),
            "policy" => settings.policy = Some((key.clone(), Rc::clone(node))),
            _ => read::unknown_key(&settings.report, key, "in `maquette.yaml`", &known),
        }
    }
    settings
}

/// The known entries of a mapping that `shape` describes; unknown and reserved ones become problems.
pub(crate) fn fields<'a>(
    report: &Report,
    node: &'a Node,
    shape: &[keys::Entry],
    what: &str,
) -> Vec<(&'a Key, &'a Node)> {
    let known = keys::names(shape);
    let mut found = Vec::new();
    for (key, value) in read::map(report, node, what).unwrap_or_default() {
        match shape
            .iter()
            .find(|entry| entry.name == key.text)
            .map(|entry| &entry.shape)
        {
            Some(Shape::Reserved) => report.error_hint(
                key.at,
                format!("`{}` in {what} is not supported yet", key.text),
                "it comes with a later version: remove it until then",
            ),
            Some(_) => found.push((key, &**value)),
            None => read::unknown_key(report, key, &format!("in {what}"), &known),
        }
    }
    found
}
