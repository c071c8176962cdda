//! Requests to registries: guarded, authorised where they ask for it, bounded, and with errors that name image and registry.

use crate::{
    auth::{self, Challenge, Grant},
    error::{Error, Result},
    guard::{Guard, Refused, Resolver},
    reference::Reference,
    registries::{Credentials, Endpoint, Registries},
};
use reqwest::{Response, StatusCode, header};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;
use url::Url;

/// For making a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// Without a byte for so long, a registry counts as gone.
const SILENCE: Duration = Duration::from_secs(30);
/// A manifest or a token comes whole within this, however often a byte of it comes.
const WHOLE: Duration = Duration::from_secs(60);
/// A token's answer is short.
const MAX_TOKEN_ANSWER: u64 = 256 * 1024;
/// Of an error's body only the first words are shown.
const MAX_ERROR_BODY: u64 = 64 * 1024;
/// What we wait at most when a registry asks for it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// More tokens than this are those of repositories that nobody asks for any more.
const MAX_GRANTS: usize = 1000;

/// Asks registries. Cheap to share; holds connections and tokens.
pub struct Client {
    http: reqwest::Client,
    guard: Arc<Guard>,
    registries: Registries,
    /// By registry and repository.
    grants: Mutex<BTreeMap<(String, String), Grant>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("registries", &self.registries)
            .finish_non_exhaustive()
    }
}

/// One request: what is read below a repository.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) image: &'a Reference,
    /// `manifests` or `blobs`.
    pub(crate) kind: &'a str,
    /// Tag or digest.
    pub(crate) name: &'a str,
    pub(crate) accept: Option<&'a str>,
    /// The first byte that is wanted, when some are there already.
    pub(crate) from: u64,
    /// Whether the headers suffice.
    pub(crate) head: bool,
}

