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
const PIECES: [&str; 60] = [
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
    fn values_of_all_kinds(key in "[a-z_]{1,12}", value in "[ -~]{0,40}", known in prop::sample::select(&[
        "image", "command", "entrypoint", "environment", "env_file", "ports", "expose", "volumes", "tmpfs", "working_dir",
        "depends_on", "healthcheck", "restart", "stop_signal", "stop_grace_period", "read_only", "mem_limit", "cpus",
        "pids_limit", "deploy", "networks", "profiles", "build",
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
