//! How the program ends: a code for programs, a text with a hint for people.

use api::{ProblemCode, ProblemDetails};
use std::{error::Error, fmt, process::ExitCode};

/// The exit codes, as `--help` tells them.
pub(crate) const HELP: &str = "\
Exit codes:
  0  it worked
  1  it did not: what was looked at has problems, or something failed
  2  the command line can not be understood
  3  there is no such environment, project, service or branch
  4  no token, or one that does not allow this
  5  the server, or something that it needs, does not answer
  6  it can not be done now: it exists already, has ended, or its name is ambiguous
  `exec` ends with the exit code of the command, or 125 if it could not be run
  `run` ends with that of the job, 124 if its time was over, or 125 if it was cut

Environment variables:
  MAQUETTE_SERVER  the server's address, http://… or unix:/path; read from the state directory unless given
  MAQUETTE_TOKEN   the token; the operator's, from the state directory, unless given";

/// Why the program ends without success.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// Something failed; the causes are told, too.
    pub(crate) fn of(error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Self::new(1, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What happened, and what helps.
    pub(crate) fn parts(&self) -> (&str, Option<&str>) {
        (&self.message, self.hint.as_deref())
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// The server does not answer.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(5, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<ProblemDetails> for Failure {
    fn from(problem: ProblemDetails) -> Self {
        let code = match problem.code {
            ProblemCode::NotFound => 3,
            ProblemCode::Unauthenticated | ProblemCode::Forbidden => 4,
            ProblemCode::Unavailable | ProblemCode::Timeout => 5,
            ProblemCode::Conflict | ProblemCode::Ambiguous => 6,
            ProblemCode::Invalid | ProblemCode::TooLarge | ProblemCode::Internal => 1,
        };
        Self {
            code,
            message: problem.detail,
            hint: problem.hint,
        }
    }
}

/// Writing to a pipe that nobody reads any more is how `| head` ends a command.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let code = if error.kind() == std::io::ErrorKind::BrokenPipe {
            0
        } else {
            1
        };
        Self::new(code, error.to_string())
    }
}
