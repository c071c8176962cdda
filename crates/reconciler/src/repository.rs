//! The mirrors of a project's sources, and the commits in them as blueprints and runtimes read them.

use crate::{
    listing::{Listing, Listings},
    project::{Project, Source},
    service_source,
};
use async_trait::async_trait;
use blueprint::{FILE_BYTES_MAX, Kind, Tree};
use forge::git::{EntryKind, ExportLimits, Finding, Git, GitError, Mirror};
use model::{CommitId, ProjectName, SourceName};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{RwLock, RwLockWriteGuard},
    time::timeout,
};

/// How long whoever wants to be alone waits for those who are about to be done.
const ALONE: Duration = Duration::from_millis(500);

/// Why a commit could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The source is not configured.
    #[error("project {project} has no source {source_name}")]
    Unknown {
        /// The project.
        project: ProjectName,
        /// The source.
        source_name: SourceName,
    },
    /// Git failed.
    #[error("git failed in the mirror of {source_name}")]
    Git {
        /// The source.
        source_name: SourceName,
        /// How.
        #[source]
        source: GitError,
    },
    /// The forge did not say how to reach the repository.
    #[error("the repository of {source_name} can not be reached")]
    Forge {
        /// The source.
        source_name: SourceName,
        /// How it failed.
        #[source]
        source: forge::ForgeError,
    },
}

impl RepositoryError {
    /// Whether the commit itself is what can not be used, so that trying again does not help.
    pub(crate) fn is_users(&self) -> bool {
        matches!(
            self,
            Self::Git {
                source: GitError::Path { .. } | GitError::Escape { .. } | GitError::Limit { .. },
                ..
            }
        )
    }
}

/// One mirror per source.
#[derive(Debug)]
pub(crate) struct Repositories {
    directory: PathBuf,
    mirrors: BTreeMap<(ProjectName, SourceName), Mirror>,
    /// Held for reading by whoever fetches a commit and has not yet written down that it is used; for writing while commits
    /// that nobody uses are let go of.
    pub(crate) in_use: RwLock<()>,
    /// The first source of each project: also holds the commits of single services that come from other branches.
    primary: BTreeMap<ProjectName, SourceName>,
    listings: Arc<Listings>,
}

