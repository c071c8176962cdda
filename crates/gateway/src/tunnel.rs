//! WebSocket: after the application's 101, bytes both ways.

use crate::{activity::TunnelFlight, websocket::Frames};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};
use tokio_util::sync::CancellationToken;

/// One direction reads so much at once.
const BUFFER: usize = 16 * 1024;

/// Carries bytes until either side closes or the gateway ends.
pub(crate) async fn run(visitor: OnUpgrade, service: OnUpgrade, flight: TunnelFlight, end: CancellationToken) {
    let carried = async {
        let (visitor, service) = tokio::try_join!(visitor, service).map_err(io::Error::other)?;
        let (mut visitor, early_up) = socket(visitor)?;
        let (mut service, early_down) = socket(service)?;
        let ((visitor_reads, visitor_writes), (service_reads, service_writes)) = (visitor.split(), service.split());
        tokio::try_join!(
            carry(early_up, visitor_reads, service_writes, &flight),
            carry(early_down, service_reads, visitor_writes, &flight),
        )
    };
    tokio::select! {
        ended = carried => if let Err(error) = ended {
            tracing::debug!(%error, "a tunnel broke");
        },
        () = end.cancelled() => {}
    }
}

/// The socket under an upgraded connection, and what hyper had already read from it.
fn socket(upgraded: Upgraded) -> io::Result<(TcpStream, Bytes)> {
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| io::Error::other("an upgraded connection is no socket"))?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// One direction. A half that is closed is closed on the other side too, while the other direction goes on.
async fn carry(early: Bytes, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, flight: &TunnelFlight) -> io::Result<()> {
    let mut frames = Frames::default();
    if !early.is_empty() {
        flight.moved(early.len(), frames.has_talk(&early));
        to.write_all(&early).await?;
    }
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        flight.moved(read, frames.has_talk(&buffer[..read]));
        to.write_all(&buffer[..read]).await?;
    }
}
