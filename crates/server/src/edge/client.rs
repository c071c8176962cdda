//! The gateway's end: its ports, answered by the control plane.

use super::wire::{ANSWER_MAX, Began, Exchange, Hash, RoutesAnswer, RoutesQuery, Use, WakeWish, Whose};
use async_trait::async_trait;
use bytes::Bytes;
use gateway::{AuthState, AuthUnavailable, Gateway, RouteTable, Secret, Session, TokenHash, Visitor, Wake};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use model::EnvironmentId;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    error::Error,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long an answer may take; the one with the routes may take longer.
const ANSWER: Duration = Duration::from_secs(5);
const ROUTES: Duration = Duration::from_secs(40);
/// A pause when the control plane is away.
const AWAY: Duration = Duration::from_millis(200);
/// A session that was seen is not asked about again for so long …
const FRESH: Duration = Duration::from_secs(5);
/// … and is believed for so long while the control plane is away.
const STALE: Duration = Duration::from_secs(15 * 60);
/// Sessions that are remembered.
const REMEMBERED: usize = 10_000;
/// How often the control plane is told who uses what.
const REPORT: Duration = Duration::from_secs(30);

/// The control plane was not reached, or did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// No connection, or it broke.
    #[error("the control plane is not there")]
    Away {
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It took too long.
    #[error("the control plane did not answer in time")]
    Late,
    /// An answer that can not be read, or a refusal.
    #[error("the control plane answered {status} to {path}")]
    Answer {
        /// What was asked.
        path: &'static str,
        /// The HTTP status.
        status: u16,
    },
}

type Seen = HashMap<([u8; 32], String), (Visitor, Instant)>;

/// Asks the control plane. Clones share what is remembered.
#[derive(Clone, Debug)]
pub struct EdgeClient {
    pub(super) socket: Arc<PathBuf>,
    seen: Arc<Mutex<Seen>>,
    control_plane: Arc<Mutex<Option<TokenHash>>>,
}

impl EdgeClient {
    /// By the path of the control plane's internal socket. It need not be there yet.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket: Arc::new(socket),
            seen: Arc::default(),
            control_plane: Arc::default(),
        }
    }

    /// Keeps the gateway's routes up to date until it is told to end.
    pub async fn follow_routes(self, table: Arc<RouteTable>, end: CancellationToken) {
        let mut version = None;
        let mut away = false;
        loop {
            let query = RoutesQuery {
                version: version.clone(),
            };
            let asked = self.ask::<_, RoutesAnswer>("/routes", &query, ROUTES);
            let answer = tokio::select! {
                () = end.cancelled() => return,
                answer = asked => answer,
            };
            match answer {
                Ok(answer) => {
                    away = false;
                    if let Some(routes) = answer.routes {
                        version = Some(answer.version);
                        *self.control_plane.lock().unwrap_or_else(PoisonError::into_inner) =
                            answer.control_plane.map(|hash| TokenHash::from_bytes(hash.0));
                        table.replace_all(routes, answer.awaited);
                    }
                }
                Err(error) => {
                    if !away {
                        tracing::info!(error = &error as &dyn Error, "the routes stay as they are");
                        away = true;
                    }
                    sleep(AWAY).await;
                }
            }
        }
    }

    /// Tells the control plane from time to time who uses what, until it is told to end.
    pub async fn report_uses(self, gateway: Gateway, end: CancellationToken) {
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = sleep(REPORT) => {}
            }
            let uses: Vec<Use> = gateway
                .activity()
                .into_iter()
                .map(|(environment, activity)| Use {
                    environment,
                    requests: activity.requests,
                    tunnels: activity.tunnels,
                    quiet_ms: u64::try_from(activity.quiet.as_millis()).unwrap_or(u64::MAX),
                })
                .collect();
            if uses.is_empty() {
                continue;
            }
            if let Err(error) = self.tell("/uses", &uses).await {
                tracing::debug!(%error, "who uses what could not be told");
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, hash: &TokenHash, host: &str, visitor: &Visitor) {
        let mut seen = self.seen();
        if seen.len() >= REMEMBERED {
            seen.retain(|_, (_, at)| at.elapsed() < FRESH);
            if seen.len() >= REMEMBERED {
                seen.clear();
            }
        }
        seen.insert((*hash.as_bytes(), host.to_owned()), (visitor.clone(), Instant::now()));
    }

    /// Whoever was seen lately is believed; when the control plane is away, also who was seen some time ago.
    async fn whose(
        &self,
        path: &'static str,
        hash: &TokenHash,
        host: Option<&str>,
    ) -> Result<Option<Visitor>, AuthUnavailable> {
        let key = (*hash.as_bytes(), host.unwrap_or_default().to_owned());
        let known = self.seen().get(&key).cloned();
        if let Some((visitor, _)) = known.as_ref().filter(|(_, at)| at.elapsed() < FRESH) {
            return Ok(Some(visitor.clone()));
        }
        let asked = Whose {
            hash: hash.into(),
            host: host.map(str::to_owned),
        };
        match (self.ask::<_, Option<Visitor>>(path, &asked, ANSWER).await, known) {
            (Ok(Some(visitor)), _) => {
                self.remember(hash, &key.1, &visitor);
                Ok(Some(visitor))
            }
            (Ok(None), _) => {
                self.seen().remove(&key);
                Ok(None)
            }
            (Err(_), Some((visitor, at))) if at.elapsed() < STALE => Ok(Some(visitor)),
            (Err(error), _) => Err(unavailable(error)),
        }
    }

    async fn tell<Q: Serialize + Sync>(&self, path: &'static str, question: &Q) -> Result<(), EdgeError> {
        timeout(ANSWER, self.exchange_bytes(path, question))
            .await
            .map_err(|_| EdgeError::Late)?
            .map(|_| ())
    }

    async fn ask<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        path: &'static str,
        question: &Q,
        patience: Duration,
    ) -> Result<A, EdgeError> {
        let bytes = timeout(patience, self.exchange_bytes(path, question))
            .await
            .map_err(|_| EdgeError::Late)??;
        serde_json::from_slice(&bytes).map_err(|_| EdgeError::Answer { path, status: 200 })
    }

    async fn exchange_bytes<Q: Serialize + Sync>(&self, path: &'static str, question: &Q) -> Result<Bytes, EdgeError> {
        let away = |source: Box<dyn Error + Send + Sync>| EdgeError::Away { source };
        let body = serde_json::to_vec(question).map_err(|error| away(error.into()))?;
        let stream = UnixStream::connect(&*self.socket)
            .await
            .map_err(|error| away(error.into()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| away(error.into()))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "control")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| away(error.into()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| away(error.into()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX)
                .collect()
                .await
                .map_err(away)?;
            if status.is_success() {
                Ok(body.to_bytes())
            } else {
                Err(EdgeError::Answer {
                    path,
                    status: status.as_u16(),
                })
            }
        }
        .await;
        driver.abort();
        answer
    }
}

