//! Environments that are not live (yet).

use crate::support::{NAVIGATION, World, canned, eventually, mirror, nobody, target};
use gateway::{RouteState, Step, StepState};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn starting() -> RouteState {
    let step = |name: &str, state, detail: &str| Step {
        name: name.to_owned(),
        state,
        detail: detail.to_owned(),
        since: Some(std::time::SystemTime::now()),
    };
    RouteState::Starting {
        steps: vec![
            step("clone the database", StepState::Done, ""),
            step("start web", StepState::Running, "waits for <script>alert(1)</script>"),
            step("smoke tests", StepState::Waiting, ""),
        ],
    }
}

#[tokio::test]
async fn a_navigation_is_held_briefly_and_then_sees_the_steps() {
    let world = World::new().await;
    world.set("pr-7", "e000000007", "web", starting(), 1);
    let begun = Instant::now();
    let page = world.ask_signed_in("GET /cart", &NAVIGATION, "").await;
    assert!(begun.elapsed() >= Duration::from_millis(100), "not held at all");
    assert_eq!(page.status, 503, "never 200: a crawler or a cache would keep it");
    assert_eq!(
        (
            page.header("retry-after").as_str(),
            page.header("cache-control").as_str()
        ),
        ("2", "no-store")
    );
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    for text in [
        "clone the database",
        "start web",
        "smoke tests",
        "#7 Gift cards &lt;b&gt;&amp;&lt;/b&gt;",
        "01234567",
    ] {
        assert!(page.body.contains(text), "{text} is missing in {}", page.body);
    }
    assert!(!page.body.contains("<script>alert"), "a step's detail became markup");

    let status = world.ask_signed_in("GET /.maquette/status", &[], "").await;
    let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    assert_eq!(status["state"], "starting");
    assert_eq!(
        (&status["steps"][1]["name"], &status["steps"][1]["state"]),
        (&"start web".into(), &"running".into())
    );
    world.serve_at("pr-7", canned(OK).await);
    let status = world.ask_signed_in("GET /.maquette/status", &[], "").await;
    assert!(
        status.body.contains("\"live\""),
        "the page would not notice: {}",
        status.body
    );
}

#[tokio::test]
async fn what_was_held_is_served_as_soon_as_it_is_live() {
    let world = Arc::new(World::new().await);
    world.set("pr-7", "e000000007", "web", RouteState::Sleeping, 1);
    let begun = Instant::now();
    let waiting: Vec<_> = ["GET /api", "POST /orders", "GET /"]
        .into_iter()
        .map(|line| {
            let world = world.clone();
            tokio::spawn(async move { world.ask_signed_in(line, &[], "").await })
        })
        .collect();
    eventually("the environment is asked to wake", || {
        !world.wakes.0.lock().unwrap().is_empty()
    })
    .await;
    sleep(Duration::from_millis(150)).await;
    let wakes = world.wakes.0.lock().unwrap().clone();
    // They are asked for again after a second.
    let most = 1 + begun.elapsed().as_secs();
    assert!(
        wakes.len() as u64 <= most && wakes.iter().all(|one| one == "e000000007"),
        "one wake at a time: {wakes:?}"
    );
    world.serve_at("pr-7", canned(OK).await);
    let live = Instant::now();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().body, "ok", "the first request failed");
    }
    // What waits is let go after a minute in any case.
    assert!(live.elapsed() < Duration::from_secs(30), "ready, but answered late");
}

#[tokio::test]
async fn what_falls_asleep_while_somebody_waits_is_woken() {
    let world = Arc::new(World::new().await);
    world.set("pr-7", "e000000007", "web", starting(), 1);
    let waiting = world.clone();
    let waiting = tokio::spawn(async move { waiting.ask_signed_in("GET /api", &[], "").await });
    sleep(Duration::from_millis(150)).await;
    assert!(world.wakes.0.lock().unwrap().is_empty(), "it is on its way by itself");
    world.set("pr-7", "e000000007", "web", RouteState::Sleeping, 2);
    eventually("the environment is asked to wake", || {
        !world.wakes.0.lock().unwrap().is_empty()
    })
    .await;
    world.serve_at("pr-7", canned(OK).await);
    assert_eq!(waiting.await.unwrap().body, "ok");
}

