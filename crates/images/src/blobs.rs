//! The store of blobs: each under its digest, verified before it has that name.

use crate::{
    digest::BlobDigest,
    error::{Error, Result},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::SystemTime,
};
use tokio::io::AsyncWriteExt;

/// A directory of blobs. Several processes must not share it; several tasks may.
#[derive(Debug)]
pub struct Blobs {
    dir: PathBuf,
    /// Who fetches what: a second pull of the same layer waits for the first.
    fetching: Mutex<BTreeMap<BlobDigest, Weak<tokio::sync::Mutex<()>>>>,
}

/// What [`Blobs::collect`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A blob that is being written. Dropped without [`Draft::keep`] it leaves nothing.
#[derive(Debug)]
pub(crate) struct Draft {
    file: tokio::fs::File,
    path: PathBuf,
    hasher: Sha256,
    written: u64,
}

impl Blobs {
    /// Opens a store, making it if there is none. What an earlier run left half written is removed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(dir: &Path) -> Result<Self> {
        let drafts = dir.join("drafts");
        match fs::remove_dir_all(&drafts) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("removed", &drafts)(error)),
            _ => {}
        }
        for path in [drafts, dir.join("sha256")] {
            fs::create_dir_all(&path).map_err(Error::io("made", &path))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            fetching: Mutex::default(),
        })
    }

    /// Where a blob is, if it is there.
    #[must_use]
    pub fn path(&self, digest: &BlobDigest) -> Option<PathBuf> {
        let path = self.place(digest);
        path.is_file().then_some(path)
    }

    /// Reads a small blob and verifies it again; one that was damaged on the disk is removed, so that it is fetched anew.
    pub(crate) fn read(&self, digest: &BlobDigest, most: u64) -> Result<Option<Vec<u8>>> {
        let path = self.place(digest);
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Error::io("read", &path))?,
        };
        let mut bytes = Vec::new();
        file.take(most)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &path))?;
        if BlobDigest::of(&bytes) == *digest {
            return Ok(Some(bytes));
        }
        fs::remove_file(&path).map_err(Error::io("removed", &path))?;
        Ok(None)
    }

    /// Looks at kept blobs again and removes each that is not what its name says, or can not be read: a disk may have damaged it, and it
    /// is fetched anew then. Returns how many. Reads all of them, so it blocks for as long as that takes.
    ///
    /// # Errors
    /// [`Error::Io`] when one can not be removed.
    pub fn discard_damaged(&self, digests: impl IntoIterator<Item = BlobDigest>) -> Result<u64> {
        let mut discarded = 0;
        for digest in digests {
            let path = self.place(&digest);
            let sound = match fs::File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.and_then(|mut file| {
                    let mut hasher = Sha256::new();
                    std::io::copy(&mut file, &mut hasher)?;
                    Ok(BlobDigest::finish(hasher) == digest)
                }),
            };
            if sound.unwrap_or(false) {
                continue;
            }
            tracing::warn!(%digest, "a layer that was kept is damaged and is thrown away");
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("removed", &path)(error)),
                _ => discarded += 1,
            }
        }
        Ok(discarded)
    }

    /// Keeps a small blob.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<BlobDigest> {
        let digest = BlobDigest::of(bytes);
        let draft = self.draft_path();
        fs::write(&draft, bytes).map_err(Error::io("written", &draft))?;
        let place = self.place(&digest);
        fs::rename(&draft, &place).map_err(Error::io("written", &place))?;
        Ok(digest)
    }

    pub(crate) async fn draft(&self) -> Result<Draft> {
        let path = self.draft_path();
        let file = tokio::fs::File::create(&path)
            .await
            .map_err(Error::io("written", &path))?;
        Ok(Draft {
            file,
            path,
            hasher: Sha256::new(),
            written: 0,
        })
    }

    /// Whoever holds the guard is the one that fetches this blob.
    pub(crate) fn turn(&self, digest: &BlobDigest) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetching.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = fetching.get(digest).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        fetching.insert(*digest, Arc::downgrade(&turn));
        turn
    }

    /// Removes every blob that is not in `keep` and was last written before `before`: a younger one may belong to a pull that is
    /// under way.
    ///
    /// # Errors
    /// [`Error::Io`]; what was removed until then stays removed.
    pub fn collect(&self, keep: &BTreeSet<BlobDigest>, before: SystemTime) -> Result<Collected> {
        let mut collected = Collected::default();
        let dir = self.dir.join("sha256");
        for entry in fs::read_dir(&dir).map_err(Error::io("read", &dir))? {
            let entry = entry.map_err(Error::io("read", &dir))?;
            let path = entry.path();
            let kept = entry
                .file_name()
                .to_str()
                .and_then(|name| format!("sha256:{name}").parse().ok())
                .is_some_and(|digest| keep.contains(&digest));
            let metadata = entry.metadata().map_err(Error::io("read", &path))?;
            let old = metadata.modified().is_ok_and(|modified| modified < before);
            if !kept && old {
                fs::remove_file(&path).map_err(Error::io("removed", &path))?;
                collected.blobs += 1;
                collected.bytes += metadata.len();
            }
        }
        Ok(collected)
    }

    /// Removes the blobs that were written first, until those that are left have at most `most` bytes together; none that was last
    /// written after `before`.
    ///
    /// # Errors
    /// [`Error::Io`]; what was removed until then stays removed.
    pub fn trim(&self, most: u64, before: SystemTime) -> Result<Collected> {
        let dir = self.dir.join("sha256");
        let mut all = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::io("read", &dir))? {
            let path = entry.map_err(Error::io("read", &dir))?.path();
            let metadata = fs::metadata(&path).map_err(Error::io("read", &path))?;
            let written = metadata.modified().map_err(Error::io("read", &path))?;
            all.push((written, metadata.len(), path));
        }
        all.sort();
        let mut total: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
        let mut collected = Collected::default();
        for (written, bytes, path) in all {
            if total <= most || written >= before {
                break;
            }
            fs::remove_file(&path).map_err(Error::io("removed", &path))?;
            total -= bytes;
            collected.blobs += 1;
            collected.bytes += bytes;
        }
        Ok(collected)
    }

    fn place(&self, digest: &BlobDigest) -> PathBuf {
        self.dir.join("sha256").join(digest.hex())
    }

    fn draft_path(&self) -> PathBuf {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.dir.join("drafts").join(number.to_string())
    }
}

