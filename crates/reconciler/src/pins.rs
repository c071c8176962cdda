//! How the sources of an environment are followed that are not those of its pull request: which branch each is at, and what keeps
//! it from being followed. It stands in the environment's overrides and is no part of what a generation is made from.

use model::{BranchName, CommitId, SourceName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::EnvironmentRow;

/// The key of [`Pin`]s, by source.
pub(crate) const PINS: &str = "pins";
/// The key of the branches that somebody asked for, by source.
const BRANCHES: &str = "branches";
/// The key of what a source would be at, had nobody asked for another commit of it; by source.
const DEPLOYED: &str = "followed_sources";
/// The key of commits that somebody approved in an environment that several pull requests share; by source.
pub(crate) const APPROVED: &str = "approved_sources";
/// The key of the pull requests that share an environment, also of those that were closed; numbers by source.
pub(crate) const MEMBERS: &str = "members";

/// How a source is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The branch that its commit is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<BranchName>,
    /// Why it can not be followed, in words that continue "source `api` …".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

fn read<T: DeserializeOwned + Default>(environment: &EnvironmentRow, key: &str) -> T {
    let given = environment.overrides.get(key).cloned().unwrap_or_default();
    serde_json::from_value(given).unwrap_or_default()
}

/// How each further source is followed.
#[must_use]
pub fn pins(environment: &EnvironmentRow) -> BTreeMap<SourceName, Pin> {
    read(environment, PINS)
}

pub(crate) fn branches(environment: &EnvironmentRow) -> BTreeMap<SourceName, BranchName> {
    read(environment, BRANCHES)
}

pub(crate) fn deployed(environment: &EnvironmentRow) -> BTreeMap<SourceName, CommitId> {
    read(environment, DEPLOYED)
}

pub(crate) fn approved(environment: &EnvironmentRow) -> BTreeMap<SourceName, CommitId> {
    read(environment, APPROVED)
}

pub(crate) fn members(environment: &EnvironmentRow) -> BTreeMap<SourceName, Vec<u64>> {
    read(environment, MEMBERS)
}

/// Whether an environment that several pull requests share is for one of this number.
#[must_use]
pub fn is_member(environment: &EnvironmentRow, number: u64) -> bool {
    members(environment).values().any(|numbers| numbers.contains(&number))
}

fn with<T: Serialize>(overrides: &Value, key: &str, table: &BTreeMap<SourceName, T>) -> Value {
    let mut fields = overrides.as_object().cloned().unwrap_or_default();
    if table.is_empty() {
        fields.remove(key);
    } else {
        fields.insert(key.to_owned(), json!(table));
    }
    Value::Object(fields)
}

/// The overrides with these pins.
pub(crate) fn with_pins(overrides: &Value, pins: &BTreeMap<SourceName, Pin>) -> Value {
    with(overrides, PINS, pins)
}

/// The overrides with a source that follows this branch.
pub(crate) fn with_branch(environment: &EnvironmentRow, source: &SourceName, branch: &BranchName) -> Value {
    let mut table = branches(environment);
    table.insert(source.clone(), branch.clone());
    with(&environment.overrides, BRANCHES, &table)
}

/// The overrides with commits that somebody asked for.
pub(crate) fn with_deployed(overrides: &Value, table: &BTreeMap<SourceName, CommitId>) -> Value {
    with(overrides, DEPLOYED, table)
}

/// The overrides with a commit that somebody approved.
pub(crate) fn with_approved(environment: &EnvironmentRow, source: &SourceName, commit: &CommitId) -> Value {
    let mut table = approved(environment);
    table.insert(source.clone(), commit.clone());
    with(&environment.overrides, APPROVED, &table)
}

/// The overrides with one more pull request.
pub(crate) fn with_member(environment: &EnvironmentRow, source: &SourceName, number: u64) -> Value {
    let mut table = members(environment);
    let numbers = table.entry(source.clone()).or_default();
    if !numbers.contains(&number) {
        numbers.push(number);
    }
    with(&environment.overrides, MEMBERS, &table)
}

/// What people should know of the further sources.
pub(crate) fn notes(environment: &EnvironmentRow) -> Vec<String> {
    let note = |(source, pin): (SourceName, Pin)| {
        let commit = environment.head.get(&source).map(CommitId::short);
        match (pin.branch, pin.trouble, commit) {
            (_, Some(trouble), Some(commit)) => format!("Source {source} {trouble}; it stays at {commit}."),
            (_, Some(trouble), None) => format!("Source {source} {trouble}."),
            (Some(branch), None, Some(commit)) => format!("Source {source} is at branch {branch} ({commit})."),
            _ => String::new(),
        }
    };
    let notes = pins(environment).into_iter().map(note);
    notes.filter(|note| !note.is_empty()).collect()
}
