//! Rows for tests.

#![allow(clippy::unwrap_used, reason = "only tests use it")]

use model::{
    CommitId, EnvironmentId, EnvironmentSpec, Generation, Limits, Origin, Power, ServiceStack, Stack, Timestamp,
};
use std::collections::BTreeMap;
use store::{EnvironmentRow, GenerationRow};

pub(crate) fn id(text: &str) -> EnvironmentId {
    text.parse().unwrap()
}

pub(crate) fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

pub(crate) fn environment(name: &str, origin: Origin, label: &str) -> EnvironmentRow {
    EnvironmentRow {
        id: id(name),
        project: "shop".parse().unwrap(),
        origin,
        label: label.parse().unwrap(),
        created: Timestamp(1_000),
        wanted: true,
        reason: "pull request 12 was opened".to_owned(),
        approved_commit: None,
        head: BTreeMap::from([("shop".parse().unwrap(), commit('a'))]),
        newest: None,
        live: None,
        failed: None,
        power: Power::Running,
        suspended: None,
        ended: None,
        live_at: None,
        nudged: None,
        overrides: serde_json::Value::Null,
        cluster: None,
    }
}

#[allow(dead_code, reason = "not every test file has generations")]
pub(crate) fn generation(name: &str, n: u64) -> GenerationRow {
    let spec = EnvironmentSpec {
        environment: id(name),
        generation: Generation(n),
        project: "shop".parse().unwrap(),
        origin: Origin::PullRequest { number: 12 },
        sources: BTreeMap::from([("shop".parse().unwrap(), commit('a'))]),
        stack: Stack::Services(ServiceStack::default()),
        limits: Limits::default(),
        egress: model::Egress::default(),
        secrets: BTreeMap::new(),
    };
    GenerationRow {
        environment: id(name),
        generation: Generation(n),
        inputs: model::Digest::of(&n.to_be_bytes()),
        spec,
        policy_commit: Some(commit('b')),
        restores: None,
        created: Timestamp(2_000),
        outcome: None,
        failure: None,
        notes: vec![],
    }
}
