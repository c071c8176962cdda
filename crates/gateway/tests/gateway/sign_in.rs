//! Links, sessions, tokens.

use crate::support::{NAVIGATION, World, mirror};

#[tokio::test]
async fn fetching_the_link_does_nothing_and_continue_signs_in() {
    let (service, seen) = mirror().await;
    let world = World::live(service).await;
    let page = world.ask("GET /.maquette/sign-in", &NAVIGATION, "").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("set-cookie"), "");
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");

    let form = format!("token={}&next=%2Fcart%3Fa%3Db", world.link.expose());
    let origin = world.origin("pr-7");
    let headers = [
        ("Origin", origin.as_str()),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "navigate"),
    ];
    let answer = world.ask("POST /.maquette/session", &headers, &form).await;
    assert_eq!((answer.status, answer.header("location").as_str()), (303, "/cart?a=b"));
    let cookie = answer.header("set-cookie");
    for flag in [
        "__Host-maquette=",
        "; Path=/",
        "; Secure",
        "; HttpOnly",
        "; SameSite=Lax",
        "; Max-Age=600",
    ] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(!cookie.to_lowercase().contains("domain"));

    let pair = cookie.split(';').next().unwrap();
    let seen_by_service = world
        .ask("GET /cart", &[("Cookie", &format!("a=1; {pair}; b=2"))], "")
        .await;
    assert_eq!(seen_by_service.status, 200);
    assert!(
        seen_by_service.body.contains("cookie: a=1; b=2\r\n"),
        "{}",
        seen_by_service.body
    );
    assert!(!seen.all().concat().contains("maquette="));
}

#[tokio::test]
async fn a_session_is_good_on_its_host_only_and_until_sign_out() {
    let (service, _) = mirror().await;
    let world = World::live(service).await;
    world.set("api--pr-7", "e000000007", "web", gateway::RouteState::Live, 1);
    let cookie = world.sign_in("pr-7").await;
    let cookies = [("Cookie", cookie.as_str())];
    assert_eq!(world.ask("GET /", &cookies, "").await.status, 200);
    assert_eq!(
        world
            .ask_host(&world.host("api--pr-7"), "GET /", &cookies, "")
            .await
            .status,
        401
    );
    for twice in [format!("{cookie}; {cookie}"), format!("{cookie}; __host-maquette=x")] {
        assert_eq!(
            world.ask("GET /", &[("Cookie", &twice)], "").await.status,
            401,
            "{twice}"
        );
    }

    let origin = world.origin("pr-7");
    assert_eq!(
        world.ask("POST /.maquette/sign-out", &cookies, "").await.status,
        403,
        "an origin must be named"
    );
    let out = world
        .ask("POST /.maquette/sign-out", &[cookies[0], ("Origin", &origin)], "")
        .await;
    assert_eq!(out.status, 303);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(
        world.ask("GET /", &cookies, "").await.status,
        401,
        "the session is gone on the server too"
    );
}

#[tokio::test]
async fn a_foreign_page_cannot_sign_anybody_in() {
    let world = World::new().await;
    let form = format!("token={}", world.link.expose());
    let (own, sibling) = (world.origin("pr-7"), world.origin("pr-8"));
    let attempts: [&[(&str, &str)]; 6] = [
        &[],
        &[("Origin", "null")],
        &[("Origin", "https://evil.example")],
        &[("Origin", &sibling)],
        &[("Origin", &own), ("Sec-Fetch-Site", "cross-site")],
        &[("Origin", &own), ("Origin", "https://evil.example")],
    ];
    for headers in attempts {
        let answer = world.ask("POST /.maquette/session", headers, &form).await;
        assert_eq!(
            (answer.status, answer.header("set-cookie").as_str()),
            (403, ""),
            "{headers:?}"
        );
    }
    let read = world
        .ask(&format!("GET /.maquette/session?{form}"), &NAVIGATION, "")
        .await;
    assert_eq!(
        (read.status, read.header("set-cookie").as_str()),
        (401, ""),
        "a token in an address signs nobody in"
    );
}

