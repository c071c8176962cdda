//! The program: one command line for the server's processes and for the people who use it.

mod cli;
mod client;
mod demo;
mod exit;
mod local;
mod process;
mod remote;
mod render;
mod screen;

use clap::Parser;
use cli::{Cli, Command};
use exit::Failure;
use local::Output;
use std::{io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(failure) => {
            // Nothing is left to tell when standard error is closed, too.
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.code()
        }
    }
}

/// The cell host has an event loop of its own making; everything else runs on this one.
fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let output = Output {
        json: cli.connection.json,
    };
    match cli.command {
        Command::CellHost(args) => process::cell_host::run(&args),
        Command::UnpackImage => {
            runtime_cell::unpacker::main()
                .map_err(|error| Failure::new(1, format!("only the cell host starts this: {error}")))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Serve(args) => process::serve::run(&args),
        Command::MailCatcher(args) => process::mail_catcher::run(args),
        Command::InstanceId(args) => process::instance::run(&args),
        Command::Door(args) => process::door::run(&args),
        Command::Gateway(args) => process::gateway::run(&args),
        Command::Stop(args) => process::stop::run(&args),
        Command::Demo(args) => process::block_on(demo::run(&args))?,
        Command::DemoDeveloper(args) => process::block_on(demo::run_developer(&args))?,
        Command::Init(args) => local::init(&args),
        Command::Check(args) => local::check(&args, &output),
        Command::Plan(args) => local::plan(&args, &output),
        Command::Doctor(args) => local::doctor(&args, &output),
        Command::Remote(command) => process::block_on(remote::run(&cli.connection, command))?,
    }
}
