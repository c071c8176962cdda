//! Networks of one environment, attacked: what shares none with another service must not be heard by it, however it speaks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod support;

use model::{EnvironmentId, EnvironmentSpec, Feature, Generation, Network, Service, Stack};
use runtime::Runtime as _;
use runtime_cell::CellRuntime;
use rustix::process::{Pid, Signal, kill_process};
use std::{collections::BTreeMap, time::Duration};
use support::{Rig, exec, ready, service, spec, up};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

/// Notes every datagram that it hears on port 9999, and answers on TCP port 8123.
const LISTENER: &str = "
import os, socket, threading
def hear(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as ear:
        ear.bind((address, 9999))
        while True:
            text, _ = ear.recvfrom(2000)
            with open('/tmp/heard', 'a') as file: file.write(text.decode() + '\\n')
open('/tmp/heard', 'w').close()
for family, address in [(socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::1')]:
    threading.Thread(target=hear, args=(family, address), daemon=True).start()
door = socket.create_server(('', 8123))
while True: door.accept()[0].close()
";

fn member(networks: &[(&str, &[&str])]) -> Service {
    let mut service = service(&["python3", "-c", LISTENER], &[8123]);
    for (network, aliases) in networks {
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        service.networks.insert(network.parse().unwrap(), aliases);
    }
    service
}

struct Town {
    runtime: CellRuntime,
    environment: EnvironmentId,
    rig: Rig,
}

impl Town {
    /// `web` is in front, `db` behind, `api` in both.
    async fn build() -> Self {
        let rig = Rig::start();
        let runtime = rig.runtime().await;
        assert!(
            runtime.capabilities().features.contains(&Feature::Networks),
            "this machine keeps networks apart: it has nftables"
        );
        let services = [
            ("web", member(&[("front", &[])])),
            ("db", member(&[("back", &["store"])])),
            ("api", member(&[("front", &[]), ("back", &[])])),
        ];
        let mut made = spec(rig.environment(), &services);
        declare(&mut made, &["front", "back"]);
        up(&runtime, &made).await;
        for (name, _) in &services {
            ready(&runtime, &made.environment, name).await;
        }
        Self {
            runtime,
            environment: made.environment,
            rig,
        }
    }

    async fn run(&self, service: &str, program: &str) -> String {
        let (status, seen) = exec(&self.runtime, &self.environment, service, &["python3", "-c", program]).await;
        assert_eq!(status, Some(0), "{service}: {seen}");
        seen
    }

    /// The address that a service has, as somebody sees it who may.
    async fn address(&self, service: &str) -> String {
        let look = format!("import socket; print(socket.gethostbyname('{service}'))");
        self.run("api", &look).await.trim().to_owned()
    }

    /// What `at` has heard, once it has heard a word that `from` says now.
    async fn heard(&self, at: &str, from: &str, word: &str) -> String {
        let address = self.address(at).await;
        let say = format!(
            "import socket\nwith socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(b'{word}', ('{address}', 9999))"
        );
        // A datagram may be lost on a machine that is out of memory; nobody else would say it again.
        for _ in 0..600 {
            self.run(from, &say).await;
            let seen = exec(&self.runtime, &self.environment, at, &["cat", "/tmp/heard"])
                .await
                .1;
            if seen.lines().any(|line| line == word) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{at} never heard `{word}` of {from}");
    }
}

fn declare(spec: &mut EnvironmentSpec, networks: &[&str]) {
    let Stack::Services(stack) = &mut spec.stack else {
        unreachable!()
    };
    let named = networks.iter().map(|name| (name.parse().unwrap(), Network::default()));
    stack.networks = named.collect::<BTreeMap<_, _>>();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_no_network_is_neither_reached_nor_heard() {
    let town = Town::build().await;
    let (db, api) = (town.address("db").await, town.address("api").await);
    let attack = format!(
        "
import errno, socket
def reach(address, patience):
    with socket.socket() as s:
        s.settimeout(patience)
        try: s.connect((address, 8123)); return 'REACHED'
        except OSError: return 'not reached'
print('tcp', reach('{db}', 0.5), '/ control', reach('{api}', 60).lower())
for family, kind, protocol in [(socket.AF_PACKET, socket.SOCK_RAW, 3), (socket.AF_INET, socket.SOCK_RAW, 17), (socket.AF_PACKET, socket.SOCK_DGRAM, 0x0608)]:
    try: socket.socket(family, kind, protocol); print('raw MADE')
    except OSError as e: print('raw', errno.errorcode[e.errno])
def say(text, to):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try: s.sendto(text, (to, 9999)); print('said', text.decode())
        except OSError as e: print(text.decode(), errno.errorcode[e.errno])
say(b'attack: direct', '{db}')
say(b'attack: broadcast', '10.77.255.255')
say(b'attack: everywhere', '255.255.255.255')
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
    try: s.sendto(b'attack: all nodes', ('ff02::1', 9999, 0, socket.if_nametoindex('eth0')))
    except OSError as e: print('all nodes', errno.errorcode[e.errno])
for name in ['db', 'store']:
    try: print('name', name, 'KNOWN', socket.gethostbyname(name))
    except OSError: print('name', name, 'unknown')
"
    );
    let seen = town.run("web", &attack).await;
    assert!(seen.contains("tcp not reached / control reached"), "{seen}");
    assert!(!seen.contains("MADE") && !seen.contains("KNOWN"), "{seen}");
    assert!(seen.contains("said attack: direct"), "{seen}");
    let at_db = town.heard("db", "api", "a word of the api").await;
    assert!(!at_db.contains("attack"), "{at_db}");
    town.runtime.remove(&town.environment, Generation(1)).await.unwrap();
}

/// What a container could send if it had a raw socket, which it has not: the test opens one for it.
const FRAMES: &str = "
import socket, struct, sys
web, db, api = [socket.inet_aton(text) for text in sys.argv[1:4]]
hub = socket.inet_aton('10.77.0.1')
mac = lambda address: b'\\x02\\x4d' + address
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(('eth0', 0))
def checksum(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def datagram(text, of, to, own_mac, to_mac):
    head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28 + len(text), 1, 0, 64, 17, 0, of, to)
    head = head[:10] + struct.pack('!H', checksum(head)) + head[12:]
    link.send(to_mac + own_mac + b'\\x08\\x00' + head + struct.pack('!HHHH', 9, 9999, 8 + len(text), 0) + text)
def claim(address, to, to_mac):
    link.send(to_mac + mac(web) + b'\\x08\\x06' + struct.pack('!HHBBH6s4s6s4s', 1, 0x0800, 6, 4, 2, mac(web), address, to_mac, to))
datagram(b'control', web, api, mac(web), mac(api))
datagram(b'forgery: address', db, api, mac(web), mac(api))
datagram(b'forgery: both', db, api, mac(db), mac(api))
datagram(b'forgery: of the hub', hub, api, mac(hub), mac(api))
datagram(b'attack: straight', web, db, mac(web), mac(db))
datagram(b'attack: by way of the hub', web, db, mac(web), mac(hub))
datagram(b'attack: in the name of the api', api, db, mac(api), mac(db))
for to in (api, db, hub):
    claim(db, to, mac(to)); claim(api, to, mac(to)); claim(hub, to, b'\\xff' * 6)
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_speaks_in_the_name_of_another() {
    let town = Town::build().await;
    let (web, db, api) = (
        town.address("web").await,
        town.address("db").await,
        town.address("api").await,
    );
    // Whoever has spoken is known by its neighbours, whom a claim could mislead. What follows is said once: both have to hear by then.
    town.heard("db", "api", "a word of the api").await;
    town.heard("api", "web", "an early word of the web").await;
    let cells = town.rig.run_dir().join("cells").join(town.environment.as_str());
    let own = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().ends_with("web");
    let bundle = std::fs::read_dir(cells).unwrap().flatten().find(own).unwrap().path();
    let first = std::fs::read_to_string(bundle.join("container.pid")).unwrap();
    let sent = std::process::Command::new("nsenter")
        .args(["-t", first.trim(), "-n", "python3", "-c", FRAMES, &web, &db, &api])
        .output()
        .unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let at_db = town.heard("db", "api", "another word of the api").await;
    assert!(!at_db.contains("attack"), "{at_db}");
    town.heard("api", "web", "a word of the web").await;
    let at_api = town.heard("api", "db", "a word of the db").await;
    assert!(!at_api.contains("forgery"), "{at_api}");
    assert!(
        at_api.contains("control"),
        "this way of sending reaches whom it may: {at_api}"
    );
    for (service, of) in [("api", &db), ("db", &api)] {
        let (_, neighbours) = exec(&town.runtime, &town.environment, service, &["cat", "/proc/net/arp"]).await;
        let line = neighbours
            .lines()
            .find(|line| line.starts_with(&format!("{of} ")))
            .unwrap();
        let bytes: Vec<String> = of
            .split('.')
            .map(|n| format!("{:02x}", n.parse::<u8>().unwrap()))
            .collect();
        let mac = format!("02:4d:{}", bytes.join(":"));
        assert!(
            line.contains(&mac),
            "{service} takes somebody else for {of}: {neighbours}"
        );
    }
    town.runtime.remove(&town.environment, Generation(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_follow_the_generation() {
    let mut town = Town::build().await;
    // A killed host finds them as they were.
    town.rig.kill_host();
    town.rig.start_host();
    town.runtime = town.rig.runtime().await;
    let knows = "
import socket
try: print('knows', socket.gethostbyname('db') != '')
except OSError: print('knows nothing')
";
    assert_eq!(town.run("web", knows).await.trim(), "knows nothing");
    assert_eq!(town.run("api", knows).await.trim(), "knows True");
    // From now on all share one.
    let mut made = spec(
        town.environment.clone(),
        &["web", "db", "api"].map(|name| (name, member(&[]))),
    );
    made.generation = Generation(2);
    up(&town.runtime, &made).await;
    for name in ["web", "db", "api"] {
        ready(&town.runtime, &town.environment, name).await;
    }
    assert_eq!(town.run("web", knows).await.trim(), "knows True");
    let heard = town.heard("db", "web", "at last").await;
    assert!(heard.contains("at last"), "{heard}");
    // And the web moves to where the others are not.
    let mut apart = spec(
        town.environment.clone(),
        &[
            ("web", member(&[("front", &[])])),
            ("db", member(&[("back", &[])])),
            ("api", member(&[("front", &[]), ("back", &[])])),
        ],
    );
    declare(&mut apart, &["front", "back"]);
    apart.generation = Generation(3);
    up(&town.runtime, &apart).await;
    for name in ["web", "db", "api"] {
        ready(&town.runtime, &town.environment, name).await;
    }
    assert_eq!(town.run("web", knows).await.trim(), "knows nothing");
    town.runtime.remove(&town.environment, Generation(3)).await.unwrap();
}

/// Asks for a name some time after it has said that it will.
const LATER: &str = "
import socket, time
print('soon', flush=True)
time.sleep(1)
try: print(socket.gethostbyname('db') != '')
except OSError as error: print(error)
";

/// It serves the names, and on a machine that has much else to do it may not get to it for some seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_for_a_name_waits_for_a_host_that_is_slow() {
    let town = Town::build().await;
    let argv = ["python3", "-c", LATER].map(str::to_owned);
    let service = "api".parse().unwrap();
    let mut asking = town
        .runtime
        .exec(&town.environment, &service, &argv, &BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(asking.stdout.recv().await.as_deref(), Some(&b"soon\n"[..]));
    let host = Pid::from_raw(town.rig.host_pid().cast_signed()).unwrap();
    kill_process(host, Signal::STOP).unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    kill_process(host, Signal::CONT).unwrap();
    assert_eq!(asking.stdout.recv().await.as_deref(), Some(&b"True\n"[..]));
    town.runtime.remove(&town.environment, Generation(1)).await.unwrap();
}
