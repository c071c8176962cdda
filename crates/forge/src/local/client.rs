//! Making and opening the directory of a local forge; its documents and its lock.

use super::{LocalForge, wire};
use crate::{
    ForgeError, RepositoryId, RepositoryPath, Result,
    git::{Git, GitError, GitLimits, remove_leftovers},
};
use model::{BranchName, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Mutex, MutexGuard, broadcast};

/// The largest document that is read, in bytes.
const DOCUMENT_MAX: u64 = 1 << 20;
/// How long another process may hold the lock.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How old a lock of git is that its owner can no longer want: somebody may push by plain git at any time.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// Proof that nobody else changes anything.
pub(super) struct Locked<'a> {
    _here: MutexGuard<'a, ()>,
    _file: File,
}

impl LocalForge {
    /// Opens the forge in `root`, or makes one there. The name and the default branch count only when it is made.
    ///
    /// # Errors
    /// If the directory can not be made, or holds something else.
    pub async fn open(root: impl Into<PathBuf>, path: &RepositoryPath, default_branch: &BranchName) -> Result<Self> {
        let root: PathBuf = root.into();
        for directory in ["pulls", "comments", "statuses"] {
            let directory = root.join(directory);
            fs::create_dir_all(&directory).map_err(storage("local forge", &directory))?;
        }
        // Git wants absolute paths: it runs in a directory of its own.
        let root = root.canonicalize().map_err(storage("local forge", &root))?;
        let document = root.join("forge.json");
        let git = Git::new(root.join("git-home"), GitLimits::default()).map_err(git_failed("local forge"))?;
        let repository = root.join("repository.git");
        let made: wire::Root = match read_document(&document)? {
            Some(made) => made,
            None => {
                fs::create_dir_all(&repository).map_err(storage("local forge", &repository))?;
                let head = format!("--initial-branch={default_branch}");
                let args = ["--quiet", "--bare", "--template=", &head];
                git.output(&repository, "init", args)
                    .await
                    .map_err(git_failed("local forge"))?;
                let made = wire::Root {
                    id: random_id()?,
                    path: path.clone(),
                    default_branch: default_branch.clone(),
                };
                write_document(&document, &made)?;
                made
            }
        };
        for directory in ["", "refs/heads", "refs/maquette"] {
            let directory = repository.join(directory);
            remove_leftovers(&directory, ".lock", LEFT_OVER).map_err(git_failed("local forge"))?;
        }
        let (events, _) = broadcast::channel(super::EVENTS_KEPT);
        let (id, path, default_branch) = (made.id, made.path, made.default_branch);
        Ok(Self {
            root,
            repository,
            git,
            id,
            path,
            default_branch,
            events,
            lock: Mutex::new(()),
        })
    }

    /// Refuses a repository that is not the one here.
    pub(super) fn check(&self, id: &RepositoryId) -> Result<()> {
        if *id == self.id {
            Ok(())
        } else {
            Err(ForgeError::NotFound {
                what: format!("repository {id}"),
            })
        }
    }

    /// Waits until nobody else changes anything, in this process or another.
    pub(super) async fn lock(&self) -> Result<Locked<'_>> {
        let here = self.lock.lock().await;
        let path = self.root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(storage("lock of the local forge", &path))?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    return Ok(Locked {
                        _here: here,
                        _file: file,
                    });
                }
                Err(TryLockError::WouldBlock) if waited < LOCK_WAIT => {
                    let pause = Duration::from_millis(5);
                    tokio::time::sleep(pause).await;
                    waited += pause;
                }
                Err(TryLockError::WouldBlock) => {
                    let source = io::Error::from(io::ErrorKind::TimedOut);
                    return Err(storage("lock of the local forge", &path)(source));
                }
                Err(TryLockError::Error(source)) => return Err(storage("lock of the local forge", &path)(source)),
            }
        }
    }

    /// Runs git on the repository.
    pub(super) async fn git<S: AsRef<std::ffi::OsStr>>(
        &self,
        what: &str,
        subcommand: &'static str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>> {
        self.git
            .output(&self.repository, subcommand, args)
            .await
            .map_err(git_failed(what))
    }
}

pub(super) fn git_failed(what: &str) -> impl FnOnce(GitError) -> ForgeError {
    let what = what.to_owned();
    move |source| ForgeError::Git {
        what,
        source: Box::new(source),
    }
}

pub(super) fn storage(what: &str, path: &Path) -> impl FnOnce(io::Error) -> ForgeError {
    let (what, path) = (what.to_owned(), path.to_owned());
    move |source| ForgeError::Storage { what, path, source }
}

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| ForgeError::invalid("random number", error.to_string()))?;
    Ok(hex::encode(bytes))
}

fn random_id() -> Result<RepositoryId> {
    let id = random_hex()?;
    id.parse()
        .map_err(|error: crate::InvalidForgeName| ForgeError::invalid("repository id", error.to_string()))
}

/// Reads a document; none if there is no such file.
pub(super) fn read_document<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let what = "document of the local forge";
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(storage(what, path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(DOCUMENT_MAX)
        .read_to_end(&mut bytes)
        .map_err(storage(what, path))?;
    let document = serde_json::from_slice(&bytes)
        .map_err(|error| ForgeError::invalid(format!("{what} {}", path.display()), error.to_string()))?;
    Ok(Some(document))
}

/// Replaces a document as a whole.
pub(super) fn write_document(path: &Path, document: &impl Serialize) -> Result<()> {
    let what = "document of the local forge";
    let bytes = serde_json::to_vec_pretty(document)
        .map_err(|error| ForgeError::invalid(format!("{what} {}", path.display()), error.to_string()))?;
    write_atomically(path, &bytes).map_err(storage(what, path))
}

/// Replaces a file so that a reader, also one after a crash, sees the old content or the new one.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// The numbers in the names of the documents in a directory, in order; none if there is no directory.
pub(super) fn numbers(directory: &Path) -> Result<Vec<u64>> {
    let what = "documents of the local forge";
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(storage(what, directory)(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(storage(what, directory))?.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}
