//! A branch of a remote repository that we write: whole folders of it, in commits on top of whatever is there, and never over
//! what somebody else has pushed.

use super::{
    Git, GitError, Mirror, TreeLimits,
    command::Run,
    tree::{check_path, parse},
};
use crate::{Remote, git::reference};
use model::{BranchName, CommitId};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// The remote's branch as it was fetched last.
const FETCHED: &str = "refs/maquette/fetched";
/// What was committed last, pushed or not.
const NEXT: &str = "refs/maquette/next";
/// What was written last for each name.
const WRITTEN: &str = "refs/maquette/written/";

/// After so many pushes what lies loose is packed.
const PACKED_AFTER: u32 = 200;

/// Files by their paths.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A bare repository under a directory of ours, and the branch of a remote one that it is for. Only one caller uses it at a time.
#[derive(Debug)]
pub struct Branch {
    mirror: Mirror,
    remote: Remote,
    name: BranchName,
    pushes: AtomicU32,
}

/// Who has written a commit, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
    /// In seconds since the epoch.
    pub time: u64,
}

/// A commit that is to be made: one folder, with these files in it and no others; none at all removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderCommit {
    /// Where, from the root of the repository.
    pub folder: String,
    /// By paths from the folder.
    pub files: Files,
    /// Why.
    pub message: String,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The branch is there now.
    Done,
    /// Somebody else has pushed meanwhile: nothing was written. What is there has to be fetched.
    Moved,
}

impl Branch {
    /// Opens the repository in `dir`; makes it if it is not there.
    ///
    /// # Errors
    /// If git can not make it.
    pub async fn open(git: Git, dir: impl Into<PathBuf>, remote: Remote, name: BranchName) -> Result<Self, GitError> {
        Ok(Self {
            mirror: Mirror::open(git, dir).await?,
            remote,
            name,
            pushes: AtomicU32::new(0),
        })
    }

    /// Fetches the branch and returns where it is; `None` if the remote repository does not have it yet.
    ///
    /// # Errors
    /// If the remote repository can not be read.
    pub async fn fetch(&self) -> Result<Option<CommitId>, GitError> {
        self.mirror.unlock()?;
        match self
            .mirror
            .fetch_one(&self.remote, &format!("+{}:{FETCHED}", self.full()))
            .await
        {
            Ok(()) => {}
            Err(GitError::Failed { stderr, .. }) if stderr.contains("couldn't find remote ref") => return Ok(None),
            Err(error) => return Err(error),
        }
        self.at(FETCHED).await.map(Some)
    }

    fn full(&self) -> String {
        format!("refs/heads/{}", self.name)
    }

    async fn at(&self, name: &str) -> Result<CommitId, GitError> {
        let found = self
            .mirror
            .git
            .output(&self.mirror.dir, "rev-parse", ["--verify", name])
            .await?;
        one_commit(&found).ok_or(GitError::Parse {
            subcommand: "rev-parse",
        })
    }

