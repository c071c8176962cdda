//! Tokens, sign-in links and sessions. Their secrets are never here, only hashes.

use crate::{
    Result, Store,
    column::{self, Columns},
    error::{conflict, failed},
};
use model::{EnvironmentId, Timestamp};
use sqlx::sqlite::SqliteRow;
use std::fmt;

/// The SHA-256 of a secret of at least 128 random bits; looking it up by index gives nothing away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(pub [u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// A token for the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// By which it is revoked.
    pub id: u64,
    /// Its name, for people.
    pub name: String,
    /// What it may do, as the server names it.
    pub role: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops being valid; whoever finds it has to look.
    pub expires: Option<Timestamp>,
}

/// A link that signs in whoever has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// The hash of its token.
    pub hash: SecretHash,
    /// Who signs in by it.
    pub subject: String,
    /// The only environment that it opens; `None` is all.
    pub scope: Option<EnvironmentId>,
    /// When it stops being valid.
    pub expires: Timestamp,
    /// How often it may still be used.
    pub uses_left: u32,
}

/// Somebody who has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The hash of the cookie.
    pub hash: SecretHash,
    /// Who.
    pub subject: String,
    /// The only environment that it opens; `None` is all.
    pub scope: Option<EnvironmentId>,
    /// The host where it began and is valid, without port.
    pub host: String,
    /// When it began.
    pub created: Timestamp,
    /// When it stops being valid.
    pub expires: Timestamp,
}

impl Store {
    /// Adds a token and returns the id by which it can be revoked.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if the same secret was given twice.
    pub async fn token_create(
        &self,
        name: &str,
        role: &str,
        hash: &SecretHash,
        at: Timestamp,
        expires: Option<Timestamp>,
    ) -> Result<u64> {
        let row =
            sqlx::query("INSERT INTO token (name, role, hash, created, expires) VALUES (?, ?, ?, ?, ?) RETURNING id")
                .bind(name)
                .bind(role)
                .bind(hash.0.as_slice())
                .bind(column::time(at))
                .bind(expires.map(column::time))
                .fetch_one(&self.write)
                .await
                .inspect(|_| self.wrote())
                .map_err(conflict("token_create", || format!("the secret of token {name}")))?;
        Columns::new("token", &row).number("id")
    }

    /// The token with this secret, whether or not it has expired.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn token_find(&self, hash: &SecretHash) -> Result<Option<TokenRow>> {
        let row = sqlx::query("SELECT * FROM token WHERE hash = ?")
            .bind(hash.0.as_slice())
            .fetch_optional(&self.read)
            .await
            .map_err(failed("token_find"))?;
        row.as_ref().map(read_token).transpose()
    }

    /// All tokens, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn token_list(&self) -> Result<Vec<TokenRow>> {
        let rows = sqlx::query("SELECT * FROM token ORDER BY id")
            .fetch_all(&self.read)
            .await
            .map_err(failed("token_list"))?;
        rows.iter().map(read_token).collect()
    }

    /// Ends a token; nothing happens if there is none.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn token_revoke(&self, id: u64) -> Result<()> {
        sqlx::query("DELETE FROM token WHERE id = ?")
            .bind(column::number(id))
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("token_revoke"))?;
        Ok(())
    }

    /// Adds a sign-in link.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if the same secret was given twice.
    pub async fn link_create(&self, row: &LinkRow) -> Result<()> {
        sqlx::query("INSERT INTO link (hash, subject, scope, expires, uses_left) VALUES (?, ?, ?, ?, ?)")
            .bind(row.hash.0.as_slice())
            .bind(&row.subject)
            .bind(row.scope.as_ref().map(EnvironmentId::as_str))
            .bind(column::time(row.expires))
            .bind(row.uses_left)
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(conflict("link_create", || {
                format!("the secret of a link for {}", row.subject)
            }))?;
        Ok(())
    }

    /// Uses a link once. `None` if there is none, it has expired or was used as often as it may be.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn link_use(&self, hash: &SecretHash, at: Timestamp) -> Result<Option<LinkRow>> {
        let row = sqlx::query(
            "UPDATE link SET uses_left = uses_left - 1 WHERE hash = ? AND uses_left > 0 AND expires > ? RETURNING *",
        )
        .bind(hash.0.as_slice())
        .bind(column::time(at))
        .fetch_optional(&self.write)
        .await
        .inspect(|_| self.wrote())
        .map_err(failed("link_use"))?;
        let read = |row| {
            let row = Columns::new("link", row);
            Ok(LinkRow {
                hash: row.hash("hash")?,
                subject: row.text("subject")?,
                scope: row.word_opt("scope")?,
                expires: row.time("expires")?,
                uses_left: row.count("uses_left")?,
            })
        };
        row.as_ref().map(read).transpose()
    }

    /// Adds a session.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::StoreError::Conflict) if the same secret was given twice.
    pub async fn session_create(&self, row: &SessionRow) -> Result<()> {
        sqlx::query("INSERT INTO session (hash, subject, scope, host, created, expires) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(row.hash.0.as_slice())
            .bind(&row.subject)
            .bind(row.scope.as_ref().map(EnvironmentId::as_str))
            .bind(&row.host)
            .bind(column::time(row.created))
            .bind(column::time(row.expires))
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(conflict("session_create", || {
                format!("the secret of a session of {}", row.subject)
            }))?;
        Ok(())
    }

    /// The session with this secret, unless it has expired.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn session_find(&self, hash: &SecretHash, at: Timestamp) -> Result<Option<SessionRow>> {
        let row = sqlx::query("SELECT * FROM session WHERE hash = ? AND expires > ?")
            .bind(hash.0.as_slice())
            .bind(column::time(at))
            .fetch_optional(&self.read)
            .await
            .map_err(failed("session_find"))?;
        let read = |row| {
            let row = Columns::new("session", row);
            Ok(SessionRow {
                hash: row.hash("hash")?,
                subject: row.text("subject")?,
                scope: row.word_opt("scope")?,
                host: row.text("host")?,
                created: row.time("created")?,
                expires: row.time("expires")?,
            })
        };
        row.as_ref().map(read).transpose()
    }

    /// Ends a session; nothing happens if there is none.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn session_revoke(&self, hash: &SecretHash) -> Result<()> {
        sqlx::query("DELETE FROM session WHERE hash = ?")
            .bind(hash.0.as_slice())
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("session_revoke"))?;
        Ok(())
    }

    /// Forgets sessions and links that have expired.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError).
    pub async fn session_prune(&self, at: Timestamp) -> Result<()> {
        for statement in [
            "DELETE FROM session WHERE expires <= ?",
            "DELETE FROM link WHERE expires <= ?",
        ] {
            sqlx::query(statement)
                .bind(column::time(at))
                .execute(&self.write)
                .await
                .inspect(|_| self.wrote())
                .map_err(failed("session_prune"))?;
        }
        Ok(())
    }
}

fn read_token(row: &SqliteRow) -> Result<TokenRow> {
    let row = Columns::new("token", row);
    Ok(TokenRow {
        id: row.number("id")?,
        name: row.text("name")?,
        role: row.text("role")?,
        created: row.time("created")?,
        expires: row.time_opt("expires")?,
    })
}
