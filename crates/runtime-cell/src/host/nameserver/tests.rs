//! The name server, asked as programs ask it.

use super::*;

fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn known(name: &str, _kind: u16) -> Option<Ipv4Addr> {
    (name == "db").then_some(Ipv4Addr::new(10, 77, 1, 7))
}

#[test]
fn a_known_name_has_its_address_and_no_other_kind_of_record() {
    let reply = answer(&query("db", TYPE_A), known).unwrap();
    assert_eq!(reply[..2], [0xab, 0xcd]);
    assert_eq!(reply[3] & 0xf, 0);
    assert_eq!(reply[reply.len() - 4..], [10, 77, 1, 7]);
    let none = answer(&query("db", TYPE_AAAA), known).unwrap();
    assert_eq!(
        (none[3] & 0xf, none[7]),
        (0, 0),
        "the name exists, it has no such record"
    );
}

#[tokio::test]
async fn whoever_asks_without_end_waits_for_the_next_turn() {
    let (mut pace, begun) = (Pace::new(), Instant::now());
    for _ in 0..BURST * 3 {
        pace.turn().await;
    }
    assert!(begun.elapsed() >= BURST_TIME * 2);
}

#[test]
fn any_other_name_does_not_exist() {
    for name in ["example.com", "db.example.com", "metadata.google.internal"] {
        assert_eq!(
            answer(&query(name, TYPE_A), known).unwrap()[3] & 0xf,
            NXDOMAIN,
            "{name}"
        );
    }
}

#[test]
fn no_bytes_make_it_fail() {
    let good = query("some.name", TYPE_A);
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap()
    };
    for _ in 0..100_000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = u8::try_from(random() % 256).unwrap();
        }
        bytes.truncate(random() % (bytes.len() + 1));
        if let Some(reply) = answer(&bytes, known) {
            assert!(reply.len() <= bytes.len() + 28);
        }
    }
    assert!(answer(&[0xff; 12], known).is_none(), "an answer is not answered");
    let pointer = [&query("a", 1)[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
    assert_eq!(answer(&pointer, known).unwrap()[3] & 0xf, FORMERR);
}

/// Connects from an address of the loopback network, and says nothing.
async fn silent(from: [u8; 4], to: std::net::SocketAddr) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn silent_clients_of_one_service_keep_no_other_from_asking() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // An echo, for a name server: what it answers is not the point.
    let forever = Duration::from_secs(100_000);
    let server = tokio::spawn(serve_tcp(listener, forever, |mut stream, _| async move {
        let word = stream.read_u8().await?;
        stream.write_u8(word).await
    }));
    let patience = Duration::from_secs(60);
    let mut crowd = Vec::new();
    for _ in 0..TCP_AT_ONCE {
        crowd.push(silent([127, 0, 0, 2], address).await);
    }
    // Those that are too many are closed; the others stay.
    let mut last = crowd.pop().unwrap();
    let ended = timeout(patience, last.read(&mut [0])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let mut other = silent([127, 0, 0, 3], address).await;
    other.write_u8(7).await.unwrap();
    let answer = timeout(patience, other.read_u8()).await;
    assert_eq!(answer.unwrap().unwrap(), 7);
    server.abort();
}
