//! Making commits in a local forge, without a checkout.

use super::{
    LocalForge,
    client::{git_failed, storage},
    repository,
};
use crate::{
    ForgeError, Remote, RemoteKind, Result,
    git::{GitError, Run, check_path, reference},
};
use model::{BranchName, CommitId};
use std::path::Path;
use url::Url;

/// A change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The path from the root.
    pub path: String,
    /// The new content; none deletes the file.
    pub content: Option<Vec<u8>>,
    /// Whether it may be run.
    pub executable: bool,
}

impl FileChange {
    /// A file with this content.
    #[must_use]
    pub fn write(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.to_owned(),
            content: Some(content.into()),
            executable: false,
        }
    }

    /// No such file.
    #[must_use]
    pub fn delete(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            content: None,
            executable: false,
        }
    }
}

impl LocalForge {
    /// Commits changes to a branch and tells it as a push. A branch that is not there begins at `from`, or at nothing.
    ///
    /// # Errors
    /// If `from` does not exist, a path is not valid, or git fails.
    pub async fn commit(
        &self,
        branch: &BranchName,
        from: Option<&BranchName>,
        changes: &[FileChange],
        message: &str,
    ) -> Result<CommitId> {
        let lock = self.lock().await?;
        let old = repository::head(self, branch)?;
        let parent = match (&old, from) {
            (Some(old), _) => Some(old.clone()),
            (None, Some(from)) => Some(repository::head(self, from)?.ok_or_else(|| {
                ForgeError::invalid(format!("branch `{branch}`"), format!("there is no branch `{from}`"))
            })?),
            (None, None) => None,
        };
        let commit = self.commit_create(parent.as_ref(), changes, message).await?;
        self.branch_set(branch, &commit).await?;
        drop(lock);
        self.announce_pushed(branch, &commit)?;
        Ok(commit)
    }

    /// Makes a commit that is on no branch, for example one that stands for a commit from a fork.
    ///
    /// # Errors
    /// If a path is not valid, or git fails.
    pub async fn commit_create(
        &self,
        parent: Option<&CommitId>,
        changes: &[FileChange],
        message: &str,
    ) -> Result<CommitId> {
        let what = "new commit";
        let scratch = tempfile::tempdir_in(&self.root).map_err(storage(what, &self.root))?;
        let index = scratch.path().join("index");
        if let Some(parent) = parent {
            self.with_index(&index, "read-tree", &[parent.as_str()], Vec::new())
                .await?;
        }
        let mut lines = Vec::new();
        for change in changes {
            check_path(&change.path).map_err(git_failed(what))?;
            let (mode, object) = match &change.content {
                None => ("0", "0".repeat(40)),
                Some(content) => {
                    let args = ["-w", "--stdin", "--no-filters"];
                    let run = Run {
                        stdin: Some(content.clone()),
                        ..Run::default()
                    };
                    let out = self.git.run(&self.repository, "hash-object", args, run).await;
                    let object = id(&out.map_err(git_failed(what))?, "hash-object")?.to_string();
                    (if change.executable { "100755" } else { "100644" }, object)
                }
            };
            lines.extend_from_slice(format!("{mode} {object}\t{}\0", change.path).as_bytes());
        }
        self.with_index(&index, "update-index", &["-z", "--index-info"], lines)
            .await?;
        self.commit_index(&index, parent, message).await
    }

    /// Commits the files of a directory to a branch, as the whole content of the branch, and tells it as a push. What
    /// the directory's `.gitignore` names stays out. Nothing happens if the branch has this very content.
    ///
    /// # Errors
    /// If the directory can not be read, or git fails.
    pub async fn import(&self, directory: &Path, branch: &BranchName, message: &str) -> Result<CommitId> {
        let what = "import of a directory";
        let directory = directory.canonicalize().map_err(storage(what, directory))?;
        let lock = self.lock().await?;
        let scratch = tempfile::tempdir_in(&self.root).map_err(storage(what, &self.root))?;
        let index = scratch.path().join("index");
        let run = Run {
            index: Some(&index),
            work_tree: Some(&directory),
            ..Run::default()
        };
        self.git
            .run(&self.repository, "add", ["--all", "--", "."], run)
            .await
            .map_err(git_failed(what))?;
        let parent = repository::head(self, branch)?;
        if let Some(parent) = &parent {
            let same = self.tree_of(parent).await?
                == id(
                    &self.with_index(&index, "write-tree", &[], Vec::new()).await?,
                    "write-tree",
                )?;
            if same {
                return Ok(parent.clone());
            }
        }
        let commit = self.commit_index(&index, parent.as_ref(), message).await?;
        self.branch_set(branch, &commit).await?;
        drop(lock);
        self.announce_pushed(branch, &commit)?;
        Ok(commit)
    }

