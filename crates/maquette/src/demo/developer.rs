//! The developer of the demo as a process: without privileges, with the terminal.

use super::{
    drive::Developer,
    report::Report,
    screen::{self, Keys, quote, say},
    setup::Layout,
};
use anyhow::Result;
use clap::Args;
use forge::PullRequestNumber;
use model::CommitId;
use std::{net::SocketAddr, path::PathBuf};

/// Options that the demo gives to its developer.
#[derive(Debug, Args)]
pub(crate) struct DeveloperArgs {
    /// The demo's directory.
    #[arg(long)]
    root: PathBuf,
    /// Where the REST API is.
    #[arg(long)]
    api: SocketAddr,
    /// Where the gateway is.
    #[arg(long)]
    gateway: SocketAddr,
    /// Without a terminal.
    #[arg(long)]
    once: bool,
}

/// Runs the developer.
pub(crate) async fn run(args: &DeveloperArgs) -> Result<()> {
    let layout = Layout::existing(&args.root, args.api, args.gateway);
    let mut developer = Developer::new(layout.clone(), &layout.shop()).await?;
    if !args.once {
        return interactive(&mut developer).await;
    }
    let outcome = screen::while_doing("open, push, close, each step verified", developer.once()).await;
    let mut report = std::mem::take(&mut developer.report);
    report.failure = outcome.err().map(|error| format!("{error:#}"));
    write(&layout, &report)
}

fn write(layout: &Layout, report: &Report) -> Result<()> {
    Ok(std::fs::write(layout.report(), serde_json::to_vec(report)?)?)
}

async fn interactive(developer: &mut Developer) -> Result<()> {
    let mut open = developer.open_already().await?;
    match open {
        Some(number) => {
            say(&format!("  pull request {number} is still open from last time"));
            // One that has failed can be pushed to, or closed.
            told(again(developer, number).await);
        }
        None => told(open_one(developer, &mut open).await),
    }
    let Some(keys) = Keys::take() else {
        say(
            "\n  No terminal: it keeps running until it is ended (Ctrl-C). `make demo DEMO=once` runs through by itself.",
        );
        tokio::signal::ctrl_c().await?;
        return Ok(());
    };
    loop {
        say(match open {
            Some(_) => {
                "\n  [p] push a commit   [c] close the pull request   [s] new sign-in link\n  [q] quit, the environment stays   [x] close, remove and quit"
            }
            None => "\n  [o] open a pull request   [q] quit",
        });
        let key = tokio::select! {
            key = keys.next() => key,
            _ = tokio::signal::ctrl_c() => None,
        };
        let done = match (key, open) {
            (None | Some('q'), _) => {
                if let Some(number) = open {
                    say(&format!(
                        "  pull request {number} stays open and its environment runs on; start the demo again to find it"
                    ));
                }
                return Ok(());
            }
            (Some('p'), Some(number)) => push(developer, number).await,
            (Some('x'), Some(number)) => match close(developer, number, &mut open).await {
                Ok(()) => return developer.remove_spares().await,
                Err(error) => Err(error),
            },
            (Some('s'), Some(number)) => sign_in_link(developer, number).await,
            (Some('c'), Some(number)) => close(developer, number, &mut open).await,
            (Some('o'), None) => open_one(developer, &mut open).await,
            _ => Ok(()),
        };
        told(done);
    }
}

/// What goes wrong is said; the keys stay.
fn told(done: Result<()>) {
    if let Err(error) = done {
        say(&format!("  ✗ {error:#}"));
    }
}

async fn again(developer: &Developer, number: PullRequestNumber) -> Result<()> {
    let head = developer.head(number).await?;
    shown(developer, number, &head).await
}

/// Opens a pull request. `open` is it as soon as it is, whatever becomes of its environment.
async fn open_one(developer: &mut Developer, open: &mut Option<PullRequestNumber>) -> Result<()> {
    let (number, commit, _) = screen::while_doing("pull request opened", developer.open()).await?;
    *open = Some(number);
    shown(developer, number, &commit).await
}

/// Waits for the commit and shows what its reviewer would see.
async fn shown(developer: &Developer, number: PullRequestNumber, commit: &CommitId) -> Result<()> {
    let live = format!("pull request {number} live at {}", commit.short());
    let row = screen::while_doing(&live, developer.live(number, commit)).await?;
    let comment = developer
        .comment(number, &format!("live** with `{}`", commit.short()))
        .await?;
    say(&format!(
        "\n  The comment on pull request {number}:\n\n{}",
        quote(&comment)
    ));
    if let Some(address) = &row.address {
        say(&format!("  Address   {address}"));
    }
    say(&format!("  Sign in   {}", developer.link(row.id.as_str()).await?));
    Ok(())
}

async fn push(developer: &mut Developer, number: PullRequestNumber) -> Result<()> {
    let (commit, headline) = screen::while_doing("commit pushed", developer.push()).await?;
    say(&format!("  the front page will say: {headline}"));
    shown(developer, number, &commit).await
}

async fn sign_in_link(developer: &Developer, number: PullRequestNumber) -> Result<()> {
    let head = developer.head(number).await?;
    let row = developer.live(number, &head).await?;
    say(&format!("  Sign in   {}", developer.link(row.id.as_str()).await?));
    Ok(())
}

/// Closes it, also while its environment is on its way or has failed. `open` is nothing as soon as it is closed.
async fn close(
    developer: &mut Developer,
    number: PullRequestNumber,
    open: &mut Option<PullRequestNumber>,
) -> Result<()> {
    let row = developer.environment(number).await?;
    developer.close(number).await?;
    *open = None;
    let Some(row) = row else {
        say("  it had no environment");
        return Ok(());
    };
    let receipt = screen::while_doing("everything removed", developer.receipt(row.id.as_str())).await?;
    say(&format!(
        "  the receipt lists {} things, each verified gone",
        receipt.entries.len()
    ));
    let comment = developer.comment(number, "verified gone").await?;
    say(&format!(
        "\n  The comment on pull request {number}:\n\n{}",
        quote(&comment)
    ));
    Ok(())
}
