//! The suite's programs from the host's packages, for runtimes with host roots. They need `python3`.

use super::Program;
use model::{Limits, Root, Workload};
use std::collections::BTreeMap;

/// The port on which [`host_workload`]'s server listens.
pub const HOST_PORT: u16 = 8080;

/// The main process of a container ignores signals that it does not handle, so both programs that run on handle SIGTERM.
const SERVE: &str = "\
import signal, socket, sys, threading
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
text = sys.argv[1] + '\\n'
listener = socket.create_server(('', int(sys.argv[2])))
print(text, end='', flush=True)
def serve(connection):
    with connection:
        connection.sendall(text.encode())
        while received := connection.recv(65536):
            connection.sendall(received)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
";

const IDLE: &str = "\
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
";

const EXIT: &str = "\
import sys
print(sys.argv[1], flush=True)
sys.exit(int(sys.argv[2]))
";

const LIST: &str = "\
import os, sys
names = sorted(os.listdir(sys.argv[1]))
os.makedirs(os.path.dirname(sys.argv[2]), exist_ok=True)
with open(sys.argv[2], 'w') as file:
    file.writelines(name + '\\n' for name in names)
";

/// A workload that does this with the host's Python.
#[must_use]
pub fn host_workload(program: &Program) -> Workload {
    let python = |script: &str, arguments: &[&str]| {
        let head = ["python3", "-u", "-c", script];
        head.iter()
            .chain(arguments)
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let command = match program {
        Program::Serve { text } => python(SERVE, &[text, &HOST_PORT.to_string()]),
        Program::Idle => python(IDLE, &[]),
        Program::Exit { text, code } => python(EXIT, &[text, &code.to_string()]),
        Program::List { directory, into } => python(LIST, &[directory, into]),
        Program::Missing => vec!["this-command-does-not-exist".to_owned()],
    };
    Workload {
        root: Root::Host,
        entrypoint: None,
        command: Some(command),
        environment: BTreeMap::new(),
        working_dir: None,
        mounts: Vec::new(),
        limits: Limits::default(),
        read_only: true,
        options: model::Options::default(),
    }
}
