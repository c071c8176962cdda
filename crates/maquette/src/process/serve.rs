//! `maquette serve`: started by root it prepares what needs root, then becomes the user without privileges; the control plane
//! itself never is root.

use super::{
    asked_to_end, block_on, cell_host, gateway, instance, keeper, load, log, running,
    spawn::{spawn, spawn_as},
    user::{self, User},
};
use crate::{cli::ServeArgs, exit::Failure};
use model::InstanceId;
use runtime::{Runtime, RuntimeError};
use runtime_cell::CellRuntime;
use rustix::process::geteuid;
use server::{NoCells, Server, StateDir, config::ServerConfig};
use std::{
    collections::BTreeSet,
    io,
    os::unix::{net::UnixStream, process::CommandExt},
    path::Path,
    process::{Child, Command, ExitCode},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};
use store::Store;
use tokio_util::sync::CancellationToken;

/// How long the cell host may take to start: at the first start it makes the storage pool.
const CELL_HOST: Duration = Duration::from_secs(120);
/// How long it may take when somebody else starts it.
const CONNECT: Duration = Duration::from_secs(15);
/// How long the gateway may take, on a machine that is busy.
const GATEWAY: Duration = Duration::from_secs(60);
/// How long it may take to end: what is in flight is completed.
const GATEWAY_END: Duration = Duration::from_secs(40);
/// How often it is looked whether the gateway runs.
const LOOK: Duration = Duration::from_secs(2);
/// A gateway that can not be started is tried again after this.
const AGAIN: Duration = Duration::from_secs(15);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs the server until it is asked to end. Environments go on, and so do the two other processes.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    log("serve");
    let config = load(&args.config)?;
    if geteuid().is_root() {
        return Err(as_root(args, &config)?);
    }
    let state = StateDir::new(&config.state_dir);
    user::make_private(state.path())?;
    block_on(control_plane(args, &config))??;
    Ok(ExitCode::SUCCESS)
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(1, format!("{} can not be made: {error}", path.display()))
}

/// What root does: directories, the cell host, and to give itself up. Returns only if that fails.
fn as_root(args: &ServeArgs, config: &ServerConfig) -> Result<Failure, Failure> {
    let path = &args.config;
    let user = user::choose(config.user.as_deref())?;
    let gateway = user::choose_gateway(config, &user)?;
    // Told now: the cell host needs it, too.
    user::choose_door(config, [&user, &gateway])?;
    user::own_state_directory(config, &user)?;
    let config_path = path.canonicalize().map_err(|error| failed(path, &error))?;
    let instance = instance::of(&StateDir::new(&config.state_dir).store(), &user)?;
    if !running::is_held(&StateDir::new(&config.state_dir).lock()) {
        listenable(config)?;
    }
    let control = config.cell.run_dir.join("control.sock");
    let answers = || UnixStream::connect(&control).is_ok();
    if args.alone {
        tracing::debug!("somebody else starts the cell host");
    } else if !config.needs_cells() {
        tracing::info!("all projects are on clusters: no cell host is needed");
    } else if running::is_held(&keeper::pid_file(config)) {
        tracing::info!("the cell host is looked after already");
        wait_until(answers)?;
    } else if answers() && !cell_host::is_kept(config) {
        tracing::info!("the cell host runs already");
    } else {
        // One that runs without its keeper goes on; the new keeper waits for its end.
        let arguments = ["cell-host".into(), "--keep".into(), "--config".into()];
        let values = [
            config_path.clone().into_os_string(),
            "--instance".into(),
            instance.as_str().into(),
        ];
        let child = spawn(arguments.into_iter().chain(values))?;
        wait_for(child, "the cell host", CELL_HOST, answers)?;
    }
    if !args.alone {
        user::make_meeting_places(config, &user, &gateway)?;
        gateway_as(&gateway, &config_path, config)?;
    }
    // What else there is to start has been started.
    let error = Command::new("/proc/self/exe")
        .arg0(super::NAME)
        .args([
            "serve".as_ref(),
            "--alone".as_ref(),
            "--config".as_ref(),
            config_path.as_os_str(),
        ])
        .current_dir("/")
        .uid(user.uid)
        .gid(user.gid)
        .exec();
    Ok(Failure::new(
        1,
        format!("the server could not become {}: {error}", user.name),
    ))
}

