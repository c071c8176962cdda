//! One run of the git program.

use super::GitError;
use crate::{Remote, RemoteKind};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

/// Bounds of runs of git.
#[derive(Clone, Copy, Debug)]
pub struct GitLimits {
    /// For what needs no network.
    pub local: Duration,
    /// For a fetch.
    pub fetch: Duration,
    /// The most bytes that are read of what git prints.
    pub output: usize,
    /// The largest file that a fetch may write, in bytes: bounds what a remote repository can fill the disk with.
    pub pack: u64,
    /// The most memory that one process of git may take, in bytes: what is small on the way may be large when it is unpacked.
    pub memory: u64,
}

impl Default for GitLimits {
    fn default() -> Self {
        Self {
            local: Duration::from_secs(60),
            fetch: Duration::from_secs(300),
            output: 64 << 20,
            pack: 4 << 30,
            memory: 1 << 30,
        }
    }
}

/// How much of git's error output is kept, in bytes.
const STDERR_MAX: usize = 8 << 10;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The only configuration that git sees beside a mirror's own, which no stranger writes.
///
/// `safe.directory` is here and not in the environment because git drops configuration from the environment before
/// it starts the other half of a local fetch. Without `fsync` a power cut leaves empty references and objects, and git refuses
/// the repository from then on.
const CONFIG: &str = "\
[safe]
\tdirectory = *
[core]
\thooksPath = /dev/null
\tattributesFile = /dev/null
\texcludesFile = /dev/null
\tfsmonitor = false
\tautocrlf = false
\tfsync = committed,reference
\tfsyncMethod = batch
[init]
\tdefaultBranch = main
[protocol]
\tallow = never
[http]
\tfollowRedirects = false
\tlowSpeedLimit = 1000
\tlowSpeedTime = 30
[credential]
\thelper =
[gc]
\tauto = 0
[maintenance]
\tauto = false
[submodule]
\trecurse = false
[fetch]
\trecurseSubmodules = false
[commit]
\tgpgSign = false
[user]
\tname = Maquette
\temail = maquette@localhost
";

/// Runs git with a home of its own.
#[derive(Clone, Debug)]
pub struct Git {
    home: PathBuf,
    limits: GitLimits,
}

/// What one run needs beside its arguments.
#[derive(Default)]
pub(crate) struct Run<'a> {
    pub(crate) remote: Option<&'a Remote>,
    pub(crate) stdin: Option<Vec<u8>>,
    /// The most records, each ended by a zero byte, that are read; one more is kept so that the caller sees it.
    pub(crate) records: Option<u64>,
    pub(crate) index: Option<&'a Path>,
    pub(crate) work_tree: Option<&'a Path>,
}

impl Git {
    /// Prepares a home directory for git (made if it is not there) in which only its configuration lies.
    ///
    /// # Errors
    /// If the directory can not be made or written.
    pub fn new(home: impl Into<PathBuf>, limits: GitLimits) -> Result<Self, GitError> {
        let home = home.into();
        std::fs::create_dir_all(&home).map_err(GitError::io(&home))?;
        let config = home.join("gitconfig");
        if std::fs::read(&config).ok().as_deref() != Some(CONFIG.as_bytes()) {
            crate::local::write_atomically(&config, CONFIG.as_bytes()).map_err(GitError::io(&config))?;
        }
        Ok(Self { home, limits })
    }

    pub(super) fn limits(&self) -> &GitLimits {
        &self.limits
    }

    /// Runs git on a repository and returns what it printed.
    pub(crate) async fn output<S: AsRef<OsStr>>(
        &self,
        repository: &Path,
        subcommand: &'static str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>, GitError> {
        self.run(repository, subcommand, args, Run::default()).await
    }

    /// The same, with more than arguments.
    pub(crate) async fn run<S: AsRef<OsStr>>(
        &self,
        repository: &Path,
        subcommand: &'static str,
        args: impl IntoIterator<Item = S>,
        run: Run<'_>,
    ) -> Result<Vec<u8>, GitError> {
        let limit = if run.remote.is_some() {
            self.limits.fetch
        } else {
            self.limits.local
        };
        let mut command = self.command(repository, subcommand, args, run.remote);
        if let Some(index) = run.index {
            command.env("GIT_INDEX_FILE", index);
        }
        if let Some(work_tree) = run.work_tree {
            command.env("GIT_WORK_TREE", work_tree).current_dir(work_tree);
        }
        let mut child = Group::spawn(&mut command)?;
        let work = async {
            let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
            let feed = async move {
                if let (Some(mut pipe), Some(bytes)) = (stdin, run.stdin) {
                    // Git may end without reading all; then its exit code tells.
                    let _ = pipe.write_all(&bytes).await;
                }
            };
            let ((), out, err) = tokio::join!(feed, capped(stdout, self.limits.output, run.records), tail(stderr));
            let (out, cut) = out.map_err(|()| GitError::Output {
                subcommand,
                limit: self.limits.output,
            })?;
            let status = child.0.wait().await.map_err(GitError::Start)?;
            // What was cut ended by itself when nobody read it any more.
            if status.success() || cut {
                return Ok(out);
            }
            Err(GitError::Failed {
                subcommand,
                code: status.code(),
                stderr: crate::display(&err, 1000).into(),
            })
        };
        tokio::time::timeout(limit, work)
            .await
            .map_err(|_| GitError::Timeout { subcommand, limit })?
    }

