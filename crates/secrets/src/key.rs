//! The key of an instance: an age identity in a file that only its owner reads.

use crate::{
    error::{Error, Result},
    file,
};
use age::{
    secrecy::ExposeSecret,
    x25519::{Identity, Recipient},
};
use std::path::Path;
use zeroize::Zeroizing;

/// A file of keys is short; whatever is longer is something else.
const MAX_FILE: u64 = 64 * 1024;

/// What seals the secrets of an instance and opens them again. It does not print, and leaves no copy when dropped.
pub struct Key(Identity);

impl Key {
    /// Reads the key, or draws one and writes it when there is none.
    ///
    /// `vault` is the directory of the secrets: when it holds some, a missing key is an error, since a new one could not
    /// open them.
    ///
    /// The file is what `age-keygen` writes: comments, and one line `AGE-SECRET-KEY-1…`.
    ///
    /// # Errors
    /// [`Error::Open`] when others may read it, [`Error::NoKey`], [`Error::KeyLost`], [`Error::Io`].
    pub fn open_or_draw(path: &Path, vault: &Path) -> Result<Self> {
        if let Some(key) = Self::open(path)? {
            return Ok(key);
        }
        if holds_files(vault) {
            return Err(Error::KeyLost {
                key: path.to_owned(),
                vault: vault.to_owned(),
            });
        }
        let identity = Identity::generate();
        let secret = identity.to_string();
        let text = Zeroizing::new(format!(
            "# Opens the secrets of this instance. Keep a copy elsewhere: without it they are lost.\n# public key: {}\n{}\n",
            identity.to_public(),
            secret.expose_secret(),
        ));
        file::replace(path, text.as_bytes())?;
        Ok(Self(identity))
    }

    /// Reads the key; `None` if there is no such file.
    ///
    /// # Errors
    /// As [`Self::open_or_draw`].
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let Some(bytes) = file::read(path, MAX_FILE)? else {
            return Ok(None);
        };
        file::closed(path, 0o600)?;
        let no_key = || Error::NoKey { path: path.to_owned() };
        let identity = std::str::from_utf8(&bytes)
            .map_err(|_| no_key())?
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with("AGE-SECRET-KEY-1"))
            .and_then(|line| line.parse().ok())
            .ok_or_else(no_key)?;
        Ok(Some(Self(identity)))
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.0
    }

    pub(crate) fn recipient(&self) -> Recipient {
        self.0.to_public()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Whether there is any sealed file below a directory of projects.
fn holds_files(vault: &Path) -> bool {
    let Ok(projects) = std::fs::read_dir(vault) else {
        return false;
    };
    projects
        .flatten()
        .filter_map(|project| std::fs::read_dir(project.path()).ok())
        .any(|mut files| files.next().is_some())
}
