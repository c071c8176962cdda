//! The demo's place on disk and its configuration.

use crate::process::{
    load,
    running::{self, Held},
    user::User,
};
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
    run: PathBuf,
    /// The REST API.
    pub(crate) api: SocketAddr,
    /// The gateway.
    pub(crate) gateway: SocketAddr,
}

const CONFIG: &str = "maquette-server.yaml";
/// Locked while a demo runs.
const RUNS: &str = "demo.pid";
/// Where the demo keeps its state unless it is told.
pub(crate) const STATE: &str = "/var/lib/maquette-demo";
const RUN: &str = "/run/maquette-demo";
/// The ports unless it is told, or has used others before.
const API_PORT: u16 = 7300;
const GATEWAY_PORT: u16 = 7380;

impl Layout {
    /// Finds the state of an earlier run below `root`, or makes a new one. The ports of an earlier run are kept unless others are
    /// asked for, because addresses that were handed out contain them.
    pub(crate) fn open(root: &Path, api: Option<u16>, gateway: Option<u16>) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("{} can not be made", root.display()))?;
        let root = root.canonicalize()?;
        let before = load(&root.join(CONFIG)).ok();
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let chosen = |asked: Option<u16>, before: Option<SocketAddr>, usual| {
            asked.map_or_else(|| before.unwrap_or_else(|| local(usual)), local)
        };
        let layout = Self {
            run: run_of(&root),
            api: chosen(api, before.as_ref().map(|config| config.listen), API_PORT),
            gateway: chosen(
                gateway,
                before.as_ref().map(|config| config.gateway.listen),
                GATEWAY_PORT,
            ),
            root,
        };
        // Its ports are taken because it runs, so that is told first. Where there never was a demo, nothing is made yet.
        if layout.root.join(RUNS).exists() {
            drop(layout.alone()?);
        }
        let (mut taken, mut flags) = (Vec::new(), Vec::new());
        for (port, flag) in [(layout.api, "--api-port"), (layout.gateway, "--port")] {
            if let Err(error) = TcpListener::bind(port) {
                taken.push(format!("port {} can not be used: {error}", port.port()));
                flags.push(flag);
            }
        }
        // Both at once: whoever starts a second demo needs two others.
        if !taken.is_empty() {
            bail!(
                "{}\nhint: choose another one with {}",
                taken.join("; "),
                flags.join(" and ")
            );
        }
        Ok(layout)
    }

    /// Keeps other demos from this state for as long as what it returns lives. They would write over the configuration and the program
    /// of the one that runs.
    pub(crate) fn alone(&self) -> Result<Held> {
        let (root, path) = (&self.root, self.root.join(RUNS));
        match running::hold(&path).with_context(|| format!("{} can not be locked", path.display()))? {
            Some(held) => Ok(held),
            None => bail!(
                "a demo that keeps its state in {} runs already\n\
                 hint: use that one, or give this one a state and ports of its own with --state, --port and --api-port",
                root.display()
            ),
        }
    }

    /// The layout that another process of the demo made.
    pub(crate) fn existing(root: &Path, api: SocketAddr, gateway: SocketAddr) -> Self {
        Self {
            run: run_of(root),
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

    /// What is gone after a restart of the machine. Two demos have two.
    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    /// The id of this demo's installation, once it was started.
    pub(crate) fn instance(&self) -> Option<String> {
        let store = server::StateDir::new(self.state()).store();
        let text = fs::read_to_string(store::instance_file(&store)).ok()?;
        Some(text.trim().to_owned())
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

fn run_of(root: &Path) -> PathBuf {
    if root == Path::new(STATE) {
        return RUN.into();
    }
    let digest = model::Digest::of(root.as_os_str().as_encoded_bytes());
    format!("{RUN}-{}", &digest.as_str()[..8]).into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_an_earlier_run_are_kept_and_two_demos_do_not_meet() {
        let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (api, gateway) = (free(), free());
        let first = Layout::open(roots[0].path(), Some(api), Some(gateway)).unwrap();
        first.write_config("nobody").unwrap();
        let again = Layout::open(roots[0].path(), None, None).unwrap();
        assert_eq!((again.api.port(), again.gateway.port()), (api, gateway));
        assert_eq!(again.run(), first.run());
        let other = free();
        let moved = Layout::open(roots[0].path(), None, Some(other)).unwrap();
        assert_eq!((moved.api.port(), moved.gateway.port()), (api, other));
        let second = Layout::open(roots[1].path(), Some(free()), Some(free())).unwrap();
        assert_ne!(first.run(), second.run());
        assert_eq!(run_of(Path::new(STATE)), Path::new(RUN));
    }
}
