//! `policy:` of `maquette.yaml`.

use super::{Settings, egress, fields, keys};
use crate::{
    escape::quoted,
    explain::{Explanation, Place},
    glob,
    problem::{Problem, Problems, Report, Severity, Whose},
    read,
    tree::Tree,
    units,
    yaml::Node,
};
use model::{Egress, Limits};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The most labels or branches that are compared.
pub(super) const NAMES_MAX: usize = 100;

/// What is allowed. The default is what a project without a policy gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which pull requests get an environment.
    pub triggers: Triggers,
    /// Whether the base branch has an environment.
    pub baseline: Baseline,
    /// After how long without a visit an environment sleeps, in milliseconds.
    pub sleep_after_ms: u64,
    /// After how long without a push or a visit an environment is removed, in milliseconds.
    pub expire_after_ms: u64,
    /// Upper bounds for one environment; none is absent.
    pub limits: Limits,
    /// Secrets that trusted pull requests are given, by name.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// What environments of trusted pull requests may reach.
    #[serde(default, skip_serializing_if = "Egress::is_empty")]
    pub egress: Egress,
    /// Presets of hosts that may be reached besides; the server says what they stand for.
    #[serde(default)]
    pub presets: BTreeSet<String>,
}

/// Which pull requests get an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggers {
    /// Whether any does by itself.
    pub pull_requests: bool,
    /// Whether drafts do.
    pub drafts: bool,
    /// If not empty, one of these labels is needed.
    pub labels: Vec<String>,
    /// If not empty, patterns of which the base branch must match one.
    pub base_branches: Vec<String>,
}

/// Whether the base branch has an environment by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Each push is started and seen to be live; then it is stopped until somebody wants it.
    #[default]
    Asleep,
    /// It runs.
    Awake,
    /// There is none.
    None,
}

impl Baseline {
    const ALL: [Self; 3] = [Self::Asleep, Self::Awake, Self::None];

    /// As it is written in the settings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Asleep => "asleep",
            Self::Awake => "awake",
            Self::None => "none",
        }
    }
}

/// Why a policy gives a pull request no environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncovered {
    /// It gives none to any.
    All,
    /// It gives none to drafts.
    Draft,
    /// Not for this base branch.
    Base,
    /// The pull request has none of the labels.
    Labels,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            triggers: Triggers {
                pull_requests: true,
                drafts: true,
                labels: Vec::new(),
                base_branches: Vec::new(),
            },
            baseline: Baseline::default(),
            sleep_after_ms: 30 * 60_000,
            expire_after_ms: 14 * 86_400_000,
            limits: Limits {
                memory_bytes: Some(2 << 30),
                cpu_millis: Some(2_000),
                pids: Some(1_500),
                disk_bytes: Some(4 << 30),
            },
            secrets: Vec::new(),
            egress: Egress::default(),
            presets: BTreeSet::new(),
        }
    }
}

impl Triggers {
    /// Whether a pull request gets an environment by itself.
    #[must_use]
    pub fn admits<'a>(&self, draft: bool, base: &str, labels: impl IntoIterator<Item = &'a str>) -> bool {
        self.uncovered(draft, base, labels).is_none()
    }

    /// Why a pull request gets no environment by itself; `None` if it does.
    #[must_use]
    pub fn uncovered<'a>(
        &self,
        draft: bool,
        base: &str,
        labels: impl IntoIterator<Item = &'a str>,
    ) -> Option<Uncovered> {
        let wanted = |label: &str| self.labels.iter().any(|wanted| wanted == label);
        if !self.pull_requests {
            Some(Uncovered::All)
        } else if draft && !self.drafts {
            Some(Uncovered::Draft)
        } else if !self.base_branches.is_empty()
            && !self.base_branches.iter().any(|pattern| glob::matches(pattern, base))
        {
            Some(Uncovered::Base)
        } else if !self.labels.is_empty() && !labels.into_iter().any(wanted) {
            Some(Uncovered::Labels)
        } else {
            None
        }
    }
}