#[tokio::test]
async fn a_form_that_is_sent_by_a_page_is_not_lost_to_the_progress_page() {
    let world = Arc::new(World::new().await);
    world.set("pr-7", "e000000007", "web", starting(), 1);
    let sent = world.clone();
    let sent = tokio::spawn(async move { sent.ask_signed_in("POST /orders", &NAVIGATION, "").await });
    sleep(Duration::from_millis(300)).await;
    let (service, seen) = mirror().await;
    world.serve_at("pr-7", service);
    assert_eq!(sent.await.unwrap().status, 200);
    assert!(seen.all()[0].starts_with("POST /orders"));
}

#[tokio::test]
async fn waiting_ends_with_a_problem() {
    let world = World::with(|config| config.timing.hold = Duration::from_millis(300)).await;
    world.set("pr-7", "e000000007", "web", starting(), 1);
    let answer = world.ask_signed_in("GET /api", &[], "").await;
    assert_eq!(
        (answer.status, answer.header("content-type").as_str()),
        (504, "application/problem+json")
    );
}

#[tokio::test]
async fn queues_are_bounded() {
    let world = World::with(|config| {
        config.timing.hold = Duration::from_secs(600);
        config.limits.held_per_environment = 1;
    })
    .await;
    world.set("pr-7", "e000000007", "web", starting(), 1);
    let world = Arc::new(world);
    let first = world.clone();
    let first = tokio::spawn(async move { first.ask_signed_in("GET /api", &[], "").await });
    eventually("the first is held", || {
        world.gateway.activity().first().is_some_and(|(_, a)| a.requests == 1)
    })
    .await;
    let second = world.ask_signed_in("GET /api", &[], "").await;
    assert_eq!(
        (second.status, second.header("content-type").as_str()),
        (503, "application/problem+json")
    );
    let page = world.ask_signed_in("GET /", &NAVIGATION, "").await;
    assert!(
        page.body.contains("start web"),
        "a person still sees the page when the queue is full"
    );
    world.serve_at("pr-7", canned(OK).await);
    assert_eq!(first.await.unwrap().body, "ok", "the first has its place still");
}

#[tokio::test]
async fn a_visitor_who_leaves_the_queue_makes_room() {
    let world = World::with(|config| config.limits.held_per_environment = 1).await;
    world.set("pr-7", "e000000007", "web", starting(), 1);
    let mut stream = world.connect().await;
    let head = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes())
        .await
        .unwrap();
    let requests = || {
        world
            .gateway
            .activity()
            .first()
            .map_or(0, |(_, activity)| activity.requests)
    };
    eventually("it is held", || requests() == 1).await;
    drop(stream);
    eventually("it is let go", || requests() == 0).await;
}

#[tokio::test]
async fn a_failed_start_says_why_to_those_signed_in_only() {
    let world = World::new().await;
    let reason = vec![
        "web: exited with 1".to_owned(),
        "Error: relation \"cards\" does not exist".to_owned(),
    ];
    world.set("pr-7", "e000000007", "web", RouteState::Failed { reason }, 1);
    let page = world.ask_signed_in("GET /", &NAVIGATION, "").await;
    assert_eq!((page.status, page.header("retry-after").as_str()), (503, ""));
    assert!(
        page.body.contains("relation &quot;cards&quot; does not exist"),
        "{}",
        page.body
    );
    let problem = world.ask_signed_in("GET /api", &[], "").await;
    assert!(problem.body.contains("web: exited with 1"), "{}", problem.body);
    for headers in [&NAVIGATION[..], &[]] {
        let stranger = world.ask("GET /", headers, "").await;
        assert_eq!(stranger.status, 401);
        assert!(!stranger.body.contains("cards"));
    }
    world.set("pr-7", "e000000007", "web", RouteState::Gone, 2);
    assert_eq!(world.ask_signed_in("GET /", &NAVIGATION, "").await.status, 410);
    world.remove("pr-7");
    assert_eq!(world.ask_signed_in("GET /", &NAVIGATION, "").await.status, 404);
}

