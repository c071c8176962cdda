//! The one map from errors to answers. What callers read is written for them; the reasons inside go to the log.

use api::{PROBLEM_JSON, ProblemCode, ProblemDetails};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use runtime::RuntimeError;
use store::StoreError;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Problem(pub(crate) Box<ProblemDetails>);

pub(crate) type Answer<T> = Result<T, Problem>;

impl Problem {
    pub(crate) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self(Box::new(ProblemDetails::new(code, detail)))
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self(Box::new(self.0.hint(hint)))
    }

    /// Nothing can be written down.
    pub(crate) fn disk_full() -> Self {
        Self::new(
            ProblemCode::Unavailable,
            "the disk of the server's state directory is full",
        )
        .hint("make room there; environments go on meanwhile, and nothing is lost")
    }

    /// Our own fault: what happened is for the log only.
    pub(crate) fn internal(what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "{what}");
        Self::new(ProblemCode::Internal, what).hint("the log of `maquette serve` says more")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Body::from(serde_json::to_vec(&self.0).unwrap_or_default()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Conflict { .. } => Self::new(ProblemCode::Conflict, error.to_string()),
            StoreError::NotFound { .. } => Self::new(ProblemCode::NotFound, error.to_string()),
            _ if error.is_full() => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the disk of the state directory is full"
                );
                Self::new(
                    ProblemCode::Unavailable,
                    "the disk of the server's state directory is full",
                )
                .hint("make room there; environments go on meanwhile, and nothing is lost")
            }
            _ => Self::internal("the store can not be read or written", &error),
        }
    }
}

impl From<RuntimeError> for Problem {
    fn from(error: RuntimeError) -> Self {
        let text = error.to_string();
        match error {
            RuntimeError::NotFound { .. } => Self::new(ProblemCode::NotFound, text)
                .hint("it may not have been started yet; `maquette why` says how far it is"),
            RuntimeError::Unsupported { hint, .. } => Self::new(ProblemCode::Conflict, text).hint(hint),
            RuntimeError::Invalid { .. } => Self::new(ProblemCode::Invalid, text),
            RuntimeError::Superseded { .. } | RuntimeError::Full { .. } => Self::new(ProblemCode::Conflict, text),
            RuntimeError::Unreachable { .. } => {
                Self::new(ProblemCode::Unavailable, text).hint("`maquette doctor` says what the runtime lacks")
            }
            RuntimeError::Failed { .. } => Self::new(ProblemCode::Unavailable, text),
        }
    }
}

impl From<forge::ForgeError> for Problem {
    fn from(error: forge::ForgeError) -> Self {
        match &error {
            forge::ForgeError::NotFound { .. } => Self::new(ProblemCode::NotFound, error.to_string()),
            _ => Self::new(ProblemCode::Unavailable, error.to_string()).hint("the forge was asked; try again later"),
        }
    }
}
