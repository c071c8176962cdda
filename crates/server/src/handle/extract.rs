//! Reading what callers send; what can not be read is answered as a problem that says why.

use crate::problem::Problem;
use api::ProblemCode;
use axum::extract::{FromRequest, FromRequestParts, Query, Request, rejection::BytesRejection};
use bytes::Bytes;
use http::{header, request::Parts};
use serde::de::DeserializeOwned;

/// A JSON body. An empty one is what its type's fields default to, where all do.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        let named = essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| body_problem(&error))?;
        // A form of a foreign page can not name this type, so that nobody's browser can be made to call.
        if !named && !bytes.is_empty() {
            return Err(Problem::new(ProblemCode::Invalid, "the body is not announced as JSON")
                .hint("send `Content-Type: application/json`"));
        }
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| {
            Problem::new(ProblemCode::Invalid, format!("the body can not be read: {error}"))
                .hint("docs/reference/openapi.json describes it")
        })
    }
}

/// Why a body could not be taken in.
pub(crate) fn body_problem(error: &BytesRejection) -> Problem {
    if error.status() == http::StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(ProblemCode::TooLarge, "the body is larger than is allowed here")
    } else {
        Problem::new(ProblemCode::Invalid, "the body broke off")
    }
}

/// The query of the address.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::from_request_parts(parts, state).await.map_err(|error| {
            Problem::new(
                ProblemCode::Invalid,
                format!("the query can not be read: {}", error.body_text()),
            )
        })?;
        Ok(Self(query))
    }
}
