//! Deliveries: what is too large, unsigned, for nobody or repeated does nothing.

use crate::bench::Bench;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;

fn delivery(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-gitea-event", "pull_request")
        .header("x-gitea-delivery", "d1")
        .header("x-gitea-signature", "00")
        .body(Full::new(body.into()))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_learns_nothing() {
    let bench = Bench::new().await;
    let mut answers = Vec::new();
    for path in [
        "/webhooks/shop/shop",
        "/webhooks/shop/other",
        "/webhooks/nobody/shop",
        "/webhooks/..%2f/x",
    ] {
        let answer = bench.send(delivery(path, "{}")).await;
        answers.push((answer.status(), answer.into_body()));
    }
    assert_eq!(answers[0].0, StatusCode::FORBIDDEN);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_too_large_is_not_read() {
    let bench = Bench::new().await;
    let answer = bench
        .send(delivery("/webhooks/shop/shop", vec![b'x'; (1 << 20) + 1]))
        .await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
