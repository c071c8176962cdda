//! What commits hold, remembered: a commit never changes, so what was read of it once need not be read again.

use forge::git::{GitError, Mirror, ObjectId, TreeEntry, TreeLimits};
use model::CommitId;
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::OnceCell;

/// The most entries in all listings that are remembered: some megabytes. A larger commit is listed each time.
const ENTRIES_MAX: usize = 20_000;
/// The largest file that is remembered, and all of them together, in bytes.
const FILE_MAX: u64 = 64 << 10;
const FILES_MAX: usize = 2 << 20;

/// The files of one commit.
#[derive(Debug)]
pub(crate) struct Listing {
    /// In git's order.
    pub(crate) entries: Vec<TreeEntry>,
    /// Places in `entries`, in the order of their paths.
    sorted: Vec<usize>,
    /// All directories; the root is the empty path.
    pub(crate) directories: BTreeSet<String>,
    /// What people should know of the files, once somebody has asked.
    pub(crate) notes: OnceCell<Vec<String>>,
}

impl Listing {
    fn new(entries: Vec<TreeEntry>) -> Self {
        let mut directories = BTreeSet::from([String::new()]);
        for entry in &entries {
            let parents = entry.path.match_indices('/').map(|(end, _)| &entry.path[..end]);
            for parent in parents {
                if !directories.contains(parent) {
                    directories.insert(parent.to_owned());
                }
            }
        }
        let mut sorted: Vec<usize> = (0..entries.len()).collect();
        sorted.sort_by(|a, b| entries[*a].path.cmp(&entries[*b].path));
        Self {
            entries,
            sorted,
            directories,
            notes: OnceCell::new(),
        }
    }

    /// What stands at a path, unless it is a directory or nothing.
    pub(crate) fn get(&self, path: &str) -> Option<&TreeEntry> {
        let found = self
            .sorted
            .binary_search_by(|place| self.entries[*place].path.as_str().cmp(path));
        found.ok().map(|at| &self.entries[self.sorted[at]])
    }

    /// All entries in the order of their paths.
    pub(crate) fn by_path(&self) -> impl Iterator<Item = &TreeEntry> {
        self.sorted.iter().map(|place| &self.entries[*place])
    }
}

/// The listings and small files that were read lately.
#[derive(Debug, Default)]
pub(crate) struct Listings(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// What was used last stands at the end.
    listings: VecDeque<(PathBuf, CommitId, Arc<Listing>)>,
    entries: usize,
    files: HashMap<ObjectId, Arc<[u8]>>,
    bytes: usize,
}

impl Kept {
    fn keep(&mut self, mirror: &Path, commit: &CommitId, listing: &Arc<Listing>) {
        if listing.entries.len() > ENTRIES_MAX || self.find(mirror, commit).is_some() {
            return;
        }
        self.entries += listing.entries.len();
        let (mirror, commit) = (mirror.to_owned(), commit.clone());
        self.listings.push_back((mirror, commit, Arc::clone(listing)));
        // An empty commit takes room, too.
        while self.entries + self.listings.len() > ENTRIES_MAX {
            let Some((_, _, oldest)) = self.listings.pop_front() else {
                return;
            };
            self.entries -= oldest.entries.len();
        }
    }

    fn find(&mut self, mirror: &Path, commit: &CommitId) -> Option<Arc<Listing>> {
        let place = self
            .listings
            .iter()
            .position(|(of, found, _)| of == mirror && found == commit)?;
        let used = self.listings.remove(place)?;
        let listing = Arc::clone(&used.2);
        self.listings.push_back(used);
        Some(listing)
    }
}

impl Listings {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of a commit.
    pub(crate) async fn of(&self, mirror: &Mirror, commit: &CommitId) -> Result<Arc<Listing>, GitError> {
        if let Some(known) = self.kept().find(mirror.path(), commit) {
            return Ok(known);
        }
        let listing = Arc::new(Listing::new(mirror.read_tree(commit, TreeLimits::default()).await?));
        self.kept().keep(mirror.path(), commit, &listing);
        Ok(listing)
    }

    /// The content of a file of at most `max` bytes.
    pub(crate) async fn read(&self, mirror: &Mirror, entry: &TreeEntry, max: u64) -> Result<Arc<[u8]>, GitError> {
        if let Some(known) = self.kept().files.get(&entry.object)
            && known.len() as u64 <= max
        {
            return Ok(Arc::clone(known));
        }
        let bytes: Arc<[u8]> = mirror.read_object(entry, max).await?.into();
        if entry.size <= FILE_MAX {
            let mut kept = self.kept();
            if kept.bytes + bytes.len() > FILES_MAX {
                kept.files.clear();
                kept.bytes = 0;
            }
            if kept.files.insert(entry.object.clone(), Arc::clone(&bytes)).is_none() {
                kept.bytes += bytes.len();
            }
        }
        Ok(bytes)
    }
}
