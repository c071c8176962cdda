//! What is kept: two files a message, the message as it came and its envelope. The oldest go when there is no room.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The largest envelope that is read again, in bytes.
const ENVELOPE_MAX: u64 = 256 * 1024;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The largest message, in bytes.
    pub message_bytes: u64,
    /// Messages.
    pub messages: usize,
    /// Bytes of all messages together.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            message_bytes: 10 << 20,
            messages: 500,
            bytes: 100 << 20,
        }
    }
}

/// What a client said about a message, and what a list shows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// When it came, in milliseconds since the epoch.
    pub at: u64,
    /// Whom it is from, as the client said.
    pub from: String,
    /// Whom it is for, as the client said.
    pub to: Vec<String>,
    /// Its subject, shortened.
    pub subject: String,
    /// Its size in bytes.
    pub size: u64,
}

/// One message of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its number, from 1 and never used twice.
    pub id: u64,
    /// The rest.
    #[serde(flatten)]
    pub envelope: Envelope,
}

/// The messages of an environment.
#[derive(Debug)]
pub struct Keep {
    directory: PathBuf,
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    messages: BTreeMap<u64, Envelope>,
    last: u64,
}

impl Keep {
    /// Reads what a directory holds. What an interrupted write left is removed.
    ///
    /// # Errors
    /// If the directory can not be read.
    pub fn open(directory: &Path, bounds: Bounds) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut state = State::default();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let number = |suffix: &str| name.strip_suffix(suffix).and_then(|number| number.parse::<u64>().ok());
            if name.ends_with(".part") {
                fs::remove_file(directory.join(name))?;
            } else if let Some(id) = number(".json") {
                state.last = state.last.max(id);
                // The envelope is written first: without the message it is none.
                match envelope(directory, id) {
                    Some(found) => drop(state.messages.insert(id, found)),
                    None => remove(directory, id)?,
                }
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            bounds,
            state: Mutex::new(state),
        })
    }

    /// How much is kept.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message and forgets the oldest ones beyond the bounds.
    ///
    /// # Errors
    /// If it can not be written; then nothing of it is kept.
    pub fn put(&self, envelope: Envelope, message: &[u8]) -> io::Result<u64> {
        let mut state = self.state();
        let id = state.last + 1;
        state.last = id;
        let size = |state: &State| state.messages.values().map(|kept| kept.size).sum::<u64>();
        while let Some((oldest, _)) = state.messages.first_key_value()
            && (state.messages.len() >= self.bounds.messages.max(1)
                || size(&state).saturating_add(envelope.size) > self.bounds.bytes)
        {
            let oldest = *oldest;
            remove(&self.directory, oldest)?;
            state.messages.remove(&oldest);
        }
        let written = write(&self.directory, &format!("{id}.json"), &serde_json::to_vec(&envelope)?)
            .and_then(|()| write(&self.directory, &format!("{id}.eml"), message));
        if let Err(error) = written {
            let _ = remove(&self.directory, id);
            return Err(error);
        }
        state.messages.insert(id, envelope);
        Ok(id)
    }

    /// All messages, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Kept> {
        let state = self.state();
        let all = state.messages.iter().rev();
        all.map(|(id, envelope)| Kept {
            id: *id,
            envelope: envelope.clone(),
        })
        .collect()
    }

    /// One message as it came; `None` if there is none.
    ///
    /// # Errors
    /// If it can not be read.
    pub fn get(&self, id: u64) -> io::Result<Option<(Kept, Vec<u8>)>> {
        let Some(envelope) = self.state().messages.get(&id).cloned() else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let file = fs::File::open(self.directory.join(format!("{id}.eml")))?;
        file.take(self.bounds.message_bytes.saturating_add(ENVELOPE_MAX))
            .read_to_end(&mut bytes)?;
        Ok(Some((Kept { id, envelope }, bytes)))
    }
}

fn envelope(directory: &Path, id: u64) -> Option<Envelope> {
    let mut bytes = Vec::new();
    let file = fs::File::open(directory.join(format!("{id}.json"))).ok()?;
    file.take(ENVELOPE_MAX).read_to_end(&mut bytes).ok()?;
    fs::metadata(directory.join(format!("{id}.eml"))).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let part = directory.join(format!("{name}.part"));
    fs::write(&part, bytes)?;
    fs::rename(part, directory.join(name))
}

fn remove(directory: &Path, id: u64) -> io::Result<()> {
    for suffix in ["eml", "json"] {
        match fs::remove_file(directory.join(format!("{id}.{suffix}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: usize) -> (Envelope, Vec<u8>) {
        let envelope = Envelope {
            size: size as u64,
            ..Envelope::default()
        };
        (envelope, vec![b'x'; size])
    }

    #[test]
    fn the_oldest_go_and_numbers_are_never_used_twice() {
        let place = tempfile::tempdir().unwrap();
        let bounds = Bounds {
            message_bytes: 100,
            messages: 3,
            bytes: 250,
        };
        let keep = Keep::open(place.path(), bounds).unwrap();
        let put = |keep: &Keep, size| {
            let (envelope, bytes) = of(size);
            keep.put(envelope, &bytes).unwrap()
        };
        let ids = |keep: &Keep| keep.list().iter().map(|kept| kept.id).collect::<Vec<_>>();
        for size in [100, 100, 10, 10] {
            put(&keep, size);
        }
        assert_eq!(ids(&keep), [4, 3, 2], "three at most");
        put(&keep, 200);
        assert_eq!(ids(&keep), [5, 4, 3], "and so many bytes");
        drop(keep);
        fs::write(place.path().join("9.eml.part"), "cut").unwrap();
        fs::write(place.path().join("8.json"), "{").unwrap();
        let keep = Keep::open(place.path(), bounds).unwrap();
        assert_eq!(ids(&keep), [5, 4, 3], "they are there after a restart");
        assert_eq!(put(&keep, 1), 9);
        assert!(keep.get(4).unwrap().is_none() || ids(&keep).contains(&4));
        let names = fs::read_dir(place.path()).unwrap().count();
        assert_eq!(names, 2 * ids(&keep).len(), "nothing else is left");
    }
}
