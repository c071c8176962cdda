//! The gateway's process: its ports are answered by the control plane and by the cell host's dial socket.

use super::{asked_to_end, block_on, keeper, leave_session, load, log, running};
use crate::{cli::GatewayArgs, exit::Failure};
use async_trait::async_trait;
use gateway::{Base, Config, Dial, DialError, Gateway, RouteTable, Routes as _, Scheme, Target};
use runtime::{Connection, RuntimeError};
use runtime_cell::CellDialer;
use rustix::process::geteuid;
use server::{
    DialProblem, EdgeClient,
    config::{SchemeConfig, ServerConfig},
};
use std::{fs, io, os::unix::fs::PermissionsExt as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::net::TcpStream;

/// How long it waits for the control plane, which may be away, before it answers without.
const FIRST_ROUTES: Duration = Duration::from_secs(5);

/// Runs it until it is asked to end.
pub(crate) fn run(args: &GatewayArgs) -> Result<ExitCode, Failure> {
    if args.own_session {
        leave_session();
    }
    if args.keep {
        return keeper::of_gateway(args);
    }
    log("gateway");
    if geteuid().is_root() {
        return Err(
            Failure::new(1, "the gateway does not run as root").hint("`maquette serve` starts it as the right user")
        );
    }
    let config = load(&args.config)?;
    block_on(serve(&config))??;
    Ok(ExitCode::SUCCESS)
}

/// What to do about a gateway that runs with another configuration.
pub(super) const OTHER_CONFIGURATION: &str =
    "systemctl restart maquette-gateway, or where no units are used: maquette stop, and start it again";
/// The longest note of a configuration, in bytes.
const NOTE_MAX: u64 = 1 << 20;

/// What of the configuration a gateway keeps until it ends.
fn note(config: &ServerConfig) -> String {
    let clusters = if config.clusters.is_empty() { "" } else { " clusters" };
    format!("{:?} {:?}{clusters}\n", config.gateway.listen, config.gateway.bases)
}

fn note_file(config: &ServerConfig) -> PathBuf {
    config.gateway_run_dir().join("gateway.config")
}

/// Whether the gateway that runs was started with this configuration.
pub(super) fn is_current(config: &ServerConfig) -> bool {
    running::read(&note_file(config), NOTE_MAX).is_some_and(|found| found == note(config))
}

/// Notes what it is started with, for the control plane.
fn write_note(config: &ServerConfig) -> Result<(), Failure> {
    let path = note_file(config);
    let part = path.with_extension("config.part");
    fs::write(&part, note(config))
        .and_then(|()| fs::set_permissions(&part, fs::Permissions::from_mode(0o660)))
        .and_then(|()| fs::rename(&part, &path))
        .map_err(|error| Failure::new(1, format!("{} can not be written: {error}", path.display())))
}

/// The file that tells of a running gateway.
pub(crate) fn pid_file(config: &ServerConfig) -> PathBuf {
    config.gateway_run_dir().join("gateway.pid")
}

async fn serve(config: &ServerConfig) -> Result<(), Failure> {
    let end = asked_to_end()?;
    let pid_file = pid_file(config);
    let another = || {
        let place = config.gateway_run_dir();
        Failure::new(6, format!("another gateway uses {}", place.display()))
    };
    let address = config.gateway.listen;
    // Before the file is held: whoever sees that it is, and that somebody listens at the address, takes that for this process.
    let listener = server::listen(address).await.map_err(|error| {
        if running::is_held(&pid_file) {
            return another();
        }
        Failure::new(1, format!("{address} can not be listened on: {error}"))
            .hint("choose another address with `gateway.listen` in maquette-server.yaml")
    })?;
    let held = running::hold(&pid_file)
        .map_err(|error| Failure::new(1, format!("{} can not be made: {error}", pid_file.display())))?;
    if held.is_none() {
        return Err(another());
    }
    // The control plane looks whether we run; the directory keeps all others out.
    let mode = fs::Permissions::from_mode(0o660);
    fs::set_permissions(&pid_file, mode)
        .map_err(|error| Failure::new(1, format!("{} can not be shown: {error}", pid_file.display())))?;
    write_note(config)?;
    let settings = settings(config)?;
    let control = EdgeClient::new(config.edge_socket());
    let routes = Arc::new(RouteTable::default());
    let dial = Arc::new(Dialler {
        cells: CellDialer::new(&config.cell.run_dir),
        clusters: (!config.clusters.is_empty()).then(|| control.clone()),
    });
    let auth = Arc::new(control.clone());
    let gateway = Gateway::with_wake(
        settings,
        Arc::clone(&routes) as _,
        auth,
        dial,
        Arc::new(control.clone()),
    );
    let mut known = routes.changes();
    let follower = tokio::spawn(control.clone().follow_routes(routes, end.clone()));
    let reporter = tokio::spawn(control.report_uses(gateway.clone(), end.clone()));
    // Until it was told once what there is, nothing would be found. Who comes meanwhile waits.
    tokio::select! {
        _ = known.changed() => {}
        () = tokio::time::sleep(FIRST_ROUTES) => {}
        () = end.cancelled() => {}
    }
    tracing::info!(%address, "the gateway serves");
    let served = gateway.serve(listener, end.cancelled()).await;
    follower.abort();
    reporter.abort();
    served.map_err(|error| Failure::of(&error))
}

fn settings(config: &ServerConfig) -> Result<Config, Failure> {
    let mut bases = Vec::new();
    for base in &config.gateway.bases {
        let scheme = match base.scheme {
            SchemeConfig::Http => Scheme::Http,
            SchemeConfig::Https => Scheme::Https,
        };
        bases.push(Base::new(&base.domain, scheme).map_err(|error| Failure::of(&error))?);
    }
    let mut settings = Config::new(bases).map_err(|error| Failure::of(&error))?;
    settings.public_ports = config
        .gateway
        .bases
        .iter()
        .filter_map(|base| config.port_of(base))
        .collect();
    Ok(settings)
}

/// The gateway's port: the cell host's dial socket, and the control plane, which has the rights on clusters.
#[derive(Debug)]
struct Dialler {
    cells: CellDialer,
    /// Without clusters nobody is asked about them.
    clusters: Option<EdgeClient>,
}

impl Dialler {
    async fn of_cells(&self, target: &Target, epoch: u64) -> Result<TcpStream, DialError> {
        match self.cells.dial(&target.environment, &target.service, target.port).await {
            Ok(Connection::Tcp(stream)) => Ok(stream),
            Ok(_) => Err(unavailable("the connection is no TCP socket".to_owned())),
            Err(RuntimeError::NotFound { .. } | RuntimeError::Superseded { .. }) => Err(stale(target, epoch)),
            Err(RuntimeError::Failed { reason, .. }) => Err(refused(target, reason)),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }
}

fn unavailable(why: String) -> DialError {
    DialError::Unavailable {
        source: io::Error::other(why),
    }
}

fn stale(target: &Target, epoch: u64) -> DialError {
    DialError::Stale {
        environment: target.environment.clone(),
        epoch,
    }
}

fn refused(target: &Target, why: String) -> DialError {
    DialError::Refused {
        service: target.service.clone(),
        port: target.port,
        source: io::Error::new(io::ErrorKind::ConnectionRefused, why),
    }
}

#[async_trait]
impl Dial for Dialler {
    /// The cell host is on this machine, so it is asked first: what it does not have is on a cluster, or gone.
    async fn dial(&self, target: &Target, epoch: u64) -> Result<TcpStream, DialError> {
        let found = self.of_cells(target, epoch).await;
        let elsewhere = matches!(found, Err(DialError::Stale { .. } | DialError::Unavailable { .. }));
        let Some(control) = self.clusters.as_ref().filter(|_| elsewhere) else {
            return found;
        };
        match control.dial(target).await {
            Ok(stream) => Ok(stream),
            Err(DialProblem::Gone) => found,
            Err(DialProblem::Refused(why)) => Err(refused(target, why)),
            // A cell host that is away says more than a control plane that can not reach it either.
            Err(DialProblem::Away(_)) if matches!(found, Err(DialError::Unavailable { .. })) => found,
            Err(DialProblem::Away(why)) => Err(unavailable(why)),
        }
    }
}
