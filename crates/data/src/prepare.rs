//! Role and database of the application.

use crate::{
    error::{DataError, Result},
    session::{ADMINISTRATOR, Session, identifier, literal, printable},
};
use model::DataSet;
use tokio::io::{AsyncRead, AsyncWrite};

/// The database that every cluster has and that we connect to in order to make others.
const MAINTENANCE: &str = "postgres";

/// The longest name, in bytes. PostgreSQL cuts longer ones off, and two of them could then mean the same.
const NAME_MAX: usize = 63;

/// See [`crate::Database::create`].
pub(crate) async fn create<S>(stream: S, data: &DataSet, password: &str) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let session = Session::administrator(stream, MAINTENANCE).await?;
    // Two at once would both see that the role is missing; the lock ends with the connection.
    session
        .execute(
            "waiting for another preparation",
            "SELECT pg_catalog.pg_advisory_lock(7089241)",
        )
        .await?;
    role(&session, &data.user, password).await?;
    let (name, owner) = (identifier(&data.database), identifier(&data.user));
    let found = session
        .rows(
            "looking for the database",
            &format!(
                "SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}",
                literal(&data.database)
            ),
        )
        .await?;
    if !found.is_empty() {
        return Ok(());
    }
    // `template0` rather than the default: nobody can be connected to it, so nobody can be in the way.
    let sql = format!("CREATE DATABASE {name} WITH OWNER {owner} TEMPLATE template0");
    session
        .execute(&format!("making the database `{}`", printable(&data.database)), &sql)
        .await
}

/// Makes the role, or makes an existing one so.
pub(crate) async fn role(session: &Session, user: &str, password: &str) -> Result<()> {
    let exists = session
        .rows(
            "looking for the role",
            &format!("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = {}", literal(user)),
        )
        .await?;
    let verb = if exists.is_empty() { "CREATE" } else { "ALTER" };
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let name = identifier(user);
    let sql = format!(
        "{verb} ROLE {name} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}",
        literal(&verifier)
    );
    session
        .execute(&format!("making the role `{}`", printable(user)), &sql)
        .await
}

/// Refuses names that PostgreSQL would refuse, cut off or give another meaning.
pub(crate) fn check_names(data: &DataSet) -> Result<()> {
    for (what, name) in [("user", &data.user), ("database", &data.database)] {
        let rule = if name.is_empty() {
            "it is empty"
        } else if name.len() > NAME_MAX {
            "it is longer than 63 bytes"
        } else if name.contains('\0') {
            "it contains a NUL"
        } else {
            continue;
        };
        return Err(DataError::Name {
            what,
            name: printable(name),
            rule,
        });
    }
    let user = data.user.as_str();
    let rule = if user == ADMINISTRATOR {
        "Maquette's own administrator has this name"
    } else if user.starts_with("pg_") || matches!(user, "public" | "none") {
        "PostgreSQL keeps it for itself"
    } else if matches!(data.database.as_str(), "template0" | "template1") {
        let name = data.database.clone();
        return Err(DataError::Name {
            what: "database",
            name,
            rule: "PostgreSQL keeps it for itself",
        });
    } else {
        return Ok(());
    };
    Err(DataError::Name {
        what: "user",
        name: printable(user),
        rule,
    })
}
