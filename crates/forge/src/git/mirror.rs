//! A bare copy of a source, which holds the commits that environments pin.

use super::{Git, GitError, command::Run, objects::Objects};
use crate::Remote;
use model::CommitId;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{self, Arc, PoisonError},
    time::Duration,
};
use tokio::sync::Mutex;

/// Where the commits are kept from being collected.
const KEPT: &str = "refs/maquette/commits/";

/// A bare repository under a directory of ours. Only one process uses it, and there by clones of one `Mirror`.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub(super) git: Git,
    pub(super) dir: PathBuf,
    /// Two fetches of one commit would fail on git's lock of its reference.
    writing: Arc<Mutex<()>>,
    /// The commits that are kept: what [`KEPT`] holds, which nobody else changes.
    kept: Arc<sync::Mutex<HashSet<CommitId>>>,
    pub(super) objects: Arc<Objects>,
}

impl Mirror {
    /// Opens the mirror in `dir`; makes it if it is not there or was not finished.
    ///
    /// # Errors
    /// If git can not make it.
    pub async fn open(git: Git, dir: impl Into<PathBuf>) -> Result<Self, GitError> {
        let dir = dir.into();
        // `init` may be repeated at any time; git itself writes HEAD early, so its presence proves nothing.
        std::fs::create_dir_all(&dir).map_err(GitError::io(&dir))?;
        let known = dir.join("HEAD").is_file() && dir.join("objects").is_dir() && dir.join("config").is_file();
        if !known {
            git.output(&dir, "init", ["--quiet", "--bare", "--template="]).await?;
        }
        let listed = git.output(&dir, "for-each-ref", ["--format=%(refname)", KEPT]).await?;
        let kept = String::from_utf8_lossy(&listed)
            .lines()
            .filter_map(|name| name.strip_prefix(KEPT)?.parse().ok())
            .collect();
        Ok(Self {
            git,
            dir,
            writing: Arc::default(),
            kept: Arc::new(sync::Mutex::new(kept)),
            objects: Arc::default(),
        })
    }

    fn kept(&self) -> sync::MutexGuard<'_, HashSet<CommitId>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether the commit is here. Asks no process.
    #[must_use]
    pub fn has(&self, commit: &CommitId) -> bool {
        self.kept().contains(commit)
    }

    /// Fetches a commit with its history, unless it is here. `via` is a reference of the remote under which it can be
    /// found if the remote does not give commits by their id.
    ///
    /// # Errors
    /// [`GitError::NoSuchCommit`] if the remote was reached and does not have it; other errors say why it was not.
    pub async fn fetch(&self, remote: &Remote, commit: &CommitId, via: Option<&str>) -> Result<(), GitError> {
        if self.has(commit) {
            return Ok(());
        }
        let _writing = self.writing.lock().await;
        if self.has(commit) {
            return Ok(());
        }
        self.unlock()?;
        let direct = format!("+{commit}:{KEPT}{commit}");
        let first = match self.fetch_one(remote, &direct).await {
            Ok(()) => {
                self.kept().insert(commit.clone());
                return Ok(());
            }
            Err(GitError::Failed {
                code: Some(_), stderr, ..
            }) if says_no_such_commit(&stderr) => GitError::NoSuchCommit(commit.clone()),
            Err(error) => return Err(error),
        };
        let Some(via) = via else { return Err(first) };
        let found = "refs/maquette/fetched";
        match self.fetch_one(remote, &format!("+{}:{found}", reference(via)?)).await {
            Ok(()) => {}
            Err(GitError::Failed {
                code: Some(_), stderr, ..
            }) if says_no_such_commit(&stderr) => return Err(first),
            Err(error) => return Err(error),
        }
        self.keep(commit).await.map_err(|error| match error {
            GitError::Failed { .. } => first,
            error => error,
        })
    }

