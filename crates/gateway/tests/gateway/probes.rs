//! The control plane's question whether a service answers behind its host.

use crate::support::{Answer, World, canned, mirror, nobody, target};
use gateway::{PROBE_HEADER, PROBE_PATH, PROBE_TARGET_HEADER, ProbeAnswer, RouteKey, RouteState, Secret, probe_target};

const STARTING: RouteState = RouteState::Starting { steps: Vec::new() };

async fn asked(world: &World, word: &Secret, label: &str, service: &str) -> Answer {
    let expected = probe_target(&target("e000000007", service));
    let headers = [(PROBE_HEADER, word.expose()), (PROBE_TARGET_HEADER, &expected)];
    let line = format!("GET {PROBE_PATH}");
    world.ask_host(&world.host(label), &line, &headers, "").await
}

async fn probe(world: &World, word: &Secret, label: &str, service: &str) -> ProbeAnswer {
    let answer = asked(world, word, label, service).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

fn word_of(world: &World) -> Secret {
    let word = Secret::generate().unwrap();
    world.auth.set_control_plane(word.hash());
    word
}

#[tokio::test]
async fn a_service_that_is_not_live_yet_is_asked_as_its_visitors_will_ask_it() {
    let (service, seen) = mirror().await;
    let world = World::live(service).await;
    world.set("pr-7", "e000000007", "web", STARTING, 0);
    let word = word_of(&world);
    let answer = probe(&world, &word, "pr-7", "web").await;
    assert_eq!(answer, ProbeAnswer::Answered { status: 200 });
    assert_eq!(seen.count(), 1);
    let sent = seen.all().remove(0);
    assert!(sent.starts_with("GET / HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains(&world.host("pr-7")), "{sent}");
    assert!(!sent.contains(word.expose()), "the word reaches the service: {sent}");
    assert!(world.gateway.activity().is_empty(), "it counts as a visit");
    assert!(world.wakes.0.lock().unwrap().is_empty(), "it wakes");
}

#[tokio::test]
async fn any_answer_of_the_service_counts_and_no_answer_of_the_gateway() {
    let world = World::new().await;
    let word = word_of(&world);
    let broken = canned("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await;
    world.serve_at("pr-7", broken);
    let answer = probe(&world, &word, "pr-7", "web").await;
    assert_eq!(answer, ProbeAnswer::Answered { status: 500 });

    world.serve_at("pr-7", canned("no HTTP at all\r\n\r\n").await);
    let answer = probe(&world, &word, "pr-7", "web").await;
    assert!(
        matches!(&answer, ProbeAnswer::Silent { why } if why.contains("web")),
        "{answer:?}"
    );

    let (_bound, address) = nobody();
    world.serve_at("pr-7", address);
    let answer = probe(&world, &word, "pr-7", "web").await;
    assert!(
        matches!(&answer, ProbeAnswer::Silent { why } if why.contains("3000")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_host_that_leads_elsewhere_or_nowhere_is_told() {
    let (service, seen) = mirror().await;
    let world = World::live(service).await;
    let word = word_of(&world);
    assert_eq!(probe(&world, &word, "pr-7", "api").await, ProbeAnswer::NoRoute);
    assert_eq!(probe(&world, &word, "pr-8", "web").await, ProbeAnswer::NoRoute);
    assert_eq!(seen.count(), 0);

    // What the next generation will have there is asked; visitors still get what is live.
    let (next, seen_next) = mirror().await;
    world.dial.set(target("e000000007", "api"), next);
    let key = RouteKey {
        base: "localhost".into(),
        label: "pr-7".parse().unwrap(),
    };
    let live = gateway::Routes::route(&*world.routes(), &key).unwrap();
    let awaited = [(key.clone(), target("e000000007", "api"))];
    world.routes().replace_all([(key, (*live).clone())], awaited);
    let answer = probe(&world, &word, "pr-7", "api").await;
    assert_eq!(answer, ProbeAnswer::Answered { status: 200 });
    assert_eq!(world.ask_signed_in("GET /", &[], "").await.status, 200);
    assert_eq!((seen.count(), seen_next.count()), (1, 1));
}

#[tokio::test]
async fn without_the_word_it_is_a_path_like_any_other() {
    let (service, seen) = mirror().await;
    let world = World::live(service).await;
    let stranger = asked(&world, &Secret::generate().unwrap(), "pr-7", "web").await;
    assert_eq!(stranger.status, 401, "there is no word yet");
    let word = word_of(&world);
    for guess in [Secret::generate().unwrap(), world.token.clone(), world.link.clone()] {
        let mut answer = asked(&world, &guess, "pr-7", "web").await;
        let mut plain = world.ask("GET /.maquette/status", &[], "").await;
        answer.headers.retain(|(name, _)| name != "date");
        plain.headers.retain(|(name, _)| name != "date");
        assert_eq!(format!("{answer:?}"), format!("{plain:?}"));
    }
    let post = [(PROBE_HEADER, word.expose())];
    assert_eq!(world.ask(&format!("POST {PROBE_PATH}"), &post, "").await.status, 401);
    assert_eq!(
        world.ask_signed_in(&format!("GET {PROBE_PATH}"), &[], "").await.status,
        404
    );
    // Nor does the word open anything else.
    assert_eq!(world.ask("GET /", &post, "").await.status, 401);
    assert_eq!(seen.count(), 0);
}