/// Tells before anything else is started that the server could not listen.
fn listenable(config: &ServerConfig) -> Result<(), Failure> {
    let address = config.listen;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let listening = runtime.and_then(|runtime| runtime.block_on(server::listen(address)));
    listening.map(drop).map_err(|error| {
        Failure::new(1, format!("{address} can not be listened on: {error}"))
            .hint("choose another address with `listen` in maquette-server.yaml")
    })
}

/// Starts the gateway's keeper as the gateway's user, unless it runs. A gateway that was started with another configuration is
/// ended before: it would refuse what it does not know.
fn gateway_as(user: &User, config_path: &Path, config: &ServerConfig) -> Result<(), Failure> {
    let pid_file = gateway::pid_file(config);
    let kept = running::is_held(&keeper::gateway_pid_file(config));
    let runs = kept || running::is_held(&pid_file);
    if runs && !gateway::is_current(config) {
        tracing::info!("the gateway runs with another configuration and is started again");
        end_gateway(config)?;
    } else if kept || (runs && running::is_of_a_service(&pid_file)) {
        tracing::info!("the gateway runs already");
        return Ok(());
    }
    let arguments = [
        "gateway".into(),
        "--keep".into(),
        "--config".into(),
        config_path.as_os_str().to_owned(),
    ];
    let child = spawn_as(user, config.gateway.listen.port(), arguments)?;
    wait_for(child, "the gateway", GATEWAY, gateway_answers(config))
}

/// Tells whether the gateway serves.
pub(super) fn gateway_answers(config: &ServerConfig) -> impl Fn() -> bool + Send + 'static {
    let address = config.gateway.listen;
    let pid_file = gateway::pid_file(config);
    move || {
        running::is_held(&pid_file) && std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    }
}

/// Ends a gateway and its keeper, which would start it again.
fn end_gateway(config: &ServerConfig) -> Result<(), Failure> {
    let files = [keeper::gateway_pid_file(config), gateway::pid_file(config)];
    let (since, mut asked) = (Instant::now(), BTreeSet::new());
    loop {
        // One that is just beginning has not said yet which process it is, and a keeper may just have started another.
        for pid in files.iter().filter_map(|file| running::holder(file)) {
            if asked.insert(pid.as_raw_nonzero()) {
                // Who may not be asked does not end, which is told below.
                let _ = running::end(pid);
            }
        }
        if !files.iter().any(|file| running::is_held(file)) {
            return Ok(());
        }
        if since.elapsed() > GATEWAY_END {
            return Err(
                Failure::new(1, "a gateway with another configuration does not end").hint(gateway::OTHER_CONFIGURATION)
            );
        }
        sleep(PAUSE);
    }
}

/// Waits for a cell host that its keeper starts.
fn wait_until(is_there: impl Fn() -> bool) -> Result<(), Failure> {
    let since = Instant::now();
    while !is_there() {
        if since.elapsed() > CELL_HOST {
            let message = format!("the cell host does not answer after {} s", CELL_HOST.as_secs());
            return Err(Failure::new(1, message).hint("its log says why it ends; `maquette stop` ends its keeper, too"));
        }
        sleep(PAUSE);
    }
    Ok(())
}

/// Waits until it answers. From then on a thread waits for its end, so that no dead process stays in the list.
fn wait_for(mut child: Child, what: &str, patience: Duration, is_there: impl Fn() -> bool) -> Result<(), Failure> {
    let since = Instant::now();
    while !is_there() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Failure::new(1, format!("{what} ended with {status}")).hint("its own message stands above"));
        }
        if since.elapsed() > patience {
            return Err(Failure::new(
                1,
                format!("{what} does not answer after {} s", patience.as_secs()),
            ));
        }
        sleep(PAUSE);
    }
    let reaper = std::thread::Builder::new()
        .name("reaper".to_owned())
        .stack_size(64 << 10);
    let started = reaper.spawn(move || child.wait());
    started
        .map(|_| ())
        .map_err(|error| Failure::new(1, format!("no thread could be started: {error}")))
}

