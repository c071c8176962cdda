//! What clients and attackers do to a catcher, over sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

use mail::{Bounds, Catcher, Settings};
use std::{net::SocketAddr, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

/// Nothing here takes longer, unless it never happens.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    smtp: SocketAddr,
    page: SocketAddr,
    _directory: TempDir,
}

async fn bench(bounds: Bounds) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        smtp: vec!["127.0.0.1:0".parse().unwrap()],
        page: vec!["127.0.0.1:0".parse().unwrap()],
        directory: directory.path().to_owned(),
        bounds,
    };
    let catcher = Catcher::open(&settings).await.unwrap();
    let bench = Bench {
        smtp: catcher.smtp_addresses()[0],
        page: catcher.page_addresses()[0],
        _directory: directory,
    };
    tokio::spawn(catcher.run());
    bench
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn new(bench: &Bench) -> Self {
        let mut client = Self(BufReader::new(TcpStream::connect(bench.smtp).await.unwrap()));
        assert!(client.answer().await.starts_with("220 "));
        client
    }

    /// The last line of an answer; empty at the end of the connection.
    async fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("no answer");
            if read.is_err() || line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) -> String {
        // A server that has had enough closes the connection, perhaps in the middle of this.
        let _ = self.0.get_mut().write_all(bytes.as_ref()).await;
        self.answer().await
    }

    async fn greet(bench: &Bench) -> Self {
        let mut client = Self::new(bench).await;
        assert!(client.say("EHLO shop\r\n").await.starts_with("250 "));
        client
    }

    async fn letter(&mut self, body: impl AsRef<[u8]>) -> String {
        assert!(self.say("MAIL FROM:<a@b.c>\r\n").await.starts_with("250"));
        assert!(self.say("RCPT TO:<d@e.f>\r\n").await.starts_with("250"));
        assert!(self.say("DATA\r\n").await.starts_with("354"));
        self.say(body).await
    }
}

