//! Puts everything together: store, forges, reconciler, listening sockets.

use crate::{
    app::{App, now},
    claim::{LockedFile, listen},
    config::{ServerConfig, clusters},
    edge::{EdgeServer, GatewayFront},
    listen::{Listening, serve},
    router::router,
    secret::{TokenError, operator_token},
    sources::{self, SourceError},
};
use forge::git::{Git, GitError, GitLimits};
use gateway::Secret;
use reconciler::{Front, InFront, Reconciler, Settings, SystemClock};
use runtime::Runtime;
use secrets::Vault;
use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use store::{Store, StoreError};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How often what has expired is forgotten.
const PRUNE: Duration = Duration::from_secs(3600);
/// How long deliveries are remembered. Forges repeat them within hours.
const DELIVERIES: u64 = 7 * 24 * 3600 * 1000;
/// How many are remembered at most.
const DELIVERIES_MAX: u32 = 100_000;

/// The names of what is in the state directory.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The state directory with this path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The operator's token.
    #[must_use]
    pub fn operator_token(&self) -> PathBuf {
        self.0.join("operator.token")
    }

    /// The address at which the server that uses this directory is reached.
    #[must_use]
    pub fn server_address(&self) -> PathBuf {
        self.0.join("server.address")
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.0.join("store.db")
    }

    /// The secrets of all projects, encrypted.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.0.join("secrets")
    }

    /// The key that opens the secrets.
    #[must_use]
    pub fn secrets_key(&self) -> PathBuf {
        self.0.join("secrets.key")
    }

    /// The file that a running server holds; its content is the number of the process.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("serve.lock")
    }
}

