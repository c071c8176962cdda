//! Every limit is reached, and what is over it gets a clear answer.

use crate::support::{Answer, World, canned, eventually, read_head, read_until, service};
use std::time::Duration;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep},
};

/// A service that never answers.
async fn silent() -> std::net::SocketAddr {
    service(|mut stream, _| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_lines_and_time() {
    let world = World::new().await;
    let host = world.host("pr-7");
    let long = world
        .raw(format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n",
            "x".repeat(60_000)
        ))
        .await;
    assert_eq!(Answer::parse(&long).status, 431);
    let many = world
        .raw(format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\n{}\r\n",
            "X: y\r\n".repeat(200)
        ))
        .await;
    assert_eq!(Answer::parse(&many).status, 431);
    let address = world
        .raw(format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "x".repeat(70_000)))
        .await;
    assert!([414, 431].contains(&Answer::parse(&address).status), "{address}");
    let slow = World::with(|config| config.timing.head = Duration::from_millis(300)).await;
    let begun = Instant::now();
    slow.raw(format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Slow: ")).await;
    slow.raw("").await;
    assert!(
        begun.elapsed() < gateway::Timing::default().head,
        "a slow head keeps its connection"
    );
}

#[tokio::test]
async fn one_environment_does_not_use_up_the_gateway() {
    let world = World::with(|config| {
        config.limits.requests_per_environment = 2;
        config.limits.requests = 4;
    })
    .await;
    world.serve_at("pr-7", silent().await);
    let head = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    );
    let mut open = Vec::new();
    for count in 1..=2 {
        let mut stream = world.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        eventually("it is in flight", || {
            world
                .gateway
                .activity()
                .first()
                .is_some_and(|(_, a)| a.requests == count)
        })
        .await;
        open.push(stream);
    }
    let third = world.ask_signed_in("GET /", &[], "").await;
    assert_eq!((third.status, third.header("retry-after").as_str()), (503, "2"));
    world.dial.set(
        crate::support::target("e000000008", "web"),
        canned("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await,
    );
    world.set("pr-8", "e000000008", "web", gateway::RouteState::Live, 1);
    let token = [("Maquette-Token", world.token.expose())];
    assert_eq!(
        world.ask_host(&world.host("pr-8"), "GET /", &token, "").await.status,
        200
    );
    drop(open);
    eventually("they are counted out", || {
        world.gateway.activity().iter().all(|(_, a)| a.requests == 0)
    })
    .await;
}

#[tokio::test]
async fn a_silent_service_is_given_up_but_an_upload_is_not_silence() {
    let patience = Duration::from_secs(4);
    let world = World::with(|config| config.timing.response = patience).await;
    world.serve_at("pr-7", silent().await);
    let answer = world.ask_signed_in("GET /", &[], "").await;
    assert_eq!(answer.status, 504);
    assert!(answer.body.contains("Service web"), "{}", answer.body);

    let reads = service(|mut stream, _| async move {
        read_head(&mut stream).await;
        read_until(&mut stream, "!").await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            .await
            .unwrap();
    })
    .await;
    world.serve_at("pr-7", reads);
    let mut stream = world.connect().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\nContent-Length: 8\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = Instant::now();
    for byte in b"1234567!" {
        // All pauses together are longer than the patience, and each is so much shorter that a busy machine does not use it up.
        sleep(patience / 6).await;
        stream.write_all(&[*byte]).await.unwrap();
    }
    read_until(&mut stream, "done").await;
    assert!(begun.elapsed() > patience);
}

#[tokio::test]
async fn a_connect_that_hangs_has_a_limit_of_its_own() {
    struct Hangs;
    #[async_trait::async_trait]
    impl gateway::Dial for Hangs {
        async fn dial(&self, _: &gateway::Target, _: u64) -> Result<tokio::net::TcpStream, gateway::DialError> {
            std::future::pending().await
        }
    }
    let world = World::new().await;
    world.serve_at("pr-7", "127.0.0.1:9".parse().unwrap());
    let mut config =
        gateway::Config::new(vec![gateway::Base::new("localhost", gateway::Scheme::Http).unwrap()]).unwrap();
    config.timing.connect = Duration::from_millis(100);
    config.timing.connect_patience = Duration::from_secs(60);
    let hanging = gateway::Gateway::new(config, world.routes(), world.auth.clone(), std::sync::Arc::new(Hangs));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move { hanging.serve(listener, std::future::pending()).await });
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: pr-7.localhost\r\nMaquette-Token: {}\r\n\r\n",
        world.token.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "}").await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    serving.abort();
}

/// As while the process that hands out connections is restarted, which takes longer than a service may refuse.
#[tokio::test]
async fn a_request_waits_for_whoever_hands_out_connections() {
    struct Restarts(std::sync::atomic::AtomicU32, std::sync::Arc<gateway::TcpDial>);
    #[async_trait::async_trait]
    impl gateway::Dial for Restarts {
        async fn dial(&self, to: &gateway::Target, epoch: u64) -> Result<tokio::net::TcpStream, gateway::DialError> {
            if self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 5 {
                let source = std::io::ErrorKind::ConnectionRefused.into();
                return Err(gateway::DialError::Unavailable { source });
            }
            self.1.dial(to, epoch).await
        }
    }
    let world = World::new().await;
    let address = canned("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere").await;
    world.serve_at("pr-7", address);
    let mut config =
        gateway::Config::new(vec![gateway::Base::new("localhost", gateway::Scheme::Http).unwrap()]).unwrap();
    config.timing.connect_patience = Duration::ZERO;
    let dial = std::sync::Arc::new(Restarts(0.into(), world.dial.clone()));
    let waiting = gateway::Gateway::new(config, world.routes(), world.auth.clone(), dial);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move { waiting.serve(listener, std::future::pending()).await });
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: pr-7.localhost\r\nMaquette-Token: {}\r\n\r\n",
        world.token.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "there").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serving.abort();
}

#[tokio::test]
async fn requests_in_flight_are_completed_when_the_gateway_ends() {
    let slow = service(|mut stream, _| async move {
        read_head(&mut stream).await;
        sleep(Duration::from_millis(300)).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
            .await
            .unwrap();
    })
    .await;
    let world = World::with(|config| config.timing.drain = Duration::from_secs(60)).await;
    world.serve_at("pr-7", slow);
    let mut stream = world.connect().await;
    let head = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    eventually("it is in flight", || !world.gateway.activity().is_empty()).await;
    let port = world.port;
    let ending = tokio::spawn(world.end());
    read_until(&mut stream, "late").await;
    ending.await.unwrap();
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err(),
        "still listening"
    );
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_free_place() {
    let world = World::with(|config| config.limits.connections = 1).await;
    let mut first = world.connect().await;
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", world.host("pr-7"));
    first.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut first, "}").await;
    let mut second = world.connect().await;
    second.write_all(head.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), second.peek(&mut [0])).await;
    assert!(early.is_err(), "served over the limit");
    drop(first);
    read_until(&mut second, "}").await;
}

#[tokio::test]
async fn connections_without_a_request_do_not_hold_up_the_end() {
    let drain = Duration::from_secs(40);
    let world = World::with(|config| config.timing.drain = drain).await;
    let mut idle = world.connect().await;
    idle.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", world.host("pr-7")).as_bytes())
        .await
        .unwrap();
    read_until(&mut idle, "}").await;
    let begun = Instant::now();
    world.end().await;
    assert!(begun.elapsed() < drain / 2, "waited for a connection that does nothing");
}
