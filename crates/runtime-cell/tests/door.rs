//! The door: what real cells reach through a real door process of an ordinary user, what they do not, and what is told about it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod support;

use model::{DoorFact, EnvironmentId, EnvironmentSpec, Generation};
use runtime::Runtime as _;
use runtime_cell::CellRuntime;
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};
use support::{Rig, exec, ready, service, spec, up};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

/// A service outside, on the loopback of the machine: says a word, sends back what it gets until that ends, and then how much it was.
fn outside(word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap(), word));
        }
    });
    address
}

fn answer(mut stream: TcpStream, word: &str) -> Option<()> {
    stream.write_all(word.as_bytes()).ok()?;
    let (mut buffer, mut all) = (vec![0; 65536], 0);
    loop {
        let read = stream.read(&mut buffer).ok()?;
        if read == 0 {
            break;
        }
        all += read;
        stream.write_all(&buffer[..read]).ok()?;
    }
    write!(stream, "{all} bytes").ok()?;
    stream.shutdown(Shutdown::Write).ok()
}

/// Programs in cells are Python; this is what they begin with.
const TOOLS: &str = "\
import socket, sys, time
def resolve(name):
    return sorted({a[4][0] for a in socket.getaddrinfo(name, 1, proto=socket.IPPROTO_TCP)})
def connect(name, port):
    return socket.create_connection((name, port), timeout=20)
def everything(s):
    text = b''
    while True:
        part = s.recv(65536)
        if not part: return text
        text += part
";

struct Street {
    rig: Rig,
    runtime: CellRuntime,
    spec: EnvironmentSpec,
}

impl Street {
    /// An environment with one service, `shell`, that may reach the endpoints under these names.
    async fn with(endpoints: &[(&str, SocketAddr)]) -> Self {
        let mut rig = Rig::start();
        rig.start_door();
        let runtime = rig.runtime().await;
        let mut made = spec(rig.environment(), &[("shell", service(&["sleep", "100000"], &[]))]);
        allow(&mut made, endpoints);
        let street = Self {
            rig,
            runtime,
            spec: made,
        };
        street.opened().await;
        up(&street.runtime, &street.spec).await;
        ready(&street.runtime, street.id(), "shell").await;
        street
    }

    fn id(&self) -> &EnvironmentId {
        &self.spec.environment
    }

    /// Waits until the cell host knows the door.
    async fn opened(&self) {
        let begun = Instant::now();
        while !self.rig.log().contains("the door is there") {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", self.rig.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs a Python program in the cell and returns what it printed.
    async fn inside(&self, program: &str) -> String {
        let program = format!("{TOOLS}{program}");
        exec(&self.runtime, self.id(), "shell", &["python3", "-c", &program])
            .await
            .1
    }

    async fn fact(&self) -> DoorFact {
        self.runtime.observe(self.id()).await.unwrap().unwrap().door
    }

    async fn fact_until(&self, holds: impl Fn(&DoorFact) -> bool) -> DoorFact {
        let begun = Instant::now();
        loop {
            let fact = self.fact().await;
            if holds(&fact) {
                return fact;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{fact:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn end(self) {
        self.runtime.remove(self.id(), Generation(99)).await.unwrap();
        assert_eq!(self.runtime.inventory(None).await.unwrap(), []);
    }
}

fn allow(spec: &mut EnvironmentSpec, endpoints: &[(&str, SocketAddr)]) {
    spec.egress.private.clear();
    for (name, address) in endpoints {
        let known = spec.egress.private.entry(name.parse().unwrap()).or_default();
        known.insert(*address);
    }
}

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
