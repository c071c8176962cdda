//! Connections to services on clusters. The rights on a cluster are the control plane's alone, so the gateway asks it for each
//! connection, and gets those only that lead where visitors may be led.

use super::{client::EdgeClient, serve::Edge};
use crate::problem::{Answer, Problem};
use api::ProblemCode;
use axum::{body::Body, extract::State, response::Response};
use gateway::Target;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use model::{EnvironmentId, ServiceName};
use std::{io, net::Ipv4Addr, time::Duration};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixStream},
    time::timeout,
};

/// Connections to clusters that may be open at a time.
pub(super) const AT_ONCE: usize = 2048;

/// What the connection becomes.
const PROTOCOL: HeaderValue = HeaderValue::from_static("maquette-dial");
/// Where a connection is to lead.
const TARGET: &str = "maquette-target";
/// How long the control plane may take to have one.
const OPENED: Duration = Duration::from_secs(25);
/// The longest refusal, in bytes.
const ANSWER_MAX: usize = 64 << 10;
/// How many strangers may come to the port of a connection before its own end does.
const STRANGERS: u32 = 16;

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialProblem {
    /// Nobody is led there, or it is gone.
    #[error("there is no such service")]
    Gone,
    /// Nothing accepts there now.
    #[error("{0}")]
    Refused(String),
    /// The control plane or the cluster does not answer.
    #[error("{0}")]
    Away(String),
}

/// As text: `e123456789 web 8080`.
fn written(target: &Target) -> String {
    format!("{} {} {}", target.environment, target.service, target.port)
}

fn read(text: &str) -> Option<Target> {
    let mut words = text.split(' ');
    let (environment, service, port) = (words.next()?, words.next()?, words.next()?);
    Some(Target {
        environment: environment.parse::<EnvironmentId>().ok()?,
        service: service.parse::<ServiceName>().ok()?,
        port: port.parse().ok()?,
    })
    .filter(|_| words.next().is_none())
}

/// Opens a connection to a service that a route leads to, and passes on what comes.
pub(super) async fn dial(State(edge): State<Edge>, mut request: Request<Body>) -> Answer<Response> {
    let invalid = |what: &str| Problem::new(ProblemCode::Invalid, what);
    let target = request
        .headers()
        .get(TARGET)
        .and_then(|value| read(value.to_str().ok()?));
    let target = target.ok_or_else(|| invalid("where it is to lead can not be read"))?;
    let upgrade: Option<OnUpgrade> = request.extensions_mut().remove();
    let upgrade = upgrade.filter(|_| request.headers().get(header::UPGRADE) == Some(&PROTOCOL));
    let upgrade = upgrade.ok_or_else(|| invalid("this needs a connection that can be upgraded"))?;
    let is_led_to = {
        let table = edge.table.borrow();
        let live = table.routes.iter().any(|(_, route)| route.target == target);
        live || table.awaited.iter().any(|(_, awaited)| *awaited == target)
    };
    if !is_led_to {
        return Err(Problem::new(ProblemCode::NotFound, "nobody is led there"));
    }
    let full = || Problem::new(ProblemCode::Unavailable, "too many connections to clusters are open");
    let permit = edge.dials.clone().try_acquire_owned().map_err(|_| full())?;
    let port = runtime::Target::Port(target.port);
    let mut connection = edge
        .app
        .runtime
        .dial(&target.environment, &target.service, port)
        .await
        .map_err(|error| match error {
            // The service is at fault, and nobody on the way to it.
            runtime::RuntimeError::Failed { .. } => Problem::new(ProblemCode::Conflict, error.to_string()),
            error => error.into(),
        })?;
    tokio::spawn(async move {
        let _permit = permit;
        match upgrade.await {
            // Whoever ends it first ends both.
            Ok(upgraded) => drop(copy_bidirectional(&mut TokioIo::new(upgraded), &mut connection).await),
            Err(error) => tracing::debug!(%error, "the gateway did not take a connection"),
        }
    });
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, PROTOCOL);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    Ok(answer)
}

impl EdgeClient {
    /// A connection to a service on a cluster: a socket whose other end this process passes on to the control plane.
    ///
    /// # Errors
    /// [`DialProblem`].
    pub async fn dial(&self, target: &Target) -> Result<TcpStream, DialProblem> {
        let asked = timeout(OPENED, self.opened(target)).await;
        let upgraded =
            asked.map_err(|_| DialProblem::Away("the control plane did not answer in time".to_owned()))??;
        let (ours, mut theirs) = pair().await.map_err(|error| DialProblem::Away(error.to_string()))?;
        tokio::spawn(async move {
            drop(copy_bidirectional(&mut theirs, &mut TokioIo::new(upgraded)).await);
        });
        Ok(ours)
    }

    async fn opened(&self, target: &Target) -> Result<Upgraded, DialProblem> {
        let away =
            |error: &dyn std::error::Error| DialProblem::Away(format!("the control plane is not there: {error}"));
        let stream = UnixStream::connect(&*self.socket).await.map_err(|error| away(&error))?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| away(&error))?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::builder()
            .method(Method::POST)
            .uri("/dial")
            .header(header::HOST, "control")
            .header(header::UPGRADE, PROTOCOL)
            .header(header::CONNECTION, "upgrade")
            .header(TARGET, written(target))
            .body(Empty::<bytes::Bytes>::new())
            .map_err(|error| away(&error))?;
        let response = sender.send_request(request).await.map_err(|error| away(&error))?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => hyper::upgrade::on(response).await.map_err(|error| away(&error)),
            StatusCode::NOT_FOUND => Err(DialProblem::Gone),
            status => {
                let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
                let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let problem: Option<api::ProblemDetails> = serde_json::from_slice(&body).ok();
                let why = problem.map_or_else(|| "no connection".to_owned(), |problem| problem.detail);
                Err(match status {
                    StatusCode::SERVICE_UNAVAILABLE => DialProblem::Away(why),
                    _ => DialProblem::Refused(why),
                })
            }
        }
    }
}

/// Two sockets that are connected. Whoever else comes to the port meanwhile is hung up on.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let own = ours.local_addr()?;
    for _ in 0..STRANGERS {
        let (theirs, peer) = listener.accept().await?;
        if peer == own {
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            return Ok((ours, theirs));
        }
    }
    Err(io::Error::other("strangers take the port of a connection"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn a_target_survives_the_way_through_a_header() {
        let target = Target {
            environment: "e000000007".parse().unwrap(),
            service: "web".parse().unwrap(),
            port: 80,
        };
        assert_eq!(read(&written(&target)), Some(target));
        for bad in [
            "",
            "e000000007 web",
            "e000000007 web 80 x",
            "../x web 80",
            "e000000007 web 70000",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_written_to_one_of_a_pair_is_read_from_the_other() {
        let (mut one, mut other) = pair().await.unwrap();
        one.write_all(b"hello").await.unwrap();
        drop(one);
        let mut text = String::new();
        other.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }
}