fn unavailable(error: EdgeError) -> AuthUnavailable {
    AuthUnavailable {
        source: Box::new(error),
    }
}

#[async_trait]
impl AuthState for EdgeClient {
    async fn exchange(&self, link: &TokenHash, host: &str) -> Result<Option<Session>, AuthUnavailable> {
        let secret = Secret::generate().map_err(|error| AuthUnavailable {
            source: io::Error::other(error.to_string()).into(),
        })?;
        let hash = secret.hash();
        let asked = Exchange {
            link: link.into(),
            host: host.to_owned(),
            session: Hash::from(&hash),
        };
        let began: Option<Began> = self.ask("/exchange", &asked, ANSWER).await.map_err(unavailable)?;
        Ok(began.map(|began| {
            self.remember(&hash, host, &began.visitor);
            Session {
                secret,
                lifetime: Duration::from_millis(began.lifetime_ms),
                visitor: began.visitor,
            }
        }))
    }

    async fn session(&self, session: &TokenHash, host: &str) -> Result<Option<Visitor>, AuthUnavailable> {
        self.whose("/session", session, Some(host)).await
    }

    async fn automation(&self, token: &TokenHash) -> Result<Option<Visitor>, AuthUnavailable> {
        self.whose("/automation", token, None).await
    }

    fn is_control_plane(&self, word: &TokenHash) -> bool {
        let known = self.control_plane.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref() == Some(word)
    }

    async fn revoke(&self, session: &TokenHash) -> Result<(), AuthUnavailable> {
        self.seen().retain(|(hash, _), _| hash != session.as_bytes());
        let asked = Whose {
            hash: session.into(),
            host: None,
        };
        self.tell("/revoke", &asked).await.map_err(unavailable)
    }
}

#[async_trait]
impl Wake for EdgeClient {
    async fn wake(&self, environment: &EnvironmentId, _epoch: u64) {
        if let Err(error) = self
            .tell(
                "/wake",
                &WakeWish {
                    environment: environment.clone(),
                },
            )
            .await
        {
            tracing::info!(%environment, error = &error as &dyn Error, "nobody could be asked to wake it");
        }
    }
}
