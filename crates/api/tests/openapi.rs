//! The committed OpenAPI document is the one that the code says.

use std::path::Path;

#[test]
fn the_committed_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    let mut now = serde_json::to_string_pretty(&api::openapi()).unwrap();
    now.push('\n');
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == now,
        "docs/reference/openapi.json is stale; UPDATE=1 cargo test -p api writes it"
    );
}

#[test]
fn every_operation_needs_a_token_and_describes_its_errors() {
    let document = serde_json::to_value(api::openapi()).unwrap();
    assert_eq!(document["security"][0]["token"], serde_json::json!([]));
    for (path, item) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with(api::BASE_PATH), "{path}");
        for operation in item.as_object().unwrap().values() {
            assert!(
                operation.get("security").is_none(),
                "{path} overrides the document's security"
            );
            assert!(operation["summary"].is_string(), "{path}");
            if path.contains('{') {
                let answers = &operation["responses"]["404"]["content"];
                assert!(answers.to_string().contains("ProblemDetails"), "{path}");
            }
        }
    }
}
