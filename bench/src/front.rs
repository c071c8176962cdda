//! What stands in front of the shop's environments: a gateway in a process of its own, that learns of its routes from this one.

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use clap::Args;
use gateway::{
    Base, Config, Dial, DialError, Gateway, RouteTable, Routes as _, Scheme, Secret, TOKEN_HEADER, Target, Wake,
};
use model::HostLabel;
use reconciler::{Front, Handle, InFront};
use runtime::{Connection, Runtime, RuntimeError};
use runtime_cell::CellDialer;
use server::{App, EdgeClient, EdgeServer, GatewayFront, WebhookSecrets};
use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener as BlockingListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};
use store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// The domain of all hosts.
const DOMAIN: &str = "localhost";

/// What the gateway's process is told.
#[derive(Debug, Args)]
pub(crate) struct FrontArgs {
    /// The run directory of the cell host
    #[arg(long)]
    run: PathBuf,
    #[arg(long)]
    listen: SocketAddr,
}

/// Where the gateway listens, and how it is asked.
#[derive(Debug)]
pub(crate) struct Entry {
    address: SocketAddr,
    /// By this the gateway knows the control plane.
    word: Secret,
    /// By this the control plane knows who looks at pages.
    token: Secret,
    run: PathBuf,
}

impl Entry {
    /// A free port, and the operator's token of this store, which is kept in `directory`.
    ///
    /// # Errors
    /// When there is no port, or the token can not be made.
    pub(crate) async fn new(store: &Store, directory: &Path, run: &Path) -> Result<Self> {
        let address = BlockingListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let file = directory.join("operator.token");
        server::operator_token(store, &file, model::Timestamp(0)).await?;
        let token = std::fs::read_to_string(&file)?;
        Ok(Self {
            address,
            word: Secret::generate()?,
            token: Secret::parse(token.trim().as_bytes()).context("the operator's token is none")?,
            run: run.to_owned(),
        })
    }

    /// Where hosts of environments are found.
    pub(crate) fn base(&self) -> reconciler::Base {
        reconciler::Base {
            scheme: "http".into(),
            domain: DOMAIN.into(),
            port: Some(self.address.port()),
            shared: true,
        }
    }

    /// What the reconciler asks before it says live.
    pub(crate) fn in_front(&self) -> InFront {
        let front = GatewayFront::new(self.address, self.word.clone());
        InFront(Some(Arc::new(front) as Arc<dyn Front>))
    }

    /// Where the gateway listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The head lines by which a request for the page of an environment is let through.
    pub(crate) fn head(&self, label: &HostLabel) -> String {
        let port = self.address.port();
        format!(
            "Host: {label}.{DOMAIN}:{port}\r\n{TOKEN_HEADER}: {}\r\n",
            self.token.expose()
        )
    }

    /// Serves what the gateway asks for, and starts it. Returns when it knows its routes.
    ///
    /// # Errors
    /// When one of both does not start.
    pub(crate) async fn open(&self, store: Store, cell: Arc<dyn Runtime>, handle: Handle) -> Result<Gate> {
        let end = CancellationToken::new();
        let edge = EdgeServer::bind(&socket(&self.run))?.known_by(&self.word.hash());
        let app = App::new(store, cell, handle, WebhookSecrets::new());
        tokio::spawn(edge.serve(app, end.clone()));
        let mut child = Command::new("/proc/self/exe")
            .args(["front", "--listen", &self.address.to_string(), "--run"])
            .arg(&self.run)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the gateway can not be started")?;
        let output = child.stdout.take();
        let gate = Gate { child, end };
        let output = output.context("the gateway has no output")?;
        let told = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).map(|_| line)
        });
        ensure!(told.await??.trim() == "ready", "the gateway has ended");
        Ok(gate)
    }
}

/// A gateway, and what answers its questions. Both end when this is dropped.
#[derive(Debug)]
pub(crate) struct Gate {
    child: Child,
    end: CancellationToken,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.end.cancel();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(run: &Path) -> PathBuf {
    run.join("edge/control.sock")
}

/// The gateway's process: as the program's own, but for its settings.
pub(crate) async fn process(args: &FrontArgs) -> Result<()> {
    let mut config = Config::new(vec![Base::new(DOMAIN, Scheme::Http)?])?;
    config.public_ports = vec![args.listen.port()];
    let listener = TcpListener::bind(args.listen).await?;
    let control = EdgeClient::new(socket(&args.run));
    let routes = Arc::new(RouteTable::default());
    let gateway = Gateway::with_wake(
        config,
        Arc::clone(&routes) as _,
        Arc::new(control.clone()),
        Arc::new(CellDial(CellDialer::new(&args.run))),
        Arc::new(control.clone()) as Arc<dyn Wake>,
    );
    let mut known = routes.changes();
    tokio::spawn(control.follow_routes(routes, CancellationToken::new()));
    known.changed().await?;
    let mut out = io::stdout();
    writeln!(out, "ready")?;
    out.flush()?;
    Ok(gateway.serve(listener, std::future::pending()).await?)
}

/// The cell host's socket for connections as the gateway's port.
#[derive(Debug)]
struct CellDial(CellDialer);

#[async_trait]
impl Dial for CellDial {
    async fn dial(&self, target: &Target, epoch: u64) -> Result<TcpStream, DialError> {
        match self.0.dial(&target.environment, &target.service, target.port).await {
            Ok(Connection::Tcp(stream)) => Ok(stream),
            Err(RuntimeError::NotFound { .. } | RuntimeError::Superseded { .. }) => Err(DialError::Stale {
                environment: target.environment.clone(),
                epoch,
            }),
            Ok(_) => Err(DialError::Unavailable {
                source: io::Error::other("the connection is no TCP socket"),
            }),
            Err(error) => Err(DialError::Unavailable {
                source: io::Error::other(error.to_string()),
            }),
        }
    }
}
