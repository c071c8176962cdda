//! A real OCI registry (`distribution`), started for one test and gone with it.

use crate::{gitea::Error, held::HeldPort};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(120);

/// Name and password of the one account of a registry that [`Registry::lock`] has locked.
pub const ACCOUNT: (&str, &str) = ("me", "secret");
/// The same as the registry wants it, with as few rounds as there may be.
const HTPASSWD: &str = "me:$2b$04$fjknF8gFAMkyxwt3wWxouerXy.S/QCsQXSVtO.wtjO5mV9XhhgeB2\n";

/// A running registry without TLS and, until it is locked, without accounts, on a port of 127.0.0.1. It is ended, and its directory removed, when it is
/// dropped.
#[derive(Debug)]
pub struct Registry {
    child: Option<Child>,
    dir: TempDir,
    address: SocketAddr,
    _port: HeldPort,
}

impl Registry {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// If it was not built, or does not get ready in time; the message says what to do.
    pub fn start() -> Result<Self, Error> {
        Self::start_on(Ipv4Addr::LOCALHOST.into())
    }

    /// The same on another address of this machine, where others may reach it.
    ///
    /// # Errors
    /// As for [`Registry::start`].
    pub fn start_on(address: IpAddr) -> Result<Self, Error> {
        let program = installed()?;
        let dir = tempfile::Builder::new()
            .prefix("maquette-registry-")
            .tempdir()
            .map_err(|error| Error(format!("temporary directory: {error}")))?;
        let port = HeldPort::take_of(address).map_err(|error| Error(format!("a free port: {error}")))?;
        let mut registry = Self {
            child: None,
            address: port.address(),
            dir,
            _port: port,
        };
        registry.resume_with(&program)?;
        Ok(registry)
    }

    /// Host and port, as images name it.
    #[must_use]
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Where it keeps its blobs, for a test that damages them.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Ends the program; what was pushed stays.
    pub fn pause(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again at the same address, where from now on it lets in nobody but [`ACCOUNT`].
    ///
    /// # Errors
    /// As for [`Registry::start`].
    pub fn lock(&mut self) -> Result<(), Error> {
        self.pause();
        let path = self.accounts();
        fs::write(&path, HTPASSWD).map_err(|error| Error(format!("{}: {error}", path.display())))?;
        self.resume()
    }

    fn accounts(&self) -> PathBuf {
        self.dir.path().join("htpasswd")
    }

    /// Starts it again at the same address.
    ///
    /// # Errors
    /// As for [`Registry::start`].
    pub fn resume(&mut self) -> Result<(), Error> {
        self.resume_with(&installed()?)
    }

    fn resume_with(&mut self, program: &Path) -> Result<(), Error> {
        let config = self.dir.path().join("config.yml");
        let mut text = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\n  delete: {{ enabled: true }}\nhttp: \
             {{ addr: {}, secret: a-test }}\n",
            self.data().display(),
            self.address
        );
        if self.accounts().exists() {
            let path = self.accounts();
            let locked = format!("auth: {{ htpasswd: {{ realm: a-test, path: {} }} }}\n", path.display());
            text.push_str(&locked);
        }
        fs::write(&config, text).map_err(|error| Error(format!("config.yml: {error}")))?;
        let child = Command::new(program)
            .arg("serve")
            .arg(&config)
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Error(format!("{}: {error}", program.display())))?;
        self.child = Some(child);
        let until = Instant::now() + READY_WITHIN;
        while TcpStream::connect(self.address).is_err() {
            if Instant::now() > until {
                return Err(Error(format!("the registry does not answer at {}", self.address)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.pause();
    }
}

fn installed() -> Result<PathBuf, Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("MAQUETTE_CACHE").map_or_else(|| root.join(".cache"), |cache| root.join(cache));
    let program = cache.join("registry/registry");
    if program.is_file() {
        return Ok(program);
    }
    Err(Error(format!(
        "this test needs a registry, and there is none at {}.\nhint: run tools/registry/build once",
        program.display()
    )))
}
