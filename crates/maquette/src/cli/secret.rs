//! The command line of `maquette secret`.

use clap::{Args, Subcommand};
use model::ProjectName;
use std::path::PathBuf;

/// What to do with secrets. Values are read from a file or from standard input: everybody on a machine sees the arguments of a
/// process.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Set a secret, new or not: asked for without being shown, or read from standard input or a file
    Set(SecretSetArgs),
    /// Give a secret that there is a new value; what uses it is restarted, and nothing else
    Rotate(SecretSetArgs),
    /// List secrets: age, whether the policy grants them, who is given them. Values are shown nowhere
    List(SecretListArgs),
    /// Remove a secret
    Remove(SecretRemoveArgs),
}

/// Options of `secret set` and `secret rotate`.
#[derive(Debug, Args)]
pub(crate) struct SecretSetArgs {
    /// The name, as the policy grants it: `policy: { secrets: [NAME] }`
    pub(crate) name: String,
    /// The project; may be left out where there is only one
    #[arg(long)]
    pub(crate) project: Option<ProjectName>,
    /// Read the value from this file, every byte of it; of standard input one newline at the end is left out
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Option<PathBuf>,
    /// Set it although it looks like production's or staging's; that it did is kept and shown
    #[arg(long)]
    pub(crate) insist: bool,
}

/// Options of `secret list`.
#[derive(Debug, Args)]
pub(crate) struct SecretListArgs {
    /// The project; may be left out where there is only one
    #[arg(long)]
    pub(crate) project: Option<ProjectName>,
}

/// Options of `secret remove`.
#[derive(Debug, Args)]
pub(crate) struct SecretRemoveArgs {
    /// The name
    pub(crate) name: String,
    /// The project; may be left out where there is only one
    #[arg(long)]
    pub(crate) project: Option<ProjectName>,
    /// Do it although environments are given it
    #[arg(long)]
    pub(crate) yes: bool,
}
