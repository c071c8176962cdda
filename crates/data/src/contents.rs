//! What is really in a database. Facts are read, never remembered.

use crate::{
    error::{DataError, Result},
    prepare::check_names,
    session::{Session, literal},
};
use model::{DataSet, Digest, Migration};
use serde::{Deserialize, de::IntoDeserializer, de::value::Error as ValueError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::SqlState;

/// What was found in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Whether the database exists and belongs to the application's role, which can log in and is no superuser.
    pub prepared: bool,
    /// Migrations that were applied, in the order in which that happened.
    pub applied: Vec<Migration>,
    /// Whether the seed files were run to the end.
    pub seeded: bool,
}

/// Reads what is in the database of this data set. A database that does not exist is not an error: nothing is in it.
///
/// # Errors
/// If the engine does not answer, or answers nonsense.
pub async fn contents<S>(stream: S, data: &DataSet) -> Result<Contents>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    check_names(data)?;
    let session = match Session::open(stream, &data.database).await {
        Ok(session) => session,
        Err(DataError::Connect { source, .. }) if source.code() == Some(&SqlState::UNDEFINED_DATABASE) => {
            return Ok(Contents::default());
        }
        Err(error) => return Err(error),
    };
    let role = format!(
        "SELECT 1 FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba \
         WHERE d.datname = pg_catalog.current_database() AND r.rolname = {} AND r.rolcanlogin AND NOT r.rolsuper",
        literal(&data.user)
    );
    let prepared = !session
        .rows("looking for the database's owner", &role)
        .await?
        .is_empty();
    let books = "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = 'maquette' AND c.relname = 'seed_complete'";
    if session
        .rows("looking for the record of migrations", books)
        .await?
        .is_empty()
    {
        return Ok(Contents {
            prepared,
            ..Contents::default()
        });
    }
    let applied = applied(&session).await?;
    let seeded = "SELECT 1 FROM maquette.seed_complete LIMIT 1";
    let seeded = !session
        .rows("looking for the record of seed files", seeded)
        .await?
        .is_empty();
    Ok(Contents {
        prepared,
        applied,
        seeded,
    })
}

/// The migrations that the database says were applied.
pub(crate) async fn applied(session: &Session) -> Result<Vec<Migration>> {
    let sql = "SELECT path, digest FROM maquette.applied ORDER BY ordinal";
    let rows = session.rows("reading the applied migrations", sql).await?;
    rows.into_iter()
        .map(|row| recorded(&row).map(|(path, digest)| Migration { path, digest }))
        .collect()
}

/// A row of path and digest.
pub(crate) fn recorded(row: &[String]) -> Result<(String, Digest)> {
    let [path, digest] = row else {
        return Err(DataError::Content {
            file: String::new(),
            reason: "the database's record of files is damaged",
        });
    };
    let hexadecimal = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    let parsed = Digest::deserialize(IntoDeserializer::<ValueError>::into_deserializer(digest.as_str()));
    match parsed {
        Ok(digest) if hexadecimal => Ok((path.clone(), digest)),
        _ => Err(DataError::Content {
            file: path.clone(),
            reason: "the database's record of this file is damaged",
        }),
    }
}
