//! A server in this process, and the program in processes of its own.

use forge::local::{FileChange, LocalForge};
use runtime::simulator::Simulator;
use serde_json::Value;
use server::{Server, StateDir, config::ServerConfig};
use std::{
    path::Path,
    process::{Output, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, process::Command, time::sleep};
use tokio_util::sync::CancellationToken;

pub(crate) struct Bench {
    pub(crate) simulator: Simulator,
    pub(crate) forge: LocalForge,
    state: StateDir,
    end: CancellationToken,
    clock: tokio::task::JoinHandle<()>,
    _directory: TempDir,
    _server: Server,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.end.cancel();
        self.clock.abort();
    }
}

/// How the program ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) const COMPOSE: &str = "services:\n  web:\n    image: node:20\n    command: [\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\nhello\"]\n    \
     ports: [\"8080:8080\"]\n    volumes: [\".:/app:ro\"]\n";
pub(crate) const SETTINGS: &str =
    "stack:\n  services:\n    web: { host: true, public: true }\npolicy: { baseline: none }\n";

/// Runs the program with nothing in its environment.
pub(crate) async fn run(arguments: &[&str], input: &str) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_maquette"))
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that reads nothing closes its end.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended {
        code: status.code().unwrap(),
        out: text(stdout),
        err: text(stderr),
    }
}

fn tick(simulator: &Simulator) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = u64::try_from(now.as_millis()).unwrap();
    simulator.advance(Duration::from_millis(now.saturating_sub(simulator.now().0)));
}

impl Bench {
    /// A server whose project has the branches `main` and `change`.
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let text = format!(
            "state_dir: {at}/state\nlisten: 127.0.0.1:0\npoll_seconds: 1\ncell: {{run_dir: {at}/run}}\n\
             projects:\n  - name: shop\n    sources:\n      - forge: {{kind: local, path: {at}/forge}}\n"
        );
        let config = ServerConfig::parse(&text, Path::new("test.yaml")).unwrap();
        let (path, main, change) = (
            "local/shop".parse().unwrap(),
            "main".parse().unwrap(),
            "change".parse().unwrap(),
        );
        let forge = LocalForge::open(directory.path().join("forge"), &path, &main)
            .await
            .unwrap();
        let files = [
            FileChange::write("compose.yaml", COMPOSE),
            FileChange::write("maquette.yaml", SETTINGS),
        ];
        forge.commit(&main, None, &files, "Begin").await.unwrap();
        forge
            .commit(&change, Some(&main), &[FileChange::write("x", "y")], "Change")
            .await
            .unwrap();
        let simulator = Simulator::new();
        tick(&simulator);
        let ticking = simulator.clone();
        let clock = tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(10)).await;
                tick(&ticking);
            }
        });
        let end = CancellationToken::new();
        let server = Server::start(&config, Arc::new(simulator.clone()), end.clone())
            .await
            .unwrap();
        let state = StateDir::new(directory.path().join("state"));
        Self {
            simulator,
            forge,
            state,
            end,
            clock,
            _directory: directory,
            _server: server,
        }
    }

    /// The program, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maquette"));
        command
            .arg("--state-dir")
            .arg(self.state.path())
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// Runs the program, which finds the server in the state directory.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "").await
    }

    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let state = self.state.path().to_str().unwrap();
        let all: Vec<&str> = ["--state-dir", state]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        run(&all, input).await
    }

    pub(crate) async fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.out
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
        serde_json::from_str(&self.ok(&all).await).unwrap()
    }
}
