//! Rules about Cargo.toml: which crate may depend on which, and what every crate inherits.

use super::Finding;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// What each crate may depend on, besides crates of others. This is the table of ARCHITECTURE.md.
const ALLOWED: [(&str, &[&str]); 21] = [
    ("model", &[]),
    ("blueprint", &["model"]),
    ("planner", &["model"]),
    ("secrets", &["model"]),
    ("runtime", &["model"]),
    ("runtime-cell", &["images", "model", "runtime"]),
    ("runtime-docker", &["model", "runtime"]),
    ("runtime-kubernetes", &["forge", "model", "runtime"]),
    ("data", &["model"]),
    ("forge", &["model"]),
    ("images", &["model"]),
    // It runs inside of environments and knows nothing of the house.
    ("mail", &[]),
    ("store", &["model"]),
    (
        "reconciler",
        &[
            "blueprint",
            "data",
            "forge",
            "images",
            "model",
            "planner",
            "runtime",
            "secrets",
            "store",
        ],
    ),
    ("gateway", &["model"]),
    ("api", &["model"]),
    (
        "server",
        &[
            "api",
            "blueprint",
            "data",
            "forge",
            "gateway",
            "images",
            "model",
            "planner",
            "reconciler",
            "runtime",
            "runtime-cell",
            "runtime-docker",
            "runtime-kubernetes",
            "secrets",
            "store",
        ],
    ),
    // The program is three processes: besides the server it starts the gateway and the cell host.
    (
        "maquette",
        &[
            "api",
            "blueprint",
            "forge",
            "gateway",
            "mail",
            "model",
            "planner",
            "runtime",
            "runtime-cell",
            "server",
            "store",
        ],
    ),
    ("test-support", &[]),
    ("xtask", &[]),
    // Measures the house from outside and from within; nothing depends on it.
    (
        "bench",
        &[
            "api",
            "blueprint",
            "data",
            "forge",
            "gateway",
            "images",
            "model",
            "planner",
            "reconciler",
            "runtime",
            "runtime-cell",
            "secrets",
            "server",
            "store",
            "test-support",
        ],
    ),
];

/// Names that say nothing about what is inside.
const FORBIDDEN_NAMES: [&str; 7] = ["common", "utils", "util", "helpers", "helper", "misc", "shared"];

/// What every package takes from the workspace.
const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

/// The one crate that spells its lints out, because it may use `unsafe`.
const OWN_LINTS: &str = "runtime-cell";

/// Applies the rules to all manifests among the files.
pub(super) fn check(files: &BTreeMap<String, String>, findings: &mut Vec<Finding>) {
    let parse = |path: &str| files.get(path).and_then(|text| text.parse::<Table>().ok());
    let workspace = parse("Cargo.toml").unwrap_or_default();
    let members = files.iter().filter(|(path, _)| {
        let parts: Vec<&str> = path.split('/').collect();
        matches!(
            parts.as_slice(),
            ["crates", _, "Cargo.toml"] | ["bench" | "xtask", "Cargo.toml"]
        )
    });
    for (path, text) in members {
        match text.parse::<Table>() {
            Ok(manifest) => Manifest {
                path,
                text,
                manifest: &manifest,
                workspace: &workspace,
                findings,
            }
            .check(),
            Err(error) => findings.push(Finding {
                file: path.clone(),
                line: 1,
                rule: "manifest",
                message: format!("it is not TOML: {}", error.message()),
                hint: "mend it",
            }),
        }
    }
}

struct Manifest<'a> {
    path: &'a str,
    text: &'a str,
    manifest: &'a Table,
    workspace: &'a Table,
    findings: &'a mut Vec<Finding>,
}

fn get<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(*first)?;
    if rest.is_empty() {
        Some(value)
    } else {
        get(value.as_table()?, rest)
    }
}

fn is_inherited(value: Option<&Value>) -> bool {
    value
        .and_then(Value::as_table)
        .and_then(|table| table.get("workspace"))
        .and_then(Value::as_bool)
        == Some(true)
}

