//! Chores of the workspace: `cargo xtask tidy [--verbose]`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to the person who runs it"
)]

mod tidy;

use anyhow::{Context, Result};
use std::{env, path::Path, process::ExitCode};

const USAGE: &str = "\
usage: cargo xtask tidy [--verbose]

tidy      checks what neither the compiler nor clippy can: which crate may depend on which, where I/O and `unsafe`
          may be, how long files are
--verbose also lists files that grow long
";

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => tidy(false),
        ["tidy", "--verbose"] => tidy(true),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

fn tidy(verbose: bool) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace's directory")?;
    let report = tidy::check(root, env::var("HOME").ok().as_deref())?;
    if verbose {
        for note in &report.notes {
            println!("{note}");
        }
    }
    for finding in &report.findings {
        println!("{finding}");
    }
    match report.findings.len() {
        0 => {
            println!("tidy: {} files, nothing to say", report.files);
            Ok(ExitCode::SUCCESS)
        }
        count => {
            println!("tidy: {count} in {} files", report.files);
            Ok(ExitCode::FAILURE)
        }
    }
}
