//! Whatever is read, nothing panics and nothing takes long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::MemoryTree;
use proptest::prelude::*;
use support::shown;

/// Pieces of which broken files are made.
const PIECES: [&str; 72] = [
    "include: ",
    "a.yaml",
    "extends: ",
    "service: ",
    "file: ",
    "!reset ",
    "!override ",
    "secrets: ",
    "configs: ",
    "networks: ",
    "deploy: ",
    "volumes: ",
    "services:",
    "volumes:",
    "stack:",
    "policy:",
    "  ",
    "    ",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "web:",
    "db:",
    "image: ",
    "postgres:15",
    "redis",
    "ports: ",
    "[",
    "]",
    "{",
    "}",
    ",",
    ": ",
    "\"",
    "'",
    "&a ",
    "*a",
    "<<: *a",
    "? ",
    "| ",
    "> ",
    "!!str ",
    "!x ",
    "%TAG",
    "---",
    "...",
    "#",
    "$",
    "${",
    "${A:-",
    "command: ",
    "depends_on: ",
    "healthcheck: ",
    "test: ",
    "environment: ",
    "x-y: ",
    "80:80",
    "true",
    "~",
    "null",
    "host: ",
    "public: ",
    "data: ",
    "migrations: ",
    "**/*",
    "jobs: ",
    "run: ",
    "\t",
    "\u{202e}",
    "\u{0}",
    "é",
];

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes(compose in prop::collection::vec(any::<u8>(), 0..300), settings in prop::collection::vec(any::<u8>(), 0..300)) {
        shown(&MemoryTree::default().with("compose.yaml", &compose).with("maquette.yaml", &settings).with(".env", &compose));
    }

    #[test]
    fn broken_files(compose in pieces(), settings in pieces()) {
        let out = shown(&MemoryTree::new([("compose.yaml", compose.as_str()), ("maquette.yaml", &settings), (".env", &settings)]));
        prop_assert!(!out.contains(['\u{202e}', '\u{0}']), "{out:?}");
    }

    #[test]
    fn several_broken_files(one in pieces(), two in pieces(), three in pieces(), env in pieces()) {
        let out = shown(&MemoryTree::new([
            ("compose.yaml", format!("include: [a.yaml]\nservices:\n  web:\n    extends: {{ file: b.yaml, service: web }}\n    {one}").as_str()),
            ("compose.override.yaml", &format!("services:\n  web:\n    {two}")),
            ("a.yaml", &format!("services:\n  web:\n    {three}")),
            ("b.yaml", &format!("services:\n  web: {one}")),
            (".env", &env),
        ]));
        prop_assert!(!out.contains(['\u{202e}', '\u{0}']), "{out:?}");
    }

    #[test]
    fn what_overrides_itself_says_the_same(key in prop::sample::select(&[
        "environment: { A: 1, B: }", "environment: [A=1, B]", "ports: ['80:80', '81-83:81-83']", "volumes: ['v:/a', './d:/b']",
        "labels: [a=b]", "depends_on: [other]", "networks: { n: { aliases: [x] } }", "healthcheck: { test: a, retries: 3 }",
        "command: [a, b]", "ulimits: { nofile: { soft: 1, hard: 2 } }", "extra_hosts: ['a=1.1.1.1']", "tmpfs: [/a, '/b:size=1m']",
    ][..])) {
        let text = format!("services:\n  web:\n    image: a\n    {key}\n  other: {{ image: b }}\nnetworks: {{ n: }}\nvolumes: {{ v: }}\n");
        let once = MemoryTree::new([("compose.yaml", text.as_str())]);
        let twice = MemoryTree::new([("compose.yaml", text.as_str()), ("compose.override.yaml", &text)]);
        let read = |tree: &MemoryTree| blueprint::Blueprint::read(tree, None, &support::context(), &support::everything());
        prop_assert_eq!(read(&once).map(|one| one.stack).ok(), read(&twice).map(|one| one.stack).ok());
    }

    #[test]
    fn values_of_all_kinds(key in "[a-z_]{1,12}", value in "[ -~]{0,40}", known in prop::sample::select(&[
        "image", "command", "entrypoint", "environment", "env_file", "ports", "expose", "volumes", "tmpfs", "working_dir",
        "depends_on", "healthcheck", "restart", "stop_signal", "stop_grace_period", "read_only", "mem_limit", "cpus",
        "pids_limit", "deploy", "networks", "profiles", "build", "extends", "secrets", "configs", "ulimits", "extra_hosts", "links",
        "sysctls", "labels", "user", "scale", "platform", "pull_policy", "security_opt", "group_add", "develop", "gpus", "provider",
    ][..])) {
        for form in [format!("{known}: {value}"), format!("{known}: [{value}]"), format!("{known}: {{ {key}: {value} }}")] {
            shown(&MemoryTree::new([("compose.yaml", format!("services:\n  web:\n    {form}\n").as_str())]));
        }
    }

    #[test]
    fn text_in_quotes_arrives_as_it_is(value in "[^\u{0}-\u{1f}\u{7f}-\u{9f}\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}]{0,40}") {
        let quoted = serde_json::to_string(&value.replace('$', "$$")).unwrap();
        let text = format!("services:\n  web:\n    image: redis\n    environment:\n      A: {quoted}\n");
        let blueprint = support::read(&MemoryTree::new([("compose.yaml", text.as_str())])).unwrap();
        let service = &blueprint.stack.services[&"web".parse().unwrap()];
        prop_assert_eq!(service.workload.environment["A"].plain(), Some(value.as_str()));
    }
}