impl Repositories {
    /// Opens or makes the mirrors of all sources below `directory`.
    pub(crate) async fn open<'a>(
        git: &Git,
        directory: PathBuf,
        projects: impl Iterator<Item = &'a Project>,
    ) -> Result<Self, RepositoryError> {
        let mut mirrors = BTreeMap::new();
        let mut primary = BTreeMap::new();
        for project in projects {
            primary.extend(
                project
                    .primary()
                    .map(|source| (project.name.clone(), source.name.clone())),
            );
            for source in &project.sources {
                let path = directory.join(place(&project.name, &source.name));
                let mirror = Mirror::open(git.clone(), path).await.map_err(git_error(&source.name))?;
                mirrors.insert((project.name.clone(), source.name.clone()), mirror);
            }
        }
        Ok(Self {
            directory,
            mirrors,
            in_use: RwLock::new(()),
            primary,
            listings: Arc::default(),
        })
    }

    /// The right to let go of what nobody uses; `None` while somebody is busy fetching. Whoever comes to fetch waits for a moment at
    /// most: without any wait this would never be had where somebody always fetches.
    pub(crate) async fn alone(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        timeout(ALONE, self.in_use.write()).await.ok()
    }

    fn mirror(&self, project: &ProjectName, source: &SourceName) -> Result<&Mirror, RepositoryError> {
        self.mirrors
            .get(&(project.clone(), self.repository_of(project, source).clone()))
            .ok_or_else(|| RepositoryError::Unknown {
                project: project.clone(),
                source_name: source.clone(),
            })
    }

    /// The source whose repository holds the commits that are pinned under this name.
    pub(crate) fn repository_of<'a>(&'a self, project: &ProjectName, source: &'a SourceName) -> &'a SourceName {
        match self.primary.get(project) {
            Some(primary) if service_source::is(source) => primary,
            _ => source,
        }
    }

    /// Fetches a commit unless it is here. `via` is a reference under which the remote has it.
    pub(crate) async fn ensure(
        &self,
        project: &ProjectName,
        source: &Source,
        commit: &CommitId,
        via: Option<&str>,
    ) -> Result<(), RepositoryError> {
        let mirror = self.mirror(project, &source.name)?;
        if mirror.has(commit) {
            return Ok(());
        }
        let remote = source
            .forge
            .remote(&source.repository)
            .await
            .map_err(|error| RepositoryError::Forge {
                source_name: source.name.clone(),
                source: error,
            })?;
        mirror
            .fetch(&remote, commit, via)
            .await
            .map_err(git_error(&source.name))
    }

    /// The files of a commit, to be written by a runtime.
    pub(crate) fn checkout(
        &self,
        project: &ProjectName,
        source: &SourceName,
        commit: &CommitId,
    ) -> Result<CommitCheckout, RepositoryError> {
        Ok(CommitCheckout {
            mirror: self.mirror(project, source)?.clone(),
            commit: commit.clone(),
            listings: Arc::clone(&self.listings),
        })
    }

    /// The files of a commit, to be read by a blueprint.
    pub(crate) async fn tree(
        &self,
        project: &ProjectName,
        source: &SourceName,
        commit: &CommitId,
    ) -> Result<CommitTree, RepositoryError> {
        let mirror = self.mirror(project, source)?.clone();
        let listing = self.listings.of(&mirror, commit).await.map_err(git_error(source))?;
        Ok(CommitTree {
            mirror,
            listing,
            listings: Arc::clone(&self.listings),
            handle: Handle::current(),
            trouble: GitTrouble::default(),
        })
    }

    /// Whether `older` is in the history of `newer`. A commit that is not here is in no history.
    pub(crate) async fn is_ancestor(
        &self,
        project: &ProjectName,
        source: &SourceName,
        older: &CommitId,
        newer: &CommitId,
    ) -> Result<bool, RepositoryError> {
        let mirror = self.mirror(project, source)?;
        if !mirror.has(older) || !mirror.has(newer) {
            return Ok(false);
        }
        mirror.is_ancestor(older, newer).await.map_err(git_error(source))
    }

    /// One file of a commit.
    pub(crate) async fn file(
        &self,
        project: &ProjectName,
        source: &SourceName,
        commit: &CommitId,
        path: &str,
    ) -> Result<Vec<u8>, RepositoryError> {
        let mirror = self.mirror(project, source)?;
        let read = async {
            let listing = self.listings.of(mirror, commit).await?;
            match listing.get(path) {
                Some(entry) if matches!(entry.kind, EntryKind::File { .. }) => {
                    self.listings.read(mirror, entry, FILE_BYTES_MAX).await
                }
                _ => Err(GitError::NoSuchFile {
                    commit: commit.clone(),
                    path: forge::display(path, 200).into(),
                }),
            }
        };
        Ok(read.await.map_err(git_error(source))?.to_vec())
    }

    /// Where the mirrors are, and the names of those that the configuration asks for.
    pub(crate) fn places(&self) -> (PathBuf, BTreeSet<String>) {
        let names = self.mirrors.keys().map(|(project, source)| place(project, source));
        (self.directory.clone(), names.collect())
    }

    /// Lets go of all commits of a source but these. The caller holds [`Self::in_use`] since before it listed them.
    pub(crate) async fn retain(
        &self,
        project: &ProjectName,
        source: &SourceName,
        commits: &BTreeSet<CommitId>,
    ) -> Result<(), RepositoryError> {
        let commits: Vec<CommitId> = commits.iter().cloned().collect();
        self.mirror(project, source)?
            .retain(&commits)
            .await
            .map_err(git_error(source))
    }
}

/// The name of the directory of a mirror.
fn place(project: &ProjectName, source: &SourceName) -> String {
    format!("{project}--{source}.git")
}

fn git_error(source_name: &SourceName) -> impl FnOnce(GitError) -> RepositoryError {
    let source_name = source_name.clone();
    move |source| RepositoryError::Git { source_name, source }
}

