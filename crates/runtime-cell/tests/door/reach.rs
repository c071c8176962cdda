//! What is allowed is reached, with all that TCP promises; what is not is refused at once.

use crate::{
    street::{Street, allow, holder, outside},
    support::{Rig, service},
};
use model::{Network, Stack};
use std::{collections::BTreeSet, net::TcpListener};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_name_is_reached_and_what_passed_is_counted() {
    let address = outside("hello from outside");
    let street = Street::with(&[("api.example.com", address)]).await;
    let port = address.port();
    let seen = street
        .inside(&format!(
            "s = connect('api.example.com', {port})
s.sendall(b'x' * 1000000)
s.shutdown(socket.SHUT_WR)
text = everything(s)
print(text[:18].decode(), len(text) - 18, text[-13:].decode())"
        ))
        .await;
    assert_eq!(seen, "hello from outside 1000013 1000000 bytes\n");
    let fact = street
        .fact_until(|fact| fact.passed.iter().any(|p| p.sent > 0 && p.received > 1_000_000))
        .await;
    let [passed] = fact.passed.as_slice() else {
        panic!("{fact:?}");
    };
    assert_eq!((passed.name.as_str(), passed.port), ("api.example.com", port));
    assert_eq!((passed.connections, passed.failed, passed.sent), (1, 0, 1_000_000));
    assert_eq!(passed.received, 1_000_031);
    assert_eq!(fact.refused, []);
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_answer_outside_breaks_at_once_inside() {
    // Bound and not listening: nobody else gets the port.
    let closed = rustix_socket();
    let address = closed.1;
    let street = Street::with(&[("gone.example.com", address)]).await;
    let port = address.port();
    let seen = street
        .inside(&format!(
            "begun = time.time()
try:
    s = connect('gone.example.com', {port}); print(s.recv(1))
except OSError as e: print(type(e).__name__, time.time() - begun < 100)"
        ))
        .await;
    assert_eq!(seen, "ConnectionResetError True\n");
    let fact = street.fact_until(|fact| fact.passed.iter().any(|p| p.failed > 0)).await;
    assert!(
        fact.passed[0].failure.as_deref().unwrap().contains("does not answer"),
        "{fact:?}"
    );
    // A port that nothing is allowed on is closed.
    let other = street
        .inside("try: connect('gone.example.com', 1)\nexcept OSError as e: print(type(e).__name__)")
        .await;
    assert_eq!(other, "ConnectionRefusedError\n");
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_moves_no_more_than_it_may() {
    let address = outside("hello");
    let port = address.port();
    let mut rig = Rig::start();
    rig.start_door_for(4 << 20);
    let street = Street::on(rig, |spec| allow(spec, &[("api.example.com", address)])).await;
    let seen = street
        .inside(&format!(
            "s = connect('api.example.com', {port})
sent = 0
try:
    while sent < 1 << 30:
        s.sendall(b'x' * 65536)
        sent += 65536
        s.setblocking(False)
        try:
            while True: s.recv(1 << 20)
        except BlockingIOError: pass
        s.setblocking(True)
except OSError as e: print(type(e).__name__, sent < 1 << 26)
try:
    s = connect('api.example.com', {port})
    print(s.recv(1))
except OSError as e: print(type(e).__name__)"
        ))
        .await;
    let mut lines = seen.lines();
    let broken = lines.next().unwrap_or_default();
    assert!(
        ["ConnectionResetError True", "BrokenPipeError True"].contains(&broken),
        "{seen}"
    );
    assert_eq!(lines.next(), Some("ConnectionResetError"), "{seen}");
    let fact = street.fact_until(|fact| fact.refused.iter().any(|r| r.count > 1)).await;
    let why = fact.refused[0].why.as_deref().unwrap_or_default();
    assert!(why.contains("4 MiB of an hour"), "{fact:?}");
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_and_closed_ports_are_refused_at_once_and_told() {
    let address = outside("hello");
    let street = Street::with(&[("api.example.com", address)]).await;
    let (open, closed) = (address.port(), address.port() ^ 1);
    let seen = street
        .inside(&format!(
            "def attempt(host, port):
    begun, s = time.time(), socket.socket()
    s.settimeout(100)
    try: s.connect((host, port)); s.recv(1); how = 'reached'
    except OSError as e: how = type(e).__name__
    if time.time() - begun > 50: how = 'slow'
    return how
print(attempt('api.example.com', {closed}))
print(attempt('169.254.169.254', 80))
print(attempt('198.51.100.1', {open}))
# Of so many at once some are not seen, and all are refused.
print(set(attempt('192.0.2.7', 5432) for n in range(1000)))"
        ))
        .await;
    assert_eq!(
        seen,
        "ConnectionRefusedError\nConnectionRefusedError\nConnectionResetError\n{'ConnectionRefusedError'}\n"
    );
    let fact = street.fact_until(|fact| fact.refused.len() >= 4).await;
    let told = |name: &str, port: u16| {
        let found = fact
            .refused
            .iter()
            .find(|known| known.name == name && known.port == Some(port));
        found
            .unwrap_or_else(|| panic!("{name}:{port} is not told: {fact:?}"))
            .clone()
    };
    let why = told("api.example.com", closed).why.unwrap();
    assert!(why.contains("an endpoint for it, at other ports"), "{why}");
    let direct = told("192.0.2.7", 5432);
    let why = direct.why.unwrap();
    assert!(
        why.contains("`shell`") && why.contains("private: { NAME: \"192.0.2.7:5432\" }"),
        "{why}"
    );
    assert!(direct.count > 1, "{fact:?}");
    assert!(told("169.254.169.254", 80).why.unwrap().contains("link-local"));
    assert_eq!(told("198.51.100.1", open).from, Some("shell".parse().unwrap()));
    // What is reached is not told to be refused.
    let before = fact.refused.len();
    let seen = street
        .inside(&format!("print(connect('api.example.com', {open}).recv(5))"))
        .await;
    assert_eq!(seen, "b'hello'\n");
    assert_eq!(street.fact().await.refused.len(), before);
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_are_refused_at_once_and_told_wherever_they_are_sent() {
    let address = outside("hello");
    let street = Street::with(&[("api.example.com", address)]).await;
    let port = address.port();
    let seen = street
        .inside(&format!(
            "def attempt(host, port, device=None):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if device: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    s.settimeout(100)
    begun = time.time()
    try: s.connect((host, port)); s.send(b'word'); s.recv(1); how = 'answered'
    except OSError as e: how = type(e).__name__
    return how if time.time() - begun < 50 else 'slow'
print(attempt('api.example.com', {port}))
print(attempt('203.0.113.9', 8125))
print(attempt('203.0.113.10', 8125, b'eth0'))
print(attempt('169.254.169.254', 123))
# As often as they come, and whoever does not listen for it is told nothing and waits for nothing.
print(set(attempt('203.0.113.11', 514) for n in range(200)))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(s.sendto(b'word', ('203.0.113.12', 161)))
# Whoever looks around for others by the addresses of groups looks at nothing outside.
try: s.sendto(b'word', ('239.255.255.250', 1900))
except OSError: pass
try: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).connect(('2001:db8::1', 53)); print('a way by IPv6')
except OSError as e: print(e.strerror)"
        ))
        .await;
    let refused = "ConnectionRefusedError\n".repeat(4);
    assert_eq!(
        seen,
        format!("{refused}{{'ConnectionRefusedError'}}\n4\nNetwork is unreachable\n")
    );
    let wanted = [
        ("api.example.com", port),
        ("203.0.113.9", 8125),
        ("203.0.113.10", 8125),
        ("169.254.169.254", 123),
        ("203.0.113.11", 514),
        ("203.0.113.12", 161),
    ];
    let told = |fact: &model::DoorFact, name: &str, port: u16| {
        let mut refused = fact.refused.iter();
        refused
            .find(|known| known.name == name && known.port == Some(port) && known.udp)
            .cloned()
    };
    let fact = street
        .fact_until(|fact| wanted.iter().all(|(name, port)| told(fact, name, *port).is_some()))
        .await;
    assert_eq!(fact.refused.len(), wanted.len(), "{fact:?}");
    for (name, port) in wanted {
        let known = told(&fact, name, port).unwrap();
        let why = known.why.unwrap();
        assert!(why.contains("UDP") || why.contains("link-local"), "{why}");
        assert_eq!(known.from, Some("shell".parse().unwrap()));
    }
    street.end().await;
}

/// A socket with an address that does not listen.
fn rustix_socket() -> (std::os::fd::OwnedFd, std::net::SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_list_ends_connections_that_are_not_in_it_and_no_others() {
    let (one, two) = (outside("one"), outside("two"));
    let mut rig = Rig::start();
    rig.start_door();
    let mut street = Street::on(rig, |spec| {
        allow(spec, &[("one.example.com", one), ("two.example.com", two)]);
        let Stack::Services(stack) = &mut spec.stack else {
            unreachable!()
        };
        stack
            .services
            .insert("holder".parse().unwrap(), holder("one.example.com", one.port()));
    })
    .await;
    assert_eq!(street.hold("first").await, "first");
    street.rule(|spec| allow(spec, &[("one.example.com", one)])).await;
    assert_eq!(street.hold("second").await, "second", "its name is still allowed");
    let gone = street
        .inside(&format!(
            "try: connect('two.example.com', {})\nexcept OSError as e: print(type(e).__name__)",
            two.port()
        ))
        .await;
    assert_eq!(gone, "gaierror\n");
    street.rule(|spec| allow(spec, &[("two.example.com", two)])).await;
    assert_eq!(street.hold("third").await, "broken");
    assert_eq!(street.hold("fourth").await, "broken", "and is not made again");
    let fact = street.fact().await;
    assert!(
        fact.refused.iter().any(|refused| refused.name == "one.example.com"),
        "{fact:?}"
    );
    assert!(
        !fact.refused.iter().any(|refused| refused.name == "two.example.com"),
        "it is allowed again: {fact:?}"
    );
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_with_nothing_but_internal_networks_reach_nothing() {
    let address = outside("hello");
    let mut rig = Rig::start();
    rig.start_door();
    let street = Street::on(rig, |spec| {
        allow(spec, &[("api.example.com", address)]);
        let Stack::Services(stack) = &mut spec.stack else {
            unreachable!()
        };
        stack
            .networks
            .insert("back".parse().unwrap(), Network { internal: true });
        let mut inner = service(&["sleep", "100000"], &[]);
        inner.networks.insert("back".parse().unwrap(), Vec::new());
        stack.services.insert("inner".parse().unwrap(), inner);
    })
    .await;
    let port = address.port();
    let found = street.inside("print(resolve('api.example.com')[0])").await;
    let program = format!(
        "import socket
for name in ['api.example.com', '{}']:
    try:
        s = socket.create_connection((name, {port}), timeout=10); s.settimeout(10); print(s.recv(10))
    except OSError as e: print(type(e).__name__)",
        found.trim()
    );
    let (_, seen) = crate::support::exec(&street.runtime, street.id(), "inner", &["python3", "-c", &program]).await;
    assert_eq!(seen, "gaierror\nConnectionResetError\n");
    let fact = street.fact_until(|fact| fact.refused.len() == 2).await;
    assert!(
        fact.refused
            .iter()
            .all(|refused| refused.why.as_deref().unwrap().contains("internal")),
        "{fact:?}"
    );
    assert_eq!(fact.passed, []);
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_environment_are_bounded() {
    let address = outside("hello");
    let street = Street::with(&[("api.example.com", address)]).await;
    let seen = street
        .inside(&format!(
            "import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
open, refused = [], 0
for n in range(530):
    try:
        s = connect('api.example.com', {}); s.recv(5); open.append(s)
    except ConnectionResetError: refused += 1
print(len(open), refused)
open.clear()
# Until both ends of those have gone, there is no room for another one.
begun = time.monotonic()
while time.monotonic() - begun < 150:
    try: print(connect('api.example.com', {0}).recv(5)); break
    except ConnectionResetError: refused += 1; time.sleep(0.1)
print(refused)",
            address.port()
        ))
        .await;
    let (bounded, refused) = seen.split_once("b'hello'\n").unwrap_or_else(|| panic!("{seen}"));
    assert_eq!(bounded, "512 18\n");
    let refused: u64 = refused.trim().parse().unwrap();
    let fact = street
        .fact_until(|fact| fact.refused.iter().any(|r| r.count == refused))
        .await;
    assert!(fact.refused[0].why.as_deref().unwrap().contains("512"), "{fact:?}");
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_door_it_is_told_that_nothing_gets_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut street = Street::with(&[("api.example.com", address)]).await;
    assert_eq!(street.fact().await.closed, None);
    street.rig.kill_door();
    let fact = street.fact_until(|fact| fact.closed.is_some()).await;
    assert!(fact.closed.unwrap().contains("does not run"));
    let seen = street
        .inside(&format!(
            "try: connect('api.example.com', {})\nexcept OSError as e: print(type(e).__name__)",
            address.port()
        ))
        .await;
    assert_eq!(seen, "ConnectionRefusedError\n");
    let ports: BTreeSet<u16> = street.spec.egress.ports();
    assert_eq!(ports, [address.port()].into());
    street.end().await;
}
