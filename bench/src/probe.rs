//! Asks services from outside whether they answer.

use anyhow::{Result, bail};
use model::EnvironmentId;
use runtime::{Runtime, Target};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Between two questions to the same service.
const PAUSE: Duration = Duration::from_millis(5);
/// One question.
const ANSWER: Duration = Duration::from_secs(3);
/// The head of a question to a service itself.
const BARE: &str = "Host: localhost\r\n";

/// A service of the shop and the page that says it is well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// The service.
    pub(crate) service: &'static str,
    /// Its port in the stack.
    pub(crate) port: u16,
    /// What is asked for.
    pub(crate) path: &'static str,
}

/// Waits until the page of a process is answered with 200.
///
/// # Errors
/// When that takes longer than `patience`.
pub(crate) async fn until_bare(page: Page, address: SocketAddr, patience: Duration) -> Result<Duration> {
    until_connected(page, address, BARE, patience).await
}

/// The same through the gateway, which wants this head.
///
/// # Errors
/// When that takes longer than `patience`.
pub(crate) async fn until_connected(
    page: Page,
    address: SocketAddr,
    head: &str,
    patience: Duration,
) -> Result<Duration> {
    let since = Instant::now();
    loop {
        let asked = timeout(ANSWER, async {
            ask(TcpStream::connect(address).await?, page.path, head).await
        })
        .await;
        if let Ok(Ok(200)) = asked {
            return Ok(since.elapsed());
        }
        if since.elapsed() > patience {
            bail!("{} does not answer: {asked:?}", page.service);
        }
        sleep(PAUSE).await;
    }
}

/// The same in an environment, by the runtime's dial.
///
/// # Errors
/// When that takes longer than `patience`.
pub(crate) async fn until_dialled(
    cell: &dyn Runtime,
    environment: &EnvironmentId,
    page: Page,
    patience: Duration,
) -> Result<Duration> {
    let since = Instant::now();
    let service = page.service.parse()?;
    loop {
        let asked = timeout(ANSWER, async {
            let connection = cell.dial(environment, &service, Target::Port(page.port)).await;
            ask(connection.map_err(std::io::Error::other)?, page.path, BARE).await
        })
        .await;
        if let Ok(Ok(200)) = asked {
            return Ok(since.elapsed());
        }
        if since.elapsed() > patience {
            bail!("{} does not answer: {asked:?}", page.service);
        }
        sleep(PAUSE).await;
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, head: &str) -> std::io::Result<u16> {
    let request = format!("GET {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok());
    status.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}
