//! The vault: a directory per project, in it one sealed file per secret.

use crate::{
    error::{Error, Result},
    file,
    key::Key,
    name::SecretName,
    value::SecretValue,
};
use model::{ProjectName, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// What age adds to a value, and the label: a bound for what is read, generous.
const MAX_FILE: u64 = SecretValue::MAX as u64 + 64 * 1024;
/// More than this is a program that went wrong.
const MAX_SECRETS: usize = 1000;

/// Tells one value of a secret from the next. Drawn at random: it says nothing about the value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(String);

impl Version {
    fn draw() -> Result<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|_| Error::Random)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// The version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What may be known of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: SecretName,
    /// Which value it has now.
    pub version: Version,
    /// When that value was set.
    pub set: Timestamp,
    /// Why it looked like production's or staging's, if somebody insisted on it nevertheless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub despite: Option<String>,
}

/// Sealed together with the value, so that a file that was moved to another's place is noticed.
#[derive(Serialize, Deserialize)]
struct Label {
    project: ProjectName,
    #[serde(flatten)]
    entry: Entry,
}

/// The secrets of an instance.
#[derive(Debug)]
pub struct Vault {
    dir: PathBuf,
    key: Key,
    /// What the files say, without the values. One writer at a time.
    known: Mutex<BTreeMap<ProjectName, BTreeMap<SecretName, Entry>>>,
}

impl Vault {
    /// Opens the vault in `dir`, making the directory and, at the first start, the key.
    ///
    /// # Errors
    /// What [`Key::open_or_draw`] returns; [`Error::Sealed`] and [`Error::Misplaced`] when a file can not be used, so that a
    /// damaged vault is seen at the start and not by an environment.
    pub fn open(dir: &Path, key: &Path) -> Result<Self> {
        file::private_dir(dir)?;
        let key = Key::open_or_draw(key, dir)?;
        let vault = Self {
            dir: dir.to_owned(),
            key,
            known: Mutex::default(),
        };
        let known = vault.read_all()?;
        *vault.lock() = known;
        Ok(vault)
    }

    /// Sets a secret, new or not, and returns what may be known of it. `despite` is what the guard said against it
    /// ([`crate::suspicion`]), where somebody insists.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TooMany`]; the old value then stays.
    pub fn set(
        &self,
        project: &ProjectName,
        name: &SecretName,
        value: &SecretValue,
        now: Timestamp,
        despite: Option<String>,
    ) -> Result<Entry> {
        let mut known = self.lock();
        let of_project = known.entry(project.clone()).or_default();
        if !of_project.contains_key(name) && of_project.len() >= MAX_SECRETS {
            return Err(Error::TooMany {
                project: project.to_string(),
                limit: MAX_SECRETS,
            });
        }
        let entry = Entry {
            name: name.clone(),
            version: Version::draw()?,
            set: now,
            despite,
        };
        let path = self.path(project, name);
        let sealed = self.seal(project, &entry, value, &path)?;
        file::private_dir(path.parent().unwrap_or(&self.dir))?;
        file::replace(&path, &sealed)?;
        of_project.insert(name.clone(), entry.clone());
        Ok(entry)
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Io`].
    pub fn remove(&self, project: &ProjectName, name: &SecretName) -> Result<()> {
        let mut known = self.lock();
        let removed = file::remove(&self.path(project, name))?;
        let forgotten = known.get_mut(project).and_then(|names| names.remove(name));
        if removed || forgotten.is_some() {
            return Ok(());
        }
        Err(Error::Unknown {
            project: project.to_string(),
            name: name.clone(),
        })
    }

    /// What may be known of a project's secrets, by name.
    #[must_use]
    pub fn list(&self, project: &ProjectName) -> Vec<Entry> {
        let known = self.lock();
        known
            .get(project)
            .map(|names| names.values().cloned().collect())
            .unwrap_or_default()
    }

    /// What may be known of one secret.
    #[must_use]
    pub fn entry(&self, project: &ProjectName, name: &SecretName) -> Option<Entry> {
        self.lock().get(project)?.get(name).cloned()
    }

    /// The value, for the moment of its use only. Nothing keeps it.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Sealed`], [`Error::Misplaced`], [`Error::Io`].
    pub fn value(&self, project: &ProjectName, name: &SecretName) -> Result<SecretValue> {
        let path = self.path(project, name);
        let Some(sealed) = file::read(&path, MAX_FILE)? else {
            return Err(Error::Unknown {
                project: project.to_string(),
                name: name.clone(),
            });
        };
        let (label, value) = self.unseal(&sealed, &path)?;
        if label.project != *project || label.entry.name != *name {
            return Err(Error::Misplaced { path });
        }
        Ok(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ProjectName, BTreeMap<SecretName, Entry>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, project: &ProjectName, name: &SecretName) -> PathBuf {
        // A name may hold a dot, so the ending is appended, not set: `tls.pem` becomes `tls.pem.age`.
        self.dir.join(project.as_str()).join(format!("{name}.age"))
    }

    fn seal(&self, project: &ProjectName, entry: &Entry, value: &SecretValue, path: &Path) -> Result<Vec<u8>> {
        let label = Label {
            project: project.clone(),
            entry: entry.clone(),
        };
        let failed = |source: std::io::Error| Error::io("sealed", path)(source);
        let label = serde_json::to_vec(&label).map_err(|error| failed(error.into()))?;
        let mut plain = Zeroizing::new(Vec::with_capacity(label.len() + 1 + value.expose().len()));
        plain.extend_from_slice(&label);
        plain.push(b'\n');
        plain.extend_from_slice(value.expose());
        age::encrypt(&self.key.recipient(), &plain).map_err(|error| failed(std::io::Error::other(error)))
    }

    fn unseal(&self, sealed: &[u8], path: &Path) -> Result<(Label, SecretValue)> {
        let broken = || Error::Sealed { path: path.to_owned() };
        let plain = Zeroizing::new(age::decrypt(self.key.identity(), sealed).map_err(|_| broken())?);
        // JSON holds no newline of its own, so the first one ends the label.
        let end = plain.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
        let label = serde_json::from_slice(&plain[..end]).map_err(|_| broken())?;
        let value = SecretValue::new(plain[end + 1..].to_vec()).map_err(|_| broken())?;
        Ok((label, value))
    }

    fn read_all(&self) -> Result<BTreeMap<ProjectName, BTreeMap<SecretName, Entry>>> {
        let mut all: BTreeMap<ProjectName, BTreeMap<SecretName, Entry>> = BTreeMap::new();
        for dir in entries(&self.dir)? {
            for path in entries(&dir)? {
                // A draft that a cut left behind is not a secret: its rename is what makes it one.
                if path.extension().is_some_and(|ending| ending == "draft") {
                    file::remove(&path)?;
                    continue;
                }
                file::closed(&path, 0o600)?;
                let Some(sealed) = file::read(&path, MAX_FILE)? else {
                    continue;
                };
                let (Label { project, entry }, _) = self.unseal(&sealed, &path)?;
                if self.path(&project, &entry.name) != path {
                    return Err(Error::Misplaced { path });
                }
                all.entry(project).or_default().insert(entry.name.clone(), entry);
            }
        }
        Ok(all)
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(dir)
        .map_err(Error::io("read", dir))?
        .map(|entry| Ok(entry.map_err(Error::io("read", dir))?.path()))
        .collect()
}
