//! Migrations and seed files, each run at most once, with its record in the schema `maquette` of the database itself.

use crate::{
    contents::{applied, recorded},
    error::{DataError, Result},
    prepare::check_names,
    run::{self, File, LOCK},
    session::{ADMINISTRATOR, Session, identifier, literal},
};
use model::{DataSet, Digest, Migration, SeedFile};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

/// Made by the administrator, so that the application's role may neither look into it nor drop it.
const BOOKS: &str = "CREATE SCHEMA IF NOT EXISTS maquette; \
    CREATE TABLE IF NOT EXISTS maquette.applied (ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
    path text NOT NULL UNIQUE, digest text NOT NULL, milliseconds bigint NOT NULL, \
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()); \
    CREATE TABLE IF NOT EXISTS maquette.seeded (path text PRIMARY KEY, digest text NOT NULL, milliseconds bigint NOT NULL, \
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()); \
    CREATE TABLE IF NOT EXISTS maquette.seed_complete (at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp())";

/// How long one file took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationTiming {
    /// Its path in the checkout.
    pub path: String,
    /// The time that its statements took.
    pub took: Duration,
}

/// Runs migrations in order, all of them within `within`. Those that are recorded already are passed over, so the same call
/// may be made again. Each runs in one transaction together with its record and leaves nothing behind when it fails.
///
/// A file that PostgreSQL runs in no transaction (`CREATE INDEX CONCURRENTLY`, `VACUUM`, several transactions of its own) is
/// run statement by statement and recorded after the last one: if it fails half-way, its first half stays, and it runs from
/// the start when tried again. Such files should be written so that they can be repeated. A file that is merely wrapped
/// in BEGIN and COMMIT is not of that kind.
///
/// # Errors
/// [`DataError::Statement`] with file, line and PostgreSQL's words; [`DataError::Content`] if the bytes are not those that the
/// migration names. Files before the failing one stay applied and recorded.
pub async fn migrate<S>(
    stream: S,
    data: &DataSet,
    pending: &[(Migration, Vec<u8>)],
    within: Duration,
) -> Result<Vec<MigrationTiming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    for (migration, bytes) in pending {
        check_bytes(&migration.path, &migration.digest, bytes)?;
    }
    let deadline = Instant::now() + within;
    let session = open(stream, data, deadline).await?;
    let done = applied(&session).await?;
    let mut timings = Vec::new();
    for (migration, bytes) in pending {
        if let Some(before) = done.iter().find(|done| done.path == migration.path) {
            same(&migration.path, &before.digest, &migration.digest)?;
            continue;
        }
        let record = format!(
            "INSERT INTO maquette.applied (path, digest, milliseconds) VALUES ({}, {}, {{ms}})",
            literal(&migration.path),
            literal(migration.digest.as_str())
        );
        let file = File {
            path: &migration.path,
            bytes,
            record,
        };
        let took = run::run(&session, &data.user, &file, deadline).await?;
        timings.push(MigrationTiming {
            path: migration.path.clone(),
            took,
        });
    }
    Ok(timings)
}

/// Runs the seed files in order, once in the life of the database: when they have run to the end, calling this again does
/// nothing, whatever the files are then. Each file is run as a migration is.
///
/// # Errors
/// As [`migrate`].
pub async fn seed<S>(
    stream: S,
    data: &DataSet,
    files: &[(SeedFile, Vec<u8>)],
    within: Duration,
) -> Result<Vec<MigrationTiming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    for (seed, bytes) in files {
        check_bytes(&seed.path, &seed.digest, bytes)?;
    }
    let deadline = Instant::now() + within;
    let session = open(stream, data, deadline).await?;
    let complete = "SELECT 1 FROM maquette.seed_complete LIMIT 1";
    if !session
        .rows("looking for the record of seed files", complete)
        .await?
        .is_empty()
    {
        return Ok(Vec::new());
    }
    let done = session
        .rows(
            "reading the seed files that were run",
            "SELECT path, digest FROM maquette.seeded",
        )
        .await?;
    let done = done.iter().map(|row| recorded(row)).collect::<Result<Vec<_>>>()?;
    let mut timings = Vec::new();
    for (seed, bytes) in files {
        if let Some((_, before)) = done.iter().find(|(path, _)| *path == seed.path) {
            same(&seed.path, before, &seed.digest)?;
            continue;
        }
        let record = format!(
            "INSERT INTO maquette.seeded (path, digest, milliseconds) VALUES ({}, {}, {{ms}})",
            literal(&seed.path),
            literal(seed.digest.as_str())
        );
        let file = File {
            path: &seed.path,
            bytes,
            record,
        };
        let took = run::run(&session, &data.user, &file, deadline).await?;
        timings.push(MigrationTiming {
            path: seed.path.clone(),
            took,
        });
    }
    session
        .execute(
            "recording that all seed files were run",
            "INSERT INTO maquette.seed_complete DEFAULT VALUES",
        )
        .await?;
    Ok(timings)
}

/// Opens the application's database as the administrator, with the books in it.
async fn open<S>(stream: S, data: &DataSet, deadline: Instant) -> Result<Session>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    check_names(data)?;
    let session = Session::open(stream, &data.database).await?;
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_secs(1));
    // Whoever was killed here may have left a statement running on the server; we wait for its end instead of beside it.
    session
        .patient(left, "waiting for other migrations of this database", LOCK)
        .await?;
    session.execute("making the record of migrations", BOOKS).await?;
    // Before PostgreSQL 15 the schema `public` belonged to the bootstrap superuser.
    let public = format!(
        "SELECT 1 FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner \
         WHERE n.nspname = 'public' AND r.rolname = {}",
        literal(ADMINISTRATOR)
    );
    if !session.rows("looking for the schema public", &public).await?.is_empty() {
        let sql = format!("ALTER SCHEMA public OWNER TO {}", identifier(&data.user));
        session.execute("giving the schema public to its owner", &sql).await?;
    }
    Ok(session)
}

fn check_bytes(path: &str, digest: &Digest, bytes: &[u8]) -> Result<()> {
    if Digest::of(bytes) == *digest {
        Ok(())
    } else {
        Err(DataError::Content {
            file: path.to_owned(),
            reason: "its content is not that of the commit",
        })
    }
}

fn same(path: &str, before: &Digest, now: &Digest) -> Result<()> {
    if before == now {
        Ok(())
    } else {
        Err(DataError::Content {
            file: path.to_owned(),
            reason: "it was changed after it had been run",
        })
    }
}
