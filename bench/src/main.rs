//! Measures Maquette against the bare processes, in one run and in alternating rounds.
//!
//! `bench/run` calls the parts one after the other; each writes a JSON document, and `report` makes the tables of them. The
//! hidden commands are processes that the parts start: they are this program, so that nothing has to be found.

mod builds;
mod cells;
mod door;
mod floor;
mod front;
mod idle;
mod images;
mod load;
mod machine;
mod probe;
mod procfs;
mod proxy;
mod report;
mod shop;
mod spare;
mod stats;
mod traces;
mod variant;
mod world;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measures Maquette against the bare processes")]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The shop: open, push, close, beside the same processes started bare
    Shop(shop::ShopArgs),
    /// Maquette's processes with many idle environments
    Idle(idle::IdleArgs),
    /// The gateway's share of a request
    Gateway(proxy::GatewayArgs),
    /// The door's share of a connection to the outside
    Door(door::DoorArgs),
    /// Images: pulled and unpacked, and containers from them
    Images(images::ImagesArgs),
    /// Builds, and what they cost who is only looking
    Builds(builds::BuildsArgs),
    /// The tables of what the parts wrote
    Report(report::ReportArgs),
    /// The cell host of the shop's part
    #[command(hide = true)]
    Host(world::HostArgs),
    /// The gateway of the shop's part
    #[command(hide = true)]
    Front(front::FrontArgs),
    /// The door of its part
    #[command(hide = true)]
    DoorProcess(door::DoorProcessArgs),
    /// Unpacks an image for the cell host
    #[command(hide = true)]
    UnpackImage,
    /// A forwarder to compare the door with
    #[command(hide = true)]
    Forward(door::ForwardArgs),
    /// The developer of the idle part, who has no privileges
    #[command(hide = true)]
    Developer(idle::DeveloperArgs),
    /// A gateway in front of one address
    #[command(hide = true)]
    Proxy(proxy::ProxyArgs),
    /// What answers behind the gateway
    #[command(hide = true)]
    Upstream,
    /// The load generator
    #[command(hide = true)]
    Load(load::LoadArgs),
}

fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MAQUETTE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,bench=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match Cli::parse().part {
        Part::Shop(args) => block_on(shop::run(&args)),
        Part::Idle(args) => block_on(idle::run(args)),
        Part::Gateway(args) => proxy::run(&args),
        Part::Door(args) => block_on(door::run(&args)),
        Part::Images(args) => block_on(images::run(&args)),
        Part::Builds(args) => block_on(builds::run(&args)),
        Part::UnpackImage => Ok(runtime_cell::unpacker::main()?),
        Part::DoorProcess(args) => door::process(&args),
        Part::Forward(args) => door::forward(&args),
        Part::Report(args) => report::run(&args),
        Part::Host(args) => world::host(&args),
        Part::Front(args) => block_on(front::process(&args)),
        Part::Developer(args) => block_on(idle::developer(&args)),
        Part::Proxy(args) => block_on(proxy::serve(&args)),
        Part::Upstream => block_on(proxy::upstream()),
        Part::Load(args) => load::run(&args),
    }
}

/// Two workers, as the server has.
fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