#[tokio::test]
async fn a_bad_link_is_told_and_redirects_stay_on_the_host() {
    let world = World::new().await;
    let origin = world.origin("pr-7");
    let headers = [("Origin", origin.as_str()), NAVIGATION[0], NAVIGATION[1]];
    for token in [
        "",
        "short",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00",
    ] {
        let answer = world
            .ask("POST /.maquette/session", &headers, &format!("token={token}"))
            .await;
        assert_eq!((answer.status, answer.header("set-cookie").as_str()), (401, ""));
        assert!(answer.body.contains("does not sign in"));
    }
    for next in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/%09/evil.example",
        "/%0d%0aX: y",
    ] {
        let form = format!("token={}&next={next}", world.link.expose());
        let answer = world.ask("POST /.maquette/session", &headers, &form).await;
        assert_eq!(
            (answer.status, answer.header("location").as_str()),
            (303, "/"),
            "{next}"
        );
    }
    world.auth.remove_link(&world.link.hash());
    let form = format!("token={}", world.link.expose());
    assert_eq!(
        world.ask("POST /.maquette/session", &headers, &form).await.status,
        401,
        "revoked"
    );
    let long = "x".repeat(20_000);
    assert_eq!(world.ask("POST /.maquette/session", &headers, &long).await.status, 400);
}

#[tokio::test]
async fn an_automation_token_signs_in_and_is_not_passed_on() {
    let (service, _) = mirror().await;
    let world = World::live(service).await;
    let answer = world
        .ask_signed_in(
            "GET /",
            &[("Authorization", "Bearer of the application"), ("Maquette_Token", "x")],
            "",
        )
        .await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("authorization: Bearer of the application"));
    assert!(!answer.body.to_lowercase().contains("maquette-token") && !answer.body.contains("maquette_token"));
    assert!(!answer.body.contains(world.token.expose()));
    let cookie = world.sign_in("pr-7").await;
    let wrong = world
        .ask("GET /", &[("Maquette-Token", "wrong"), ("Cookie", &cookie)], "")
        .await;
    assert_eq!(wrong.status, 401, "a token that is there decides alone");
    let in_address = world
        .ask(&format!("GET /?maquette-token={}", world.token.expose()), &[], "")
        .await;
    assert_eq!(in_address.status, 401);
}

#[tokio::test]
async fn a_foreign_page_changes_nothing_but_a_sibling_of_the_environment_may() {
    let (service, seen) = mirror().await;
    let world = World::live(service).await;
    world.set("api--pr-7", "e000000007", "web", gateway::RouteState::Live, 1);
    world.set("pr-8", "e000000008", "web", gateway::RouteState::Live, 1);
    let cookie = world.sign_in("pr-7").await;
    let (own, api, other) = (world.origin("pr-7"), world.origin("api--pr-7"), world.origin("pr-8"));
    let foreign: [&[(&str, &str)]; 6] = [
        &[("Origin", "https://evil.example")],
        &[("Origin", &other)],
        &[("Origin", "null")],
        &[("Origin", "null"), ("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Origin", "https://pr-7.localhost")],
    ];
    for headers in foreign {
        let mut all = vec![("Cookie", cookie.as_str())];
        all.extend(headers);
        assert_eq!(world.ask("POST /orders", &all, "").await.status, 403, "{headers:?}");
    }
    assert_eq!(seen.count(), 0);
    let allowed: [&[(&str, &str)]; 5] = [
        &[("Origin", &own), ("Sec-Fetch-Site", "same-origin")],
        &[("Origin", &api), ("Sec-Fetch-Site", "same-site")],
        &[("Origin", "null"), ("Sec-Fetch-Site", "same-origin")],
        &[("Sec-Fetch-Site", "none")],
        &[],
    ];
    for headers in allowed {
        let mut all = vec![("Cookie", cookie.as_str())];
        all.extend(headers);
        assert_eq!(world.ask("POST /orders", &all, "").await.status, 200, "{headers:?}");
    }
    let read = world
        .ask("GET /", &[("Cookie", &cookie), ("Origin", "https://evil.example")], "")
        .await;
    assert_eq!(read.status, 200, "reading is the browser's business");
}
