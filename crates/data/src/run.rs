//! Runs one file on a connection of the application's role and records it.

use crate::{
    error::{DataError, Result, StatementError, own_hint},
    script::{self, Script, Statement, line_of},
    session::{Session, literal},
};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::error::ErrorPosition;

/// Larger files are refused: a migration is text that people review.
const FILE_MAX: usize = 64 << 20;

/// How much longer than the server we wait: its own message names the statement, ours can not.
const GRACE: Duration = Duration::from_secs(2);

/// A file, and the word under which its record is expected.
pub(crate) struct File<'a> {
    pub(crate) path: &'a str,
    pub(crate) bytes: &'a [u8],
    pub(crate) word: &'a str,
}

/// Runs a file and records it: in one transaction, or, where the file does not allow that, recorded right after its last
/// statement. In the latter case a kill in between lets the file run again.
pub(crate) async fn run(session: &Session, file: &File<'_>, deadline: Instant) -> Result<Duration> {
    let text = text(file)?;
    let script = script::read(file.path, text)?;
    let transaction = matches!(script, Script::Transaction { .. });
    begin(session, file.path, transaction, deadline).await?;
    let started = Instant::now();
    match &script {
        Script::Transaction { sql, statements } => {
            let last = statements.last();
            bounded(file.path, deadline, session.batch(sql))
                .await?
                .map_err(|(ended, error)| statement_error(file.path, sql, 1, statements.get(ended).or(last), error))?;
            // Deferred constraints speak now, while it is still known whose file they are about.
            bounded(file.path, deadline, session.batch("SET CONSTRAINTS ALL IMMEDIATE"))
                .await?
                .map_err(|(_, error)| statement_error(file.path, "", 1, last, error))?;
        }
        Script::Single { statements } => {
            for statement in statements {
                let sql = &text[statement.start..statement.end];
                bounded(file.path, deadline, session.batch(sql))
                    .await?
                    .map_err(|(_, error)| statement_error(file.path, sql, statement.line, Some(statement), error))?;
            }
        }
    }
    let took = started.elapsed();
    let end = format!(
        "SELECT maquette_record.done({}, {}); COMMIT",
        literal(file.word),
        took.as_millis()
    );
    let end = if transaction { end } else { format!("BEGIN; {end}") };
    session.execute(&format!("recording {}", file.path), &end).await?;
    Ok(took)
}

fn text<'a>(file: &File<'a>) -> Result<&'a str> {
    let refuse = |reason| DataError::Content {
        file: file.path.to_owned(),
        reason,
    };
    if file.bytes.len() > FILE_MAX {
        return Err(refuse("the file is larger than 64 MiB"));
    }
    let text = std::str::from_utf8(file.bytes).map_err(|_| refuse("the file is not UTF-8"))?;
    if text.contains('\0') {
        return Err(refuse("the file contains a NUL"));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Whatever an earlier file has set (a dump empties `search_path`) is forgotten before the next one.
async fn begin(session: &Session, path: &str, transaction: bool, deadline: Instant) -> Result<()> {
    let action = format!("beginning {path}");
    // What DISCARD ALL does, except that we keep our advisory lock.
    let forget = "CLOSE ALL; RESET ROLE; RESET ALL; DEALLOCATE ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES";
    session.execute(&action, forget).await?;
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1));
    // The check of the connection ends the statement on the server if we die. PostgreSQL 13 does not have it.
    let sql = format!(
        "SET statement_timeout = {}; SET search_path = pg_catalog; \
         SELECT pg_catalog.set_config(name, '1000', false) FROM pg_catalog.pg_settings \
         WHERE name = 'client_connection_check_interval'; RESET search_path{}",
        left.as_millis(),
        if transaction { "; BEGIN" } else { "" }
    );
    session.execute(&action, &sql).await
}

async fn bounded<T>(path: &str, deadline: Instant, work: impl Future<Output = T>) -> Result<T> {
    let left = deadline.saturating_duration_since(Instant::now());
    tokio::time::timeout(left + GRACE, work)
        .await
        .map_err(|_| DataError::TimedOut {
            what: path.to_owned(),
            after: left + GRACE,
        })
}

fn statement_error(
    file: &str,
    sql: &str,
    first: u32,
    statement: Option<&Statement>,
    error: tokio_postgres::Error,
) -> DataError {
    let Some(db) = error.as_db_error() else {
        return DataError::Query {
            action: format!("running {file}"),
            source: error,
        };
    };
    let line = match db.position() {
        Some(ErrorPosition::Original(position)) if !sql.is_empty() => line_of(sql, *position, first),
        _ => statement.map_or(1, |statement| statement.line),
    };
    let own = || own_hint(db.code()).map(str::to_owned);
    DataError::Statement(Box::new(StatementError {
        file: file.to_owned(),
        line,
        code: db.code().code().to_owned(),
        message: db.message().to_owned(),
        detail: db.detail().or(db.where_()).map(str::to_owned),
        hint: db.hint().map(str::to_owned).or_else(own),
    }))
}
