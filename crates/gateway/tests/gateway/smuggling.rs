//! Bytes that two readers understand differently. A service must never see a request that the gateway did not mean to send.

use crate::support::{Seen, World, service};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

/// A service that writes down every byte and answers after a moment, like one that reads differently from us.
async fn naive() -> (std::net::SocketAddr, Seen) {
    let seen = Seen::default();
    let written = seen.clone();
    let address = service(move |mut stream, _| {
        let seen = written.clone();
        async move {
            let mut buffer = vec![0; 65536];
            while let Ok(count) = stream.read(&mut buffer).await {
                if count == 0 {
                    return;
                }
                seen.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
                sleep(Duration::from_millis(20)).await;
                if stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    })
    .await;
    (address, seen)
}

/// The corpus: a name, the bytes (`HOST` and `TOKEN` are filled in), the statuses that may be answered first.
const CORPUS: &[(&str, &str, &[u16])] = &[
    (
        "CL.TE",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGPOST /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        &[200, 400],
    ),
    (
        "TE.CL",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        &[200, 400],
    ),
    (
        "TE.TE, obscured",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        &[400, 501],
    ),
    (
        "TE with a vertical tab",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        &[400, 501],
    ),
    (
        "TE with a space before the colon",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        &[400],
    ),
    (
        "TE gzip, chunked",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "TE xchunked",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        &[400, 501],
    ),
    (
        "two lengths",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENContent-Length: 0\r\nContent-Length: 38\r\n\r\nGET /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        &[400],
    ),
    (
        "a list of lengths",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENContent-Length: 0, 38\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        &[400],
    ),
    (
        "a length with a sign",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENContent-Length: +0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        &[400],
    ),
    (
        "a length in base 16",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENContent-Length: 0x10\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        &[400],
    ),
    (
        "a length that overflows",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENContent-Length: 18446744073709551617\r\n\r\nx",
        &[400, 413],
    ),
    (
        "a folded line",
        "GET / HTTP/1.1\r\nHost: HOST\r\nTOKENX: a\r\n Transfer-Encoding: chunked\r\n\r\n",
        &[400],
    ),
    (
        "a folded line first",
        "GET / HTTP/1.1\r\n X: a\r\nHost: HOST\r\nTOKEN\r\n",
        &[400],
    ),
    (
        "two hosts",
        "GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\nTOKEN\r\n",
        &[400],
    ),
    (
        "two different hosts",
        "GET / HTTP/1.1\r\nHost: HOST\r\nTOKENHost: pr-8.localhost\r\n\r\n",
        &[400],
    ),
    ("no host", "GET / HTTP/1.1\r\nTOKEN\r\n", &[400]),
    ("an empty host", "GET / HTTP/1.1\r\nHost:\r\nTOKEN\r\n", &[400]),
    (
        "absolute form with another host",
        "GET http://pr-8.localhost/ HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\n",
        &[400],
    ),
    (
        "absolute form with another scheme",
        "GET file://HOST/ HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\n",
        &[400],
    ),
    (
        "user information in the target",
        "GET http://pr-8.localhost@HOST/ HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\n",
        &[400],
    ),
    (
        "HTTP/1.0 with TE",
        "POST / HTTP/1.0\r\nHost: HOST\r\nTOKENTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        &[400],
    ),
    ("HTTP/0.9", "GET /\r\n", &[400]),
    ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: HOST\r\nTOKEN\r\n", &[400]),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 400]),
    (
        "NUL in a value",
        "GET / HTTP/1.1\r\nHost: HOST\r\nTOKENX: a\0b\r\n\r\n",
        &[400],
    ),
    (
        "NUL in a name",
        "GET / HTTP/1.1\r\nHost: HOST\r\nTOKENX\0Y: a\r\n\r\n",
        &[400],
    ),
    (
        "a bare CR in a value",
        "GET / HTTP/1.1\r\nHost: HOST\r\nTOKENX: a\rTransfer-Encoding: chunked\r\n\r\n",
        &[400],
    ),
    (
        "no colon",
        "GET / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding\r\n\r\n",
        &[400],
    ),
    (
        "a space in the target",
        "GET / HTTP/1.1 /admin HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\n",
        &[400],
    ),
    (
        "line breaks in a method",
        "GE\rT / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\n",
        &[400],
    ),
    (
        "CONNECT",
        "CONNECT HOST HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nGET /admin HTTP/1.1\r\n\r\n",
        &[400, 405],
    ),
    ("TRACE", "TRACE / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\n", &[405]),
    (
        "a chunk size with a sign",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding: chunked\r\n\r\n+2\r\nab\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "a chunk size that overflows",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nab\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "a chunk that is longer than it says",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding: chunked\r\n\r\n1\r\nabGET /admin HTTP/1.1\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "a chunk that ends with LF",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding: chunked\r\n\r\n2\nab\n0\n\nGET /admin HTTP/1.1\r\n\r\n",
        &[400],
    ),
    (
        "a chunk extension with a line break",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTransfer-Encoding: chunked\r\n\r\n2;a\nb\r\nab\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        &[400],
    ),
    (
        "a trailer that is a header",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENTrailer: Content-Length\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\nContent-Length: 50\r\nHost: evil\r\n\r\n",
        &[200],
    ),
    (
        "Connection names the length",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENConnection: close, Content-Length, Host\r\nContent-Length: 24\r\n\r\nGET /admin HTTP/9.9\r\n\r\n\r\n",
        &[200],
    ),
    (
        "upgrade to h2c",
        "GET / HTTP/1.1\r\nHost: HOST\r\nTOKENConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[200],
    ),
    (
        "upgrade with a body",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTOKENConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nokGET /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
        &[200],
    ),
];

fn requests_in(bytes: &str) -> usize {
    bytes.matches(" HTTP/1.1\r\n").count() + bytes.matches(" HTTP/1.0\r\n").count()
}

/// Everything that the gateway says, until it hangs up or has nothing more to say.
async fn all_of(stream: &mut tokio::net::TcpStream) -> String {
    let (mut out, mut buffer) = (Vec::new(), [0; 4096]);
    let mut patience = crate::support::PATIENCE;
    while let Ok(Ok(count @ 1..)) = timeout(patience, stream.read(&mut buffer)).await {
        out.extend(&buffer[..count]);
        patience = Duration::from_millis(300);
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn attempt(name: &str, template: &str, statuses: &[u16]) {
    let (address, seen) = naive().await;
    let world = World::live(address).await;
    let token = format!("Maquette-Token: {}\r\n", world.token.expose());
    let bytes = template.replace("HOST", &world.host("pr-7")).replace("TOKEN", &token);
    let mut stream = world.connect().await;
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let answer = all_of(&mut stream).await;
    let status = answer
        .split(' ')
        .nth(1)
        .map_or(0, |status| status.parse::<u16>().unwrap());
    assert!(statuses.contains(&status), "{name}: {answer:?}");
    let seen = seen.all().concat();
    assert!(requests_in(&seen) <= 1, "{name}: the service saw {seen:?}");
    assert!(
        status != 200 || requests_in(&seen) == 1,
        "{name}: the service saw {seen:?}"
    );
    if matches!(status, 400..=499 | 501) && !template.contains("chunked\r\n\r\n") {
        assert_eq!(seen, "", "{name}: refused, but passed on");
    }
    // What follows the first request is the same visitor's next request at most: asked again who it is.
    assert!(
        !seen.contains("GPOST") && !seen.starts_with("GET /admin"),
        "{name}: the service saw {seen:?}"
    );
    assert!(
        !seen.to_lowercase().contains("maquette-token"),
        "{name}: the token was passed on"
    );
}

#[tokio::test]
async fn a_service_never_sees_a_second_request() {
    let mut attempts = tokio::task::JoinSet::new();
    for (name, template, statuses) in CORPUS {
        attempts.spawn(attempt(name, template, statuses));
    }
    while let Some(done) = attempts.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn requests_in_a_row_are_told_apart_and_each_is_asked_who_it_is() {
    let (address, seen) = naive().await;
    let world = World::live(address).await;
    let host = world.host("pr-7");
    let with_token = format!("Host: {host}\r\nMaquette-Token: {}\r\n", world.token.expose());
    let text = world
        .raw(format!(
            "GET /one HTTP/1.1\r\n{with_token}\r\nGET /two HTTP/1.1\r\nHost: {host}\r\n\r\n\
             GET /three HTTP/1.1\r\nHost: example.org\r\n\r\nGET /four HTTP/1.1\r\n{with_token}Connection: close\r\n\r\n"
        ))
        .await;
    let statuses: Vec<&str> = text
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &text[at + 9..at + 12])
        .collect();
    assert_eq!(statuses, ["200", "401", "421", "200"], "{text}");
    let seen = seen.all().concat();
    assert!(
        seen.contains("GET /one ") && seen.contains("GET /four ") && requests_in(&seen) == 2,
        "{seen}"
    );
}
