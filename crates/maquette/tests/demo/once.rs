//! Without a terminal: one JSON document, step by step, and nothing left.

use crate::{
    bench::run,
    place::{Place, TURN},
};
use serde_json::Value;
use std::collections::BTreeSet;

/// The steps of a whole life, in order.
const STEPS: [&str; 13] = [
    "start",
    "golden",
    "spare",
    "open",
    "live",
    "request",
    "push",
    "live after push",
    "request after push",
    "close",
    "receipt",
    "spares removed",
    "nothing left",
];

fn document(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_life_is_verified_and_told_in_one_document() {
    let _turn = TURN.lock().await;
    let place = Place::new();
    let mut arguments = place.arguments();
    arguments.push("--once".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = run(&arguments, "").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let document = document(&ended.out);
    assert_eq!(document["ok"], true, "{document:#}");
    assert_eq!(document.get("failure"), None, "{document:#}");
    let steps = document["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, STEPS, "{document:#}");
    for step in steps {
        let verified = step["verified"].as_array().unwrap();
        assert!(!verified.is_empty() && step["ms"].is_u64(), "{step:#}");
    }
    let says = |name: &str, text: &str| {
        let step = steps.iter().find(|step| step["step"] == name).unwrap();
        let verified = step["verified"].as_array().unwrap();
        let found = verified.iter().any(|line| line.as_str().unwrap().contains(text));
        assert!(found, "{step:#} does not say {text:?}");
    };
    says("request", "a stranger gets 401");
    says("request", "went through all services to a mail in the outbox");
    says("live after push", "the same environment");
    says("request after push", "the order from before is still there");
    says("receipt", "are gone");
    // What it says of itself is so.
    let id = document["environment"].as_str().unwrap();
    let ids: BTreeSet<&str> = document["spares"]
        .as_array()
        .unwrap()
        .iter()
        .map(|spare| spare.as_str().unwrap())
        .chain([id])
        .collect();
    let cells = place.root.join("cells");
    for id in ids {
        assert_eq!(crate::outside::traces(id, &[&cells]), Vec::<String>::new());
    }
    place.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_is_told_in_the_document_too() {
    let place = Place::new();
    let arguments = place.arguments();
    let taken: u16 = arguments.last().unwrap().parse().unwrap();
    let _listener = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("--once");
    let ended = run(&arguments, "").await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let document = document(&ended.out);
    assert_eq!(document["ok"], false);
    assert!(
        document["failure"].as_str().unwrap().contains("can not be used") && ended.err.contains("--port"),
        "{ended:?}"
    );
}
