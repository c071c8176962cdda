//! `maquette demo`: the whole path on this machine, with the example shop.
//!
//! The process that people start is root's: it starts `maquette serve` as an operator would, starts the *developer* (a child
//! without privileges that pushes, opens and closes), and at the end looks at the machine itself for anything left over.

mod developer;
mod drive;
mod outside;
mod report;
mod screen;
mod setup;
mod spares;
mod visit;

pub(crate) use developer::DeveloperArgs;

use crate::{
    exit::Failure,
    process::user::{self, User},
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use report::Report;
use rustix::process::geteuid;
use setup::Layout;
use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    process::Child,
    time::{sleep, timeout},
};

/// How long Maquette may take to start: the storage pool is made at the first start.
const START: Duration = Duration::from_secs(120);

/// Options of `maquette demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Run once without a terminal (start, open, push, close), verify every step, print one JSON document, and exit.
    #[arg(long)]
    once: bool,
    /// Where the demo keeps its state; started a second time it finds it again.
    #[arg(long, default_value = setup::STATE)]
    state: PathBuf,
    /// The example application.
    #[arg(long, default_value = "examples/shop")]
    shop: PathBuf,
    /// The loopback port of the gateway: that of the time before, or 7380.
    #[arg(long)]
    port: Option<u16>,
    /// The loopback port of the REST API: that of the time before, or 7300.
    #[arg(long)]
    api_port: Option<u16>,
}

/// Runs the demo.
pub(crate) async fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    demo(args)
        .await
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| Failure::new(1, format!("{error:#}")))
}

/// Runs the demo's developer.
pub(crate) async fn run_developer(args: &DeveloperArgs) -> Result<ExitCode, Failure> {
    developer::run(args)
        .await
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| Failure::new(1, format!("{error:#}")))
}

async fn demo(args: &DemoArgs) -> Result<()> {
    let mut report = Report::default();
    let outcome = from_start_to_stop(args, &mut report).await;
    if args.once {
        report.ok = outcome.is_ok();
        report.failure = outcome.as_ref().err().map(|error| format!("{error:#}"));
        let text = serde_json::to_string_pretty(&report)?;
        std::io::Write::write_all(&mut std::io::stdout(), format!("{text}\n").as_bytes())?;
    }
    outcome
}

async fn from_start_to_stop(args: &DemoArgs, report: &mut Report) -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "the demo starts the cell host, which needs root\nhint: sudo make demo"
    );
    let since = Instant::now();
    let layout = Layout::open(&args.state, args.api_port, args.port)?;
    let _alone = layout.alone()?;
    let user = system_user("maquette", "for everything that needs no privileges")?;
    // By its name: it is the one that is used unless the configuration says otherwise.
    system_user("maquette-gateway", "for the gateway alone")?;
    system_user("maquette-door", "for the way out of environments alone")?;
    let shop = args
        .shop
        .canonicalize()
        .with_context(|| format!("{} is not there", args.shop.display()))?;
    layout.prepare(&user, &shop)?;
    screen::say("Maquette demo");
    let mut server = screen::while_doing("Maquette starts", start(&layout)).await?;
    report.done("start", since, ["the REST API answers", "the gateway answers"]);
    let outcome = developed(&layout, &user, args.once, report).await;
    let stopped = stop(&layout, &mut server).await;
    // What went wrong first says more.
    outcome.and(stopped)
}

/// Everything between start and stop.
async fn developed(layout: &Layout, user: &User, once: bool, report: &mut Report) -> Result<()> {
    let found = drive(layout, user, once).await?;
    report.steps.extend(found.steps);
    report.environment = found.environment;
    report.spares = found.spares;
    if let Some(failure) = found.failure {
        bail!(failure);
    }
    if once {
        nothing_left(layout, report).await?;
    }
    Ok(())
}

/// A system user. The demo makes it, and says so.
fn system_user(name: &str, purpose: &str) -> Result<User> {
    if let Some(user) = user::known(name).map_err(anyhow::Error::msg)? {
        return Ok(user);
    }
    screen::say(&format!("  making the system user `{name}`, {purpose}"));
    let status = Command::new("useradd")
        .args([
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
            name,
        ])
        .status()
        .context("useradd can not be run")?;
    ensure!(status.success(), "the system user `{name}` can not be made");
    user::known(name)
        .map_err(anyhow::Error::msg)?
        .context("the system user that was just made is not there")
}

