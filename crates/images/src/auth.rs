//! Answers to a registry's "who are you?": Basic, and bearer tokens from the server that the registry names.

use crate::registries::Credentials;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use std::time::{Duration, Instant};
use url::Url;
use zeroize::Zeroizing;

/// How long a token is good that says nothing (distribution specification, "Token Authentication").
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds: it could end on its way.
const MARGIN: Duration = Duration::from_secs(5);

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: Url,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// What goes into the `Authorization` header. It does not print.
#[derive(Clone)]
pub(crate) struct Authorization(Zeroizing<String>);

/// A header and how long it is good.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) authorization: Authorization,
    pub(crate) until: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Authorization {
    pub(crate) fn basic(credentials: &Credentials) -> Self {
        let pair = Zeroizing::new(format!("{}:{}", credentials.user(), credentials.password()));
        Self(Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
    }

    fn bearer(token: &str) -> Self {
        Self(Zeroizing::new(format!("Bearer {token}")))
    }

    pub(crate) fn header(&self) -> Option<reqwest::header::HeaderValue> {
        let mut value = reqwest::header::HeaderValue::from_str(&self.0).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Grant {
    pub(crate) fn basic(credentials: &Credentials) -> Self {
        Self {
            authorization: Authorization::basic(credentials),
            until: None,
        }
    }

    pub(crate) fn is_good(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Reads the answer of a token server.
    pub(crate) fn from_answer(body: &[u8], now: Instant) -> Option<Self> {
        let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
        let token = Zeroizing::new(answer.token.or(answer.access_token).filter(|token| !token.is_empty())?);
        let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
        Some(Self {
            authorization: Authorization::bearer(&token),
            until: now.checked_add(life.saturating_sub(MARGIN)),
        })
    }
}

/// Chooses among what a registry offers: a token if it can be had, since it says less than a password.
pub(crate) fn challenge(headers: &reqwest::header::HeaderMap) -> Option<Challenge> {
    let mut basic = false;
    for value in headers.get_all(reqwest::header::WWW_AUTHENTICATE) {
        let Ok(offers) = http_auth::parse_challenges(value.to_str().ok()?) else {
            continue;
        };
        for offer in offers {
            if offer.scheme.eq_ignore_ascii_case("bearer") {
                let param = |wanted: &str| {
                    let (_, value) = offer
                        .params
                        .iter()
                        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
                    Some(value.to_unescaped())
                };
                if let Some(realm) = param("realm").and_then(|realm| realm.parse().ok()) {
                    return Some(Challenge::Bearer {
                        realm,
                        service: param("service"),
                        scope: param("scope"),
                    });
                }
            }
            basic |= offer.scheme.eq_ignore_ascii_case("basic");
        }
    }
    basic.then_some(Challenge::Basic)
}

/// The address that gives a token for reading `repository`.
pub(crate) fn token_url(realm: &Url, service: Option<&str>, scope: Option<&str>, repository: &str) -> Url {
    let mut url = realm.clone();
    let own = format!("repository:{repository}:pull");
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope.unwrap_or(&own));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let offered = headers(&[
            "Basic realm=\"registry\"",
            "Bearer realm=\"https://auth.example/token\",service=\"registry.example\",scope=\"repository:a/b:pull\"",
        ]);
        let Some(Challenge::Bearer { realm, service, scope }) = challenge(&offered) else {
            panic!("no bearer challenge");
        };
        let url = token_url(&realm, service.as_deref(), scope.as_deref(), "a/b");
        assert_eq!(
            url.as_str(),
            "https://auth.example/token?service=registry.example&scope=repository%3Aa%2Fb%3Apull"
        );
        assert_eq!(challenge(&headers(&["Basic realm=\"x\""])), Some(Challenge::Basic));
        assert_eq!(challenge(&headers(&["Negotiate"])), None);
        assert_eq!(challenge(&headers(&["Bearer realm=\"no address\""])), None);
    }

    #[test]
    fn a_grant_ends_before_its_token() {
        let now = Instant::now();
        let grant = Grant::from_answer(br#"{"access_token":"t","expires_in":300}"#, now).unwrap();
        assert!(grant.is_good(now + Duration::from_secs(290)));
        assert!(!grant.is_good(now + Duration::from_secs(296)));
        assert!(Grant::from_answer(br#"{"token":""}"#, now).is_none());
        assert!(Grant::from_answer(b"<html>", now).is_none());
        let header = grant.authorization.header().unwrap();
        assert!(header.is_sensitive());
    }
}