async fn get(bench: &Bench, path: &str) -> String {
    let mut stream = TcpStream::connect(bench.page).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("no page")
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_as_the_standard_has_it() {
    let bench = bench(Bounds::default()).await;
    let mut client = Client::new(&bench).await;
    for (said, answer) in [
        ("MAIL FROM:<a@b.c>\r\n", "503"),
        ("HELO shop\r\n", "250"),
        ("DATA\r\n", "503"),
        ("ehlo shop\r\n", "250"),
        ("AUTH LOGIN\r\n", "334"),
        ("dXNlcg==\r\n", "334"),
        ("cGFzcw==\r\n", "235"),
        ("AUTH PLAIN AHUAcA==\r\n", "235"),
        ("AUTH CRAM-MD5\r\n", "504"),
        ("MAIL FROM:<a@b.c> SIZE=99999999999\r\n", "552"),
        ("MAIL FROM:<> BODY=8BITMIME SMTPUTF8\r\n", "250"),
        ("RCPT TO:<>\r\n", "501"),
        ("RCPT TO:<grüße@example.com>\r\n", "250"),
        ("RSET\r\n", "250"),
        ("RCPT TO:<a@b.c>\r\n", "503"),
        ("NOOP\r\n", "250"),
        ("VRFY a\r\n", "252"),
        ("STARTTLS\r\n", "502"),
        ("NONSENSE\r\n", "500"),
    ] {
        let found = client.say(said).await;
        assert!(found.starts_with(answer), "{said:?}: {found}");
    }
    let kept = client.letter("Subject: one\r\n\r\n..dots\r\n.\r\n").await;
    assert!(kept.starts_with("250") && kept.contains("not sent"), "{kept}");
    // Several commands at once.
    let all = "MAIL FROM:<a@b.c>\r\nRCPT TO:<x@y.z>\r\nDATA\r\nSubject: two\r\n\r\nx\r\n.\r\nQUIT\r\n";
    let mut answers = vec![client.say(all).await];
    for _ in 0..4 {
        answers.push(client.answer().await);
    }
    let codes: Vec<&str> = answers.iter().map(|answer| &answer[..3]).collect();
    assert_eq!(codes, ["250", "250", "354", "250", "221"]);
    let list = get(&bench, "/api/messages").await;
    assert!(list.contains("\"one\"") && list.contains("\"two\""), "{list}");
    assert!(
        get(&bench, "/message/1").await.contains("<pre>.dots"),
        "a dot was taken away"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_is_refused_and_nothing_else_suffers() {
    let bounds = Bounds {
        message_bytes: 100_000,
        messages: 5,
        bytes: 300_000,
    };
    let bench = bench(bounds).await;
    let long = vec![b'x'; 1 << 20];
    let mut client = Client::greet(&bench).await;
    assert!(
        client.say([&long[..], b"\r\n"].concat()).await.starts_with("500"),
        "a long line"
    );
    assert!(client.say("NO\0OP\r\n").await.starts_with("500"), "zero bytes");
    let large = [b"Subject: large\r\n\r\n", &long[..200_000], b"\r\n.\r\n"].concat();
    assert!(client.letter(large).await.starts_with("552"), "a large message");
    assert!(
        client
            .letter("Subject: after\r\n\r\nx\r\n.\r\n")
            .await
            .starts_with("250"),
        "and the next one"
    );
    let endless = client.letter(&long).await;
    // What was sent and not read may take the answer with it.
    assert!(endless.starts_with("421") || endless.is_empty(), "{endless}");
    assert_eq!(client.answer().await, "", "it is over");

    let mut bored = Client::greet(&bench).await;
    let mut last = String::new();
    for _ in 0..100 {
        last = bored.say("WHAT\r\n").await;
        if !last.starts_with("500") {
            break;
        }
    }
    assert!(last.starts_with("421") || last.is_empty(), "{last}");

    let mut many = Client::greet(&bench).await;
    assert!(many.say("MAIL FROM:<a@b.c>\r\n").await.starts_with("250"));
    let mut refused = false;
    for n in 0..200 {
        refused |= many.say(format!("RCPT TO:<r{n}@x.y>\r\n")).await.starts_with("452");
    }
    assert!(refused, "so many recipients are not taken");
    drop(many);

    for n in 0..20 {
        let mut client = Client::greet(&bench).await;
        let body = [
            format!("Subject: {n}\r\n\r\n").as_bytes(),
            &long[..80_000],
            b"\r\n.\r\n",
        ]
        .concat();
        assert!(client.letter(body).await.starts_with("250"));
    }
    let list = get(&bench, "/api/messages").await;
    assert_eq!(list.matches("\"subject\"").count(), 3, "three of these fit: {list}");
    assert!(
        list.contains("\"19\"") && !list.contains("\"after\""),
        "the newest are kept: {list}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_are_turned_away_and_the_next_letter_is_taken() {
    let bench = bench(Bounds::default()).await;
    let mut open = Vec::new();
    for _ in 0..400 {
        open.push(TcpStream::connect(bench.smtp).await.unwrap());
    }
    let mut busy = 0;
    for stream in &mut open {
        let mut word = [0; 3];
        if let Ok(Ok(3)) = timeout(PATIENCE, stream.read_exact(&mut word)).await {
            busy += usize::from(&word == b"421");
        }
    }
    assert!(busy > 100, "{busy} were told that it is busy");
    drop(open);
    let taken = async {
        loop {
            let mut client = Client(BufReader::new(TcpStream::connect(bench.smtp).await.unwrap()));
            if client.answer().await.starts_with("220") {
                client.say("EHLO shop\r\n").await;
                return client.letter("Subject: after all\r\n\r\nx\r\n.\r\n").await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, taken).await.expect("never again").starts_with("250"));
    assert!(get(&bench, "/").await.contains("after all"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_message_gets_out_of_its_frame() {
    let bench = bench(Bounds::default()).await;
    let mut client = Client::greet(&bench).await;
    let letter = "From: <script>alert(1)</script>\r\nSubject: </title><script>alert(2)</script>\r\nX-A: \"><img src=x onerror=alert(3)>\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n\
        <script>alert(4)</script><img src=http://example.com/>\r\n--x\r\nContent-Type: text/html; name=\"a.html\"\r\n\
        Content-Disposition: attachment; filename=\"../..\\\\x\\r\\nset-cookie: a=b.html\"\r\n\r\n<script>alert(5)</script>\r\n--x--\r\n.\r\n";
    assert!(client.letter(letter).await.starts_with("250"));
    for path in ["/", "/message/1"] {
        let page = get(&bench, path).await;
        assert!(
            page.contains("200 OK") && !page.contains("<script") && !page.contains("<img"),
            "{path}: {page}"
        );
        assert!(
            page.contains("default-src 'none'") && page.contains("nosniff"),
            "{path}: {page}"
        );
    }
    let html = get(&bench, "/message/1/html").await;
    let head = html.split("\r\n\r\n").next().unwrap();
    assert!(
        head.contains("content-security-policy: sandbox; default-src 'none'"),
        "{head}"
    );
    assert!(!head.contains("allow-"), "the sandbox has no exceptions: {head}");
    let attached = get(&bench, "/message/1/attachment/0").await;
    let head = attached.split("\r\n\r\n").next().unwrap().to_lowercase();
    assert!(
        head.contains("application/octet-stream") && head.contains("content-disposition: attachment"),
        "{head}"
    );
    assert!(!head.contains("\r\nset-cookie"), "{head}");
    for path in [
        "/message/2",
        "/message/x",
        "/message/1/attachment/9",
        "/../etc/passwd",
        "/message/-1/raw",
        "/api",
    ] {
        assert!(get(&bench, path).await.contains("404 "), "{path}");
    }
}
