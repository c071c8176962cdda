//! One open connection of the administrator to the application's database, over which everything is done that is needed.
//!
//! The application owns that database: it may make schemas, functions and operators in it and may set parameters for whoever
//! connects. So this connection has a `search_path` of its own, believes a record only if it belongs to the administrator, and
//! never runs a statement of somebody else's.

use crate::{
    contents::{self, Contents},
    error::{DataError, Result},
    migrate::{self, MigrationTiming},
    prepare::{self, check_names},
    session::{ADMINISTRATOR, Session, identifier, literal},
};
use model::{DataSet, Migration, SeedFile};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::SqlState;

/// An open database of an environment.
pub struct Database<'a> {
    pub(crate) session: Session,
    pub(crate) set: &'a DataSet,
    /// The role's password.
    pub(crate) password: &'a str,
}

/// What there is of the record of files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Books {
    /// The schema `maquette`, which the application's role has no right to.
    pub(crate) tables: bool,
    /// The schema `maquette_record`.
    pub(crate) entrance: bool,
    /// The function in it, which the application's role may call.
    pub(crate) function: bool,
}

impl Books {
    pub(crate) fn is_complete(self) -> bool {
        self.tables && self.entrance && self.function
    }
}

impl<'a> Database<'a> {
    /// Opens the database over a stream that leads to the engine's way in for its administrator; `None` if there is no such
    /// database yet, see [`Database::create`]. Nothing is changed.
    ///
    /// # Errors
    /// [`DataError::Name`], or if the engine does not answer, or answers nonsense.
    pub async fn open<S>(stream: S, set: &'a DataSet, password: &'a str) -> Result<Option<Self>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        check_names(set)?;
        match Session::administrator(stream, &set.database).await {
            Ok(session) => Ok(Some(Self { session, set, password })),
            Err(DataError::Connect { source, .. }) if source.code() == Some(&SqlState::UNDEFINED_DATABASE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the application's role and its database, unless they are there. Nobody else may be making them at the same time,
    /// but for callers of this function.
    ///
    /// # Errors
    /// [`DataError::Name`] if PostgreSQL or Maquette keeps the name for itself, and whatever the engine answers.
    pub async fn create<S>(stream: S, set: &DataSet, password: &str) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        check_names(set)?;
        prepare::create(stream, set, password).await
    }

    /// Makes the role and the owner of the database what they should be, whatever they were: the password is set, the role is no
    /// superuser. Makes the record of files, so that nobody else can come before. Waits for whoever does the same, and for
    /// migrations and seeds by others, at most `within`; from then on they wait for this connection.
    ///
    /// The password reaches the server only as its SCRAM verifier, so no log of statements can show it.
    ///
    /// # Errors
    /// Whatever the engine answers; [`DataError::Content`] if somebody else has made a record that looks like ours.
    pub async fn prepare(&self, within: Duration) -> Result<()> {
        let lock = "SELECT pg_catalog.pg_advisory_lock(7089242)";
        self.session
            .patient(within, "waiting for other migrations of this database", lock)
            .await?;
        prepare::role(&self.session, &self.set.user, self.password).await?;
        self.give().await?;
        let books = self.books().await?;
        if books.is_complete() {
            return Ok(());
        }
        self.session
            .execute("making the record of migrations", &migrate::make(books, &self.set.user))
            .await
    }

    /// Gives the database to the application's role, and what it could not use otherwise.
    async fn give(&self) -> Result<()> {
        let (name, owner) = (identifier(&self.set.database), identifier(&self.set.user));
        // A clone has usually nothing to be given, and asking costs it less than a change that changes nothing.
        let sql = "SELECT o.rolname, s.rolname FROM pg_catalog.pg_database d \
             JOIN pg_catalog.pg_roles o ON o.oid = d.datdba \
             LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'public' \
             LEFT JOIN pg_catalog.pg_roles s ON s.oid = n.nspowner \
             WHERE d.datname = pg_catalog.current_database()";
        let found = self.session.rows("looking for the database's owner", sql).await?;
        let owners = found.first().map(Vec::as_slice).unwrap_or_default();
        let mut changes = Vec::new();
        if owners.first() != Some(&self.set.user) {
            changes.push(format!("ALTER DATABASE {name} OWNER TO {owner}"));
        }
        // Before PostgreSQL 15 the schema `public` belonged to the bootstrap superuser.
        if owners.get(1).is_some_and(|of_public| of_public == ADMINISTRATOR) {
            changes.push(format!("ALTER SCHEMA public OWNER TO {owner}"));
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.session
            .execute("giving the database to its owner", &changes.join("; "))
            .await
    }

    /// What is in the database.
    ///
    /// # Errors
    /// If the engine does not answer, or answers nonsense.
    pub async fn contents(&self) -> Result<Contents> {
        contents::read(self).await
    }

    /// What there is of the record of files.
    pub(crate) async fn books(&self) -> Result<Books> {
        let sql = format!(
            "SELECT n.nspname, r.rolname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner \
             WHERE n.nspname IN ('maquette', 'maquette_record'); \
             SELECT 'done', r.rolname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             JOIN pg_catalog.pg_roles r ON r.oid = p.proowner WHERE n.nspname = 'maquette_record' AND p.proname = 'done' \
             AND pg_catalog.has_function_privilege({}, p.oid, 'EXECUTE')",
            literal(&self.set.user)
        );
        let found = self.session.rows("looking for the record of migrations", &sql).await?;
        // Whoever owned it could have anything done by the administrator who reads or writes it.
        if found
            .iter()
            .any(|row| row.get(1).map(String::as_str) != Some(ADMINISTRATOR))
        {
            return Err(DataError::Content {
                file: "the schema `maquette`".to_owned(),
                reason: "it is not the one that Maquette has made",
            });
        }
        let has = |name: &str| found.iter().any(|row| row.first().map(String::as_str) == Some(name));
        Ok(Books {
            tables: has("maquette"),
            entrance: has("maquette_record"),
            function: has("done"),
        })
    }

    /// Runs migrations in order, all of them within `within`, as the application's role: over `stream`, which leads to the
    /// engine's port. Those that are recorded already are passed over, so the same call may be made again. Each runs in one
    /// transaction together with its record and leaves nothing behind when it fails.
    ///
    /// A file that PostgreSQL runs in no transaction (`CREATE INDEX CONCURRENTLY`, `VACUUM`, several transactions of its own) is
    /// run statement by statement and recorded after the last one: if it fails half-way, its first half stays, and it runs from
    /// the start when tried again. Such files should be written so that they can be repeated. A file that is merely wrapped
    /// in BEGIN and COMMIT is not of that kind.
    ///
    /// The database must have been prepared over this connection.
    ///
    /// # Errors
    /// [`DataError::Statement`] with file, line and PostgreSQL's words; [`DataError::Content`] if the bytes are not those that
    /// the migration names. Files before the failing one stay applied and recorded.
    pub async fn migrate<S>(
        &self,
        stream: S,
        pending: &[(Migration, Vec<u8>)],
        within: Duration,
    ) -> Result<Vec<MigrationTiming>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        migrate::migrate(self, stream, pending, within).await
    }

    /// Runs the seed files in order, once in the life of the database: when they have run to the end, calling this again does
    /// nothing, whatever the files are then. Each file is run as a migration is.
    ///
    /// # Errors
    /// As [`Database::migrate`].
    pub async fn seed<S>(
        &self,
        stream: S,
        files: &[(SeedFile, Vec<u8>)],
        within: Duration,
    ) -> Result<Vec<MigrationTiming>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        migrate::seed(self, stream, files, within).await
    }
}