impl Manifest<'_> {
    /// The finding stands at the first line that begins with this word.
    fn finding(&mut self, word: &str, rule: &'static str, message: String, hint: &'static str) {
        let line = self
            .text
            .lines()
            .position(|line| line.trim_start().starts_with(word))
            .unwrap_or(0);
        self.findings.push(Finding {
            file: self.path.to_owned(),
            line: line + 1,
            rule,
            message,
            hint,
        });
    }

    fn check(&mut self) {
        let name = get(self.manifest, &["package", "name"])
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if FORBIDDEN_NAMES.contains(&name.as_str()) {
            let hint = "name the crate after what it is, or make it a module of its one user";
            self.finding(
                "name",
                "crate-name",
                format!("`{name}` says nothing about what is inside"),
                hint,
            );
        }
        for key in INHERITED {
            if !is_inherited(get(self.manifest, &["package", key])) {
                self.finding(
                    "[package]",
                    "inherit",
                    format!("`{key}` is not the workspace's"),
                    "write `KEY.workspace = true`",
                );
            }
        }
        if get(self.manifest, &["package", "description"])
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
        {
            self.finding(
                "[package]",
                "description",
                "the package does not say what it is".to_owned(),
                "add a `description`",
            );
        }
        self.lints(&name);
        self.dependencies(&name);
    }

    fn lints(&mut self, name: &str) {
        if is_inherited(self.manifest.get("lints")) {
            return;
        }
        if name != OWN_LINTS {
            self.finding(
                "[lints",
                "lints",
                "the workspace's lints do not apply".to_owned(),
                "add `[lints]` and `workspace = true`",
            );
            return;
        }
        for group in ["rust", "clippy"] {
            let wanted = get(self.workspace, &["workspace", "lints", group])
                .and_then(Value::as_table)
                .cloned()
                .unwrap_or_default();
            for (lint, level) in wanted.iter().filter(|(lint, _)| *lint != "unsafe_code") {
                if get(self.manifest, &["lints", group, lint]) != Some(level) {
                    let message = format!("`{lint}` is not as in the workspace");
                    self.finding(
                        &format!("[lints.{group}]"),
                        "lints",
                        message,
                        "repeat the workspace's lints, all but `unsafe_code`",
                    );
                }
            }
        }
        if get(self.manifest, &["lints", "clippy", "undocumented_unsafe_blocks"]).and_then(Value::as_str)
            != Some("deny")
        {
            let message = "unsafe blocks need no reason here".to_owned();
            self.finding(
                "[lints.clippy]",
                "lints",
                message,
                "add `undocumented_unsafe_blocks = \"deny\"`",
            );
        }
    }

    fn dependencies(&mut self, name: &str) {
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            let message = format!("`{name}` is not in the table of crates");
            let hint = "say in xtask/src/tidy/manifests.rs and in ARCHITECTURE.md what it is and what it may depend on";
            self.finding("name", "dependency", message, hint);
            return;
        };
        for (section, found) in self.sections() {
            for (dependency, value) in &found {
                if !is_inherited(Some(value)) {
                    let message = format!("`{dependency}` does not come from the workspace");
                    self.finding(
                        dependency,
                        "inherit",
                        message,
                        "name it in the root Cargo.toml, and `workspace = true` here",
                    );
                }
                let ours = ALLOWED.iter().any(|(known, _)| known == dependency);
                // Tests may use anything but what would turn the order of crates around for the reader.
                let fine = section == "dev-dependencies" || allowed.contains(&dependency.as_str());
                if ours && !fine {
                    let message = format!("{name} must not depend on {dependency}");
                    let hint = "turn the dependency around with a port, or say in ARCHITECTURE.md and here why the house has changed";
                    self.finding(dependency, "dependency", message, hint);
                }
            }
        }
    }

    /// All tables of dependencies, those for single targets included.
    fn sections(&self) -> Vec<(&'static str, Table)> {
        let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
        let targets = self
            .manifest
            .get("target")
            .and_then(Value::as_table)
            .into_iter()
            .flat_map(Table::values);
        let tables = std::iter::once(self.manifest).chain(targets.filter_map(Value::as_table));
        tables
            .flat_map(|table| {
                kinds.map(|kind| {
                    (
                        kind,
                        table.get(kind).and_then(Value::as_table).cloned().unwrap_or_default(),
                    )
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\nmissing_docs = \"warn\"\n";

    fn package(name: &str, rest: &str) -> String {
        let inherited: String = INHERITED
            .iter()
            .map(|key| format!("{key}.workspace = true\n"))
            .collect();
        format!("[package]\nname = \"{name}\"\ndescription = \"x\"\n{inherited}{rest}")
    }

    fn rules(name: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        let files = BTreeMap::from([
            ("Cargo.toml".to_owned(), WORKSPACE.to_owned()),
            (format!("crates/{name}/Cargo.toml"), text.to_owned()),
        ]);
        check(&files, &mut findings);
        findings
            .iter()
            .map(|finding| format!("{} {}", finding.rule, finding.message))
            .collect()
    }

    #[test]
    fn a_tidy_manifest_has_no_findings() {
        let rest = "[dependencies]\nmodel.workspace = true\nserde.workspace = true\n[dev-dependencies]\nruntime = { workspace = true }\n\
                    [lints]\nworkspace = true\n";
        assert_eq!(rules("planner", &package("planner", rest)), [""; 0]);
    }

    #[test]
    fn the_order_of_crates_is_kept() {
        let rest = "[dependencies]\nstore.workspace = true\nserde = \"1\"\n[lints]\nworkspace = true\n";
        let expected = [
            "inherit `serde` does not come from the workspace",
            "dependency gateway must not depend on store",
        ];
        let mut found = rules("gateway", &package("gateway", rest));
        found.sort_by_key(|text| text.starts_with("dependency"));
        assert_eq!(found, expected);
        let rest = "[target.'cfg(unix)'.dependencies]\nforge.workspace = true\n[lints]\nworkspace = true\n";
        assert_eq!(
            rules("runtime", &package("runtime", rest)),
            ["dependency runtime must not depend on forge"]
        );
        let found = rules("utils", &package("utils", "[lints]\nworkspace = true\n"));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn every_crate_has_the_workspace_s_lints() {
        assert_eq!(
            rules("model", &package("model", "")),
            ["lints the workspace's lints do not apply"]
        );
        let spelled = "[lints.rust]\nmissing_docs = \"warn\"\n[lints.clippy]\nundocumented_unsafe_blocks = \"deny\"\n";
        assert_eq!(rules("runtime-cell", &package("runtime-cell", spelled)), [""; 0]);
        assert_eq!(
            rules("model", &package("model", spelled)),
            ["lints the workspace's lints do not apply"]
        );
        let weaker = spelled.replace("missing_docs = \"warn\"", "");
        assert_eq!(
            rules("runtime-cell", &package("runtime-cell", &weaker)),
            ["lints `missing_docs` is not as in the workspace"]
        );
        assert_eq!(
            rules("model", "[package]\nname = \"model\"\n[lints]\nworkspace = true\n").len(),
            6
        );
    }

    #[test]
    fn every_crate_of_the_table_depends_on_crates_of_the_table() {
        for (name, allowed) in ALLOWED {
            for dependency in allowed {
                let found = ALLOWED.iter().find(|(known, _)| known == dependency);
                assert!(
                    found.is_some_and(|(_, its)| !its.contains(&name)),
                    "{name} and {dependency}"
                );
            }
        }
    }
}