impl Client {
    /// A client for these registries and all public ones.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the system's certificates can not be used.
    pub fn new(registries: Registries) -> Result<Self> {
        let guard = Arc::new(Guard::new(registries.trusted_hosts()));
        let http = reqwest::Client::builder()
            .user_agent(concat!("maquette/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Resolver(guard.clone())))
            .redirect(guard.redirects())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .no_proxy()
            .build()
            .map_err(|error| Error::Unreachable {
                registry: "any registry".to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            http,
            guard,
            registries,
            grants: Mutex::default(),
        })
    }

    /// Asks the mirrors, then the registry itself. When all fail, the registry's own answer is the one that counts.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<(Response, Endpoint)> {
        let mut last = None;
        for endpoint in self.registries.endpoints(ask.image.registry()) {
            match self.ask_one(&endpoint, ask).await {
                Ok(response) => return Ok((response, endpoint)),
                Err(error) => {
                    tracing::debug!(registry = endpoint.registry, %error, "asked for {}", ask.image);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::Unreachable {
            registry: ask.image.registry().to_owned(),
            reason: "there is nobody to ask".to_owned(),
        }))
    }

    async fn ask_one(&self, endpoint: &Endpoint, ask: Ask<'_>) -> Result<Response> {
        let key = (endpoint.registry.clone(), ask.image.repository().to_owned());
        let known = self.grant(&key);
        let response = self.send(endpoint, ask, known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return checked(endpoint, ask, response).await;
        }
        let grant = match auth::challenge(response.headers()) {
            Some(Challenge::Basic) => endpoint.credentials.as_ref().map(Grant::basic),
            Some(Challenge::Bearer { realm, service, scope }) => {
                let url = auth::token_url(&realm, service.as_deref(), scope.as_deref(), ask.image.repository());
                self.token(endpoint, ask, url).await?
            }
            None => None,
        };
        let Some(grant) = grant else {
            return Err(denied(endpoint, ask));
        };
        let response = self.send(endpoint, ask, Some(&grant)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(denied(endpoint, ask));
        }
        self.remember(key, grant);
        checked(endpoint, ask, response).await
    }

    async fn send(&self, endpoint: &Endpoint, ask: Ask<'_>, grant: Option<&Grant>) -> Result<Response> {
        let url = format!(
            "{}/v2/{}/{}/{}",
            endpoint.base,
            ask.image.repository(),
            ask.kind,
            ask.name
        );
        // Names were checked when they were read; this can not fail for one that was.
        let url: Url = url
            .parse()
            .map_err(|_| protocol(endpoint, ask, "the address is not valid"))?;
        self.guard.check(&url).map_err(not_public)?;
        let mut request = if ask.head {
            self.http.head(url)
        } else {
            self.http.get(url)
        };
        if let Some(accept) = ask.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if ask.from > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", ask.from));
        }
        if let Some(value) = grant.and_then(|grant| grant.authorization.header()) {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.send().await.map_err(|error| failed(endpoint, &error))
    }

    async fn token(&self, endpoint: &Endpoint, ask: Ask<'_>, url: Url) -> Result<Option<Grant>> {
        // A token server without TLS would see the credentials and hand the token to whoever listens.
        if endpoint.base.starts_with("https:") && url.scheme() != "https" {
            return Err(protocol(endpoint, ask, "its token server is not asked without TLS"));
        }
        self.guard.check(&url).map_err(not_public)?;
        let mut request = self.http.get(url);
        if let Some(value) = endpoint
            .credentials
            .as_ref()
            .map(auth::Authorization::basic)
            .and_then(|basic| basic.header())
        {
            request = request.header(header::AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(|error| failed(endpoint, &error))?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(denied(endpoint, ask)),
            StatusCode::TOO_MANY_REQUESTS => return Err(limited(endpoint, &response)),
            status => return Err(unreachable(endpoint, format!("its token server answers {status}"))),
        }
        let body = read_capped(response, MAX_TOKEN_ANSWER)
            .await
            .map_err(|error| error.of(endpoint, ask, "the token"))?;
        Ok(Grant::from_answer(&body, Instant::now()))
    }

    fn grant(&self, key: &(String, String)) -> Option<Grant> {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.get(key).filter(|grant| grant.is_good(Instant::now())).cloned()
    }

    fn remember(&self, key: (String, String), grant: Grant) {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if grants.len() >= MAX_GRANTS {
            grants.clear();
        }
        grants.insert(key, grant);
    }
}

/// Why a body was not read.
pub(crate) enum BodyError {
    TooLarge(u64),
    Cut(String),
}

impl BodyError {
    pub(crate) fn of(self, endpoint: &Endpoint, ask: Ask<'_>, what: &'static str) -> Error {
        match self {
            Self::TooLarge(limit) => Error::TooLarge {
                image: Box::new(ask.image.clone()),
                what,
                limit,
            },
            Self::Cut(reason) => unreachable(endpoint, reason),
        }
    }
}

/// Reads a body of at most `limit` bytes, whatever its header claims.
pub(crate) async fn read_capped(response: Response, limit: u64) -> std::result::Result<Vec<u8>, BodyError> {
    let late = || BodyError::Cut(format!("its answer is not whole after {} s", WHOLE.as_secs()));
    timeout(WHOLE, read_whole(response, limit))
        .await
        .unwrap_or_else(|_| Err(late()))
}

async fn read_whole(mut response: Response, limit: u64) -> std::result::Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| BodyError::Cut(words(&error)))? {
        if (body.len() + part.len()) as u64 > limit {
            return Err(BodyError::TooLarge(limit));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

async fn checked(endpoint: &Endpoint, ask: Ask<'_>, response: Response) -> Result<Response> {
    let status = response.status();
    match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
        StatusCode::NOT_FOUND => Err(Error::NotFound {
            image: Box::new(ask.image.clone()),
            registry: endpoint.registry.clone(),
        }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(denied(endpoint, ask)),
        StatusCode::TOO_MANY_REQUESTS => Err(limited(endpoint, &response)),
        status if status.is_server_error() => Err(unreachable(endpoint, format!("it answers {status}"))),
        status => {
            let body = read_capped(response, MAX_ERROR_BODY)
                .await
                .unwrap_or_else(|_| Vec::new());
            Err(protocol(endpoint, ask, &format!("{status} {}", first_words(&body))))
        }
    }
}

fn first_words(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect()
}

fn denied(endpoint: &Endpoint, ask: Ask<'_>) -> Error {
    Error::Denied {
        image: Box::new(ask.image.clone()),
        registry: endpoint.registry.clone(),
        with_credentials: endpoint.credentials.as_ref().map(Credentials::user).is_some(),
    }
}

fn limited(endpoint: &Endpoint, response: &Response) -> Error {
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    Error::RateLimited {
        registry: endpoint.registry.clone(),
        retry_after,
    }
}

pub(crate) fn protocol(endpoint: &Endpoint, ask: Ask<'_>, reason: &str) -> Error {
    Error::Protocol {
        image: Box::new(ask.image.clone()),
        registry: endpoint.registry.clone(),
        reason: reason.to_owned(),
    }
}

fn unreachable(endpoint: &Endpoint, reason: String) -> Error {
    Error::Unreachable {
        registry: endpoint.registry.clone(),
        reason,
    }
}

fn not_public(refused: Refused) -> Error {
    Error::NotPublic { host: refused.host }
}

/// A request failed before an answer. Our own refusal travels as a source of the library's error.
fn failed(endpoint: &Endpoint, error: &reqwest::Error) -> Error {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = source {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return not_public(refused.clone());
        }
        source = inner.source();
    }
    unreachable(endpoint, words(error))
}

/// The innermost reason, which is what a person wants to read: "connection refused", not "error sending request".
fn words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer within the time that it has".to_owned();
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
