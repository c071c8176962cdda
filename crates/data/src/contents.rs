//! What is really in a database. Facts are read, never remembered.

use crate::{
    database::Database,
    error::{DataError, Result},
    session::{Session, literal},
};
use model::{Digest, Migration};
use serde::{Deserialize, de::IntoDeserializer, de::value::Error as ValueError};

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

/// Reads what is in the database.
pub(crate) async fn read(database: &Database<'_>) -> Result<Contents> {
    let session = &database.session;
    let role = format!(
        "SELECT 1 FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba \
         WHERE d.datname = pg_catalog.current_database() AND r.rolname = {} AND r.rolcanlogin AND NOT r.rolsuper",
        literal(&database.set.user)
    );
    let prepared = !session
        .rows("looking for the database's owner", &role)
        .await?
        .is_empty();
    if !database.books().await?.tables {
        return Ok(Contents {
            prepared,
            ..Contents::default()
        });
    }
    Ok(Contents {
        prepared,
        applied: applied(session).await?,
        seeded: is_seeded(session).await?,
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

/// Whether all seed files were run to the end.
pub(crate) async fn is_seeded(session: &Session) -> Result<bool> {
    let sql = "SELECT 1 FROM maquette.seed_complete LIMIT 1";
    let rows = session.rows("looking for the record of seed files", sql).await?;
    Ok(!rows.is_empty())
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