impl Draft {
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .await
            .map_err(Error::io("written", &self.path))
    }

    /// Gives the blob its name if it is what it should be. Else returns what it is.
    pub(crate) async fn keep(
        mut self,
        blobs: &Blobs,
        wanted: &BlobDigest,
    ) -> Result<std::result::Result<(), BlobDigest>> {
        let got = BlobDigest::finish(std::mem::take(&mut self.hasher));
        if got != *wanted {
            return Ok(Err(got));
        }
        // The data must be on the disk before the name is: a power cut would leave a name that promises what is not there.
        let synced = async {
            self.file.flush().await?;
            self.file.sync_data().await
        };
        synced.await.map_err(Error::io("written", &self.path))?;
        let place = blobs.place(wanted);
        fs::rename(&self.path, &place).map_err(Error::io("written", &place))?;
        Ok(Ok(()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn store() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        (dir, blobs)
    }

    #[tokio::test]
    async fn only_what_is_as_promised_gets_its_name() {
        let (dir, blobs) = store();
        let wanted = BlobDigest::of(b"layer");
        let mut draft = blobs.draft().await.unwrap();
        draft.write(b"lay").await.unwrap();
        draft.write(b"er").await.unwrap();
        assert_eq!(draft.keep(&blobs, &wanted).await.unwrap(), Ok(()));
        assert!(blobs.path(&wanted).is_some());

        let other = BlobDigest::of(b"another");
        let mut draft = blobs.draft().await.unwrap();
        draft.write(b"a lie").await.unwrap();
        assert_eq!(draft.keep(&blobs, &other).await.unwrap(), Err(BlobDigest::of(b"a lie")));
        assert!(blobs.path(&other).is_none());
        assert_eq!(fs::read_dir(dir.path().join("drafts")).unwrap().count(), 0);
    }

    #[test]
    fn what_was_damaged_on_the_disk_is_fetched_again() {
        let (_dir, blobs) = store();
        let digest = blobs.put(b"manifest").unwrap();
        assert_eq!(blobs.read(&digest, 100).unwrap().unwrap(), b"manifest");
        fs::write(blobs.path(&digest).unwrap(), b"manifesT").unwrap();
        assert_eq!(blobs.read(&digest, 100).unwrap(), None);
        assert!(blobs.path(&digest).is_none());
    }

    #[test]
    fn of_kept_layers_only_the_damaged_ones_are_thrown_away() {
        let (_dir, blobs) = store();
        let [sound, damaged, short, absent] =
            [&b"sound"[..], b"damaged", b"short", b"absent"].map(|b| blobs.put(b).unwrap());
        fs::write(blobs.path(&damaged).unwrap(), b"damagex").unwrap();
        fs::write(blobs.path(&short).unwrap(), b"sho").unwrap();
        fs::remove_file(blobs.path(&absent).unwrap()).unwrap();
        let all = [sound, damaged, short, absent];
        assert_eq!(blobs.discard_damaged(all).unwrap(), 2);
        assert_eq!(
            all.map(|digest| blobs.path(&digest).is_some()),
            [true, false, false, false]
        );
        assert_eq!(blobs.discard_damaged(all).unwrap(), 0);
    }

    #[test]
    fn collecting_keeps_what_is_named_and_what_is_young() {
        let (_dir, blobs) = store();
        let used = blobs.put(b"used").unwrap();
        let unused = blobs.put(b"unused").unwrap();
        let keep = BTreeSet::from([used]);
        let earlier = SystemTime::now() - Duration::from_secs(3600);
        assert_eq!(blobs.collect(&keep, earlier).unwrap(), Collected::default());
        let later = SystemTime::now() + Duration::from_secs(3600);
        let collected = blobs.collect(&keep, later).unwrap();
        assert_eq!((collected.blobs, collected.bytes), (1, 6));
        assert!(blobs.path(&used).is_some() && blobs.path(&unused).is_none());
    }
}
