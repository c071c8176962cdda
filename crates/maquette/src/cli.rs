//! The command line.

use crate::demo::{DemoArgs, DeveloperArgs};
use crate::exit::HELP;
use clap::{Args, Parser, Subcommand};
use model::{BranchName, CommitId, InstanceId, ProjectName, ServiceName, SourceName};
use std::{net::SocketAddr, path::PathBuf};

mod secret;

pub(crate) use secret::{SecretCommand, SecretListArgs, SecretRemoveArgs, SecretSetArgs};

/// The configuration file that is read unless another one is named.
const CONFIG: &str = "/etc/maquette/maquette-server.yaml";

/// A complete, isolated, running copy of the application for every pull request.
#[derive(Debug, Parser)]
#[command(name = "maquette", version, after_help = HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How the server is reached.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Connection {
    /// The server's address: http://… or unix:/path
    #[arg(
        long,
        global = true,
        env = "MAQUETTE_SERVER",
        hide_env_values = true,
        help_heading = "Connection"
    )]
    pub(crate) server: Option<String>,
    /// A file that holds the token
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub(crate) token_file: Option<PathBuf>,
    /// The server's state directory, for its address and the operator's token
    #[arg(
        long,
        global = true,
        default_value = "/var/lib/maquette",
        help_heading = "Connection"
    )]
    pub(crate) state_dir: PathBuf,
    /// Answer with JSON instead of text
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server; started by root it starts the other processes and gives up its privileges
    Serve(ServeArgs),
    /// Run the privileged process that makes containers (`serve` starts it)
    CellHost(CellHostArgs),
    /// Run the reverse proxy in front of all environments (`serve` starts it)
    Gateway(GatewayArgs),
    /// Run the only way out of environments (the cell host starts it where `serve` has started that)
    Door(DoorArgs),
    /// Stop the server's processes; environments go on
    Stop(StopArgs),
    /// Show the whole path on this machine with the example shop: open, push, close
    Demo(DemoArgs),
    /// The developer in the demo, who has no privileges
    #[command(hide = true)]
    DemoDeveloper(DeveloperArgs),
    /// Unpack an image for the cell host, which starts this without any rights
    #[command(hide = true)]
    UnpackImage,
    /// Catch the mail of an environment, in a container of it
    #[command(hide = true)]
    MailCatcher(MailCatcherArgs),
    /// Print the id of the installation
    #[command(hide = true)]
    InstanceId(InstanceArgs),
    /// Write a first maquette.yaml from what the repository holds
    Init(InitArgs),
    /// Say what is wrong with a repository's blueprint, and where each value comes from
    Check(CheckArgs),
    /// Show what would be made, without making anything
    Plan(PlanArgs),
    /// Say what this machine lacks, and the command that mends it
    Doctor(DoctorArgs),
    #[command(flatten)]
    Remote(Remote),
}

/// Commands that ask the server. ENV is an id, a label (pr-12) or the number of a pull request (12).
#[derive(Debug, Subcommand)]
pub(crate) enum Remote {
    /// List environments
    List(ListArgs),
    /// Show an environment
    Show(Env),
    /// Say why an environment is as it is
    Why(Env),
    /// Say what happened to an environment, or to a project and all its environments
    Events(EventsArgs),
    /// Show what services printed
    Logs(LogsArgs),
    /// Run a command in a service
    Exec(ExecArgs),
    /// List the jobs that people run, and how they ended
    Jobs(Env),
    /// Run a job now; ends with its exit status
    Run(RunArgs),
    /// Read the mail that an environment has caught
    Mail(MailArgs),
    /// Print a link that signs in to an environment
    Open(OpenArgs),
    /// Make an environment of a branch
    Create(CreateArgs),
    /// Make a copy of an environment
    Clone(CloneArgs),
    /// Take a service from another branch, leave services out or take them in
    Update(UpdateArgs),
    /// Run a commit in an environment
    Deploy(DeployArgs),
    /// Let the newest commit of a pull request run that needs approval
    Approve(ApproveArgs),
    /// Make everything of an environment anew, its data too
    Recreate(ChangeArgs),
    /// End an environment
    Delete(DeleteArgs),
    /// Show everything that was made for an environment, and the proof that it is gone
    Receipt(Env),
    /// Set, list, rotate and remove the secrets that a policy grants
    #[command(subcommand)]
    Secret(SecretCommand),
}

