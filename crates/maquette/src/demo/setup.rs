//! The demo's place on disk and its configuration.

use crate::process::user::User;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

/// Where the demo keeps what, and where it listens.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    /// The REST API.
    pub(crate) api: SocketAddr,
    /// The gateway.
    pub(crate) gateway: SocketAddr,
}

const CONFIG: &str = "maquette-server.yaml";

impl Layout {
    /// Finds the state of an earlier run below `root`, or makes a new one. The ports of an earlier run are kept, because
    /// addresses that were handed out contain them.
    pub(crate) fn open(root: &Path, api: u16, gateway: u16) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("{} can not be made", root.display()))?;
        let root = root.canonicalize()?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let layout = Self {
            root,
            api: local(api),
            gateway: local(gateway),
        };
        for (port, flag) in [(layout.api, "--api-port"), (layout.gateway, "--port")] {
            if let Err(error) = TcpListener::bind(port) {
                bail!(
                    "port {} can not be used: {error}\nhint: choose another one with {flag}",
                    port.port()
                );
            }
        }
        Ok(layout)
    }

    /// The layout that another process of the demo made.
    pub(crate) fn existing(root: &Path, api: SocketAddr, gateway: SocketAddr) -> Self {
        Self {
            root: root.to_owned(),
            api,
            gateway,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn forge(&self) -> PathBuf {
        self.root.join("forge")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(crate) fn cells(&self) -> PathBuf {
        self.root.join("cells")
    }

    pub(crate) fn run(&self) -> PathBuf {
        PathBuf::from("/run/maquette-demo")
    }

    pub(crate) fn operator_token(&self) -> PathBuf {
        self.state().join("operator.token")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.join(CONFIG)
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.state().join("demo-report.json")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("maquette.log")
    }

    /// The demo's own copy of the program: readable for the unprivileged user wherever the original is.
    pub(crate) fn program(&self) -> PathBuf {
        self.root.join("bin/maquette")
    }

    /// The demo's own copy of the example.
    pub(crate) fn shop(&self) -> PathBuf {
        self.root.join("shop")
    }

    /// The end of the log, for people.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Makes directories, copies program and example, writes the configuration.
    pub(crate) fn prepare(&self, user: &User, shop: &Path) -> Result<()> {
        for directory in [self.forge(), self.state()] {
            fs::create_dir_all(&directory)?;
            chown(&directory, Some(user.uid), Some(user.gid))
                .with_context(|| format!("{} can not be given to {}", directory.display(), user.name))?;
        }
        fs::create_dir_all(self.root.join("bin"))?;
        let fresh = self.root.join("bin/.maquette.new");
        fs::copy("/proc/self/exe", &fresh).context("the program can not be copied")?;
        fs::rename(&fresh, self.program())?;
        let _ = fs::remove_dir_all(self.shop());
        copy_tree(shop, &self.shop(), 0)?;
        self.write_config(&user.name)
    }

    /// Writes the configuration that `maquette serve` reads.
    fn write_config(&self, user: &str) -> Result<()> {
        let text = format!(
            "# Written by `maquette demo`.\n\
             state_dir: {state}\n\
             user: {user}\n\
             listen: {api}\n\
             gateway:\n  listen: {gateway}\n  bases:\n    - domain: localhost\n      scheme: http\n      port: {port}\n\
             cell:\n  run_dir: {run}\n  data_dir: {cells}\n  pool_gib: 6\n\
             poll_seconds: 5\n\
             projects:\n  - name: shop\n    sources:\n      - forge: {{ kind: local, path: {forge} }}\n        base_branch: main\n",
            state = self.state().display(),
            api = self.api,
            gateway = self.gateway,
            port = self.gateway.port(),
            run = self.run().display(),
            cells = self.cells().display(),
            forge = self.forge().display(),
        );
        fs::write(self.config(), text).with_context(|| format!("{} can not be written", self.config().display()))
    }
}

/// Copies files and directories, but nothing else.
fn copy_tree(from: &Path, to: &Path, depth: usize) -> Result<()> {
    if depth > 16 {
        bail!("{} is nested too deeply", from.display());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{} can not be read", from.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() && entry.file_name() != "__pycache__" {
            copy_tree(&entry.path(), &target, depth + 1)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