    /// Takes a branch over from another repository on this machine, as `git push --force` would.
    ///
    /// # Errors
    /// If there is no such repository or branch, or git fails.
    pub async fn push(&self, from: &Path, branch: &BranchName) -> Result<CommitId> {
        let what = format!("push of branch `{branch}`");
        let lock = self.lock().await?;
        let url = from.canonicalize().map_err(storage(&what, from))?;
        let url = Url::from_file_path(url).map_err(|()| ForgeError::invalid(&what, "the path is not absolute"))?;
        let remote = Remote {
            url,
            kind: RemoteKind::File,
            authorization: None,
        };
        let name = format!("refs/heads/{branch}");
        let name = reference(&name).map_err(git_failed(&what))?;
        let refspec = format!("+{name}:{name}");
        let args = [
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--",
            remote.url.as_str(),
            &refspec,
        ];
        let run = Run {
            remote: Some(&remote),
            ..Run::default()
        };
        self.git
            .run(&self.repository, "fetch", args, run)
            .await
            .map_err(git_failed(&what))?;
        let commit = repository::head(self, branch)?;
        let commit = commit.ok_or_else(|| ForgeError::invalid(&what, "the branch is not there afterwards"))?;
        drop(lock);
        self.announce_pushed(branch, &commit)?;
        Ok(commit)
    }

    /// Lets a branch point to a commit, also backwards: a forced push.
    ///
    /// # Errors
    /// If the commit is not in the repository.
    pub async fn force(&self, branch: &BranchName, commit: &CommitId) -> Result<()> {
        let lock = self.lock().await?;
        self.branch_set(branch, commit).await?;
        drop(lock);
        self.announce_pushed(branch, commit)
    }

    async fn branch_set(&self, branch: &BranchName, commit: &CommitId) -> Result<()> {
        let args = [format!("refs/heads/{branch}"), commit.to_string()];
        self.git(&format!("branch `{branch}`"), "update-ref", args)
            .await
            .map(|_| ())
    }

    async fn tree_of(&self, commit: &CommitId) -> Result<CommitId> {
        let args = ["--verify", "--quiet", "--end-of-options", &format!("{commit}^{{tree}}")];
        id(&self.git("commit", "rev-parse", args).await?, "rev-parse")
    }

    async fn commit_index(&self, index: &Path, parent: Option<&CommitId>, message: &str) -> Result<CommitId> {
        let tree = id(
            &self.with_index(index, "write-tree", &[], Vec::new()).await?,
            "write-tree",
        )?;
        let mut args = vec![tree.as_str()];
        if let Some(parent) = parent {
            args.extend(["-p", parent.as_str()]);
        }
        let out = self
            .with_index(index, "commit-tree", &args, message.as_bytes().to_vec())
            .await?;
        id(&out, "commit-tree")
    }

    async fn with_index(
        &self,
        index: &Path,
        subcommand: &'static str,
        args: &[&str],
        stdin: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let run = Run {
            stdin: Some(stdin),
            index: Some(index),
            ..Run::default()
        };
        self.git
            .run(&self.repository, subcommand, args, run)
            .await
            .map_err(git_failed("new commit"))
    }
}

/// An id that git printed. Trees have ids of the same form as commits.
fn id(out: &[u8], subcommand: &'static str) -> Result<CommitId> {
    let text = String::from_utf8_lossy(out);
    text.trim()
        .parse()
        .map_err(|_| git_failed("new commit")(GitError::Parse { subcommand }))
}
