//! WebSockets.

use crate::support::{Answer, PATIENCE, World, eventually, read_head, read_until, service};
use gateway::Activity;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: __Host-maquette=x\r\n\r\n";

fn handshake(world: &World, origin: &str) -> String {
    format!(
        "GET /socket HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\n{origin}Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    )
}

/// Echoes what comes through a WebSocket.
async fn echo() -> std::net::SocketAddr {
    service(|mut stream, _| async move {
        let head = read_head(&mut stream).await;
        assert!(
            head.contains("upgrade: websocket") && head.contains("connection: upgrade"),
            "{head}"
        );
        assert!(head.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="), "{head}");
        stream.write_all(ACCEPTED.as_bytes()).await.unwrap();
        let (mut from, mut to) = stream.split();
        drop(tokio::io::copy(&mut from, &mut to).await);
        drop(to.shutdown().await);
    })
    .await
}

async fn open(world: &World) -> TcpStream {
    let mut stream = world.connect().await;
    stream.write_all(handshake(world, "").as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(
        head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") && !head.contains("maquette="),
        "{head}"
    );
    stream
}

fn activity(world: &World) -> Activity {
    world.gateway.activity()[0].1.clone()
}

#[tokio::test]
async fn bytes_go_both_ways_and_a_half_close_is_passed_on() {
    let world = World::live(echo().await).await;
    let mut stream = open(&world).await;
    stream.write_all(b"\x82\x05hello").await.unwrap();
    let mut back = [0; 7];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"\x82\x05hello");
    assert_eq!((activity(&world).tunnels, activity(&world).tunnel_bytes), (1, 14));
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    eventually("the tunnel is closed", || {
        activity(&world).tunnels == 0 && activity(&world).requests == 0
    })
    .await;
}

#[tokio::test]
async fn pings_keep_a_socket_open_but_not_an_environment_awake() {
    let world = World::live(echo().await).await;
    let mut stream = open(&world).await;
    let ping = |n: u8| [0x89, 1, n];
    let mut last_quiet = Duration::ZERO;
    for n in 0..5 {
        sleep(Duration::from_millis(20)).await;
        stream.write_all(&ping(n)).await.unwrap();
        let mut back = [0; 3];
        stream.read_exact(&mut back).await.unwrap();
        assert!(activity(&world).quiet > last_quiet, "a ping was taken for activity");
        last_quiet = activity(&world).quiet;
    }
    let before = Instant::now();
    stream.write_all(b"\x81\x01x").await.unwrap();
    let mut back = [0; 3];
    stream.read_exact(&mut back).await.unwrap();
    // Times are noted in whole milliseconds.
    let quiet = activity(&world).quiet;
    let since = before.elapsed() + Duration::from_millis(1);
    assert!(quiet <= since, "a message is activity: {quiet:?} {since:?}");
}

#[tokio::test]
async fn early_bytes_wait_for_the_services_consent() {
    let seen = crate::support::Seen::default();
    let written = seen.clone();
    let world = World::live(
        service(move |mut stream, _| {
            let seen = written.clone();
            async move {
                read_head(&mut stream).await;
                let mut early = [0; 64];
                let got = timeout(Duration::from_millis(150), stream.read(&mut early)).await;
                seen.push(format!("{}", got.is_ok()));
                drop(
                    stream
                        .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
                        .await,
                );
                sleep(Duration::from_millis(150)).await;
                let got = timeout(Duration::from_millis(50), stream.read(&mut early)).await;
                seen.push(format!("{}", matches!(got, Ok(Ok(n)) if n > 0)));
            }
        })
        .await,
    )
    .await;
    let smuggled = format!(
        "{}GET /admin HTTP/1.1\r\nHost: {}\r\n\r\n",
        handshake(&world, ""),
        world.host("pr-7")
    );
    let text = world.raw(smuggled).await;
    assert_eq!(Answer::parse(&text).status, 403);
    assert_eq!(
        text.matches("HTTP/1.1 ").count(),
        1,
        "what came early was read as a request: {text}"
    );
    eventually("the service has looked", || seen.count() == 2).await;
    assert_eq!(
        seen.all(),
        ["false", "false"],
        "bytes went up before the service agreed"
    );
}

#[tokio::test]
async fn only_a_page_of_the_same_host_opens_a_socket_with_a_cookie() {
    let world = World::live(echo().await).await;
    world.set("api--pr-7", "e000000007", "web", gateway::RouteState::Live, 1);
    let cookie = world.sign_in("pr-7").await;
    let with_cookie = |origin: &str| {
        handshake(&world, origin).replace(
            &format!("Maquette-Token: {}", world.token.expose()),
            &format!("Cookie: {cookie}"),
        )
    };
    let (own, sibling) = (
        format!("Origin: {}\r\n", world.origin("pr-7")),
        format!("Origin: {}\r\n", world.origin("api--pr-7")),
    );
    for bad in ["", "Origin: null\r\n", "Origin: https://evil.example\r\n", &sibling] {
        assert_eq!(Answer::parse(&world.raw(with_cookie(bad)).await).status, 403, "{bad}");
    }
    let mut stream = world.connect().await;
    stream.write_all(with_cookie(&own).as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101"));
}

#[tokio::test]
async fn other_protocols_are_not_switched_to() {
    let (service, _) = crate::support::mirror().await;
    let world = World::live(service).await;
    for headers in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
    ] {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\n{headers}\r\n",
            world.host("pr-7"),
            world.token.expose()
        );
        let answer = Answer::parse(&world.raw(head).await);
        assert_eq!(answer.status, 200);
        assert!(
            !answer.body.contains("upgrade") && !answer.body.contains("http2"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn tunnels_live_through_the_grace_of_a_shutdown_and_not_longer() {
    let world = World::with(|config| config.timing.drain = Duration::from_secs(5)).await;
    world.serve_at("pr-7", echo().await);
    let mut stream = open(&world).await;
    let ending = tokio::spawn(world.end());
    sleep(Duration::from_millis(50)).await;
    stream.write_all(b"\x81\x02hi").await.unwrap();
    read_until(&mut stream, "hi").await;
    ending.await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("the tunnel outlives the gateway")
        .ok();
}

#[tokio::test]
async fn a_handshake_waits_for_the_environment_and_then_for_the_service() {
    let world = World::new().await;
    world.set("pr-7", "e000000007", "web", gateway::RouteState::Sleeping, 1);
    let mut stream = world.connect().await;
    stream.write_all(handshake(&world, "").as_bytes()).await.unwrap();
    let mut byte = [0];
    let early = timeout(Duration::from_millis(300), stream.peek(&mut byte)).await;
    assert!(early.is_err(), "answered before anybody agreed");
    world.serve_at("pr-7", echo().await);
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101"));
    stream.write_all(b"\x81\x02hi").await.unwrap();
    read_until(&mut stream, "hi").await;
}
