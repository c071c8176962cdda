//! A connection of the administrator over a stream that somebody else has opened.

use crate::error::{DataError, Result};
use futures::TryStreamExt;
use model::DataSet;
use std::{fmt::Write as _, pin::pin, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// The bootstrap superuser of every cluster that Maquette initialises, accepted on the administration socket only.
pub const ADMINISTRATOR: &str = "maquette";

/// How long opening a connection and each of our own short statements may take.
const SHORT: Duration = Duration::from_secs(15);

/// More rows than this are not kept: nobody has so many migrations, and a hostile engine could send without end.
const ROWS_MAX: usize = 10_000;

/// One connection. Dropping it closes the stream; the server then rolls back what was not committed.
pub(crate) struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Opens a connection of the administrator to `database`. Whatever the owner of the database has set for those who connect,
    /// names without a schema are PostgreSQL's own.
    pub(crate) async fn administrator<S>(stream: S, database: &str) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = Config::new();
        config.user(ADMINISTRATOR).options("-c search_path=pg_catalog");
        Self::open(stream, config, database).await
    }

    /// Opens a connection of the application's role to its database.
    pub(crate) async fn application<S>(stream: S, data: &DataSet, password: &str) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = Config::new();
        config.user(&data.user).password(password);
        Self::open(stream, config, &data.database).await
    }

    async fn open<S>(stream: S, mut config: Config, database: &str) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        config.dbname(database).application_name("maquette");
        let opening = tokio::time::timeout(SHORT, config.connect_raw(stream, NoTls)).await;
        let (client, connection) = opening
            .map_err(|_| DataError::TimedOut {
                what: format!("opening the database `{database}`"),
                after: SHORT,
            })?
            .map_err(|source| DataError::Connect {
                database: database.to_owned(),
                source,
            })?;
        // What the driver meets ends every pending request with an error, so its own result says nothing new.
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client, driver })
    }

    /// Runs our own statements, of which no result is wanted.
    pub(crate) async fn execute(&self, action: &str, sql: &str) -> Result<()> {
        self.rows(action, sql).await.map(drop)
    }

    /// Runs our own statements and returns all rows as text, a NULL as an empty string.
    pub(crate) async fn rows(&self, action: &str, sql: &str) -> Result<Vec<Vec<String>>> {
        self.patient(SHORT, action, sql).await
    }

    /// As [`Self::rows`], with another bound than that for short statements.
    pub(crate) async fn patient(&self, bound: Duration, action: &str, sql: &str) -> Result<Vec<Vec<String>>> {
        tokio::time::timeout(bound, self.read(sql))
            .await
            .map_err(|_| DataError::TimedOut {
                what: action.to_owned(),
                after: bound,
            })?
            .map_err(|source| DataError::Query {
                action: action.to_owned(),
                source,
            })
    }

    async fn read(&self, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
        let mut messages = pin!(self.client.simple_query_raw(sql).await?);
        let mut rows = Vec::new();
        while let Some(message) = messages.try_next().await? {
            if let SimpleQueryMessage::Row(row) = message
                && rows.len() < ROWS_MAX
            {
                let cells = (0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned());
                rows.push(cells.collect());
            }
        }
        Ok(rows)
    }

    /// Runs somebody else's statements in one message. An error comes with the number of statements that ended before it.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), (usize, tokio_postgres::Error)> {
        let mut ended = 0;
        let messages = self.client.simple_query_raw(sql).await.map_err(|error| (0, error))?;
        let mut messages = pin!(messages);
        loop {
            match messages.try_next().await {
                Ok(Some(SimpleQueryMessage::CommandComplete(_))) => ended += 1,
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err((ended, error)),
            }
        }
    }
}

/// A quoted identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant that means the same whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 4);
    out.push_str(if text.contains('\\') { " E'" } else { "'" });
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
    out
}

/// A text for messages: shortened, and without characters that a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(80) {
        let _ = write!(out, "{}", c.escape_debug());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_leaves_no_way_out() {
        assert_eq!(identifier(r#"a"; DROP ROLE x; --"#), r#""a""; DROP ROLE x; --""#);
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal(r"a\'b"), r" E'a\\''b'");
    }
}
