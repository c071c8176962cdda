//! Reads an SQL file just far enough to know where its statements begin and which of them PostgreSQL runs in no transaction.
//!
//! PostgreSQL itself parses what is run. A mistake here could make a message point to the wrong line, or let the server refuse
//! a file; it can not change what a file does.

use crate::error::DataError;

/// How many words of a statement are kept: enough for every question that is asked of them.
const WORDS_MAX: usize = 64;

/// One statement of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Where its first word begins, in bytes.
    pub(crate) start: usize,
    /// Where its semicolon is, or the end of the file.
    pub(crate) end: usize,
    /// The line of its first word, counted from 1.
    pub(crate) line: u32,
    /// Its words outside of parentheses and quotes, in upper case.
    words: Vec<String>,
}

/// How a file is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// In one message and in one transaction. Where the file was wrapped in BEGIN and COMMIT, these are blanks in `sql`.
    Transaction {
        /// What is sent; characters stand where they stand in the file.
        sql: String,
        /// Its statements, for messages.
        statements: Vec<Statement>,
    },
    /// Statement by statement, because the file opens transactions of its own or holds a statement that runs in none.
    Single {
        /// The statements of the file.
        statements: Vec<Statement>,
    },
}

/// What a statement means for transactions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Begin,
    Commit,
    OtherControl,
    Alone,
}

impl Statement {
    fn is(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len() && self.words.iter().zip(words).all(|(a, b)| a == b)
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|w| w == word)
    }

    fn has_pair(&self, first: &str, second: &str) -> bool {
        self.words.windows(2).any(|pair| pair[0] == first && pair[1] == second)
    }

    fn role(&self) -> Role {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["BEGIN"] | ["BEGIN", "WORK" | "TRANSACTION"] | ["START", "TRANSACTION"] => Role::Begin,
            ["COMMIT" | "END"] | ["COMMIT" | "END", "WORK" | "TRANSACTION"] => Role::Commit,
            ["ROLLBACK", "TO", ..] | ["ROLLBACK", "WORK" | "TRANSACTION", "TO", ..] => Role::Plain,
            ["BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "ABORT", ..] | ["START" | "PREPARE", "TRANSACTION", ..] => {
                Role::OtherControl
            }
            ["VACUUM", ..] | ["CLUSTER"] | ["ALTER", "SYSTEM", ..] | ["DISCARD", "ALL"] => Role::Alone,
            ["CREATE" | "DROP", "DATABASE" | "TABLESPACE", ..] => Role::Alone,
            ["CREATE" | "DROP" | "ALTER", "SUBSCRIPTION", ..] => Role::Alone,
            ["REINDEX", ..]
                if ["CONCURRENTLY", "DATABASE", "SYSTEM", "SCHEMA"]
                    .iter()
                    .any(|word| self.has(word)) =>
            {
                Role::Alone
            }
            ["CREATE", "INDEX", "CONCURRENTLY", ..] | ["CREATE", "UNIQUE", "INDEX", "CONCURRENTLY", ..] => Role::Alone,
            ["DROP", "INDEX", "CONCURRENTLY", ..] => Role::Alone,
            ["ALTER", "TABLE", ..] if self.has("DETACH") && self.has("CONCURRENTLY") => Role::Alone,
            _ => Role::Plain,
        }
    }

    /// What in this statement can not be run here, and what to do instead.
    fn unsupported(&self) -> Option<(&'static str, &'static str)> {
        if self.is(&["COPY"]) && (self.has_pair("FROM", "STDIN") || self.has_pair("TO", "STDOUT")) {
            return Some((
                "COPY from stdin or to stdout moves rows through psql, which does not run here",
                "write INSERT statements; `pg_dump --inserts --rows-per-insert=500` makes them from existing rows",
            ));
        }
        let switch = self.is(&["SET", "ROLE"])
            || self.is(&["RESET", "ROLE"])
            || (matches!(self.words.first().map(String::as_str), Some("SET" | "RESET"))
                && self.has_pair("SESSION", "AUTHORIZATION"));
        switch.then_some((
            "the role is changed",
            "leave this statement out: files run as the application's role, and what they make belongs to it",
        ))
    }
}

/// Reads a file.
pub(crate) fn read(file: &str, text: &str) -> Result<Script, DataError> {
    let statements = statements(file, text)?;
    let roles: Vec<Role> = statements.iter().map(Statement::role).collect();
    if roles.iter().all(|role| *role == Role::Plain) {
        return Ok(Script::Transaction {
            sql: text.to_owned(),
            statements,
        });
    }
    // A file that is wrapped in BEGIN and COMMIT asks for the very transaction that we make.
    if let [Role::Begin, inner @ .., Role::Commit] = roles.as_slice()
        && inner.iter().all(|role| *role == Role::Plain)
    {
        let wrapping = [&statements[0], &statements[statements.len() - 1]];
        let mut sql = text.to_owned();
        for statement in wrapping.into_iter().rev() {
            let blank: String = text[statement.start..statement.end]
                .chars()
                .map(|c| if c == '\n' { c } else { ' ' })
                .collect();
            sql.replace_range(statement.start..statement.end, &blank);
        }
        let statements = statements[1..statements.len() - 1].to_vec();
        return Ok(Script::Transaction { sql, statements });
    }
    Ok(Script::Single { statements })
}