impl Policy {
    /// Reads the policy of a tree, which must be a commit of the policy branch; one without settings has the default.
    ///
    /// # Errors
    /// All problems, if one of them is an error.
    pub fn read(tree: &dyn Tree) -> Result<(Self, Vec<Problem>), Problems> {
        let settings = super::read(tree, Whose::Policy);
        let policy = Self::of(&settings, &mut Explanation::default());
        let problems = crate::problem::sorted(&[&settings.report]);
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(Problems(problems));
        }
        Ok((policy, problems))
    }

    /// The policy that stands in parsed settings.
    pub(crate) fn of(settings: &Settings, explanation: &mut Explanation) -> Self {
        let mut policy = Self::default();
        if let Some((_, node)) = &settings.policy {
            policy.apply(&settings.report, node, explanation);
        }
        for (key, value) in policy.shown() {
            explanation.fall_back(key, value);
        }
        policy
    }

    /// The default, explained.
    pub(crate) fn without_file(explanation: &mut Explanation) -> Self {
        let policy = Self::default();
        for (key, value) in policy.shown() {
            explanation.fall_back(key, value);
        }
        policy
    }

    /// Every value as people read it.
    fn shown(&self) -> Vec<(&'static str, String)> {
        let any = |names: &[String]| {
            if names.is_empty() {
                "any".to_owned()
            } else {
                names.join(", ")
            }
        };
        let bytes = |value: Option<u64>| value.map_or_else(String::new, units::show_bytes);
        vec![
            ("policy.triggers.pull_requests", self.triggers.pull_requests.to_string()),
            ("policy.triggers.drafts", self.triggers.drafts.to_string()),
            ("policy.triggers.labels", any(&self.triggers.labels)),
            ("policy.triggers.base_branches", any(&self.triggers.base_branches)),
            ("policy.baseline", self.baseline.word().to_owned()),
            ("policy.sleep_after", units::show_ms(self.sleep_after_ms)),
            ("policy.expire_after", units::show_ms(self.expire_after_ms)),
            ("policy.limits.memory", bytes(self.limits.memory_bytes)),
            (
                "policy.limits.cpus",
                units::show_millis(self.limits.cpu_millis.unwrap_or_default()),
            ),
            ("policy.limits.disk", bytes(self.limits.disk_bytes)),
            ("policy.limits.pids", self.limits.pids.unwrap_or_default().to_string()),
            (
                "policy.secrets",
                if self.secrets.is_empty() {
                    "none".to_owned()
                } else {
                    self.secrets.join(", ")
                },
            ),
            ("policy.egress", egress::show(&self.presets, &self.egress.hosts)),
            ("policy.private", egress::show_private(&self.egress.private)),
        ]
    }

    fn apply(&mut self, report: &Report, node: &Node, explanation: &mut Explanation) {
        for (key, value) in fields(report, node, &keys::POLICY, "`policy`") {
            let what = format!("`{}` in `policy`", key.text);
            match key.text.as_str() {
                "triggers" => self.triggers.apply(report, value),
                "limits" => limits(&mut self.limits, report, value),
                "secrets" => self.secrets = secrets(report, value, &what),
                "egress" => (self.egress.hosts, self.presets) = egress::hosts(report, value, &what),
                "private" => self.egress.private = egress::private(report, value, &what),
                "baseline" => set(&mut self.baseline, baseline(report, value, &what)),
                "sleep_after" => set(&mut self.sleep_after_ms, duration(report, value, &what)),
                "expire_after" => set(&mut self.expire_after_ms, duration(report, value, &what)),
                _ => {}
            }
            match key.text.as_str() {
                "sleep_after" => report.warn_hint(
                    key.at,
                    "`sleep_after` in the policy has no effect yet",
                    "in this version environments run until their pull request is closed",
                ),
                "expire_after" => report.warn_hint(
                    key.at,
                    "`expire_after` in the policy counts only while the forge can not be read",
                    "while it can, environments run in this version until their pull request is closed",
                ),
                _ => {}
            }
            note(self, report, key.at, "policy", &key.text, explanation);
        }
        // A second pass over what is nested, now that all values are known.
        for (group, shape) in [("triggers", &keys::TRIGGERS[..]), ("limits", &keys::LIMITS[..])] {
            let Some(crate::yaml::NodeKind::Map(entries)) = node.get(group).map(|node| &node.kind) else {
                continue;
            };
            for (key, _) in entries
                .iter()
                .filter(|(key, _)| shape.iter().any(|entry| entry.name == key.text))
            {
                note(self, report, key.at, &format!("policy.{group}"), &key.text, explanation);
            }
        }
    }
}

