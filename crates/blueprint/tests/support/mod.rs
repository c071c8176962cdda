//! What the tests of blueprints have in common.
#![allow(dead_code, reason = "every test file uses a part of it")]

use blueprint::{Address, Blueprint, Context, MemoryTree, Problems, PullRequest};
use model::{Capabilities, EngineOffer, Staging};

pub(crate) fn cell() -> Capabilities {
    let offer = |kind: &str, major, version: &str| EngineOffer {
        kind: kind.into(),
        major,
        version: version.into(),
    };
    Capabilities {
        runtime: "cell".into(),
        staging: Staging::Levels,
        services: true,
        objects: false,
        host_roots: true,
        images: false,
        engines: vec![
            offer("postgres", 15, "15.14"),
            offer("redis", 7, "7.0.15"),
            offer("rabbitmq", 3, "3.10.8"),
        ],
        snapshots: true,
        freeze: true,
        sources: true,
        databases: true,
        features: std::collections::BTreeSet::new(),
    }
}

pub(crate) fn docker() -> Capabilities {
    Capabilities {
        runtime: "docker".into(),
        host_roots: false,
        images: true,
        engines: Vec::new(),
        ..cell()
    }
}

/// A runtime that does all that a Compose file can ask for.
pub(crate) fn everything() -> Capabilities {
    use model::Feature;
    Capabilities {
        features: [
            Feature::Builds,
            Feature::Content,
            Feature::Networks,
            Feature::Users,
            Feature::Init,
            Feature::Hostname,
            Feature::Hosts,
            Feature::Ulimits,
            Feature::Sysctls,
            Feature::DropCapabilities,
            Feature::SharedMemory,
            Feature::Terminal,
            Feature::VolumePaths,
            Feature::RestartLimit,
            Feature::StartInterval,
        ]
        .into(),
        ..docker()
    }
}

pub(crate) fn context() -> Context {
    Context {
        project: "shop".parse().unwrap(),
        source: "shop".parse().unwrap(),
        commit: "7d1f0e2".repeat(6)[..40].parse().unwrap(),
        branch: Some("fix-login".parse().unwrap()),
        base: Some("main".parse().unwrap()),
        pull_request: Some(PullRequest {
            number: 12,
            title: "Fix login\u{202e}\n".into(),
        }),
        environment: "pr-12".parse().unwrap(),
        address: Address {
            scheme: "http".into(),
            base: "localhost".into(),
            port: Some(8080),
        },
        without: std::collections::BTreeSet::new(),
        endpoints: std::collections::BTreeMap::new(),
        with: std::collections::BTreeSet::new(),
        secrets: std::collections::BTreeSet::new(),
        images: None,
    }
}

pub(crate) fn read(tree: &MemoryTree) -> Result<Blueprint, Problems> {
    Blueprint::read(tree, Some(tree), &context(), &cell())
}

/// What a person sees of a tree: its problems, or its warnings.
pub(crate) fn shown(tree: &MemoryTree) -> String {
    match read(tree) {
        Ok(blueprint) => format!("(read)\n{}", Problems(blueprint.warnings)),
        Err(problems) => problems.to_string(),
    }
}