/// The server can not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or directory of its own can not be made or opened.
    #[error("{} can not be made or opened", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another server has the state directory.
    #[error("another `maquette serve` uses {}", path.display())]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// The port is taken, or the address is not one of this machine.
    #[error("{address} can not be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store can not be opened.
    #[error("the store can not be opened")]
    Store(#[source] StoreError),
    /// The operator's token can not be seen to.
    #[error("there is no operator's token")]
    Token(#[source] TokenError),
    /// The secrets can not be opened.
    #[error("the secrets can not be opened")]
    Secrets(#[source] secrets::Error),
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Randomness(#[source] io::Error),
    /// A repository can not be used.
    #[error("a source can not be used")]
    Source(#[source] SourceError),
    /// A file of credentials can not be used.
    #[error("a registry can not be asked")]
    Credentials(#[source] crate::config::CredentialsError),
    /// Images can not be fetched or kept.
    #[error("images can not be fetched")]
    Images(#[source] images::Error),
    /// Git can not be run.
    #[error("git can not be used")]
    Git(#[source] GitError),
    /// A cluster can not be used as it is configured.
    #[error(transparent)]
    Cluster(crate::config::ClusterError),
    /// The reconciler can not start.
    #[error("the reconciler can not start")]
    Reconciler(#[source] reconciler::StartError),
}

impl StartError {
    /// What would help.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Locked { .. } => Some("stop it first, or give this one another `state_dir`"),
            Self::Listen { .. } => Some("choose another address with `listen` in maquette-server.yaml"),
            Self::Cluster(error) => Some(error.hint),
            _ => None,
        }
    }
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    /// Where the REST API is served.
    pub address: SocketAddr,
    /// What handlers have at hand; for whoever runs beside them.
    pub app: App,
    tasks: TaskTracker,
    end: CancellationToken,
    _lock: LockedFile,
}

impl Server {
    /// Starts everything, without a gateway: public services are asked by the runtime's dial before they count as live.
    /// `runtime` is where environments run that are not on a cluster.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: &ServerConfig,
        runtime: Arc<dyn Runtime>,
        end: CancellationToken,
    ) -> Result<Self, StartError> {
        Self::start_with(config, runtime, None, end).await
    }

    /// Starts everything that goes with a gateway on the configured address: public services count as live when they answer
    /// through it. It may be started later.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_behind_gateway(
        config: &ServerConfig,
        runtime: Arc<dyn Runtime>,
        end: CancellationToken,
    ) -> Result<Self, StartError> {
        // A word for this start only, in no file: whoever knows it may ask whether services answer, and nothing else.
        let word = Secret::generate().map_err(StartError::Randomness)?;
        Self::start_with(config, runtime, Some(word), end).await
    }

    async fn start_with(
        config: &ServerConfig,
        runtime: Arc<dyn Runtime>,
        word: Option<Secret>,
        end: CancellationToken,
    ) -> Result<Self, StartError> {
        let state = StateDir::new(&config.state_dir);
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::File { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state.path())
            .map_err(file(state.path()))?;
        let lock = lock(&state).await?;
        let not_listening = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let listener = listen(config.listen).await.map_err(not_listening)?;
        let address = listener.local_addr().map_err(not_listening)?;
        let store = Store::open(&state.store()).await.map_err(StartError::Store)?;
        operator_token(&store, &state.operator_token(), now())
            .await
            .map_err(StartError::Token)?;
        let vault = Vault::open(&state.secrets(), &state.secrets_key()).map_err(StartError::Secrets)?;
        let opened = sources::open(config, &store).await.map_err(StartError::Source)?;
        let git = Git::new(state.path().join("git-home"), GitLimits::default()).map_err(StartError::Git)?;
        let images = config.images.source(&state.path().join("images"))?;
        let instance = store.instance().await.map_err(StartError::Store)?;
        let clusters = clusters::open(&config.clusters, &instance, &state.path().join("gitops")).await?;
        let reconciler = Reconciler {
            store: store.clone(),
            runtime,
            projects: opened.projects,
            git,
            mirrors: state.path().join("mirrors"),
            vault: Arc::new(vault),
            clock: Arc::new(SystemClock),
            settings: Settings {
                poll_interval: Duration::from_secs(config.poll_seconds.max(1)),
                keep: config.keep.settings(),
                lost_access: config.lost_access.settings(),
                spares: config.spares.settings(),
                // They could be read when the file was.
                presets: config.door.presets().unwrap_or_default(),
                front: InFront(word.as_ref().map(|word| {
                    let front = GatewayFront::new(config.gateway.listen, word.clone());
                    Arc::new(front) as Arc<dyn Front>
                })),
                images: Some(Arc::new(images)),
                clusters,
                ..Settings::default()
            },
        };
        let handle = reconciler.start().await.map_err(StartError::Reconciler)?;
        let app = App::new(store.clone(), handle.runtime(), handle, opened.secrets);
        let edge_path = config.edge_socket();
        let edge = EdgeServer::bind(&edge_path).map_err(file(&edge_path))?;
        let edge = match &word {
            Some(word) => edge.known_by(&word.hash()),
            None => edge,
        };
        let tasks = TaskTracker::new();
        tasks.spawn(edge.serve(app.clone(), end.clone()));
        tasks.spawn(serve(Listening::Tcp(listener), router(app.clone()), end.clone()));
        tasks.spawn(until(end.clone(), prune(store.clone())));
        for wanted in opened.webhooks {
            tasks.spawn(until(end.clone(), sources::set_up_webhook(store.clone(), wanted)));
        }
        tasks.close();
        let told = state.server_address();
        tell(&told, &format!("http://{address}\n")).map_err(file(&told))?;
        tracing::info!(%address, "serving");
        Ok(Self {
            address,
            app,
            tasks,
            end,
            _lock: lock,
        })
    }

    /// Waits until it was told to end and has ended. Environments go on.
    pub async fn ended(self) {
        self.end.cancelled().await;
        self.tasks.wait().await;
    }
}

async fn until(end: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = end.cancelled() => {}
        () = task => {}
    }
}

/// Replaces a file whole: commands read it at any time, and one may already be answered at the address that an earlier start told.
fn tell(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, text)?;
    fs::rename(&part, path)
}

/// Two servers with one store would work against each other.
async fn lock(state: &StateDir) -> Result<LockedFile, StartError> {
    let path = state.lock();
    let failed = |source| StartError::File {
        path: path.clone(),
        source,
    };
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    let mut lock = LockedFile::new(file).await.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StartError::Locked {
            path: state.path().to_owned(),
        },
        _ => failed(error),
    })?;
    let written = lock
        .0
        .set_len(0)
        .and_then(|()| writeln!(lock.0, "{}", std::process::id()));
    written.map_err(failed)?;
    Ok(lock)
}

async fn prune(store: Store) {
    loop {
        let at = now();
        let deliveries = store
            .delivery_prune(model::Timestamp(at.0.saturating_sub(DELIVERIES)), DELIVERIES_MAX)
            .await;
        let links = store.link_prune(at).await;
        if let Err(error) = deliveries.and(links).map(drop).and(store.session_prune(at).await) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what has expired could not be forgotten"
            );
        }
        sleep(PRUNE).await;
    }
}