/// A commit whose files a runtime may ask for.
pub(crate) struct CommitCheckout {
    mirror: Mirror,
    commit: CommitId,
    listings: Arc<Listings>,
}

#[async_trait]
impl runtime::Checkout for CommitCheckout {
    async fn write(&self, into: &Path) -> Result<(), String> {
        let write = async {
            let listing = self.listings.of(&self.mirror, &self.commit).await?;
            let limits = ExportLimits::default();
            self.mirror.export_listed(&listing.entries, into, limits).await
        };
        write.await.map(|_| ()).map_err(|error| crate::text::chain(&error))
    }
}

/// Submodules and pointers of Git LFS that are told one by one.
const FINDINGS_MAX: usize = 5;

fn note(finding: &Finding) -> String {
    let shown = |path: &str| forge::display(path, 200);
    match finding {
        Finding::Submodule { path } => format!(
            "{} is a submodule: submodules are not fetched, its directory is empty here.",
            shown(path)
        ),
        Finding::LfsPointer { path } => format!(
            "{} is in Git LFS, which is not fetched: the file holds its pointer instead of its content.",
            shown(path)
        ),
    }
}

/// How git failed first while files were read through a tree, which itself can only say that there is nothing to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct GitTrouble(Arc<Mutex<Option<GitError>>>);

impl GitTrouble {
    fn note(&self, error: GitError) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
    }

    /// To be asked before anything is concluded from what was read.
    ///
    /// # Errors
    /// The first failure, if there was one.
    pub(crate) fn end(&self, source: &SourceName) -> Result<(), RepositoryError> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.map_or(Ok(()), |error| Err(git_error(source)(error)))
    }
}

/// The files of a commit. Reading blocks: it belongs on a blocking thread of a tokio runtime.
pub(crate) struct CommitTree {
    mirror: Mirror,
    listing: Arc<Listing>,
    listings: Arc<Listings>,
    handle: Handle,
    trouble: GitTrouble,
}

impl CommitTree {
    /// What goes wrong with git from now on.
    pub(crate) fn trouble(&self) -> GitTrouble {
        self.trouble.clone()
    }

    /// What people should know of the commit's files, in words.
    pub(crate) async fn notes(&self, source: &SourceName) -> Result<Vec<String>, RepositoryError> {
        let read = self.listing.notes.get_or_try_init(|| async {
            let found = self.mirror.inspect(&self.listing.entries).await?;
            let more = found.len().saturating_sub(FINDINGS_MAX);
            let mut notes: Vec<String> = found.iter().take(FINDINGS_MAX).map(note).collect();
            if more > 0 {
                notes.push(format!("There are {more} more submodules or pointers of Git LFS."));
            }
            Ok(notes)
        });
        read.await.cloned().map_err(git_error(source))
    }
}

impl Tree for CommitTree {
    fn kind(&self, path: &str) -> Option<Kind> {
        match self.listing.get(path) {
            Some(entry) => Some(match entry.kind {
                EntryKind::File { .. } => Kind::File { bytes: entry.size },
                EntryKind::Link => Kind::Link,
                EntryKind::Submodule => Kind::Submodule,
            }),
            None => self.listing.directories.contains(path).then_some(Kind::Directory),
        }
    }

    fn read(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        let entry = self.listing.get(path)?;
        let read = self.listings.read(&self.mirror, entry, FILE_BYTES_MAX);
        match self.handle.block_on(read) {
            Ok(bytes) => Some(Cow::Owned(bytes.to_vec())),
            // Of this file, whenever it is read.
            Err(GitError::Limit { .. }) => None,
            Err(error) => {
                self.trouble.note(error);
                None
            }
        }
    }

    fn content_id(&self, path: &str) -> Option<String> {
        let entry = self.listing.get(path)?;
        let mode = match entry.kind {
            EntryKind::File { executable: false } => "",
            EntryKind::File { executable: true } => "+x",
            EntryKind::Link => "@",
            EntryKind::Submodule => return None,
        };
        Some(format!("{}{mode}", entry.object))
    }

    fn list(&self) -> Vec<String> {
        self.listing.by_path().map(|entry| entry.path.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