fn statements(file: &str, text: &str) -> Result<Vec<Statement>, DataError> {
    let mut scanner = Scanner {
        text: text.as_bytes(),
        at: 0,
        line: 1,
    };
    let mut statements = Vec::new();
    while let Some(statement) = scanner.statement() {
        let refused = match statement {
            Err(line) => Some((
                line,
                "a command that begins with a backslash is for psql, which does not run here",
                "leave it out, or write what it does in SQL",
            )),
            Ok(ref statement) => statement.unsupported().map(|(what, hint)| (statement.line, what, hint)),
        };
        if let Some((line, what, hint)) = refused {
            return Err(DataError::Unsupported {
                file: file.to_owned(),
                line,
                what: what.to_owned(),
                hint,
            });
        }
        statements.extend(statement);
    }
    Ok(statements)
}

/// The line of a character, counted from 1 as PostgreSQL counts both, in a text that begins on `first`.
pub(crate) fn line_of(text: &str, position: u32, first: u32) -> u32 {
    let before = text
        .chars()
        .take(position.saturating_sub(1) as usize)
        .filter(|c| *c == '\n')
        .count();
    first.saturating_add(u32::try_from(before).unwrap_or(u32::MAX))
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn bump(&mut self) {
        if self.peek(0) == b'\n' {
            self.line += 1;
        }
        self.at += 1;
    }

    fn bump_to(&mut self, end: usize) {
        while self.at < end.min(self.text.len()) {
            self.bump();
        }
    }

    /// The next statement; the line of a backslash where there must be none.
    fn statement(&mut self) -> Option<Result<Statement, u32>> {
        let mut found: Option<Statement> = None;
        let (mut depth, mut body) = (0usize, 0usize);
        while self.at < self.text.len() {
            let (start, line) = (self.at, self.line);
            let begun = |found: &mut Option<Statement>| {
                found.get_or_insert(Statement {
                    start,
                    end: start,
                    line,
                    words: Vec::new(),
                });
            };
            match self.peek(0) {
                b if b.is_ascii_whitespace() => self.bump(),
                b'-' if self.peek(1) == b'-' => self.line_comment(),
                b'/' if self.peek(1) == b'*' => self.block_comment(),
                b'\\' => return Some(Err(self.line)),
                b';' if depth == 0 && body == 0 => {
                    self.bump();
                    if let Some(statement) = found {
                        return Some(Ok(Statement {
                            end: start,
                            ..statement
                        }));
                    }
                }
                b if b.is_ascii_alphabetic() || b == b'_' || b >= 0x80 => {
                    begun(&mut found);
                    let word = self.word();
                    if let Some(statement) = &mut found {
                        body = body_depth(statement, &word, body);
                        if depth == 0 && statement.words.len() < WORDS_MAX {
                            statement.words.push(word);
                        }
                    }
                }
                b => {
                    begun(&mut found);
                    match b {
                        b'(' => depth += 1,
                        b')' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    self.symbol(b);
                }
            }
        }
        found.map(|statement| {
            Ok(Statement {
                end: self.text.len(),
                ..statement
            })
        })
    }

    fn line_comment(&mut self) {
        while self.at < self.text.len() && self.peek(0) != b'\n' {
            self.at += 1;
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0usize;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.bump(),
            }
        }
    }

    /// A word, in upper case. A string with a prefix (`E'…'`) is passed over together with it.
    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek(0).is_ascii_alphanumeric() || matches!(self.peek(0), b'_' | b'$') || self.peek(0) >= 0x80 {
            self.at += 1;
        }
        let word = String::from_utf8_lossy(&self.text[start..self.at]).to_uppercase();
        if word == "E" && self.peek(0) == b'\'' {
            self.quoted(b'\'', true);
        }
        word
    }

    fn symbol(&mut self, byte: u8) {
        match byte {
            b'\'' | b'"' => self.quoted(byte, false),
            b'$' => self.dollar(),
            // A number takes the letters that follow it along, so that `1e5` is no word.
            b'0'..=b'9' => {
                while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'_' {
                    self.at += 1;
                }
            }
            _ => self.bump(),
        }
    }

    fn quoted(&mut self, quote: u8, backslashes: bool) {
        self.bump();
        while self.at < self.text.len() {
            let byte = self.peek(0);
            self.bump();
            if byte == b'\\' && backslashes {
                self.bump();
            } else if byte == quote {
                if self.peek(0) != quote {
                    return;
                }
                self.bump();
            }
        }
    }

    /// `$tag$ … $tag$`, or a parameter like `$1`.
    fn dollar(&mut self) {
        let rest = &self.text[self.at + 1..];
        let tag = rest
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_' || **b >= 0x80)
            .count();
        if rest.get(tag) != Some(&b'$') || rest.first().is_some_and(u8::is_ascii_digit) {
            self.bump();
            return;
        }
        let delimiter = &self.text[self.at..self.at + tag + 2];
        let inner = self.at + delimiter.len();
        let length = self.text[inner..]
            .windows(delimiter.len())
            .position(|window| window == delimiter);
        let end = length.map_or(self.text.len(), |length| inner + length + delimiter.len());
        self.bump_to(end);
    }
}

/// Semicolons inside `BEGIN ATOMIC … END`, the body of a routine in standard SQL, end no statement.
fn body_depth(statement: &Statement, word: &str, depth: usize) -> usize {
    let routine = statement.is(&["CREATE"])
        && statement
            .words
            .iter()
            .take(4)
            .any(|w| matches!(w.as_str(), "FUNCTION" | "PROCEDURE"));
    match word {
        "ATOMIC" if routine && depth == 0 && statement.words.last().is_some_and(|last| last == "BEGIN") => 1,
        "CASE" if depth > 0 => depth + 1,
        "END" if depth > 0 => depth - 1,
        _ => depth,
    }
}

#[cfg(test)]
mod tests;