/// An environment.
#[derive(Debug, Args)]
pub(crate) struct Env {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration file
    #[arg(long, default_value = CONFIG)]
    pub(crate) config: PathBuf,
    /// Start neither the cell host nor the gateway: a service manager does
    #[arg(long)]
    pub(crate) alone: bool,
}

/// Options of `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The configuration file
    #[arg(long, default_value = CONFIG)]
    pub(crate) config: PathBuf,
}

/// Options of `cell-host`.
#[derive(Debug, Args)]
pub(crate) struct CellHostArgs {
    /// The configuration file
    #[arg(long, default_value = CONFIG)]
    pub(crate) config: PathBuf,
    /// The id of the installation; the store is asked for it unless given
    #[arg(long)]
    pub(crate) instance: Option<InstanceId>,
    /// Stay beside it and start it again when it ends without being asked to
    #[arg(long)]
    pub(crate) keep: bool,
    /// Start the door, too, and again when it ends without being asked to
    #[arg(long)]
    pub(crate) door: bool,
}

/// Options of `gateway`.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// The configuration file
    #[arg(long, default_value = CONFIG)]
    pub(crate) config: PathBuf,
    /// Stay beside it and start it again when it ends without being asked to
    #[arg(long)]
    pub(crate) keep: bool,
    /// Leave the session of whoever starts it
    #[arg(long, hide = true)]
    pub(crate) own_session: bool,
}

/// Options of `door`.
#[derive(Debug, Args)]
pub(crate) struct DoorArgs {
    /// The configuration file
    #[arg(long, default_value = CONFIG)]
    pub(crate) config: PathBuf,
}

/// Options of `mail-catcher`.
#[derive(Debug, Args)]
pub(crate) struct MailCatcherArgs {
    /// Where mail is taken
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub(crate) smtp: Vec<SocketAddr>,
    /// Where it is shown
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub(crate) page: Vec<SocketAddr>,
    /// Where it is kept
    #[arg(long)]
    pub(crate) directory: PathBuf,
}

/// Options of `instance-id`.
#[derive(Debug, Args)]
pub(crate) struct InstanceArgs {
    /// The file of the store
    #[arg(long)]
    pub(crate) store: PathBuf,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The repository
    #[arg(default_value = ".")]
    pub(crate) directory: PathBuf,
    /// Print it instead of writing it
    #[arg(long)]
    pub(crate) print: bool,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The repository
    #[arg(default_value = ".")]
    pub(crate) directory: PathBuf,
    /// A checkout of the policy branch; the same directory unless given
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) policy: Option<PathBuf>,
    /// A checkout of a further source of the project, for services that name it; may be given several times
    #[arg(long, value_name = "NAME=DIRECTORY", value_parser = named_directory)]
    pub(crate) source: Vec<(SourceName, PathBuf)>,
    /// Show every value and where it comes from
    #[arg(long)]
    pub(crate) explain: bool,
}

/// Options of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The repository
    #[arg(default_value = ".")]
    pub(crate) directory: PathBuf,
    /// A checkout of the policy branch; the same directory unless given
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) policy: Option<PathBuf>,
    /// A checkout of a further source of the project, for services that name it; may be given several times
    #[arg(long, value_name = "NAME=DIRECTORY", value_parser = named_directory)]
    pub(crate) source: Vec<(SourceName, PathBuf)>,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The configuration file, for where the storage pool is
    #[arg(long, default_value = CONFIG)]
    pub(crate) config: PathBuf,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those of this project
    #[arg(long)]
    pub(crate) project: Option<ProjectName>,
    /// Those that have ended, too
    #[arg(long)]
    pub(crate) ended: bool,
}

