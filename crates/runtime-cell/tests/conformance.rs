//! The suite that every runtime must pass, on real cells.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is a test, outside of a test function too"
)]

mod support;

use async_trait::async_trait;
use model::{Engine, EnvironmentId, Mount, MountKind, Root, Service, Value, VersionRange, Workload};
use runtime::{
    Runtime,
    conformance::{Fixture, HOST_PORT, Program, cases, host_workload},
};
use runtime_cell::{CellRuntime, host::OciKind};
use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
};
use support::{Rig, service};

#[test]
#[ignore = "run by the rig as its cell host"]
fn host_process() {
    support::host_process();
}

struct Cells {
    rig: Rig,
    runtime: CellRuntime,
    outside: SocketAddr,
}

#[async_trait]
impl Fixture for Cells {
    fn runtime(&self) -> &dyn Runtime {
        &self.runtime
    }

    fn environment(&self) -> EnvironmentId {
        self.rig.environment()
    }

    fn workload(&self, program: &Program) -> Workload {
        host_workload(program)
    }

    fn port(&self) -> u16 {
        HOST_PORT
    }

    fn engine(&self) -> Option<Service> {
        self.runtime
            .capabilities()
            .engines
            .iter()
            .find(|e| e.kind == "postgres")?;
        let mut engine = service(&[], &[5432]);
        engine.workload.command = None;
        engine.workload.root = Root::Engine(Engine {
            kind: "postgres".into(),
            image: "postgres".into(),
            versions: VersionRange { min: 0, max: u32::MAX },
        });
        engine
            .workload
            .environment
            .insert("POSTGRES_PASSWORD".into(), Value::from("secret"));
        engine.workload.mounts = vec![Mount {
            target: "/var/lib/postgresql/data".into(),
            kind: MountKind::Volume {
                volume: "data".parse().unwrap(),
            },
            read_only: false,
        }];
        Some(engine)
    }

    fn outside(&self) -> Option<SocketAddr> {
        Some(self.outside)
    }

    fn fetch(&self, name: &str, port: u16) -> Vec<String> {
        let fetch = "\
import socket, sys
stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=100)
stream.shutdown(socket.SHUT_WR)
while part := stream.recv(4096): print(part.decode(), end='')
";
        ["python3", "-c", fetch, name, &port.to_string()]
            .map(str::to_owned)
            .into()
    }

    fn patience(&self) -> u32 {
        // With the pauses alone three minutes.
        9000
    }

    async fn pause(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// What differs between the OCI runtimes: the start of commands, their input and their end, and what is left of them.
const OF_THE_OCI_RUNTIME: [&str; 8] = [
    "a service becomes ready when it listens, and not before",
    "a command that does not exist is the user's mistake",
    "a service that ends is told, and started again if it should be",
    "a job is ended when its time is over",
    "a command has input, output, variables and a status",
    "freezing keeps what is in memory",
    "stopping keeps what is on disk",
    "removal leaves nothing, and may be repeated",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cells_keep_what_every_runtime_must() {
    let only = std::env::var("CELL_TEST_CASE").unwrap_or_default();
    keep(Rig::start(), |name| name.contains(&only)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cells_keep_it_with_runc_too() {
    keep(Rig::start_on(OciKind::Runc), |name| OF_THE_OCI_RUNTIME.contains(&name)).await;
}

/// An endpoint outside of all cells, on the loopback of the machine.
fn outside() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever hangs up early is no reason to leave the next one without an answer.
            let _ = stream.and_then(|mut stream| stream.write_all(b"outside\n"));
        }
    });
    address
}

async fn keep(mut rig: Rig, wanted: impl Fn(&str) -> bool) {
    rig.start_door();
    let runtime = rig.runtime().await;
    let cells = Cells {
        rig,
        runtime,
        outside: outside(),
    };
    let mut failures = Vec::new();
    for case in cases().into_iter().filter(|case| wanted(case.name)) {
        let begun = std::time::Instant::now();
        let failure = case.run(&cells).await.err();
        eprintln!(
            "{:>7} ms {} {}",
            begun.elapsed().as_millis(),
            if failure.is_some() { "FAIL" } else { "ok  " },
            case.name
        );
        failures.extend(failure);
    }
    assert!(
        failures.is_empty(),
        "{}",
        failures.iter().map(|f| format!("\n- {f}")).collect::<String>()
    );
    assert!(cells.runtime.inventory(None).await.unwrap().is_empty());
}