async fn control_plane(args: &ServeArgs, config: &ServerConfig) -> Result<(), Failure> {
    let path = &args.config;
    let end = asked_to_end()?;
    let state = StateDir::new(&config.state_dir);
    let runtime = cells(config, &state).await?;
    let server = Server::start_behind_gateway(config, runtime, end.clone())
        .await
        .map_err(|error| {
            let failure = Failure::of(&error);
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
    let runs = running::is_held(&gateway::pid_file(config));
    let is_current = !runs || gateway::is_current(config);
    if args.alone {
        if !is_current {
            tracing::warn!(
                "the gateway runs with another configuration: {}",
                gateway::OTHER_CONFIGURATION
            );
        }
        server.ended().await;
        return Ok(());
    }
    if runs && is_current {
        tracing::info!("the gateway runs already");
    } else {
        if runs {
            let config = config.clone();
            let ended = tokio::task::spawn_blocking(move || end_gateway(&config)).await;
            ended.map_err(|error| Failure::of(&error))??;
        }
        start_gateway(path, config).await?;
    }
    tokio::join!(server.ended(), keep_gateway(path, config, &end));
    Ok(())
}

/// Starts the gateway again when it has ended, until the server is to end, too.
async fn keep_gateway(path: &Path, config: &ServerConfig, end: &CancellationToken) {
    let pid_file = gateway::pid_file(config);
    let mut pause = LOOK;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = LOOK,
        }
        if running::is_held(&pid_file) {
            continue;
        }
        tracing::warn!("the gateway has ended and is started again");
        if let Err(failure) = start_gateway(path, config).await {
            tracing::error!("{failure}");
            pause = AGAIN;
        }
    }
}

async fn start_gateway(path: &Path, config: &ServerConfig) -> Result<(), Failure> {
    let path = path.canonicalize().map_err(|error| failed(path, &error))?;
    let child = spawn([
        "gateway".into(),
        "--own-session".into(),
        "--config".into(),
        path.into_os_string(),
    ])?;
    let answers = gateway_answers(config);
    let waited = tokio::task::spawn_blocking(move || wait_for(child, "the gateway", GATEWAY, answers)).await;
    waited.map_err(|error| Failure::of(&error))?
}

/// The runtime of cells, unless there are none and there will be none.
async fn cells(config: &ServerConfig, state: &StateDir) -> Result<Arc<dyn Runtime>, Failure> {
    let store = Store::open(&state.store()).await.map_err(|error| Failure::of(&error))?;
    let instance = store.instance().await.map_err(|error| Failure::of(&error))?;
    let rows = store.environment_list(None, false).await;
    let rows = rows.map_err(|error| Failure::of(&error))?;
    store.close().await;
    if !config.needs_cells() && rows.iter().all(|row| row.cluster.is_some()) {
        return Ok(Arc::new(NoCells::default()));
    }
    Ok(Arc::new(connect(config, instance).await?))
}

async fn connect(config: &ServerConfig, instance: InstanceId) -> Result<CellRuntime, Failure> {
    let since = Instant::now();
    loop {
        match CellRuntime::connect(&config.cell.run_dir, instance.clone()).await {
            Ok(runtime) => return Ok(runtime),
            Err(error @ RuntimeError::Invalid { .. }) => {
                let hint = "end it with `maquette stop`, or give this installation another `run_dir`";
                return Err(Failure::new(6, error.to_string()).hint(hint));
            }
            Err(error) if since.elapsed() > CONNECT => {
                return Err(Failure::new(
                    5,
                    format!("there is no cell host at {}: {error}", config.cell.run_dir.display()),
                )
                .hint(format!(
                    "start `maquette serve` as root, or `maquette cell-host --instance {instance}`"
                )));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