/// Options of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Id, label or number of the pull request; the whole project unless given
    #[arg(value_name = "ENV")]
    pub(crate) environment: Option<String>,
    /// The project; may be left out where there is only one
    #[arg(long, conflicts_with = "environment")]
    pub(crate) project: Option<ProjectName>,
    /// At most so many of the newest, up to 500
    #[arg(short = 'n', long, default_value_t = 100)]
    pub(crate) limit: u32,
}

/// Options of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
    /// The service or job; all services unless given
    pub(crate) service: Option<String>,
    /// Go on with new lines
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// At most so many of the newest lines of each
    #[arg(short = 'n', long)]
    pub(crate) tail: Option<usize>,
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
    /// The service
    pub(crate) service: String,
    /// A variable for the command: NAME=VALUE
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE")]
    pub(crate) variables: Vec<String>,
    /// Give it the input of this program
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
    /// The job: one that is `on: hand` or has a schedule
    pub(crate) job: String,
    /// Do not wait for its end
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Options of `mail`.
#[derive(Debug, Args)]
pub(crate) struct MailArgs {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
    /// The number of a message; all of them in a list unless given
    pub(crate) id: Option<u64>,
    /// The service that catches it; may be left out where there is only one
    #[arg(long)]
    pub(crate) service: Option<ServiceName>,
}

/// Options of `open`.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
    /// Who will use the link, for the log
    #[arg(long = "for", value_name = "NAME")]
    pub(crate) label: Option<String>,
    /// For how many minutes it works
    #[arg(long, default_value_t = 60)]
    pub(crate) minutes: u64,
    /// How often it works
    #[arg(long, default_value_t = 1)]
    pub(crate) uses: u32,
    /// Open it with the desktop's browser, too
    #[arg(long)]
    pub(crate) browser: bool,
}

/// Options of `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The branch; the environment follows it and ends with it
    #[arg(long)]
    pub(crate) branch: BranchName,
    /// The project; may be left out where there is only one
    #[arg(long)]
    pub(crate) project: Option<ProjectName>,
    /// Wait until it is live
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Options of `clone`.
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    /// The environment to copy: id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
    /// Wait until it is live
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Options of `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
    /// The service that is taken from another branch
    #[arg(long, requires = "branch")]
    pub(crate) service: Option<ServiceName>,
    /// That branch
    #[arg(long, requires = "service")]
    pub(crate) branch: Option<BranchName>,
    /// A service to leave out; what depends on it runs without it
    #[arg(long, value_name = "SERVICE", required_unless_present_any = ["service", "with", "endpoint"])]
    pub(crate) without: Vec<ServiceName>,
    /// A service to take in again, or although `stack.without` leaves it out
    #[arg(long, value_name = "SERVICE")]
    pub(crate) with: Vec<ServiceName>,
    /// A service to leave out because one outside does in its place, where the policy allows it
    #[arg(long, value_name = "SERVICE=HOST:PORT")]
    pub(crate) endpoint: Vec<String>,
    /// Wait until it is live
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Options of `deploy`.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
    /// The commit, in full
    #[arg(long)]
    pub(crate) commit: CommitId,
    /// The source that it belongs to; that of the environment's pull request, else the one that carries the blueprint, unless given
    #[arg(long)]
    pub(crate) source: Option<SourceName>,
    /// Wait until it is live, and fail if it fails
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Options of `approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
    /// The commit that was read, in full; refused if there is a newer one
    #[arg(long)]
    pub(crate) commit: CommitId,
    /// Wait until it is live, and fail if it fails
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Options of `recreate`.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
}

/// Options of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Id, label or number of the pull request
    #[arg(value_name = "ENV")]
    pub(crate) environment: String,
    /// Do it; without this nothing is deleted
    #[arg(long)]
    pub(crate) yes: bool,
    /// Wait until its receipt is complete
    #[arg(long)]
    pub(crate) watch: bool,
}

#[cfg(test)]
mod tests;

/// `NAME=DIRECTORY`.
fn named_directory(text: &str) -> Result<(SourceName, PathBuf), String> {
    let (name, directory) = text.split_once('=').ok_or("written NAME=DIRECTORY")?;
    let name = name.parse().map_err(|error| format!("{error}"))?;
    Ok((name, PathBuf::from(directory)))
}
