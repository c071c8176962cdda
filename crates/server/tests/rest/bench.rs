//! A server on a port of its own, and a client that sends what it is told to.

use bytes::Bytes;
use forge::local::{FileChange, LocalForge, NewPullRequest};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use model::BranchName;
use runtime::simulator::Simulator;
use serde_json::Value;
use server::{Server, StateDir, config::ServerConfig};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Nothing on this bench takes longer, unless it never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Bench {
    pub(crate) forge: LocalForge,
    pub(crate) simulator: Simulator,
    pub(crate) server: Server,
    pub(crate) token: String,
    pub(crate) state: StateDir,
    pub(crate) end: CancellationToken,
    clock: tokio::task::JoinHandle<()>,
    _directory: TempDir,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.end.cancel();
        self.clock.abort();
    }
}

pub(crate) fn branch(name: &str) -> BranchName {
    name.parse().unwrap()
}

fn compose(text: &str) -> String {
    format!(
        "services:\n  web:\n    image: node:20\n    command: [\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\n{text}\"]\n    \
         ports: [\"8080:8080\"]\n    volumes: [\".:/app:ro\"]\n    depends_on: [cache]\n  cache:\n    image: redis:7\n"
    )
}

const SETTINGS: &str = "stack:\n  services:\n    web: { host: true, public: true }\npolicy: { baseline: none }\n";

/// The simulator's time is that of the server.
fn tick(simulator: &Simulator) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = u64::try_from(now.as_millis()).unwrap();
    simulator.advance(Duration::from_millis(now.saturating_sub(simulator.now().0)));
}

/// Spares are made on a machine with little memory, too.
pub(crate) fn config(directory: &Path) -> ServerConfig {
    let text = format!(
        "state_dir: {0}/state\nlisten: 127.0.0.1:0\npoll_seconds: 1\nspares: {{keep_available_mib: 1}}\ncell: {{run_dir: {0}/run}}\ngateway: {{bases: [{{domain: preview.test, port: 8080}}]}}\n\
         projects:\n  - name: shop\n    sources:\n      - forge: {{kind: local, path: {0}/forge}}\n",
        directory.display()
    );
    ServerConfig::parse(&text, Path::new("test.yaml")).unwrap()
}

impl Bench {
    pub(crate) fn edge_socket(&self) -> PathBuf {
        config(self.state.path().parent().unwrap()).edge_socket()
    }

    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = "local/shop".parse().unwrap();
        let forge = LocalForge::open(directory.path().join("forge"), &path, &branch("main"))
            .await
            .unwrap();
        let files = [
            FileChange::write("compose.yaml", compose("one")),
            FileChange::write("maquette.yaml", SETTINGS),
        ];
        forge.commit(&branch("main"), None, &files, "Begin").await.unwrap();
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
        let server = Server::start(&config(directory.path()), Arc::new(simulator.clone()), end.clone())
            .await
            .unwrap();
        let state = StateDir::new(directory.path().join("state"));
        let token = std::fs::read_to_string(state.operator_token())
            .unwrap()
            .trim()
            .to_owned();
        Self {
            forge,
            simulator,
            server,
            token,
            state,
            end,
            clock,
            _directory: directory,
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        self._directory.path()
    }

    /// Opens a pull request whose branch changes the application.
    pub(crate) async fn open(&self, name: &str) -> u64 {
        let files = [FileChange::write("compose.yaml", compose("two"))];
        self.forge
            .commit(&branch(name), Some(&branch("main")), &files, "Change")
            .await
            .unwrap();
        let new = NewPullRequest::new(branch(name), branch("main"), "A change");
        let number = self.forge.open_pull_request(new).await.unwrap().number.0;
        self.ok(Method::POST, "/projects/shop/nudge", None).await;
        number
    }

    /// Commits settings with this policy to the policy branch.
    pub(crate) async fn rule(&self, policy: &str) {
        let settings = SETTINGS.replace("{ baseline: none }", policy);
        let files = [FileChange::write("maquette.yaml", settings)];
        self.forge.commit(&branch("main"), None, &files, "Rule").await.unwrap();
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.address).await.unwrap()
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let stream = TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        driver.abort();
        Response::from_parts(parts, body)
    }

    /// Calls the API as the operator.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.map_or_else(Bytes::new, |body| body.to_string().into())))
            .unwrap();
        let response = self.send(request).await;
        let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        (response.status(), body)
    }

    pub(crate) async fn ok(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!(status.is_success(), "{path}: {status} {answer:#}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ok(Method::GET, path, None).await
    }

    /// Waits until the environment is in this phase.
    pub(crate) async fn reaches(&self, name: &str, phase: &str) -> Value {
        let wait = async {
            loop {
                let (status, view) = self.call(Method::GET, &format!("/environments/{name}"), None).await;
                if status.is_success() && view["phase"] == phase {
                    return view;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(view) => view,
            Err(_) => {
                let (_, why) = self.call(Method::GET, &format!("/environments/{name}/why"), None).await;
                panic!("{name} never was {phase}: {why:#}")
            }
        }
    }
}
