//! Migrations and seed files, each run at most once, with its record in the database itself.
//!
//! Files run on a connection of the application's role, so nothing in them can be done by the administrator. The record belongs
//! to the administrator and must be written in the file's own transaction: so the administrator says beforehand, under a word
//! that nobody can guess, what may be recorded, and a function that runs with the administrator's rights records just that.

use crate::{
    contents::{applied, is_seeded, recorded},
    database::{Books, Database},
    error::{DataError, Result},
    run::{self, File},
    session::{Session, identifier, literal},
};
use model::{Digest, Migration, SeedFile};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

/// The statements that make what is missing of the record. They are one transaction, and fail if somebody else makes one of the
/// schemas at this moment.
pub(crate) fn make(there: Books, user: &str) -> String {
    let entry = "path text NOT NULL, digest text NOT NULL";
    let times = "milliseconds bigint NOT NULL, at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()";
    let schema = |there: bool, name: &str| {
        if there {
            String::new()
        } else {
            format!("CREATE SCHEMA {name}; ")
        }
    };
    let (tables, entrance) = (
        schema(there.tables, "maquette"),
        schema(there.entrance, "maquette_record"),
    );
    let user = identifier(user);
    format!(
        "{tables}\
         CREATE TABLE IF NOT EXISTS maquette.applied (ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {entry}, {times}, \
         UNIQUE (path)); \
         CREATE TABLE IF NOT EXISTS maquette.seeded ({entry}, {times}, PRIMARY KEY (path)); \
         CREATE TABLE IF NOT EXISTS maquette.seed_complete (at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()); \
         CREATE TABLE IF NOT EXISTS maquette.expected (word text PRIMARY KEY, seed boolean NOT NULL, {entry}); \
         {entrance}\
         CREATE OR REPLACE FUNCTION maquette_record.done(given text, took bigint) RETURNS void LANGUAGE plpgsql \
         SECURITY DEFINER SET search_path = pg_catalog AS $$ DECLARE entry maquette.expected; BEGIN \
         DELETE FROM maquette.expected e WHERE e.word = given RETURNING * INTO entry; \
         IF entry.word IS NULL THEN RAISE EXCEPTION 'nothing of that kind is expected'; END IF; \
         IF entry.seed THEN INSERT INTO maquette.seeded (path, digest, milliseconds) VALUES (entry.path, entry.digest, took); \
         ELSE INSERT INTO maquette.applied (path, digest, milliseconds) VALUES (entry.path, entry.digest, took); END IF; END $$; \
         REVOKE ALL ON FUNCTION maquette_record.done(text, bigint) FROM PUBLIC; \
         GRANT USAGE ON SCHEMA maquette_record TO {user}; \
         GRANT EXECUTE ON FUNCTION maquette_record.done(text, bigint) TO {user}"
    )
}

/// How long one file took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationTiming {
    /// Its path in the checkout.
    pub path: String,
    /// The time that its statements took.
    pub took: Duration,
}

/// See [`Database::migrate`].
pub(crate) async fn migrate<S>(
    database: &Database<'_>,
    stream: S,
    pending: &[(Migration, Vec<u8>)],
    within: Duration,
) -> Result<Vec<MigrationTiming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let files: Vec<Entry<'_>> = pending
        .iter()
        .map(|(migration, bytes)| Entry::of(&migration.path, &migration.digest, bytes))
        .collect::<Result<_>>()?;
    let turn = Turn::begin(database, stream, within, false).await?;
    let done = applied(&database.session).await?;
    let done = done.into_iter().map(|done| (done.path, done.digest)).collect();
    turn.run(&files, done).await
}

/// See [`Database::seed`].
pub(crate) async fn seed<S>(
    database: &Database<'_>,
    stream: S,
    files: &[(SeedFile, Vec<u8>)],
    within: Duration,
) -> Result<Vec<MigrationTiming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let files: Vec<Entry<'_>> = files
        .iter()
        .map(|(seed, bytes)| Entry::of(&seed.path, &seed.digest, bytes))
        .collect::<Result<_>>()?;
    let turn = Turn::begin(database, stream, within, true).await?;
    let session = &database.session;
    if is_seeded(session).await? {
        return Ok(Vec::new());
    }
    let sql = "SELECT path, digest FROM maquette.seeded";
    let rows = session.rows("reading the seed files that were run", sql).await?;
    let done = rows.iter().map(|row| recorded(row)).collect::<Result<_>>()?;
    let timings = turn.run(&files, done).await?;
    let sql = "INSERT INTO maquette.seed_complete DEFAULT VALUES";
    session.execute("recording that all seed files were run", sql).await?;
    Ok(timings)
}

/// A file that may have to be run.
struct Entry<'a> {
    path: &'a str,
    digest: &'a Digest,
    bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    fn of(path: &'a str, digest: &'a Digest, bytes: &'a [u8]) -> Result<Self> {
        if Digest::of(bytes) != *digest {
            return Err(DataError::Content {
                file: path.to_owned(),
                reason: "its content is not that of the commit",
            });
        }
        Ok(Self { path, digest, bytes })
    }
}

/// The right to run files in a database, as long as this lives.
struct Turn<'a> {
    administrator: &'a Session,
    application: Session,
    deadline: Instant,
    seed: bool,
}

impl<'a> Turn<'a> {
    async fn begin<S>(database: &'a Database<'_>, stream: S, within: Duration, seed: bool) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let application = Session::application(stream, database.set, database.password).await?;
        // Whoever was killed here may have left a statement running on the server; we wait for its end instead of beside it.
        let lock = "SELECT pg_catalog.pg_advisory_lock(7089243)";
        application
            .patient(within, "waiting for other migrations of this database", lock)
            .await?;
        let forget = "DELETE FROM maquette.expected";
        database.session.execute("forgetting what was expected", forget).await?;
        Ok(Self {
            administrator: &database.session,
            application,
            deadline: Instant::now() + within,
            seed,
        })
    }

    async fn run(&self, files: &[Entry<'_>], done: Vec<(String, Digest)>) -> Result<Vec<MigrationTiming>> {
        let mut timings = Vec::new();
        for entry in files {
            if let Some((_, before)) = done.iter().find(|(path, _)| path == entry.path) {
                same(entry.path, before, entry.digest)?;
                continue;
            }
            let word = word()?;
            let sql = format!(
                "INSERT INTO maquette.expected (word, seed, path, digest) VALUES ({}, {}, {}, {})",
                literal(&word),
                self.seed,
                literal(entry.path),
                literal(entry.digest.as_str())
            );
            let action = format!("expecting {}", entry.path);
            self.administrator.execute(&action, &sql).await?;
            let file = File {
                path: entry.path,
                bytes: entry.bytes,
                word: &word,
            };
            let took = run::run(&self.application, &file, self.deadline).await?;
            timings.push(MigrationTiming {
                path: entry.path.to_owned(),
                took,
            });
        }
        Ok(timings)
    }
}

/// A word that nobody can guess.
fn word() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| DataError::Randomness)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
