//! What reaches a service, and what comes back.

use crate::support::{Answer, NAVIGATION, PATIENCE, Seen, World, canned, mirror, read_head, read_until, service};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

#[tokio::test]
async fn a_service_is_told_the_truth_about_the_visitor() {
    let (service, _) = mirror().await;
    let world = World::live(service).await;
    let lies = [
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Host", "evil.example"),
        ("X_Forwarded_Proto", "https"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-Real-IP", "10.0.0.1"),
        ("X-Original-URL", "/admin"),
        ("X-Auth-Request-User", "root"),
        ("Remote_User", "root"),
        ("Via", "1.1 corporate"),
        ("Keep-Alive", "timeout=1"),
        ("Proxy-Authorization", "Basic eA=="),
    ];
    let answer = world.ask_signed_in("GET /a%2Fb/../c?d=e&f", &lies, "").await;
    let host = world.host("pr-7");
    let mut lines: Vec<&str> = answer.body.trim_end().split("\r\n").collect();
    assert_eq!(
        lines.remove(0),
        "GET /a%2Fb/../c?d=e&f HTTP/1.1",
        "the path is passed on byte for byte"
    );
    lines.sort_unstable();
    let (forwarded, x_host) = (
        format!("forwarded: for=127.0.0.1;host=\"{host}\";proto=http"),
        format!("x-forwarded-host: {host}"),
    );
    let host = format!("host: {host}");
    let expected = [
        &*forwarded,
        &*host,
        "via: 1.1 corporate",
        "via: 1.1 maquette",
        "x-forwarded-for: 127.0.0.1",
        &*x_host,
        "x-forwarded-proto: http",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn responses_lose_what_is_not_the_applications_to_say() {
    let world = World::live(
        canned(
            "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nKeep-Alive: timeout=9\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
             X-Robots-Tag: all\r\nAlt-Svc: h3=\":444\"\r\nClear-Site-Data: \"cookies\"\r\n\
             Set-Cookie: ok=1; Path=/\r\nSet-Cookie: __Host-maquette=stolen; Path=/; Secure\r\n\
             Set-Cookie: wide=1; Domain=localhost\r\nSet-Cookie: own=1; Domain=pr-7.localhost\r\nX-Kept: 1\r\n\r\nok",
        )
        .await,
    )
    .await;
    let answer = world.ask_signed_in("GET /", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert_eq!(
        answer.header("set-cookie"),
        "ok=1; Path=/ | own=1; Domain=pr-7.localhost"
    );
    assert_eq!(answer.header("x-robots-tag"), "noindex");
    assert_eq!(answer.header("via"), "1.1 maquette");
    assert_eq!(answer.header("x-kept"), "1");
    for gone in ["keep-alive", "x-hop", "alt-svc", "clear-site-data"] {
        assert_eq!(answer.header(gone), "", "{gone}");
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_keep_their_length() {
    for (line, from_service, status, length) in [
        ("HEAD /", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", 200, "1234"),
        (
            "HEAD /",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            200,
            "",
        ),
        ("GET /", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("GET /", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", 304, ""),
        (
            "GET /",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            200,
            "0",
        ),
    ] {
        let world = World::live(canned(from_service).await).await;
        let answer = world.ask_signed_in(line, &[], "").await;
        assert_eq!(
            (
                answer.status,
                answer.body.as_str(),
                answer.header("content-length").as_str()
            ),
            (status, "", length),
            "{from_service}"
        );
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let address = service(|mut stream, _| async move {
        let head = read_head(&mut stream).await;
        assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        for word in ["one", "two"] {
            read_until(&mut stream, word).await;
            stream.write_all(format!("5\r\n<{word}>\r\n").as_bytes()).await.unwrap();
        }
        read_until(&mut stream, "0\r\n\r\n").await;
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let world = World::live(address).await;
    let mut stream = world.connect().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for word in ["one", "two"] {
        // Each word goes up only after the one before has come down.
        stream
            .write_all(format!("3;ext=1\r\n{word}\r\n").as_bytes())
            .await
            .unwrap();
        read_until(&mut stream, &format!("<{word}>")).await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn an_upload_waits_for_a_slow_service_and_a_download_for_a_slow_visitor() {
    const BIG: usize = 64 * 1024 * 1024;
    let (report, mut reported) = mpsc::channel(1);
    let address = service(move |mut stream, _| {
        let report = report.clone();
        async move {
            read_head(&mut stream).await;
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let piece = vec![b'x'; 1024 * 1024];
            for count in 0.. {
                if timeout(Duration::from_millis(700), stream.write_all(&piece))
                    .await
                    .is_err()
                {
                    report.send(count).await.unwrap();
                    return;
                }
            }
        }
    })
    .await;
    let world = World::live(address).await;
    let mut stream = world.connect().await;
    let head = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let megabytes = timeout(PATIENCE, reported.recv())
        .await
        .expect("the service was never made to wait");
    assert!(
        megabytes.unwrap() < 40,
        "the gateway buffers {megabytes:?} MiB for a visitor who does not read"
    );
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one_and_end_with_the_visitor() {
    let (events, receiver) = mpsc::channel::<&str>(4);
    let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(receiver));
    let ended = Seen::default();
    let told = ended.clone();
    let address = service(move |mut stream, _| {
        let (receiver, told) = (receiver.clone(), told.clone());
        async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
                .await
                .unwrap();
            let mut receiver = receiver.lock().await;
            let mut byte = [0];
            loop {
                tokio::select! {
                    event = receiver.recv() => {
                        let Some(event) = event else { return };
                        stream.write_all(format!("data: {event}\n\n").as_bytes()).await.unwrap();
                    }
                    _ = stream.read(&mut byte) => return told.push("closed".to_owned()),
                }
            }
        }
    })
    .await;
    let world = World::live(address).await;
    let mut stream = world.connect().await;
    let head = format!(
        "GET /events HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for event in ["first", "second"] {
        events.send(event).await.unwrap();
        read_until(&mut stream, event).await;
    }
    let requests = |world: &World| world.gateway.activity()[0].1.requests;
    assert_eq!(requests(&world), 1, "an open stream is a request in flight");
    drop(stream);
    crate::support::eventually("the service learns that the visitor has left", || ended.count() == 1).await;
    crate::support::eventually("nothing is in flight", || requests(&world) == 0).await;
}

#[tokio::test]
async fn trailers_pass_and_expectations_are_met() {
    let seen = Seen::default();
    let written = seen.clone();
    let address = service(move |mut stream, _| {
        let seen = written.clone();
        async move {
            seen.push(read_head(&mut stream).await + &read_until(&mut stream, "x-sum: 42\r\n\r\n").await);
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Down\r\n\r\n2\r\nok\r\n0\r\nX-Down: 7\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let world = World::live(address).await;
    let mut stream = world.connect().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sum, X-Forwarded-For\r\n\
         Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    stream
        .write_all(b"2\r\nhi\r\n0\r\nX-Sum: 42\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
        .await
        .unwrap();
    let answer = read_until(&mut stream, "x-down: 7").await;
    assert!(answer.contains("200 OK"), "{answer}");
    let seen = seen.all().concat();
    assert!(seen.contains("te: trailers") && !seen.contains("expect:"), "{seen}");
    assert!(!seen.contains("6.6.6.6"), "a trailer lied: {seen}");
}

#[tokio::test]
async fn without_a_session_a_body_is_not_even_asked_for() {
    let world = World::new().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        world.host("pr-7")
    );
    let mut stream = world.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "}").await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(
        world.ask_signed_in("GET /", &[("Expect", "miracles")], "").await.status,
        417
    );
}

#[tokio::test]
async fn a_response_that_breaks_off_does_not_look_complete() {
    let world = World::live(
        service(|mut stream, _| async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
                .await
                .unwrap();
        })
        .await,
    )
    .await;
    let text = world
        .raw(format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\n\r\n",
            world.host("pr-7"),
            world.token.expose()
        ))
        .await;
    assert!(text.contains("half") && !text.contains("0\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn a_service_that_lies_about_its_length_smuggles_no_response() {
    let world = World::live(
        canned("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await,
    )
    .await;
    let answer = world.ask_signed_in("GET /", &[], "").await;
    assert_eq!(
        (answer.body.as_str(), answer.header("content-length").as_str()),
        ("ok", "")
    );
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nBad Header: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "",
    ] {
        let world = World::live(
            service(move |mut stream, _| async move {
                read_head(&mut stream).await;
                stream.write_all(bad.as_bytes()).await.unwrap();
            })
            .await,
        )
        .await;
        let page = world.ask_signed_in("GET /", &NAVIGATION, "").await;
        assert_eq!(
            (page.status, page.header("content-type").as_str()),
            (502, "text/html; charset=utf-8"),
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn an_old_client_gets_a_body_that_ends_with_the_connection() {
    let world =
        World::live(canned("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await).await;
    let text = world
        .raw(format!(
            "GET / HTTP/1.0\r\nHost: {}\r\nMaquette-Token: {}\r\n\r\n",
            world.host("pr-7"),
            world.token.expose()
        ))
        .await;
    let answer = Answer::parse(&text);
    assert_eq!(
        (answer.body.as_str(), answer.header("transfer-encoding").as_str()),
        ("ok", "")
    );
}

#[tokio::test]
async fn a_get_with_a_body_keeps_it() {
    let seen = Seen::default();
    let written = seen.clone();
    let address = service(move |mut stream, _| {
        let seen = written.clone();
        async move {
            seen.push(read_until(&mut stream, "query").await);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
        }
    })
    .await;
    let world = World::live(address).await;
    let head = format!(
        "GET /_search HTTP/1.1\r\nHost: {}\r\nMaquette-Token: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nquery\r\n0\r\n\r\n",
        world.host("pr-7"),
        world.token.expose()
    );
    assert_eq!(Answer::parse(&world.raw(head).await).status, 200);
    assert_eq!(world.ask_signed_in("GET /_search", &[], "query").await.status, 200);
    assert_eq!(seen.count(), 2);
}
