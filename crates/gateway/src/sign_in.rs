//! Signing in by a link, and signing out.
//!
//! The token of a link stands in the fragment, which browsers never send; a person presses Continue, and only then it is
//! posted and becomes a session. So a mail scanner or a chat preview that fetches the link does nothing.

use crate::{
    answer::{self, Answer},
    body::Reply,
    cookie::{self, Found},
    gateway::{Gateway, OWN, Visit},
    origin::{self, From},
    pages,
    secret::Secret,
    visitor_kind::Audience,
};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::timeout;

/// The form has two short fields.
const FORM_BYTES: usize = 8 * 1024;
/// And arrives within this time.
const FORM_TIME: Duration = Duration::from_secs(10);
/// The longest path to which a sign-in returns.
const NEXT_BYTES: usize = 2048;

/// The address that signs in to a host (`http://pr-7.localhost:8080`) with the token of a link. Whoever has it can come in.
#[must_use]
pub fn sign_in_address(origin: &str, token: &Secret) -> String {
    format!("{origin}{OWN}sign-in#token={}", token.expose())
}

impl Gateway {
    /// Serves the paths that do not need a session. None of them depends on which environments exist.
    pub(crate) async fn sign_in(&self, name: &str, visit: Visit) -> Response<Reply> {
        let audience = visit.audience;
        if name == "sign-in" {
            return pages::sign_in(StatusCode::OK, pages::SignIn::Plain);
        }
        let from = origin::of(
            &visit.parts.headers,
            &visit.site,
            &self.shared.config.bases,
            &self.ports,
        );
        if from != From::Same || !visit.parts.headers.contains_key(header::ORIGIN) {
            return Answer::foreign_origin().response(audience);
        }
        let done = if name == "session" {
            self.begin(visit).await
        } else {
            self.end(&visit).await
        };
        done.unwrap_or_else(|answer| answer.response(audience))
    }

    async fn begin(&self, visit: Visit) -> Result<Response<Reply>, Answer> {
        let (token, next) = read_form(visit.body).await?;
        let link = match token {
            None => None,
            Some(token) => {
                let _turn = self
                    .shared
                    .sign_ins
                    .try_acquire()
                    .map_err(|_| Answer::busy("Too many people sign in at the same moment."))?;
                self.shared
                    .auth
                    .exchange(&token.hash(), &visit.site.name)
                    .await
                    .map_err(|error| {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "a sign-in link could not be checked"
                        );
                        Answer::sign_in_unavailable()
                    })?
            }
        };
        let Some(session) = link else {
            return Ok(match visit.audience {
                Audience::Page => pages::sign_in(StatusCode::UNAUTHORIZED, pages::SignIn::BadLink),
                Audience::Program => Answer::sign_in_required().response(Audience::Program),
            });
        };
        tracing::info!(subject = %session.visitor.subject, host = %visit.site.name, "signed in");
        let cookie = cookie::set(&session.secret, session.lifetime, visit.site.secure_cookies)
            .ok_or_else(Answer::sign_in_unavailable)?;
        Ok(see_other(&next, cookie))
    }

    async fn end(&self, visit: &Visit) -> Result<Response<Reply>, Answer> {
        if let Found::One(session) = cookie::read(&visit.parts.headers, visit.site.secure_cookies) {
            self.shared.auth.revoke(&session.hash()).await.map_err(|error| {
                tracing::warn!(error = &error as &dyn std::error::Error, "a session could not be ended");
                Answer::sign_in_unavailable()
            })?;
        }
        Ok(see_other(
            &format!("{OWN}sign-in"),
            cookie::clear(visit.site.secure_cookies),
        ))
    }
}

fn see_other(to: &str, cookie: HeaderValue) -> Response<Reply> {
    let mut response = answer::own("text/plain; charset=utf-8", "");
    *response.status_mut() = StatusCode::SEE_OTHER;
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, to);
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

/// The token, if it can be one, and the path to go to.
async fn read_form(body: Incoming) -> Result<(Option<Secret>, String), Answer> {
    let collected = timeout(FORM_TIME, Limited::new(body, FORM_BYTES).collect()).await;
    let bytes = match collected {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(_)) => return Err(Answer::bad_request("The form is too long, or broke off.")),
        Err(_) => {
            let detail = "The form did not arrive in time.";
            return Err(Answer::new(StatusCode::REQUEST_TIMEOUT, "Too slow", detail));
        }
    };
    let (mut token, mut next) = (None, None);
    for (name, value) in form_urlencoded::parse(&bytes) {
        match &*name {
            "token" => token = Secret::parse(value.as_bytes()),
            "next" => next = Some(value.into_owned()),
            _ => {}
        }
    }
    Ok((
        token,
        next.filter(|next| is_own_path(next)).unwrap_or_else(|| "/".to_owned()),
    ))
}

/// Whether a browser takes it for a path of the same host, and for no other address. Browsers read `\` as `/` and skip tabs
/// and line breaks.
fn is_own_path(next: &str) -> bool {
    let mut bytes = next.bytes();
    next.len() <= NEXT_BYTES
        && bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && !next.starts_with(OWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_of_the_same_host_is_gone_to() {
        for good in ["/", "/a/b?c=d&e=%2F%2Fx", "/a//b", "/@user", "/?next=https://x.example"] {
            assert!(is_own_path(good), "{good}");
        }
        let long = format!("/{}", "a".repeat(NEXT_BYTES));
        for bad in [
            "",
            "a",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "/\t/evil.example",
            "/a\\..\\b",
            "/a\r\nSet-Cookie: x",
            "javascript:alert(1)",
            "/.maquette/sign-out",
            "/ä",
            long.as_str(),
        ] {
            assert!(!is_own_path(bad), "{bad}");
        }
    }
}