/// Starts `maquette serve` as an operator would, and waits until everything answers.
async fn start(layout: &Layout) -> Result<Child> {
    let log = std::fs::File::create(layout.log()).context("the log can not be written")?;
    let mut child = tokio::process::Command::new(layout.program())
        .arg("serve")
        .arg("--config")
        .arg(layout.config())
        .current_dir(layout.root())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("maquette serve can not be started")?;
    let since = Instant::now();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("maquette serve ended with {status}\n{}", layout.log_tail());
        }
        if answers(&client, layout).await {
            return Ok(child);
        }
        if since.elapsed() > START {
            stop(layout, &mut child).await?;
            bail!(
                "Maquette does not answer after {} s\n{}",
                START.as_secs(),
                layout.log_tail()
            );
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn answers(client: &reqwest::Client, layout: &Layout) -> bool {
    let Ok(token) = std::fs::read_to_string(layout.operator_token()) else {
        return false;
    };
    let api = client
        .get(format!("http://{}/api/v1/projects", layout.api))
        .bearer_auth(token.trim())
        .send()
        .await;
    // Any answer to a host outside of all bases shows that the gateway is there.
    let gateway = client.get(format!("http://{}/", layout.gateway)).send().await;
    api.is_ok_and(|answer| answer.status().is_success()) && gateway.is_ok()
}

/// Runs the developer, who has no privileges and the terminal.
async fn drive(layout: &Layout, user: &User, once: bool) -> Result<Report> {
    let _ = std::fs::remove_file(layout.report());
    let mut command = Command::new(layout.program());
    command
        .arg("demo-developer")
        .args(["--root".as_ref(), layout.root().as_os_str()])
        .args([
            "--api",
            &layout.api.to_string(),
            "--gateway",
            &layout.gateway.to_string(),
        ])
        .args(once.then_some("--once"))
        .current_dir(layout.root())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("TERM", std::env::var_os("TERM").unwrap_or_default())
        .stdout(Stdio::null())
        .uid(user.uid)
        .gid(user.gid);
    let status: ExitStatus = tokio::process::Command::from(command)
        .status()
        .await
        .context("the developer can not be started")?;
    match std::fs::read(layout.report()) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(_) if status.success() => Ok(Report::default()),
        Err(_) => bail!("the developer ended with {status}"),
    }
}

/// Looks at the machine for anything that bears the name of the environment or of a spare, and then for anything of any
/// environment of this demo: what made the golden, and what an interrupted run left. Some things the kernel removes a moment later.
async fn nothing_left(layout: &Layout, report: &mut Report) -> Result<()> {
    let since = Instant::now();
    ensure!(report.environment.is_some(), "there was no environment");
    let instance = layout.instance().context("the demo has no id")?;
    let cells = layout.cells();
    let trees: [&Path; 2] = [&cells, layout.run()];
    let look = |report: &Report| {
        let ids = report.environment.iter().chain(&report.spares);
        let mut left: Vec<String> = ids.flat_map(|id| outside::traces(id, &trees)).collect();
        left.extend(outside::belongings(&instance, &cells, layout.run()));
        left
    };
    let mut left = look(report);
    while !left.is_empty() && since.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(100)).await;
        left = look(report);
    }
    ensure!(left.is_empty(), "left over: {}", left.join(", "));
    report.done(
        "nothing left",
        since,
        [
            "no process, control group, mount, directory or volume bears the environment's id, or that of a spare",
            "there is no control group, container, network, directory or volume of any other environment",
        ],
    );
    Ok(())
}

/// Ends Maquette's processes. Environments that are still open go on, and are found again at the next start.
async fn stop(layout: &Layout, server: &mut Child) -> Result<()> {
    let mut command = tokio::process::Command::new(layout.program());
    command
        .arg("stop")
        .arg("--config")
        .arg(layout.config())
        .stdout(Stdio::null());
    // The server is our child: until its end was noted it counts as running.
    let (stopped, _) = tokio::join!(command.output(), timeout(START, server.wait()));
    let stopped = stopped.context("Maquette can not be stopped")?;
    let text = String::from_utf8_lossy(&stopped.stderr).trim().to_owned();
    ensure!(stopped.status.success(), "Maquette does not stop: {text}");
    Ok(())
}
