//! The id of an installation. Names of all that is made outside contain it, so it must outlive the database: it stands in a small
//! file beside it, too, which is written first.

use crate::{
    Result, Store, StoreError,
    column::Columns,
    error::{failed, unopened},
};
use model::InstanceId;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Nothing that was written here is larger.
const FILE_MAX: u64 = 64;

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// The file with the id of the installation whose store this is.
#[must_use]
pub fn instance_file(store: &Path) -> PathBuf {
    store.with_extension("instance")
}

impl Store {
    /// The id of this installation, made when the store was opened first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn instance(&self) -> Result<InstanceId> {
        self.instance_find().await?.ok_or_else(|| StoreError::NotFound {
            what: "the id of the installation".to_owned(),
        })
    }

    async fn instance_find(&self) -> Result<Option<InstanceId>> {
        let row = sqlx::query("SELECT id FROM instance")
            .fetch_optional(&self.read)
            .await
            .map_err(failed("instance"))?;
        row.as_ref()
            .map(|row| Columns::new("instance", row).word("id"))
            .transpose()
    }

    /// Sees to it that store and file have the same id. A store that has none takes that of the file: the one before was lost.
    pub(crate) async fn with_instance(self, store: Option<&Path>) -> Result<Self> {
        let known = self.instance_find().await?;
        let id = match store {
            Some(store) => agreed(store, known.as_ref())?,
            None => new_id().map_err(unopened(Path::new("instance")))?,
        };
        if known.is_none() {
            sqlx::query("INSERT INTO instance (one, id) VALUES (1, ?) ON CONFLICT DO NOTHING")
                .bind(id.as_str())
                .execute(&self.write)
                .await
                .inspect(|_| self.wrote())
                .map_err(failed("instance"))?;
        }
        Ok(self)
    }
}

/// The id that file and store have, in the file from now on.
fn agreed(store: &Path, known: Option<&InstanceId>) -> Result<InstanceId> {
    let path = instance_file(store);
    let noted = match read(&path).map_err(unopened(&path))? {
        Some(noted) => noted,
        None => {
            let id = known.cloned().map_or_else(new_id, Ok).map_err(unopened(&path))?;
            write(&path, &id).map_err(|error| unopened(&path)(error.into()))?;
            // Somebody else may have been faster.
            read(&path)
                .map_err(unopened(&path))?
                .ok_or_else(|| unopened(&path)("it is gone again".into()))?
        }
    };
    match known {
        Some(known) if *known != noted => Err(StoreError::OtherInstance {
            store: store.into(),
            has: known.clone(),
            noted,
        }),
        _ => Ok(noted),
    }
}

fn read(path: &Path) -> std::result::Result<Option<InstanceId>, Trouble> {
    let length = match fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = if length > FILE_MAX {
        String::new()
    } else {
        fs::read_to_string(path)?
    };
    let id = text.trim().parse();
    id.map(Some)
        .map_err(|_| "it holds no id of an installation: put back the one that the storage pool names".into())
}

/// Writes the file whole, unless there is one.
fn write(path: &Path, id: &InstanceId) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{id}-{}", std::process::id()));
    let part = PathBuf::from(part);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    let linked = fs::hard_link(&part, path);
    fs::remove_file(&part)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match path.parent() {
        Some(directory) if directory != Path::new("") => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

fn new_id() -> std::result::Result<InstanceId, Trouble> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 6];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    let id: String = bytes
        .iter()
        .map(|b| char::from(ALPHABET[usize::from(b % 32)]))
        .collect();
    Ok(id.parse()?)
}
