//! A Gitea with a repository and people, and a whole server of ours beside it whose runtime is simulated.

use crate::{between::Between, connect, eventually, name};
use model::{CommitId, Origin};
use reqwest::Method;
use runtime::simulator::Simulator;
use serde_json::{Value, json};
use server::{Server, StateDir, config::ServerConfig};
use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use store::{EnvironmentRow, Store};
use tempfile::TempDir;
use test_support::{
    gitea::{Client, Gitea, NewRepository, WorkTree},
    held::HeldPort,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// What deliveries are signed with.
pub(crate) const SECRET: &str = "a secret of the tests";
/// Nobody waits for the poll.
const NEVER: u64 = 3600;

/// How a bench is set up.
pub(crate) struct Setting {
    /// Whether our server sets up its webhook.
    pub(crate) webhook: bool,
    pub(crate) poll_seconds: u64,
    pub(crate) private: bool,
    /// Another address for the same Gitea, as our server reaches it.
    pub(crate) through: Option<String>,
}

impl Setting {
    /// Nothing but webhooks can tell our server what happens.
    pub(crate) const WEBHOOKS: Self = Self {
        webhook: true,
        poll_seconds: NEVER,
        private: true,
        through: None,
    };
    /// Nothing but the poll can.
    pub(crate) const POLL: Self = Self {
        webhook: false,
        poll_seconds: 1,
        ..Self::WEBHOOKS
    };
    /// Nobody tells it, unless the test does.
    pub(crate) const DEAF: Self = Self {
        webhook: false,
        ..Self::WEBHOOKS
    };
}

struct Running {
    server: Server,
    end: CancellationToken,
}

pub(crate) struct Bench {
    pub(crate) gitea: Arc<Gitea>,
    pub(crate) admin: Client,
    /// Owns the repository.
    pub(crate) ada: Client,
    /// May push.
    pub(crate) bob: Client,
    /// Our own account.
    pub(crate) bot: Client,
    pub(crate) repository: NewRepository,
    /// Its name as our server's configuration has it.
    configured: String,
    pub(crate) tree: WorkTree,
    /// A second repository, which is a further source called `api`.
    pub(crate) api: Option<(NewRepository, WorkTree)>,
    /// How pull requests share environments.
    pub(crate) join: &'static str,
    pub(crate) simulator: Simulator,
    pub(crate) store: Store,
    setting: Setting,
    directory: TempDir,
    running: Option<Running>,
    /// The webhook's address must be known before our server listens, and stays the same when it is started anew.
    port: HeldPort,
    /// How the forge is told to reach our server; empty if it is not told.
    pub(crate) webhook_host: String,
    clock: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.clock.abort();
        if let Some(running) = &self.running {
            running.end.cancel();
        }
    }
}

/// A Compose file with one public service that prints and answers `text`.
pub(crate) fn compose(text: &str) -> String {
    format!(
        "services:\n  web:\n    image: node:20\n    command: [\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\n{text}\"]\n    \
         ports: [\"8080:8080\"]\n    volumes: [\".:/app:ro\"]\n    depends_on: [cache]\n  cache:\n    image: redis:7\n"
    )
}

pub(crate) fn commit_id(text: &str) -> CommitId {
    text.parse().unwrap()
}

impl Bench {
    pub(crate) async fn new(setting: Setting) -> Self {
        let gitea = Gitea::shared().await.unwrap_or_else(|error| panic!("{error}"));
        Self::on(gitea, setting).await
    }

    /// With something between our server and Gitea that can answer in its place.
    pub(crate) async fn between(setting: Setting) -> (Self, Between) {
        let gitea = Gitea::shared().await.unwrap_or_else(|error| panic!("{error}"));
        let between = Between::start(gitea.url()).await;
        let through = Some(between.url.clone());
        let bench = Self::on(gitea, Setting { through, ..setting }).await;
        (bench, between)
    }

