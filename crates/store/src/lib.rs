//! What Maquette remembers, in SQL.
//!
//! SQLite in WAL mode: many readers and one writer, which queue instead of failing. What must stay true:
//!
//! - Methods are named after what they are about and take the time from their callers; the store reads no clock.
//! - A write is one statement, or one transaction that waits for nothing but the database.
//! - What exists outside (the ledger) and what is desired can be lost with this file and is found again by listing; that is
//!   why a commit does not wait for the disk (`synchronous = NORMAL`): `kill -9` loses nothing, a power failure up to what the
//!   kernel had not written yet, which may be half a minute.
//! - A generation, and that an environment is to end, are on the disk before anybody acts on them, with all that was written until
//!   then: runtimes refuse what is older than they have seen, and a store that has forgotten it could not go on.

mod access;
mod announcement;
mod binding;
mod cluster;
mod column;
mod data_fact;
mod delivery;
mod environment;
mod error;
mod event;
mod forget;
mod generation;
mod golden;
mod image;
mod instance;
mod job_run;
mod ledger;
mod lost_access;
mod progress;
mod pull_request;
mod spare;

pub use access::{LinkRow, SecretHash, SessionRow, TokenRow};
pub use announcement::AnnouncementRow;
pub use binding::BindingRow;
pub use environment::{EnvironmentPatch, EnvironmentRow, Suspension};
pub use error::{Result, StoreError};
pub use event::{EVENTS_KEPT, EventRow};
pub use generation::{Failure, GenerationRow, Outcome};
pub use golden::{GoldenRow, GoldenState};
pub use image::{ImageNameRow, ImageRow};
pub use instance::instance_file;
pub use job_run::{JOB_RUNS_KEPT, JobRunEnd, JobRunRow};
pub use lost_access::LostAccessRow;
pub use progress::{AttemptRow, StepRow};
pub use pull_request::{PullRequestRow, PullRequestState};

use error::{failed, unopened};
use sqlx::{
    SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a writer waits for another process that writes to the same file.
const BUSY: Duration = Duration::from_secs(10);
/// Connections that only read. Each is a thread.
const READERS: u32 = 3;

/// The store. Cloning it is cheap; all clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {
    read: SqlitePool,
    write: SqlitePool,
    changes: watch::Sender<u64>,
    /// The same without what [`Self::noted`] counts.
    subjects: watch::Sender<u64>,
    /// What was written last is in this file; none for a store in memory.
    log: Option<Arc<Path>>,
}

impl Store {
    /// Opens the store in this file, which is made (readable by its owner only) if it is not there. The id of the installation
    /// is that of [`instance_file`], if there is one: then a store was lost.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::OtherInstance`], or [`StoreError::Migrate`] also for a file that a newer version has written.
    pub async fn open(path: &Path) -> Result<Self> {
        // SQLite gives its other files the mode of this one.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| unopened(path)(error.into()))?;
        let options = options().filename(path).journal_mode(SqliteJournalMode::Wal);
        let write = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(|error| unopened(path)(error.into()))?;
        migrate(&write, path).await?;
        let read = pool(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(|error| unopened(path)(error.into()))?;
        Self {
            read,
            write,
            changes: watch::Sender::new(0),
            subjects: watch::Sender::new(0),
            log: Some(log_of(path).into()),
        }
        .with_instance(Some(path))
        .await
    }

    /// A store in memory, for tests.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn in_memory() -> Result<Self> {
        let path = Path::new(":memory:");
        let pool = pool(1)
            .connect_with(options().in_memory(true))
            .await
            .map_err(|error| StoreError::Open {
                path: path.to_owned(),
                source: error.into(),
            })?;
        migrate(&pool, path).await?;
        Self {
            read: pool.clone(),
            write: pool,
            changes: watch::Sender::new(0),
            subjects: watch::Sender::new(0),
            log: None,
        }
        .with_instance(None)
        .await
    }

    /// Counts the writes of this store and its clones. Whoever sees it change and reads then sees what was written.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The same without the books that are kept of a generation's way: ledger, steps, attempts, events, deliveries and what was told
    /// to a forge. An environment that starts writes many of those, and few others.
    #[must_use]
    pub fn subject_changes(&self) -> watch::Receiver<u64> {
        self.subjects.subscribe()
    }

    fn wrote(&self) {
        self.subjects.send_modify(|count| *count += 1);
        self.noted();
    }

    /// After a write to the books.
    fn noted(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits until all that was written so far is on the disk, where a power cut leaves it.
    async fn to_disk(&self, action: &'static str) -> Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let synced = async { tokio::fs::File::open(log).await?.sync_data().await };
        match synced.await {
            // Without a log all of it is in the file itself, which SQLite writes to disk before it removes one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(|error| failed(action)(error.into())),
        }
    }

    /// Closes all connections and leaves one file behind.
    pub async fn close(self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// SQLite's write-ahead log of a database.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("cache_size", "-512")
        .pragma("journal_size_limit", "4194304")
}

/// Connections live as long as the store: one in memory must not lose its content, and opening one costs more than keeping it.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(30))
}

async fn migrate(pool: &SqlitePool, path: &Path) -> Result<()> {
    MIGRATIONS.run(pool).await.map_err(|source| StoreError::Migrate {
        path: path.to_owned(),
        source: Box::new(source),
    })
}
