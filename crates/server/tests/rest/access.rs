//! Who may do what, and what bad requests are told.

use crate::bench::Bench;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

fn request(method: &Method, path: &str, authorization: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost");
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(Full::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_the_document_is_there_and_needs_a_token() {
    let bench = Bench::new().await;
    let document = serde_json::to_value(api::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path
            .replace("{environment}", "pr-404")
            .replace("{project}", "shop")
            .replace("{name}", "KEY");
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            for bad in [
                None,
                Some("Bearer wrong"),
                Some("Basic b3BlcmF0b3I6"),
                Some("Bearer aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            ] {
                let answer = bench.send(request(&method, &path, bad)).await;
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path} {bad:?}");
                assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
                assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer");
            }
            let authorization = format!("Bearer {}", bench.token);
            let answer = bench.send(request(&method, &path, Some(&authorization))).await;
            assert_ne!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
            let body: Value = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
            assert_ne!(body["detail"], "there is nothing at this address", "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_a_problem_with_a_hint() {
    let bench = Bench::new().await;
    let answer = bench.send(request(&Method::GET, "/health", None)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let (status, problem) = bench.call(Method::GET, "/environments/pr-9", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        problem,
        json!({
            "type": "urn:maquette:problem:not_found",
            "code": "not_found",
            "title": "There is no such thing",
            "status": 404,
            "detail": "there is no environment `pr-9`",
            "hint": "`maquette list` shows those that there are",
        })
    );
    let (status, problem) = bench.call(Method::GET, "/nothing", None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    let (status, _) = bench.call(Method::PUT, "/environments", None).await;
    assert!(status.is_client_error(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_refused_before_anything_happens() {
    let bench = Bench::new().await;
    for (body, detail) in [
        (json!({"brunch": "x"}), "brunch"),
        (json!({}), "exactly one"),
        (json!({"branch": "x", "clone_of": "y"}), "exactly one"),
        (json!({"branch": "a\u{202e}b"}), "branch name"),
        (json!({"branch": "x", "project": "other"}), "other"),
    ] {
        let (status, problem) = bench.call(Method::POST, "/environments", Some(body.clone())).await;
        assert!(status.is_client_error(), "{body}: {status}");
        assert!(
            problem["detail"].as_str().unwrap().contains(detail),
            "{body}: {problem:#}"
        );
    }
    let (status, problem) = bench
        .call(
            Method::POST,
            "/environments",
            Some(json!({"branch": "x".repeat(70_000)})),
        )
        .await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("too_large"))
    );

    let form = Request::post("/api/v1/environments")
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {}", bench.token))
        .header(header::CONTENT_TYPE, "text/plain")
        .body(Full::from("{\"branch\": \"main\"}"))
        .unwrap();
    assert_eq!(bench.send(form).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(bench.get("/environments").await["environments"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_state_is_refused() {
    let bench = Bench::new().await;
    let end = tokio_util::sync::CancellationToken::new();
    let config = crate::bench::config(bench.directory());
    let second = server::Server::start(&config, std::sync::Arc::new(bench.simulator.clone()), end).await;
    let error = second.unwrap_err();
    assert!(matches!(error, server::StartError::Locked { .. }), "{error}");
    assert!(error.hint().is_some());
}
