//! An environment with a door, and somebody outside.

use crate::support::{PATIENCE, Rig, exec, ready, service, spec, up};
use model::{DoorFact, EnvironmentId, EnvironmentSpec, Generation, Stage};
use runtime::{NoSecrets, Runtime as _, Target};
use runtime_cell::CellRuntime;
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A service outside, on the loopback of the machine: says a word, sends back what it gets until that ends, and then how much it was.
pub(crate) fn outside(word: &'static str) -> SocketAddr {
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
    return socket.create_connection((name, port), timeout=150)
def everything(s):
    text = b''
    while True:
        part = s.recv(65536)
        if not part: return text
        text += part
";

pub(crate) struct Street {
    pub(crate) rig: Rig,
    pub(crate) runtime: CellRuntime,
    pub(crate) spec: EnvironmentSpec,
}

impl Street {
    /// An environment with one service, `shell`, that may reach the endpoints under these names.
    pub(crate) async fn with(endpoints: &[(&str, SocketAddr)]) -> Self {
        let mut rig = Rig::start();
        rig.start_door();
        Self::on(rig, |spec| allow(spec, endpoints)).await
    }

    /// The same on a rig that has a door, with other rules.
    pub(crate) async fn on(rig: Rig, rules: impl FnOnce(&mut EnvironmentSpec)) -> Self {
        let runtime = rig.runtime().await;
        let shell = service(&["sleep", "100000"], &[]);
        let mut made = spec(rig.environment(), &[("shell", shell)]);
        rules(&mut made);
        let mut street = Self {
            rig,
            runtime,
            spec: made,
        };
        street.opened(1).await;
        up(&street.runtime, &street.spec).await;
        let names: Vec<String> = street
            .spec
            .services()
            .unwrap()
            .services
            .keys()
            .map(ToString::to_string)
            .collect();
        for name in names {
            ready(&street.runtime, street.id(), &name).await;
        }
        street
    }

    /// Applies other rules as a new generation; nothing but its envelope.
    pub(crate) async fn rule(&mut self, rules: impl FnOnce(&mut EnvironmentSpec)) {
        self.spec.generation = self.spec.generation.next();
        rules(&mut self.spec);
        let applied = self.runtime.apply(&self.spec, &Stage::Envelope, &NoSecrets).await;
        applied.unwrap();
    }

    /// Asks the service `holder`, which keeps a connection to the outside, to send a word over it. It says what came back,
    /// `ended` or `broken`; then it has a new one the next time.
    pub(crate) async fn hold(&self, word: &str) -> String {
        let dialled = self
            .runtime
            .dial(self.id(), &"holder".parse().unwrap(), Target::Port(8000))
            .await;
        let mut connection = dialled.unwrap();
        connection.write_all(word.as_bytes()).await.unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).await.unwrap();
        text
    }

    pub(crate) fn id(&self) -> &EnvironmentId {
        &self.spec.environment
    }

    /// Waits until cell hosts and doors have found each other so often.
    pub(crate) async fn opened(&mut self, times: usize) {
        let begun = Instant::now();
        while self.rig.log().matches("the door is there").count() < times {
            assert!(begun.elapsed() < PATIENCE, "{}", self.rig.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs a Python program in the cell and returns what it printed.
    pub(crate) async fn inside(&self, program: &str) -> String {
        let program = format!("{TOOLS}{program}");
        exec(&self.runtime, self.id(), "shell", &["python3", "-c", &program])
            .await
            .1
    }

    pub(crate) async fn fact(&self) -> DoorFact {
        self.runtime.observe(self.id()).await.unwrap().unwrap().door
    }

    pub(crate) async fn fact_until(&self, holds: impl Fn(&DoorFact) -> bool) -> DoorFact {
        let begun = Instant::now();
        loop {
            let fact = self.fact().await;
            if holds(&fact) {
                return fact;
            }
            assert!(begun.elapsed() < PATIENCE, "{fact:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the host has written down what it tells of the door: one that is killed takes the rest with it.
    pub(crate) async fn written(&self) {
        let file = self.rig.directory.join("state/environments").join(self.id().as_str());
        let begun = Instant::now();
        loop {
            let text = std::fs::read(file.join("record.json")).unwrap();
            let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let told = serde_json::to_value(self.fact().await.passed).unwrap();
            if record["told"]["passed"] == told {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{} {told}", record["told"]);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn end(self) {
        self.runtime.remove(self.id(), Generation(99)).await.unwrap();
        assert_eq!(self.runtime.inventory(None).await.unwrap(), []);
    }
}

pub(crate) fn allow(spec: &mut EnvironmentSpec, endpoints: &[(&str, SocketAddr)]) {
    spec.egress.private.clear();
    for (name, address) in endpoints {
        let known = spec.egress.private.entry(name.parse().unwrap()).or_default();
        known.insert(*address);
    }
}

/// A service that keeps a connection to this name and port: see [`Street::hold`].
pub(crate) fn holder(name: &str, port: u16) -> model::Service {
    let program = "\
import socket, sys
out = None
listener = socket.create_server(('', 8000))
while True:
    c, _ = listener.accept()
    word = c.recv(100)
    if not word:
        # Somebody who only wanted to know whether this listens.
        c.close()
        continue
    try:
        if out is None:
            out = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=150)
            out.recv(100)
        out.sendall(word)
        answer = out.recv(100) or b'ended'
    except OSError as e:
        answer = b'broken'
    if answer in (b'ended', b'broken'):
        out = None
    c.sendall(answer)
    c.close()
";
    service(&["python3", "-c", program, name, &port.to_string()], &[8000])
}
