//! Who may come in, and what a page of another origin may not do in their name.

use crate::{
    answer::Answer,
    body::Reply,
    cookie::{self, Found},
    gateway::{Gateway, Visit},
    headers::TOKEN_HEADER,
    host::NoSite,
    origin::{self, From},
    pages,
    ports::{Route, Visitor},
    secret::Secret,
    visitor_kind::Audience,
    websocket,
};
use http::{Method, Response, StatusCode, header, request::Parts};

/// Somebody who has signed in, and how.
pub(crate) struct SignedIn {
    pub(crate) visitor: Visitor,
    /// By a token in a header, which no page can make a browser send.
    by_token: bool,
}

impl Gateway {
    /// Who it is, by token or by cookie. A token that is there decides alone.
    pub(crate) async fn signed_in(&self, visit: &Visit) -> Result<Option<SignedIn>, Answer> {
        let mut tokens = visit.parts.headers.get_all(TOKEN_HEADER).iter();
        let (first, second) = (tokens.next(), tokens.next());
        let found = match first {
            Some(token) => {
                let token = Secret::parse(token.as_bytes()).filter(|_| second.is_none());
                let Some(token) = token else { return Ok(None) };
                self.shared.auth.automation(&token.hash()).await
            }
            None => {
                let Found::One(session) = cookie::read(&visit.parts.headers, visit.site.secure_cookies) else {
                    return Ok(None);
                };
                self.shared.auth.session(&session.hash(), &visit.site.name).await
            }
        };
        match found {
            Ok(found) => Ok(found.map(|visitor| SignedIn {
                visitor,
                by_token: first.is_some(),
            })),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "sign-in could not be checked");
                Err(Answer::sign_in_unavailable())
            }
        }
    }

    /// A page of another origin may read nothing through us (the browser sees to that) and change nothing (we do).
    pub(crate) fn refuse_origin(&self, visit: &Visit, signed_in: &SignedIn, route: &Route) -> Option<Answer> {
        if signed_in.by_token {
            return None;
        }
        let upgrade = websocket::is_upgrade(&visit.parts.headers);
        if !upgrade && origin::only_reads(&visit.parts) {
            return None;
        }
        let from = origin::of(
            &visit.parts.headers,
            &visit.site,
            &self.shared.config.bases,
            &self.ports,
        );
        let allowed = match from {
            // A WebSocket is read from too, and no browser protects it: the origin must be named and be the same.
            From::Same => !upgrade || visit.parts.headers.contains_key(header::ORIGIN),
            From::Nowhere => !upgrade,
            From::Sibling(sibling) => {
                let theirs = self.routes().route(&sibling.key);
                !upgrade && theirs.is_some_and(|theirs| theirs.target.environment == route.target.environment)
            }
            From::Elsewhere => false,
        };
        (!allowed).then(Answer::foreign_origin)
    }
}

/// What no request for any host may be.
pub(crate) fn refuse(parts: &Parts) -> Option<Answer> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        let detail = "This method is not served.";
        return Some(Answer::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "Method not allowed",
            detail,
        ));
    }
    let path = parts.uri.path();
    if !(path.starts_with('/') || path == "*" && parts.method == Method::OPTIONS) {
        return Some(Answer::bad_request("The target of the request is no path."));
    }
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    let only_chunked = codings
        .next()
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !only_chunked || codings.next().is_some() {
        let detail = "`chunked` is the only transfer coding that is served.";
        return Some(Answer::new(StatusCode::NOT_IMPLEMENTED, "Not implemented", detail));
    }
    let expects = parts.headers.get(header::EXPECT);
    if expects.is_some_and(|expect| !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        let detail = "`100-continue` is the only expectation that is met.";
        return Some(Answer::new(
            StatusCode::EXPECTATION_FAILED,
            "Expectation failed",
            detail,
        ));
    }
    None
}

/// The answer to a request without a host of ours.
pub(crate) fn no_host(no_site: NoSite) -> Answer {
    match no_site {
        NoSite::Malformed => Answer::bad_request("The request must name one host."),
        NoSite::Misdirected => Answer::new(
            StatusCode::MISDIRECTED_REQUEST,
            "Misdirected",
            "This host is not served here.",
        ),
    }
}

/// The answer to somebody who has not signed in: the same for every host.
pub(crate) fn refuse_stranger(visit: &Visit) -> Response<Reply> {
    match visit.audience {
        Audience::Page => pages::sign_in(StatusCode::UNAUTHORIZED, pages::SignIn::Plain),
        Audience::Program => Answer::sign_in_required().response(Audience::Program),
    }
}