    /// Removes the locks that a git which was killed has left. Nobody else writes here, so all of them are left ones.
    pub(super) fn unlock(&self) -> Result<(), GitError> {
        let of_gc = ["objects/info", "objects/info/commit-graphs", "objects/pack"];
        for directory in ["", "refs/maquette", KEPT].into_iter().chain(of_gc) {
            remove_leftovers(&self.dir.join(directory), ".lock", Duration::ZERO)?;
        }
        // Git refuses to begin this file where there is one.
        remove_leftovers(&self.dir, "packed-refs.new", Duration::ZERO)
    }

    /// Protects a commit whose objects are here.
    async fn keep(&self, commit: &CommitId) -> Result<(), GitError> {
        self.git
            .output(&self.dir, "cat-file", ["-e", &format!("{commit}^{{commit}}")])
            .await?;
        let name = format!("{KEPT}{commit}");
        self.git
            .output(&self.dir, "update-ref", [name.as_str(), commit.as_str()])
            .await?;
        self.kept().insert(commit.clone());
        Ok(())
    }

    pub(super) async fn fetch_one(&self, remote: &Remote, refspec: &str) -> Result<(), GitError> {
        let args = [
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--",
            remote.url.as_str(),
            refspec,
        ];
        self.git
            .run(
                &self.dir,
                "fetch",
                args,
                Run {
                    remote: Some(remote),
                    ..Run::default()
                },
            )
            .await
            .map(|_| ())
    }

    /// Lets go of all commits but these, and collects what nothing holds any more.
    ///
    /// # Errors
    /// If git fails.
    pub async fn retain(&self, commits: &[CommitId]) -> Result<(), GitError> {
        let _writing = self.writing.lock().await;
        self.unlock()?;
        let listed = self
            .git
            .output(&self.dir, "for-each-ref", ["--format=%(refname)", "refs/maquette/"])
            .await?;
        let mut script = String::new();
        for name in String::from_utf8_lossy(&listed).lines() {
            let kept = name
                .strip_prefix(KEPT)
                .is_some_and(|id| commits.iter().any(|commit| commit.as_str() == id));
            if !kept {
                script.push_str(&format!("delete {name}\n"));
            }
        }
        // Before they are gone: one that is taken for missing is merely fetched again.
        self.kept().retain(|kept| commits.contains(kept));
        if script.is_empty() {
            return Ok(());
        }
        let run = Run {
            stdin: Some(script.into_bytes()),
            ..Run::default()
        };
        self.git.run(&self.dir, "update-ref", ["--stdin"], run).await?;
        self.git.output(&self.dir, "gc", ["--quiet", "--prune=now"]).await?;
        self.objects.clear();
        Ok(())
    }
}

/// Removes the files in a directory whose names end so and that are at least this old.
pub(crate) fn remove_leftovers(directory: &Path, suffix: &str, age: Duration) -> Result<(), GitError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(GitError::io(directory)(error)),
    };
    for entry in entries.flatten() {
        let age_of = |entry: &std::fs::DirEntry| entry.metadata().and_then(|meta| meta.modified()).ok()?.elapsed().ok();
        let left = age_of(&entry).map_or(age.is_zero(), |past| past >= age);
        if left && entry.file_name().as_encoded_bytes().ends_with(suffix.as_bytes()) {
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(GitError::io(entry.path())(error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Git has no exit code for this, but with `LC_ALL=C` its words are stable.
fn says_no_such_commit(stderr: &str) -> bool {
    ["not our ref", "unadvertised object", "couldn't find remote ref"]
        .iter()
        .any(|words| stderr.contains(words))
}

/// A full reference name, by git's own rules and ours.
pub(crate) fn reference(name: &str) -> Result<&str, GitError> {
    let valid = name
        .strip_prefix("refs/")
        .is_some_and(|rest| rest.parse::<model::BranchName>().is_ok());
    if valid {
        Ok(name)
    } else {
        Err(GitError::Name {
            given: crate::display(name, 80).into(),
            what: "reference",
        })
    }
}
