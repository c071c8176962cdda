//! Errors on the wire: problem details (RFC 9457) with a hint.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of an error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The request can not be understood.
    Invalid,
    /// No token, or one that is not (or no longer) valid.
    Unauthenticated,
    /// The token does not allow this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The name stands for more than one thing.
    Ambiguous,
    /// It is there already, or not in a state in which this can be done.
    Conflict,
    /// The body is too large.
    TooLarge,
    /// The answer took too long.
    Timeout,
    /// Something that is needed does not answer at the moment.
    Unavailable,
    /// Maquette's own fault.
    Internal,
}

impl ProblemCode {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Ambiguous | Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Timeout => 504,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// A short name of the kind of problem.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Invalid => "The request can not be understood",
            Self::Unauthenticated => "A valid token is needed",
            Self::Forbidden => "The token does not allow this",
            Self::NotFound => "There is no such thing",
            Self::Ambiguous => "The name stands for more than one thing",
            Self::Conflict => "This can not be done now",
            Self::TooLarge => "The body is too large",
            Self::Timeout => "The answer took too long",
            Self::Unavailable => "Something that is needed does not answer",
            Self::Internal => "Something is wrong with Maquette",
        }
    }
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct ProblemDetails {
    /// A name for the kind of problem: `urn:maquette:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What went wrong, for programs.
    pub code: ProblemCode,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong here.
    pub detail: String,
    /// What would help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ProblemDetails {
    /// A problem of this kind.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let word = serde_json::to_value(code)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default();
        Self {
            kind: format!("urn:maquette:problem:{word}"),
            code,
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            hint: None,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
