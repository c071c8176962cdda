//! The mirror of packages, which is a program of its own, for the time of a test.

use std::{
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
};

pub(crate) struct Mirror {
    child: Child,
    address: Ipv4Addr,
}

impl Mirror {
    /// On an address of the loopback that nobody else uses, so that its port can be the usual one.
    pub(crate) fn start() -> Self {
        let [_, a, b, c] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, a | 64, b, c.clamp(1, 254));
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strangers/mirror.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(program)
            .arg(address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, address }
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