    /// A command that has everything but its own extra environment, with all three pipes.
    pub(super) fn command<S: AsRef<OsStr>>(
        &self,
        repository: &Path,
        subcommand: &'static str,
        args: impl IntoIterator<Item = S>,
        remote: Option<&Remote>,
    ) -> Command {
        // The limits hold for git's children, too; prlimit is part of util-linux, which every Debian has.
        let mut command = Command::new("prlimit");
        command.arg(format!("--data={}", self.limits.memory));
        if remote.is_some() {
            command.arg(format!("--fsize={}", self.limits.pack));
        }
        command
            .args(["--", "git"])
            .arg("--git-dir")
            .arg(repository)
            .arg("--literal-pathspecs")
            .arg("--no-pager")
            .arg(subcommand)
            .args(args);
        command
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", &self.home)
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.home.join("gitconfig"))
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_ALLOW_PROTOCOL", remote.map_or("none", allowed))
            .current_dir(&self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        if let Some(authorization) = remote.and_then(|remote| remote.authorization.as_ref()) {
            // Redirects are off, so the header goes to this remote only.
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "http.extraHeader")
                .env(
                    "GIT_CONFIG_VALUE_0",
                    format!("Authorization: {}", authorization.expose()),
                );
        }
        command
    }
}

fn allowed(remote: &Remote) -> &'static str {
    match remote.kind {
        RemoteKind::File => "file",
        RemoteKind::Http => "http:https",
    }
}

/// A child with its own process group, all of which ends when this is dropped before the child has ended.
#[derive(Debug)]
pub(super) struct Group(pub(super) Child);

impl Group {
    pub(super) fn spawn(command: &mut Command) -> Result<Self, GitError> {
        command.spawn().map(Self).map_err(GitError::Start)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // `id` is none once the child was waited for, so a number that was given anew is never hit.
        let id = self
            .0
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

/// Reads all, or fails as soon as there is more than `limit`. With too many records it ends early with what it has.
async fn capped(
    pipe: Option<impl AsyncRead + Unpin>,
    limit: usize,
    records: Option<u64>,
) -> Result<(Vec<u8>, bool), ()> {
    let mut out = Vec::new();
    let Some(mut pipe) = pipe else { return Ok((out, false)) };
    let mut left = records.map(|records| records.saturating_add(1));
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        out.extend_from_slice(&buffer[..n]);
        if out.len() > limit {
            return Err(());
        }
        if let Some(left) = &mut left {
            *left = left.saturating_sub(buffer[..n].iter().filter(|b| **b == 0).count() as u64);
            if *left == 0 {
                return Ok((out, true));
            }
        }
    }
    Ok((out, false))
}

/// Reads all and keeps the end.
async fn tail(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    if let Some(mut pipe) = pipe {
        while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..n]);
            if kept.len() > STDERR_MAX {
                kept.drain(..kept.len() - STDERR_MAX);
            }
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    #[test]
    fn a_token_is_not_among_the_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::new(dir.path(), GitLimits::default()).unwrap();
        let remote = Remote {
            url: "https://host/a/b.git".parse().unwrap(),
            kind: RemoteKind::Http,
            authorization: Some(Secret::new("Basic canary".to_owned())),
        };
        let command = git.command(dir.path(), "fetch", ["--", remote.url.as_str()], Some(&remote));
        let command = command.as_std();
        let shown: Vec<String> = command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        assert!(!shown.join(" ").contains("canary"), "{shown:?}");
        let given: Vec<String> = command
            .get_envs()
            .map(|(key, _)| key.to_string_lossy().into_owned())
            .collect();
        assert!(
            given
                .iter()
                .all(|key| ["PATH", "HOME", "LC_ALL", "TZ"].contains(&key.as_str()) || key.starts_with("GIT_"))
        );
    }
}