    pub(crate) async fn on(gitea: Arc<Gitea>, setting: Setting) -> Self {
        let admin = gitea.admin().unwrap();
        let ada = admin.make_user(&name("ada")).await.unwrap();
        let bob = admin.make_user(&name("bob")).await.unwrap();
        let bot = admin.make_user(&name("bot")).await.unwrap();
        let repository = ada.make_repository("shop", setting.private).await.unwrap();
        ada.allow(&repository.path, bob.user(), "write").await.unwrap();
        ada.allow(&repository.path, bot.user(), "admin").await.unwrap();
        let tree = WorkTree::clone(&ada.git_url(&repository.path)).unwrap();
        let settings = "stack:\n  services:\n    web: { host: true, public: true }\npolicy: { baseline: none }\n";
        tree.commit("maquette.yaml", settings, "Say what is public").unwrap();
        tree.commit("compose.yaml", &compose("one"), "Begin").unwrap();
        tree.git(&["push", "--quiet", "origin", "main"]).unwrap();
        let simulator = Simulator::new();
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::new(directory.path().join("state"));
        std::fs::create_dir(state.path()).unwrap();
        std::fs::write(directory.path().join("token"), bot.token()).unwrap();
        std::fs::write(directory.path().join("secret"), SECRET).unwrap();
        let mut bench = Self {
            gitea,
            admin,
            ada,
            bob,
            bot,
            configured: repository.path.clone(),
            repository,
            tree,
            api: None,
            join: "none",
            clock: tokio::spawn(keep_time(simulator.clone())),
            simulator,
            store: Store::open(&state.store()).await.unwrap(),
            directory,
            running: None,
            webhook_host: if setting.webhook { "127.0.0.1" } else { "" }.to_owned(),
            setting,
            port: HeldPort::take().unwrap(),
        };
        bench.start().await;
        if bench.setting.webhook {
            bench.has_webhook("shop", None).await;
            assert_eq!(bench.hooks().await.len(), 1);
        }
        bench
    }

    fn configuration(&self) -> ServerConfig {
        let port = self.port.number();
        let directory = self.directory.path().display();
        let source = |name: &str, repository: &str| {
            json!({ "name": name, "forge": {
                "kind": "gitea",
                "url": self.setting.through.clone().unwrap_or_else(|| self.gitea.url()),
                "repository": repository,
                "token_file": format!("{directory}/token"),
                "webhook_secret_file": format!("{directory}/secret"),
                "webhook_url": (!self.webhook_host.is_empty()).then(|| format!("http://{}:{port}/", self.webhook_host)),
            } })
        };
        let api = self.api.as_ref().map(|(repository, _)| source("api", &repository.path));
        let sources: Vec<Value> = api.into_iter().chain([source("shop", &self.configured)]).collect();
        let text = json!({
            "state_dir": format!("{directory}/state"),
            "listen": format!("127.0.0.1:{port}"),
            "poll_seconds": self.setting.poll_seconds,
            "cell": { "run_dir": format!("{directory}/run") },
            "gateway": { "bases": [{ "domain": "preview.test" }] },
            "projects": [{
                "name": "shop",
                "blueprint": "shop",
                "join": self.join,
                "sources": sources,
            }],
        });
        ServerConfig::parse(&text.to_string(), Path::new("maquette-server.yaml")).unwrap()
    }

    /// Starts our server, on the same port as before.
    pub(crate) async fn start(&mut self) {
        let end = CancellationToken::new();
        let runtime = Arc::new(self.simulator.clone());
        let server = Server::start(&self.configuration(), runtime, end.clone()).await;
        let server = server.unwrap_or_else(|error| panic!("{error}: {error:#?}"));
        self.running = Some(Running { server, end });
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end.cancel();
            running.server.ended().await;
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().server.address
    }

    /// Our webhooks on Gitea.
    pub(crate) async fn hooks(&self) -> Vec<Value> {
        self.hooks_of(&self.repository).await
    }

    /// Waits until our server has set up the webhook of a source, another one than `before`, and has written down that it is
    /// ours: a server that is stopped in between does not know of it when it is started anew. Returns the webhook's number.
    pub(crate) async fn has_webhook(&self, source: &str, before: Option<u64>) -> u64 {
        let (project, source) = ("shop".parse().unwrap(), source.parse().unwrap());
        eventually("the webhook is set up", || async {
            let known = self.store.binding_get(&project, &source).await.unwrap()?.webhook;
            known.filter(|known| Some(*known) != before)
        })
        .await
    }

    pub(crate) async fn hooks_of(&self, repository: &NewRepository) -> Vec<Value> {
        let path = format!("repos/{}/hooks", repository.path);
        let found = self.ada.call(Method::GET, &path, Value::Null).await.unwrap();
        found.as_array().cloned().unwrap_or_default()
    }

