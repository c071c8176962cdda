//! The same walls for version 6 of the Internet Protocol: of the host, of its network, and of neighbours.

use crate::Town;
use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

/// Listens wherever it can, says where it is, and what has come when its input ends.
const EAR: &str = "
import select, socket, sys
heard = []
tcp = socket.create_server(('::', 8124), family=socket.AF_INET6)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(('::', 8124))
try: print('addresses', [line.split()[0] for line in open('/proc/net/if_inet6')], flush=True)
except OSError: print('addresses', [], flush=True)
while True:
    ready, _, _ = select.select([tcp, udp, sys.stdin], [], [])
    if tcp in ready: heard.append(('tcp', tcp.accept()[1]))
    if udp in ready: heard.append(('udp', udp.recvfrom(100)[1]))
    if sys.stdin in ready: break
print('heard', heard)
";

fn attack(targets: &[(String, u16)]) -> String {
    format!(
        "
import errno, socket
for host, port in {targets}:
    for kind in [socket.SOCK_STREAM, socket.SOCK_DGRAM]:
        try:
            for *_, address in socket.getaddrinfo(host, port, socket.AF_INET6, kind):
                with socket.socket(socket.AF_INET6, kind) as s:
                    s.settimeout(0.5)
                    try:
                        s.connect(address)
                        s.send(b'word')
                        print(host, 'CONNECTED' if kind == socket.SOCK_STREAM else 'sent')
                    except OSError as e: print(host, errno.errorcode.get(e.errno, 'TIMEOUT'))
        except OSError as e: print(host, 'no such address', e)
print('attacked')
",
        targets = serde_json::to_string(targets).unwrap()
    )
}

/// As the kernel lists them, without colons.
fn addresses(text: &str) -> Vec<Ipv6Addr> {
    let words = text.split(|c: char| !c.is_ascii_hexdigit());
    let numbers = words.filter(|word| word.len() == 32);
    numbers
        .map(|word| Ipv6Addr::from_bits(u128::from_str_radix(word, 16).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_reached_by_version_6_either() {
    let town = Town::build().await;
    let tcp = TcpListener::bind("[::]:0");
    let Ok(tcp) = tcp else {
        eprintln!("left out: this machine has no version 6");
        return town.end().await;
    };
    let port = tcp.local_addr().unwrap().port();
    let udp = UdpSocket::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).unwrap();
    for socket in [tcp.set_nonblocking(true), udp.set_nonblocking(true)] {
        socket.unwrap();
    }

    let argv = ["python3", "-c", EAR].map(str::to_owned);
    let web = "web".parse().unwrap();
    let mut ear = runtime::Runtime::exec(&town.runtime, &town.victim, &web, &argv, &BTreeMap::new())
        .await
        .unwrap();
    let first = ear.stdout.recv().await.unwrap();
    let listens = String::from_utf8_lossy(&first).into_owned();
    assert!(listens.starts_with("addresses"), "{listens}");
    let theirs = addresses(&listens);
    let ours = addresses(&std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default());

    let everybody = ["ff02::1%eth0", "ff02::2%eth0", "ff05::1%eth0"].map(str::to_owned);
    let named = theirs
        .iter()
        .chain(&ours)
        .flat_map(|address| [address.to_string(), format!("{address}%eth0")]);
    let mapped = ["::1", "::", "::ffff:127.0.0.1", "::ffff:10.77.1.1", "64:ff9b::7f00:1"].map(str::to_owned);
    let mut targets = Vec::new();
    for host in named.chain(mapped).chain(everybody) {
        targets.extend([(host.clone(), port), (host, 8124)]);
    }
    let seen = town.attack(&attack(&targets)).await;
    assert!(seen.contains("attacked") && !seen.contains("CONNECTED"), "{seen}");

    drop(ear.stdin);
    let mut heard = String::new();
    while let Some(bytes) = ear.stdout.recv().await {
        heard += &String::from_utf8_lossy(&bytes);
    }
    assert_eq!(heard, "heard []\n", "{seen}");
    assert!(tcp.accept().is_err(), "the host was connected to: {seen}");
    assert!(udp.recv_from(&mut [0; 16]).is_err(), "the host has heard: {seen}");
    town.victim_lives().await;
    town.end().await;
}
