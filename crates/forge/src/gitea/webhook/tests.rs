//! Tests of reading deliveries: order of the checks, hostile bodies.

use super::*;
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use sha2::Sha256;

fn secret() -> Secret {
    Secret::new("the secret of the tests".to_owned())
}

fn sign(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret().expose().as_bytes()).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

fn headers(event: &str, signature: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        "x-gitea-delivery",
        HeaderValue::from_static("f6266f16-1bf3-46a5-9ea4-602e06ead473"),
    );
    headers.insert("x-gitea-event", HeaderValue::from_str(event).unwrap());
    headers.insert("x-gitea-signature", HeaderValue::from_str(signature).unwrap());
    headers
}

fn receive(event: &str, body: &str) -> Result<Received, DeliveryError> {
    read(&headers(event, &sign(body.as_bytes())), body.as_bytes(), &secret())
}

fn subject(event: &str, body: &str) -> Option<Subject> {
    match receive(event, body).unwrap() {
        Received::Delivery(delivery) => Some(delivery.subject),
        Received::Ignored { .. } => None,
    }
}

#[test]
fn a_signed_pull_request_is_read() {
    let body = r#"{"action":"synchronized","number":7,"repository":{"id":3},"sender":{"id":2,"login":"ada"}}"#;
    let Received::Delivery(delivery) = receive("pull_request", body).unwrap() else {
        panic!("ignored")
    };
    assert_eq!(delivery.repository, RepositoryId::from(3));
    assert_eq!(delivery.sender.unwrap().login.as_str(), "ada");
    let action = PullRequestAction::Pushed;
    assert_eq!(
        delivery.subject,
        Subject::PullRequest {
            number: PullRequestNumber(7),
            action
        }
    );
}

#[test]
fn a_wrong_signature_is_refused_before_the_body_is_parsed() {
    let broken = b"{ this is not JSON";
    let wrong = sign(b"something else");
    for signature in [wrong.as_str(), "", "zz", "00"] {
        let error = read(&headers("push", signature), broken, &secret()).unwrap_err();
        assert_eq!(error, DeliveryError::Signature, "{signature}");
    }
    assert!(matches!(
        read(&headers("push", &sign(broken)), broken, &secret()).unwrap_err(),
        DeliveryError::Malformed { .. }
    ));
}

#[test]
fn an_empty_secret_verifies_nothing() {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"").unwrap();
    mac.update(b"{}");
    let signature = hex::encode(mac.finalize().into_bytes());
    let error = read(&headers("push", &signature), b"{}", &Secret::new(String::new())).unwrap_err();
    assert_eq!(error, DeliveryError::Signature);
}

#[test]
fn an_oversized_body_is_refused_whatever_its_signature() {
    let body = vec![b' '; MAX_DELIVERY_BYTES + 1];
    assert_eq!(
        read(&headers("push", &sign(&body)), &body, &secret()).unwrap_err(),
        DeliveryError::TooLarge
    );
}

#[test]
fn a_header_that_is_missing_or_there_twice_is_refused() {
    for name in ["x-gitea-delivery", "x-gitea-event", "x-gitea-signature"] {
        let mut without = headers("push", &sign(b"{}"));
        let value = without.remove(name).unwrap();
        assert_eq!(
            read(&without, b"{}", &secret()).unwrap_err(),
            DeliveryError::Header { header: name }
        );
        let mut twice = headers("push", &sign(b"{}"));
        twice.append(name, value);
        assert_eq!(
            read(&twice, b"{}", &secret()).unwrap_err(),
            DeliveryError::Header { header: name }
        );
    }
}

#[test]
fn pushes_tell_the_branch_and_its_commit() {
    let commit = "a".repeat(40);
    let push = |reference: &str, after: &str| {
        subject(
            "push",
            &serde_json::json!({"ref": reference, "after": after, "repository": {"id": 1}}).to_string(),
        )
    };
    let branch = || "feature/x".parse().unwrap();
    let pushed = Subject::Branch {
        branch: branch(),
        commit: Some(commit.parse().unwrap()),
    };
    assert_eq!(push("refs/heads/feature/x", &commit), Some(pushed));
    let deleted = Subject::Branch {
        branch: branch(),
        commit: None,
    };
    assert_eq!(push("refs/heads/feature/x", &"0".repeat(40)), Some(deleted));
    assert_eq!(push("refs/tags/v1", &commit), None);
    assert_eq!(push("refs/heads/-x", &commit), None);
}

#[test]
fn what_we_do_not_follow_is_ignored_even_if_it_is_not_json() {
    for event in ["fork", "wiki", "release", "some_event_of_the_future"] {
        assert!(
            matches!(receive(event, "<x/>").unwrap(), Received::Ignored { .. }),
            "{event}"
        );
    }
    let on_an_issue = r#"{"action":"created","issue":{"number":4},"is_pull":false,"repository":{"id":1}}"#;
    assert_eq!(subject("issue_comment", on_an_issue), None);
    let on_a_pull = on_an_issue.replace("false", "true");
    assert_eq!(
        subject("issue_comment", &on_a_pull),
        Some(Subject::Comment {
            number: PullRequestNumber(4)
        })
    );
}

proptest! {
    #[test]
    fn signed_nonsense_never_panics(body in "\\PC{0,300}", event in "(push|pull_request|create|issue_comment)") {
        let _ = receive(&event, &body);
    }
}
