//! Connections to services are used again, and nobody notices when one has died.

use crate::support::{Seen, World, eventually, mirror, read_head, read_until, service, target};
use gateway::RouteState;
use std::{net::SocketAddr, time::Duration};
use tokio::{io::AsyncWriteExt, time::sleep};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A service whose connections serve `per_connection` requests, then end at the next head without a word.
async fn dying(per_connection: usize) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let written = seen.clone();
    let address = service(move |mut stream, number| {
        let seen = written.clone();
        async move {
            for _ in 0..per_connection {
                let head = read_head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                seen.push(format!("{number}: {}", head.lines().next().unwrap_or_default()));
                if head.starts_with("POST") {
                    read_until(&mut stream, "!").await;
                }
                stream.write_all(OK).await.unwrap();
            }
            let head = read_head(&mut stream).await;
            if !head.is_empty() {
                seen.push(format!("{number}: cut {}", head.lines().next().unwrap_or_default()));
            }
        }
    })
    .await;
    (address, seen)
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (address, seen) = dying(10).await;
    let world = World::live(address).await;
    for _ in 0..3 {
        assert_eq!(world.ask_signed_in("GET /", &[], "").await.body, "ok");
    }
    assert_eq!(seen.all(), ["0: GET / HTTP/1.1"; 3]);
}

#[tokio::test]
async fn a_request_that_may_be_repeated_is_sent_once_more() {
    let (address, seen) = dying(1).await;
    let world = World::live(address).await;
    for path in ["/a", "/b"] {
        assert_eq!(world.ask_signed_in(&format!("GET {path}"), &[], "").await.body, "ok");
    }
    assert_eq!(
        seen.all(),
        ["0: GET /a HTTP/1.1", "0: cut GET /b HTTP/1.1", "1: GET /b HTTP/1.1"]
    );
}

#[tokio::test]
async fn a_request_that_may_have_been_carried_out_is_not_repeated() {
    let (address, seen) = dying(1).await;
    let world = World::live(address).await;
    assert_eq!(world.ask_signed_in("GET /a", &[], "").await.body, "ok");
    assert_eq!(world.ask_signed_in("POST /b", &[], "text!").await.status, 502);
    assert_eq!(seen.all(), ["0: GET /a HTTP/1.1", "0: cut POST /b HTTP/1.1"]);
    let (address, seen) = dying(1).await;
    let world = World::live(address).await;
    assert_eq!(world.ask_signed_in("GET /a", &[], "").await.body, "ok");
    assert_eq!(
        world
            .ask_signed_in("POST /b", &[("Content-Length", "0")], "")
            .await
            .status,
        502
    );
    assert_eq!(
        seen.all(),
        ["0: GET /a HTTP/1.1", "0: cut POST /b HTTP/1.1"],
        "also without a body"
    );
}

#[tokio::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    let (address, seen) = dying(0).await;
    let world = World::live(address).await;
    assert_eq!(world.ask_signed_in("GET /", &[], "").await.status, 502);
    assert_eq!(seen.count(), 1);
}

#[tokio::test]
async fn a_service_that_closes_idle_connections_never_fails_an_upload() {
    // Each connection is closed by the service right after its first response.
    let address = service(|mut stream, _| async move {
        read_head(&mut stream).await;
        read_until(&mut stream, "!").await;
        stream.write_all(OK).await.unwrap();
    })
    .await;
    let world = World::live(address).await;
    for n in 0..20 {
        let answer = world.ask_signed_in("POST /", &[], "body!").await;
        assert_eq!(answer.body, "ok", "upload {n}: {answer:?}");
    }
}

#[tokio::test]
async fn an_upload_that_was_not_begun_goes_over_another_connection() {
    let (address, seen) = dying(1).await;
    let world = World::live(address).await;
    assert_eq!(world.ask_signed_in("GET /a", &[], "").await.body, "ok");
    let mut stream = world.connect().await;
    let head = format!(
        "POST /b HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    eventually("the first connection dies", || {
        seen.all().iter().any(|line| line.contains("cut"))
    })
    .await;
    sleep(Duration::from_millis(50)).await;
    stream.write_all(b"text!").await.unwrap();
    read_until(&mut stream, "ok").await;
    assert_eq!(seen.all().last().unwrap(), "1: POST /b HTTP/1.1");
}

#[tokio::test]
async fn a_new_epoch_uses_no_old_connection() {
    let (old, old_seen) = mirror().await;
    let world = World::live(old).await;
    world.ask_signed_in("GET /old", &[], "").await;
    let (new, new_seen) = mirror().await;
    world.dial.set(target("e000000007", "web"), new);
    world.set("pr-7", "e000000007", "web", RouteState::Live, 2);
    world.ask_signed_in("GET /new", &[], "").await;
    assert_eq!((old_seen.count(), new_seen.count()), (1, 1));
}

#[tokio::test]
async fn idle_connections_close_when_their_environment_is_no_longer_live() {
    let closed = Seen::default();
    let told = closed.clone();
    let address = service(move |mut stream, _| {
        let told = told.clone();
        async move {
            while !read_head(&mut stream).await.is_empty() {
                stream.write_all(OK).await.unwrap();
            }
            told.push("closed".to_owned());
        }
    })
    .await;
    let world = World::live(address).await;
    world.ask_signed_in("GET /", &[], "").await;
    assert_eq!(closed.count(), 0);
    world.set("pr-7", "e000000007", "web", RouteState::Sleeping, 2);
    eventually("the idle connection is closed", || closed.count() == 1).await;
}
