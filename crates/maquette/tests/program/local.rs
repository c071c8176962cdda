//! Commands over a directory.

use crate::bench::{COMPOSE, SETTINGS, run};
use std::fs;

#[tokio::test]
async fn init_writes_what_check_and_plan_accept() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    fs::write(dir.path().join("compose.yaml"), COMPOSE).unwrap();
    let written = run(&["init", at], "").await;
    assert_eq!(written.code, 0, "{written:?}");
    let again = run(&["init", at], "").await;
    assert_eq!(again.code, 6, "{again:?}");
    assert!(again.err.contains("--print"), "{again:?}");

    // What it has written, as it is.
    let text = fs::read_to_string(dir.path().join("maquette.yaml")).unwrap();
    assert!(text.contains("web") && text.contains("public: true"), "{text}");
    let checked = run(&["check", at, "--explain"], "").await;
    assert_eq!(checked.code, 0, "{checked:?}\n{text}");
    let line = 1 + text
        .lines()
        .position(|line| line.trim_start().starts_with("web:"))
        .unwrap();
    assert!(
        checked.out.contains("stack.services.web") && checked.out.contains(&format!("maquette.yaml:{line}")),
        "{}",
        checked.out
    );
    let planned = run(&["plan", at], "").await;
    assert_eq!(planned.code, 0, "{planned:?}");
    assert!(planned.out.contains("  web: serve HTTP/1.1"), "{}", planned.out);
    let json = run(&["plan", at, "--json"], "").await;
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["public"], serde_json::json!(["web"]));
    assert!(json["stack"]["services"]["web"].is_object());
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place_and_a_code() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    fs::write(dir.path().join("compose.yaml"), COMPOSE.replace("volumes", "volums")).unwrap();
    fs::write(dir.path().join("maquette.yaml"), SETTINGS).unwrap();
    let checked = run(&["check", at], "").await;
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(checked.out.contains("compose.yaml:6:5"), "{}", checked.out);
    assert!(checked.out.contains("volumes"), "{}", checked.out);
    let planned = run(&["plan", at, "--json"], "").await;
    assert_eq!(planned.code, 1);
    let json: serde_json::Value = serde_json::from_str(&planned.out).unwrap();
    let problems = json["problems"].as_array().unwrap();
    let error = problems.iter().find(|problem| problem["severity"] == "error").unwrap();
    assert_eq!((json["ok"].as_bool(), error["line"].as_u64()), (Some(false), Some(6)));
}

#[tokio::test]
async fn processes_of_the_server_refuse_the_wrong_user_and_a_wrong_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("maquette-server.yaml");
    let path = config.to_str().unwrap();
    let missing = run(&["serve", "--config", path], "").await;
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("--config"), "{missing:?}");
    fs::write(&config, "state_dri: /x\n").unwrap();
    let unknown = run(&["serve", "--config", path], "").await;
    assert!(unknown.err.contains("did you mean `state_dir`?"), "{unknown:?}");
    fs::write(&config, "user: root\n").unwrap();
    let root = run(&["serve", "--config", path], "").await;
    assert_eq!(root.code, 1, "{root:?}");
}

#[tokio::test]
async fn the_plan_of_the_example_shop() {
    let shop = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/shop");
    let planned = run(&["plan", shop], "").await;
    assert_eq!(planned.code, 0, "{planned:?}");
    insta::assert_snapshot!("plan_of_the_shop", planned.out);
    let json = run(&["plan", shop, "--json"], "").await;
    assert_eq!(json.code, 0, "{json:?}");
    insta::assert_snapshot!("plan_of_the_shop_as_json", json.out);
}
