//! Asks public services through the gateway's own listener, as their visitors will.

use async_trait::async_trait;
use bytes::Bytes;
use gateway::{PROBE_HEADER, PROBE_PATH, PROBE_TARGET_HEADER, ProbeAnswer, Secret, Target, probe_target};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use reconciler::{Entrance, Front, FrontError};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// How long the gateway, which is on this machine, may take to accept.
const CONNECT: Duration = Duration::from_secs(2);
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 16 << 10;

/// The way through the gateway.
#[derive(Debug)]
pub struct GatewayFront {
    address: SocketAddr,
    word: Secret,
}

impl GatewayFront {
    /// Through the gateway that listens on this address. `word` is what it is told to know us by.
    #[must_use]
    pub fn new(listen: SocketAddr, word: Secret) -> Self {
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Self {
            address: SocketAddr::new(ip, listen.port()),
            word,
        }
    }

    fn away(&self, why: impl fmt::Display) -> FrontError {
        FrontError::Away(format!("the gateway at {} does not answer: {why}", self.address))
    }

    async fn exchange(&self, entrance: &Entrance) -> Result<(StatusCode, Bytes), FrontError> {
        let connected = timeout(CONNECT, TcpStream::connect(self.address)).await;
        let stream = connected
            .map_err(|_| self.away("it accepts no connection"))?
            .map_err(|error| self.away(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.away(error))?;
        let driver = tokio::spawn(connection);
        let target = Target {
            environment: entrance.environment.clone(),
            service: entrance.service.clone(),
            port: entrance.port,
        };
        let request = Request::builder()
            .uri(PROBE_PATH)
            .header(header::HOST, &entrance.authority)
            .header(header::ACCEPT, "application/json")
            .header(PROBE_HEADER, self.word.expose())
            .header(PROBE_TARGET_HEADER, probe_target(&target))
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.away(error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| self.away(error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|error| self.away(error))?;
            Ok((status, body.to_bytes()))
        }
        .await;
        driver.abort();
        answer
    }
}

#[async_trait]
impl Front for GatewayFront {
    async fn ask(&self, entrance: &Entrance) -> Result<u16, FrontError> {
        let (status, body) = self.exchange(entrance).await?;
        if status == StatusCode::MISDIRECTED_REQUEST {
            return Err(FrontError::Misdirected(format!(
                "the gateway at {} serves nothing at {}",
                self.address, entrance.authority
            )));
        }
        let answer = match status {
            StatusCode::OK => serde_json::from_slice(&body).ok(),
            _ => None,
        };
        match answer {
            Some(ProbeAnswer::Answered { status }) => Ok(status),
            Some(ProbeAnswer::NoRoute) => Err(FrontError::NoRoute),
            Some(ProbeAnswer::Silent { why }) => Err(FrontError::Silent(why)),
            Some(ProbeAnswer::Unreachable { why }) => Err(FrontError::Away(why)),
            // It has just begun and has not heard of us yet, or it is of another version.
            None => Err(FrontError::Away(format!(
                "the gateway at {} does not know this server yet (status {})",
                self.address,
                status.as_u16()
            ))),
        }
    }
}