/// Remembers where a value comes from, if the key is one that has a value.
fn note(
    policy: &Policy,
    report: &Report,
    at: crate::problem::At,
    path: &str,
    key: &str,
    explanation: &mut Explanation,
) {
    let name = format!("{path}.{key}");
    if let Some((name, value)) = policy.shown().into_iter().find(|(shown, _)| *shown == name) {
        explanation.set(name, value, Place::at(report, at));
    }
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn duration(report: &Report, node: &Node, what: &str) -> Option<u64> {
    let ms = read::duration_ms(report, node, what)?;
    if ms < 60_000 {
        report.error(node.at, format!("{what} must be at least one minute"));
        return None;
    }
    Some(ms)
}

/// Names of secrets: what a variable can be called.
fn secrets(report: &Report, node: &Node, what: &str) -> Vec<String> {
    let names = read::texts(report, node, what, true).unwrap_or_default();
    if let Some((at, _)) = names.get(NAMES_MAX) {
        report.error(*at, format!("{what} names more than {NAMES_MAX} secrets"));
    }
    let fits = |name: &str| {
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let rest = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        begins && rest && name.len() <= 128
    };
    let mut found = Vec::new();
    for (at, name) in names.into_iter().take(NAMES_MAX) {
        if fits(&name) {
            found.push(name);
        } else {
            report.error_hint(
                at,
                format!("{} can not be the name of a secret", quoted(&name)),
                "letters, digits, `_`, `-` and `.`, beginning with a letter or `_`",
            );
        }
    }
    found
}

fn baseline(report: &Report, node: &Node, what: &str) -> Option<Baseline> {
    let text = read::text(report, node, what)?;
    let found = Baseline::ALL.into_iter().find(|baseline| baseline.word() == text);
    if found.is_none() {
        report.error_hint(
            node.at,
            format!("{what} can not be {}", quoted(text)),
            "it is `asleep`, `awake` or `none`",
        );
    }
    found
}

impl Triggers {
    fn apply(&mut self, report: &Report, node: &Node) {
        for (key, value) in fields(report, node, &keys::TRIGGERS, "`policy.triggers`") {
            let what = format!("`{}` in `policy.triggers`", key.text);
            match key.text.as_str() {
                "pull_requests" => set(&mut self.pull_requests, read::flag(report, value, &what)),
                "drafts" => set(&mut self.drafts, read::flag(report, value, &what)),
                "labels" => set(&mut self.labels, names(report, value, &what)),
                "base_branches" => set(&mut self.base_branches, names(report, value, &what)),
                _ => {}
            }
        }
    }
}

fn names(report: &Report, node: &Node, what: &str) -> Option<Vec<String>> {
    let names = read::texts(report, node, what, true)?;
    if names.len() > NAMES_MAX {
        report.error(node.at, format!("{what} has more than {NAMES_MAX} items"));
        return None;
    }
    Some(names.into_iter().map(|(_, name)| name).collect())
}

fn limits(limits: &mut Limits, report: &Report, node: &Node) {
    for (key, value) in fields(report, node, &keys::LIMITS, "`policy.limits`") {
        let what = format!("`{}` in `policy.limits`", key.text);
        let (slot, number) = match key.text.as_str() {
            "memory" => (&mut limits.memory_bytes, read::bytes(report, value, &what)),
            "disk" => (&mut limits.disk_bytes, read::bytes(report, value, &what)),
            "cpus" => (&mut limits.cpu_millis, read::cpu_millis(report, value, &what)),
            _ => (&mut limits.pids, read::number(report, value, &what)),
        };
        match number {
            Some(0) => report.error(value.at, format!("{what} must be more than nothing")),
            Some(number) => *slot = Some(number),
            None => {}
        }
    }
}
