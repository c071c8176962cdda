//! Requests to Gitea's API: bounded in time, size and tries, without redirects, and errors cut for callers.

use crate::{ForgeError, Result, Secret, error::Unreachable};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;
use url::Url;

/// Bounds of each call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For making a connection.
    pub connect: Duration,
    /// For one try, from the request to the last byte of the answer.
    pub request: Duration,
    /// The largest answer in bytes.
    pub body: usize,
    /// How often a read is tried.
    pub tries: u32,
    /// The pause before the second try; it doubles each time.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(20),
            body: 16 << 20,
            tries: 3,
            pause: Duration::from_millis(200),
        }
    }
}

/// What we wait at least when a forge limits us and does not say for how long, and at most if it does.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Secret,
    limits: Limits,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(base: &Url, token: Secret, limits: Limits) -> Result<Self> {
        let what = "the address of the forge";
        let plain = matches!(base.scheme(), "http" | "https")
            && base.host().is_some()
            && base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none();
        if !plain {
            return Err(ForgeError::invalid(
                what,
                "http:// or https:// with a host and perhaps a path is expected",
            ));
        }
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // A redirect would carry the token to wherever the answer says.
        let http = reqwest::Client::builder()
            .user_agent(concat!("maquette/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limits.connect)
            .timeout(limits.request)
            .no_proxy()
            .build()
            .map_err(|error| ForgeError::invalid(what, error.to_string()))?;
        Ok(Self {
            http,
            base,
            token,
            limits,
        })
    }

    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    pub(super) fn token(&self) -> &Secret {
        &self.token
    }

    /// The address of an API function. Each segment is escaped, so that a branch name can not leave its place.
    pub(super) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(segments);
        }
        url
    }

    /// Reads, trying again where that may help.
    pub(super) async fn get<T: DeserializeOwned>(&self, what: &str, url: &Url) -> Result<T> {
        let mut pause = self.limits.pause;
        let mut tried = 1;
        loop {
            let error = match self.send(what, self.http.request(Method::GET, url.clone())).await {
                Ok(response) => match self.json(what, response).await {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if tried >= self.limits.tries || !matches!(error, ForgeError::Unreachable { .. }) {
                return Err(error);
            }
            tracing::debug!(what, tried, "reading from the forge failed, trying again");
            tokio::time::sleep(pause).await;
            (tried, pause) = (tried + 1, pause * 2);
        }
    }

    /// Writes once and reads the answer.
    pub(super) async fn write<T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        url: Url,
        body: &(impl Serialize + Sync),
    ) -> Result<T> {
        let response = self.send(what, self.http.request(method, url).json(body)).await?;
        self.json(what, response).await
    }

    /// Deletes; what is not there is deleted.
    pub(super) async fn delete(&self, what: &str, url: Url) -> Result<()> {
        match self.send(what, self.http.request(Method::DELETE, url)).await {
            Ok(_) | Err(ForgeError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn send(&self, what: &str, request: RequestBuilder) -> Result<Response> {
        let mut token = header::HeaderValue::try_from(format!("token {}", self.token.expose()))
            .map_err(|_| ForgeError::invalid("the token of the forge", "it has characters that no token has"))?;
        token.set_sensitive(true);
        let response = request
            .header(header::AUTHORIZATION, token)
            .header(header::ACCEPT, "application/json")
            .send()
            .await
            .map_err(|error| self.unreachable(what, error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(self.refused(what, status, response).await),
        }
    }

    async fn json<T: DeserializeOwned>(&self, what: &str, response: Response) -> Result<T> {
        let bytes = self.bytes(what, response).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ForgeError::invalid(what, format!("the answer can not be read: {error}")))
    }

    async fn bytes(&self, what: &str, mut response: Response) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(what, error))? {
            if bytes.len() + chunk.len() > self.limits.body {
                return Err(ForgeError::TooLarge {
                    what: what.to_owned(),
                    limit: self.limits.body,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn unreachable(&self, what: &str, error: reqwest::Error) -> ForgeError {
        let source = if error.is_timeout() {
            Unreachable::Timeout(self.limits.request)
        } else {
            // The address is ours and may be long; what failed is said beneath it.
            Unreachable::Connection(Box::new(error.without_url()))
        };
        ForgeError::Unreachable {
            what: what.to_owned(),
            source,
        }
    }

    async fn refused(&self, what: &str, status: StatusCode, response: Response) -> ForgeError {
        let what = what.to_owned();
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => ForgeError::NotFound { what },
            StatusCode::UNAUTHORIZED => ForgeError::Unauthorized { what },
            StatusCode::FORBIDDEN => ForgeError::Forbidden { what },
            StatusCode::TOO_MANY_REQUESTS => ForgeError::RateLimited {
                what,
                retry_after: retry_after(&response),
            },
            status if status.is_server_error() => ForgeError::Unreachable {
                what,
                source: Unreachable::Status(status.as_u16()),
            },
            status if status.is_redirection() => ForgeError::invalid(
                what,
                "the forge points elsewhere; was it moved, or is its address wrong?",
            ),
            status => {
                #[derive(serde::Deserialize)]
                struct Message {
                    message: String,
                }
                let said = match self.bytes(&what, response).await {
                    Ok(bytes) => serde_json::from_slice::<Message>(&bytes)
                        .map(|m| m.message)
                        .unwrap_or_default(),
                    Err(_) => String::new(),
                };
                ForgeError::invalid(
                    what,
                    format!("the forge refused with status {}: {said}", status.as_u16()),
                )
            }
        }
    }
}

fn retry_after(response: &Response) -> Duration {
    let given = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|v| v.to_str().ok()?.trim().parse().ok());
    given.map_or(RETRY_AFTER.0, |seconds| Duration::from_secs(seconds).min(RETRY_AFTER.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base: &str) -> Result<Client> {
        Client::new(
            &Url::parse(base).unwrap(),
            Secret::new("t".to_owned()),
            Limits::default(),
        )
    }

    #[test]
    fn a_branch_name_stays_within_its_segment() {
        let url = client("http://host/forge")
            .unwrap()
            .url(&["repos", "a", "b", "branches", "x/../../y?z#%2e"]);
        assert_eq!(
            url.as_str(),
            "http://host/forge/api/v1/repos/a/b/branches/x%2F..%2F..%2Fy%3Fz%23%252e"
        );
    }

    #[test]
    fn an_address_with_credentials_is_refused() {
        for bad in ["http://me:pw@host/", "ftp://host/", "http://host/?q", "file:///etc"] {
            assert!(client(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_token_does_not_show() {
        let client = Client::new(
            &Url::parse("http://h/").unwrap(),
            Secret::new("canary".to_owned()),
            Limits::default(),
        );
        assert!(!format!("{client:?}").contains("canary"));
    }
}
