//! The gateway's own answers: a page for a person, a problem document (RFC 9457) for a program.

use crate::{body::Reply, pages, upstream::UpstreamError, visitor_kind::Audience};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// An answer in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
    /// Lines of log that matter.
    pub(crate) lines: Vec<String>,
    /// Seconds after which it makes sense to ask again.
    pub(crate) retry_after: Option<u32>,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            title,
            detail: detail.into(),
            lines: Vec::new(),
            retry_after: None,
        }
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) fn lines(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }

    /// The response.
    pub(crate) fn response(&self, audience: Audience) -> Response<Reply> {
        let mut response = match audience {
            Audience::Page => pages::message(self),
            Audience::Program => self.problem(),
        };
        *response.status_mut() = self.status;
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Maquette"));
        }
        response
    }

    fn problem(&self) -> Response<Reply> {
        let mut document = serde_json::json!({
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if !self.lines.is_empty() {
            document["lines"] = self.lines.as_slice().into();
        }
        json(&document, "application/problem+json")
    }

    pub(crate) fn bad_request(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request", detail)
    }

    pub(crate) fn sign_in_required() -> Self {
        let detail =
            "This address is private. Open its sign-in link first, or send a token in the header `Maquette-Token`.";
        Self::new(StatusCode::UNAUTHORIZED, "Sign-in required", detail)
    }

    pub(crate) fn sign_in_unavailable() -> Self {
        let detail = "Who may come in cannot be checked at the moment. Try again in a few seconds.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Sign-in is not available", detail).retry_after(2)
    }

    pub(crate) fn not_found() -> Self {
        let detail = "There is no environment at this address, or not one that you may see.";
        Self::new(StatusCode::NOT_FOUND, "Nothing here", detail)
    }

    pub(crate) fn foreign_origin() -> Self {
        let detail = "The request comes from a page of another origin, which may not change anything here.";
        Self::new(StatusCode::FORBIDDEN, "Refused", detail)
    }

    pub(crate) fn busy(detail: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Too busy", detail).retry_after(2)
    }
}

impl From<&UpstreamError> for Answer {
    fn from(error: &UpstreamError) -> Self {
        use crate::ports::DialError;
        let bad = |title, detail: String| Self::new(StatusCode::BAD_GATEWAY, title, detail);
        match error {
            UpstreamError::Connect {
                source: DialError::Unavailable { .. } | DialError::Stale { .. },
                ..
            } => {
                let detail = "Maquette could not reach the environment. It tries again with the next request.";
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "The environment cannot be reached",
                    detail,
                )
                .retry_after(2)
            }
            UpstreamError::Connect { target, .. } => bad(
                "The service does not accept connections",
                format!(
                    "Nothing listens on port {} of service {}. It may be restarting, or listen on another port.",
                    target.port, target.service
                ),
            ),
            UpstreamError::ConnectTimeout { target, after } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "The service does not accept connections",
                format!(
                    "Connecting to port {} of service {} took more than {after:?}.",
                    target.port, target.service
                ),
            ),
            UpstreamError::NoLongerLive { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The environment is changing",
                "It stopped being live while the request was on its way.",
            )
            .retry_after(1),
            UpstreamError::Broken { source, .. } if source.is_user() => {
                Self::bad_request("The body of the request broke off, or is malformed.")
            }
            UpstreamError::Broken { target, .. } => bad(
                "The service broke the connection off",
                format!(
                    "Service {} closed the connection, or sent what is not HTTP, before it answered.",
                    target.service
                ),
            ),
            UpstreamError::Silent { target, after } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "The service does not answer",
                format!(
                    "Service {} took the request but sent nothing for {after:?}.",
                    target.service
                ),
            ),
        }
    }
}

/// A response with what holds for all of the gateway's own: it is never kept, indexed or guessed at.
pub(crate) fn own(content_type: &'static str, body: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::Own(Full::new(body.into())));
    let lines = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::HeaderName::from_static("x-robots-tag"), "noindex"),
    ];
    for (name, value) in lines {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A JSON document.
pub(crate) fn json(document: &serde_json::Value, content_type: &'static str) -> Response<Reply> {
    own(content_type, document.to_string())
}