    /// Whether a commit is `tip`, or one that it is made on.
    ///
    /// # Errors
    /// If git fails.
    pub async fn contains(&self, tip: &CommitId, commit: &CommitId) -> Result<bool, GitError> {
        let args = ["--is-ancestor", commit.as_str(), tip.as_str()];
        match self.mirror.git.output(&self.mirror.dir, "merge-base", args).await {
            Ok(_) => Ok(true),
            Err(GitError::Failed { code: Some(1), .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The files below a folder of a commit, by their paths from it. Links and submodules are none.
    ///
    /// # Errors
    /// If there are too many, or one has more than `max` bytes.
    pub async fn files(
        &self,
        commit: &CommitId,
        folder: &str,
        limits: TreeLimits,
        max: u64,
    ) -> Result<Files, GitError> {
        check_path(folder)?;
        let below = format!("{folder}/");
        let args = ["-r", "-l", "-z", "--full-tree", commit.as_str(), "--", &below];
        let listed = self.mirror.git.output(&self.mirror.dir, "ls-tree", args).await?;
        let mut files = Files::new();
        for entry in parse(&listed, limits)? {
            let Some(path) = entry.path.strip_prefix(&below) else {
                continue;
            };
            if matches!(entry.kind, super::EntryKind::File { .. }) {
                files.insert(path.to_owned(), self.mirror.read_object(&entry, max).await?);
            }
        }
        Ok(files)
    }

    /// The names of the folders in a folder of a commit.
    ///
    /// # Errors
    /// If git fails.
    pub async fn folders(&self, commit: &CommitId, folder: &str) -> Result<Vec<String>, GitError> {
        check_path(folder)?;
        let below = format!("{folder}/");
        let args = ["-d", "-z", "--name-only", "--full-tree", commit.as_str(), "--", &below];
        let listed = self.mirror.git.output(&self.mirror.dir, "ls-tree", args).await?;
        let listed = String::from_utf8_lossy(&listed);
        let names = listed.split('\0').filter_map(|path| path.strip_prefix(&below));
        Ok(names.map(str::to_owned).collect())
    }

    /// Makes commits one after the other, the first on top of `parent`, and returns them in that order. Nobody else sees them yet.
    ///
    /// # Errors
    /// If git fails, or a path is none that we write.
    pub async fn commit(
        &self,
        parent: Option<&CommitId>,
        author: &Author,
        commits: &[FolderCommit],
    ) -> Result<Vec<CommitId>, GitError> {
        let mut script = Vec::new();
        for (number, commit) in commits.iter().enumerate() {
            let from = if number == 0 { parent } else { None };
            write_commit(&mut script, from, number == 0, author, commit)?;
        }
        // A script that was cut off is refused as a whole.
        script.extend_from_slice(b"done\n");
        let run = Run {
            stdin: Some(script),
            ..Run::default()
        };
        // What was committed before and not pushed is of no use any more.
        let args = ["--quiet", "--force", "--done"];
        self.mirror.git.run(&self.mirror.dir, "fast-import", args, run).await?;
        let count = format!("--max-count={}", commits.len());
        let args = ["--first-parent", "--reverse", &count, NEXT];
        let made = self.mirror.git.output(&self.mirror.dir, "rev-list", args).await?;
        let made: Option<Vec<CommitId>> = String::from_utf8_lossy(&made)
            .lines()
            .map(|line| line.parse().ok())
            .collect();
        made.filter(|made| made.len() == commits.len())
            .ok_or(GitError::Parse { subcommand: "rev-list" })
    }

    /// Brings a commit and those before it to the remote repository, unless the branch there has others.
    ///
    /// # Errors
    /// If the remote repository can not be written, or refuses.
    pub async fn push(&self, commit: &CommitId) -> Result<Pushed, GitError> {
        let to = format!("{commit}:{}", self.full());
        let args = ["--quiet", "--no-follow-tags", "--", self.remote.url.as_str(), &to];
        let run = Run {
            remote: Some(&self.remote),
            ..Run::default()
        };
        match self.mirror.git.run(&self.mirror.dir, "push", args, run).await {
            Ok(_) => {}
            Err(GitError::Failed { stderr, .. }) if says_moved(&stderr) => return Ok(Pushed::Moved),
            Err(error) => return Err(error),
        }
        if self.pushes.fetch_add(1, Ordering::Relaxed) % PACKED_AFTER == PACKED_AFTER - 1 {
            self.mirror
                .git
                .output(&self.mirror.dir, "gc", ["--quiet", "--prune=now"])
                .await?;
            self.mirror.objects.clear();
        }
        Ok(Pushed::Done)
    }

    /// Remembers the commit that was written last for each of these names, or that there is none any more.
    ///
    /// # Errors
    /// If a name can not be part of a reference.
    pub async fn remember(&self, written: &[(String, Option<CommitId>)]) -> Result<(), GitError> {
        let mut script = String::new();
        for (name, commit) in written {
            let full = format!("{WRITTEN}{name}");
            let name = reference(&full)?;
            match commit {
                Some(commit) => script.push_str(&format!("update {name} {commit}\n")),
                None => script.push_str(&format!("delete {name}\n")),
            }
        }
        let run = Run {
            stdin: Some(script.into_bytes()),
            ..Run::default()
        };
        self.mirror
            .git
            .run(&self.mirror.dir, "update-ref", ["--stdin"], run)
            .await?;
        Ok(())
    }

    /// What was remembered, for all names.
    ///
    /// # Errors
    /// If git fails.
    pub async fn remembered(&self) -> Result<BTreeMap<String, CommitId>, GitError> {
        let args = ["--format=%(objectname) %(refname)", WRITTEN];
        let listed = self.mirror.git.output(&self.mirror.dir, "for-each-ref", args).await?;
        let listed = String::from_utf8_lossy(&listed);
        let each = listed.lines().filter_map(|line| {
            let (commit, name) = line.split_once(' ')?;
            Some((name.strip_prefix(WRITTEN)?.to_owned(), commit.parse().ok()?))
        });
        Ok(each.collect())
    }
}

fn one_commit(printed: &[u8]) -> Option<CommitId> {
    std::str::from_utf8(printed).ok()?.trim().parse().ok()
}

/// One commit in the language of `git fast-import`.
fn write_commit(
    script: &mut Vec<u8>,
    from: Option<&CommitId>,
    first: bool,
    author: &Author,
    commit: &FolderCommit,
) -> Result<(), GitError> {
    plain(&commit.folder)?;
    let Author { name, email, time } = author;
    let clean = |text: &str| text.replace(['<', '>', '\n', '\0'], "");
    if first {
        // Whatever it was before; the first commit of a repository has no parent.
        script.extend_from_slice(format!("reset {NEXT}\n").as_bytes());
        if let Some(from) = from {
            script.extend_from_slice(format!("from {from}\n").as_bytes());
        }
        script.push(b'\n');
    }
    let who = format!("{} <{}> {time} +0000", clean(name), clean(email));
    script.extend_from_slice(format!("commit {NEXT}\nauthor {who}\ncommitter {who}\n").as_bytes());
    write_data(script, commit.message.as_bytes());
    script.extend_from_slice(format!("D {}\n", commit.folder).as_bytes());
    for (path, content) in &commit.files {
        let path = format!("{}/{path}", commit.folder);
        script.extend_from_slice(format!("M 100644 inline {}\n", plain(&path)?).as_bytes());
        write_data(script, content);
    }
    script.push(b'\n');
    Ok(())
}

fn write_data(script: &mut Vec<u8>, bytes: &[u8]) {
    script.extend_from_slice(format!("data {}\n", bytes.len()).as_bytes());
    script.extend_from_slice(bytes);
    script.push(b'\n');
}

/// A path that means nothing else to git.
fn plain(path: &str) -> Result<&str, GitError> {
    check_path(path)?;
    let usual = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if path.chars().all(usual) {
        return Ok(path);
    }
    Err(GitError::Path {
        path: crate::display(path, 200).into(),
        reason: "it has characters that we do not write",
    })
}

/// Git has no exit code for this, but with `LC_ALL=C` its words are stable.
fn says_moved(stderr: &str) -> bool {
    let raced = [
        "cannot lock ref",
        "failed to update ref",
        "incorrect old value",
        "reference already exists",
    ];
    stderr.contains("(fetch first)")
        || stderr.contains("(non-fast-forward)")
        || (stderr.contains("[remote rejected]") && raced.iter().any(|words| stderr.contains(words)))
}