    fn checkout(&self, branch: &str) {
        if self.tree.git(&["checkout", "--quiet", branch, "--"]).is_err() {
            let new = ["checkout", "--quiet", "--no-track", "-b", branch, "origin/main"];
            self.tree.git(&new).unwrap();
        }
    }

    /// Commits a Compose file to a branch, which is made from `main` if it is not there, and pushes it.
    pub(crate) fn push(&self, branch: &str, compose: &str) -> CommitId {
        self.checkout(branch);
        let commit = self.tree.commit("compose.yaml", compose, "Change").unwrap();
        self.push_head(branch, &[]);
        commit_id(&commit)
    }

    /// Puts a branch back to where `main` is, commits, and pushes with force.
    pub(crate) fn push_anew(&self, branch: &str, compose: &str) -> CommitId {
        self.checkout(branch);
        self.tree.git(&["reset", "--quiet", "--hard", "origin/main"]).unwrap();
        let commit = self.tree.commit("compose.yaml", compose, "Change anew").unwrap();
        self.push_head(branch, &["--force"]);
        commit_id(&commit)
    }

    pub(crate) fn push_head(&self, branch: &str, options: &[&str]) {
        let to = format!("HEAD:refs/heads/{branch}");
        let arguments = [&["push", "--quiet"], options, &["origin", &to]].concat();
        self.tree.git(&arguments).unwrap();
    }

    /// Opens a pull request of a branch, to which something was pushed.
    pub(crate) async fn open(&self, branch: &str, title: &str) -> u64 {
        let opened = self
            .ada
            .open_pull_request(&self.repository.path, branch, "main", title)
            .await;
        opened.unwrap()
    }

    pub(crate) async fn change(&self, number: u64, change: Value) {
        let changed = self
            .ada
            .change_pull_request(&self.repository.path, number, change)
            .await;
        changed.unwrap();
    }

    pub(crate) async fn close(&self, number: u64) {
        self.change(number, json!({ "state": "closed" })).await;
    }

    pub(crate) async fn reopen(&self, number: u64) {
        self.change(number, json!({ "state": "open" })).await;
    }

    /// Asks our server for something, as the operator.
    pub(crate) async fn ask(&self, path: &str, body: Value) {
        let token = std::fs::read_to_string(self.directory.path().join("state/operator.token")).unwrap();
        let request = http_client()
            .post(format!("http://{}/api/v1/{path}", self.address()))
            .bearer_auth(token.trim())
            .json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert!(
            status.is_success(),
            "{path}: {status}: {}",
            answer.text().await.unwrap()
        );
    }

    pub(crate) async fn create_branch(&self, name: &str) -> EnvironmentRow {
        self.ask("environments", json!({ "branch": name })).await;
        let rows = self.store.environment_list(None, false).await.unwrap();
        let found = rows
            .into_iter()
            .find(|row| matches!(&row.origin, Origin::Branch { branch } if branch.as_str() == name));
        found.expect("an environment of the branch")
    }

    /// Posts a delivery to our server and returns the status of its answer.
    pub(crate) async fn deliver(&self, to: &str, headers: &reqwest::header::HeaderMap, body: &[u8]) -> u16 {
        let mut headers = headers.clone();
        for own in ["host", "content-length", "accept-encoding", "connection"] {
            headers.remove(own);
        }
        let url = format!("http://{}/webhooks/{to}", self.address());
        let answer = http_client()
            .post(url)
            .headers(headers)
            .body(body.to_vec())
            .send()
            .await;
        answer.unwrap().status().as_u16()
    }

    /// Has Gitea deliver to this address, signed with our secret.
    pub(crate) async fn deliver_to(&self, repository: &NewRepository, url: &str) {
        use forge::Forge as _;
        let forge = connect(&self.gitea, self.ada.token());
        let secret = forge::Secret::new(SECRET.to_owned());
        let made = forge
            .webhook_ensure(&repository.id.into(), &url.parse().unwrap(), &secret, None)
            .await;
        made.unwrap();
    }
}

pub(crate) fn http_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// The simulator's clock is moved by hand: here it follows the system's, which our server reads.
async fn keep_time(simulator: Simulator) {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let behind = now.saturating_sub(Duration::from_millis(simulator.now().0));
        simulator.advance(behind);
        sleep(Duration::from_millis(10)).await;
    }
}
