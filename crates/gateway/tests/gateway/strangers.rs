//! What somebody learns who has not signed in: nothing.

use crate::support::{NAVIGATION, World, canned, mirror};
use gateway::RouteState;

/// What an answer tells, apart from the time of day.
fn told(mut answer: crate::support::Answer) -> String {
    answer.headers.retain(|(name, _)| name != "date");
    format!("{answer:?}")
}

#[tokio::test]
async fn every_label_under_the_base_gets_the_same_bytes() {
    let (service, seen) = mirror().await;
    let world = World::live(service).await;
    world.set("pr-8", "e000000008", "web", RouteState::Sleeping, 1);
    world.set(
        "pr-9",
        "e000000009",
        "web",
        RouteState::Failed {
            reason: vec!["secret".to_owned()],
        },
        1,
    );
    let requests: [(&str, &[(&str, &str)]); 5] = [
        ("GET /", &NAVIGATION),
        ("GET /", &[]),
        ("POST /orders", &[("Sec-Fetch-Mode", "cors")]),
        ("GET /.maquette/status", &[]),
        ("GET /.maquette/sign-in", &NAVIGATION),
    ];
    for (line, headers) in requests {
        let mut answers = Vec::new();
        for label in ["pr-7", "pr-8", "pr-9", "pr-12345", "api--pr-7", "auth", "x"] {
            answers.push(told(world.ask_host(&world.host(label), line, headers, "").await));
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{line}: {answers:#?}");
    }
    assert_eq!(seen.count(), 0);
    assert!(
        world.wakes.0.lock().unwrap().is_empty(),
        "a stranger woke an environment"
    );
    assert!(world.gateway.activity().is_empty(), "a stranger counts as activity");
}

#[tokio::test]
async fn a_navigation_gets_a_page_and_a_program_a_problem() {
    let world = World::new().await;
    let page = world.ask("GET /deep?x=1", &NAVIGATION, "").await;
    assert_eq!(
        (page.status, page.header("content-type").as_str()),
        (401, "text/html; charset=utf-8")
    );
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("x-robots-tag"), "noindex");
    assert!(page.body.contains("og:title") && page.body.contains("Private preview"));
    assert!(!page.body.contains("pr-7"), "the page names the host: {}", page.body);

    for headers in [
        &[("Accept", "*/*")][..],
        &[("Sec-Fetch-Mode", "cors"), ("Accept", "text/html")],
        &[],
    ] {
        let problem = world.ask("GET /", headers, "").await;
        assert_eq!((problem.status, problem.header("location").as_str()), (401, ""));
        assert_eq!(problem.header("content-type"), "application/problem+json");
        let document: serde_json::Value = serde_json::from_str(&problem.body).unwrap();
        assert_eq!(document["status"], 401);
    }
}

#[tokio::test]
async fn a_host_outside_the_bases_is_misdirected() {
    let world = World::new().await;
    for host in [
        "example.org",
        "127.0.0.1",
        "localhost",
        "a.pr-7.localhost",
        "pr-7.localhost.evil.example",
        "pr-7.localhost.",
    ] {
        let with_port = format!("{host}:{}", world.port);
        for host in [host, with_port.as_str()] {
            assert_eq!(
                world.ask_host(host, "GET /", &NAVIGATION, "").await.status,
                421,
                "{host}"
            );
        }
    }
    assert_eq!(
        world.ask_host("pr-7.localhost:1", "GET /", &[], "").await.status,
        421,
        "another port"
    );
    assert_eq!(
        world.ask_host("PR-7.Localhost", "GET /", &[], "").await.status,
        401,
        "case and port do not matter"
    );
}

#[tokio::test]
async fn what_does_not_exist_and_what_may_not_be_seen_look_alike_after_sign_in() {
    let world = World::live(canned("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await).await;
    let stranger = gateway::Secret::generate().unwrap();
    let other = crate::support::visitor("token:other", crate::support::only("other"));
    world.auth.add_token(stranger.hash(), other);
    let token = [("Maquette-Token", stranger.expose())];
    let hidden = world.ask("GET /", &token, "").await;
    let missing = world.ask_host(&world.host("pr-99"), "GET /", &token, "").await;
    assert_eq!(hidden.status, 404);
    assert_eq!(told(hidden), told(missing));
    assert_eq!(world.ask_signed_in("GET /", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_user_agent_never_replaces_sign_in() {
    let (service, seen) = mirror().await;
    let world = World::live(service).await;
    for agent in [
        "kube-probe/1.30",
        "GoogleHC/1.0",
        "ELB-HealthChecker/2.0",
        "UptimeRobot",
    ] {
        assert_eq!(world.ask("GET /", &[("User-Agent", agent)], "").await.status, 401);
    }
    assert_eq!(seen.count(), 0);
}