#[tokio::test]
async fn what_is_kept_from_running_says_why_to_those_signed_in_only() {
    let world = World::new().await;
    let reason = vec!["Nothing runs until <somebody> approves the commit.".to_owned()];
    world.set("pr-7", "e000000007", "web", RouteState::Held { reason }, 1);
    let page = world.ask_signed_in("GET /", &NAVIGATION, "").await;
    assert_eq!(page.status, 503);
    assert!(
        page.body.contains("<h1>It does not run now</h1>")
            && page
                .body
                .contains("<p>Nothing runs until &lt;somebody&gt; approves the commit.</p>")
            && !page.body.contains("push"),
        "{}",
        page.body
    );
    let problem = world.ask_signed_in("GET /api", &[], "").await;
    assert!(
        problem.status == 503 && problem.body.contains("approves the commit"),
        "{}",
        problem.body
    );
    let stranger = world.ask("GET /", &NAVIGATION, "").await;
    assert!(stranger.status == 401 && !stranger.body.contains("approves"));
}

#[tokio::test]
async fn nobody_who_is_not_waiting_wakes_anything() {
    let world = World::new().await;
    world.set("pr-7", "e000000007", "web", RouteState::Sleeping, 1);
    let cases: [(&str, &[(&str, &str)], u16); 5] = [
        ("GET /", &[("Sec-Purpose", "prefetch;prerender"), NAVIGATION[0]], 503),
        ("GET /favicon.ico", &[], 204),
        ("GET /robots.txt", &[], 200),
        ("GET /", &[("User-Agent", "kube-probe/1.30")], 503),
        (
            "GET /",
            &[("User-Agent", "Mozilla/5.0 (compatible; UptimeRobot/2.0)")],
            503,
        ),
    ];
    for (line, headers, status) in cases {
        assert_eq!(
            world.ask_signed_in(line, headers, "").await.status,
            status,
            "{line} {headers:?}"
        );
    }
    assert!(world.wakes.0.lock().unwrap().is_empty(), "woken");
    assert!(world.gateway.activity().is_empty(), "counted as activity");
    let (service, seen) = mirror().await;
    world.serve_at("pr-7", service);
    world.ask_signed_in("GET /favicon.ico", &[], "").await;
    assert_eq!(seen.count(), 1, "a live application answers for itself");
}

#[tokio::test]
async fn a_service_that_does_not_listen_yet_is_tried_again() {
    let world = World::with(|config| config.timing.connect_patience = Duration::from_secs(120)).await;
    let (_bound, address) = nobody();
    world.serve_at("pr-7", address);
    let world = Arc::new(world);
    let asking = world.clone();
    let asking = tokio::spawn(async move { asking.ask_signed_in("GET /", &[], "").await });
    sleep(Duration::from_millis(120)).await;
    assert!(!asking.is_finished(), "gave up at the first refusal");
    world.dial.set(target("e000000007", "web"), canned(OK).await);
    assert_eq!(asking.await.unwrap().body, "ok");
}

#[tokio::test]
async fn a_service_that_never_listens_is_named_on_the_page() {
    let world = World::new().await;
    let (_bound, address) = nobody();
    world.serve_at("pr-7", address);
    let page = world.ask_signed_in("GET /", &NAVIGATION, "").await;
    assert_eq!(page.status, 502);
    assert!(page.body.contains("port 3000 of service web"), "{}", page.body);
    let problem = world.ask_signed_in("GET /", &[], "").await;
    assert_eq!(
        (problem.status, problem.header("content-type").as_str()),
        (502, "application/problem+json")
    );
    world.dial.set(target("e000000009", "web"), address);
    world.set("pr-7", "e000000008", "web", RouteState::Live, 1);
    assert_eq!(
        world.ask_signed_in("GET /", &[], "").await.status,
        503,
        "the dialler does not know it"
    );
}
