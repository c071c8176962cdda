//! A listener on the loopback that keeps the webhook deliveries it gets.

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, io, time::Duration};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

/// One delivery as it came.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The headers.
    pub headers: HeaderMap,
    /// The body, byte by byte as it was signed.
    pub body: Bytes,
}

/// The most deliveries that are kept before a test takes them.
const KEPT: usize = 1000;

/// The listener. It ends when it is dropped.
#[derive(Debug)]
pub struct Hooks {
    url: String,
    posted: mpsc::Receiver<Posted>,
    task: JoinHandle<()>,
}

impl Hooks {
    /// Listens on a free port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let (sender, posted) = mpsc::channel(KEPT);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let sender = sender.clone();
                    async move {
                        let (parts, body) = request.into_parts();
                        if let Ok(body) = body.collect().await {
                            let _ = sender.try_send(Posted {
                                headers: parts.headers,
                                body: body.to_bytes(),
                            });
                        }
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                    }
                });
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { url, posted, task })
    }

    /// Where to deliver to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for a delivery of which `wanted` makes something; others are thrown away. None if none comes in time.
    pub async fn find<T>(&mut self, wait: Duration, mut wanted: impl FnMut(&Posted) -> Option<T>) -> Option<T> {
        let until = Instant::now() + wait;
        while let Ok(Some(posted)) = timeout_at(until, self.posted.recv()).await {
            if let Some(found) = wanted(&posted) {
                return Some(found);
            }
        }
        None
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.task.abort();
    }
}
