//! Streams of a cell host: changes, log lines, a command's input and output. Bounded queues; dropping an end hangs up.

use super::link::Link;
use crate::protocol::{ANSWER_MAX, Request, exec_frame, parse, read_frame, write_frame};
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use model::EnvironmentId;
use runtime::{Exec, ExecExit, LogLine};
use std::{io, time::Duration};
use tokio::{
    net::{UnixStream, unix::OwnedReadHalf, unix::OwnedWriteHalf},
    sync::{broadcast, mpsc, oneshot},
};

const QUEUE: usize = 64;
const CHUNK: usize = 32 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Passes changes on for as long as the client lives; connects again when the host was restarted.
pub(crate) async fn follow_changes(link: Link, changes: broadcast::Sender<EnvironmentId>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(mut stream) = link.open(&Request::Changes).await {
            pause = FIRST_PAUSE;
            while let Ok(Some(body)) = read_frame(&mut stream, ANSWER_MAX).await {
                // Nobody may be listening; one that lags is told so by the channel.
                if let Ok(Some(environment)) = parse::<Option<EnvironmentId>>(&body) {
                    let _ = changes.send(environment);
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The lines of a log.
pub(crate) fn log_lines(stream: UnixStream) -> BoxStream<'static, LogLine> {
    futures::stream::unfold(stream, |mut stream| async move {
        let body = read_frame(&mut stream, ANSWER_MAX).await.ok()??;
        Some((parse::<LogLine>(&body).ok()?, stream))
    })
    .boxed()
}

/// A running command.
pub(crate) fn command(stream: UnixStream) -> Exec {
    let (read, write) = stream.into_split();
    let (stdin, input) = mpsc::channel(QUEUE);
    let (output, stdout) = mpsc::channel(QUEUE);
    let (errors, stderr) = mpsc::channel(QUEUE);
    let (ended, exit) = oneshot::channel();
    tokio::spawn(async move {
        let mut ended = ended;
        let end = tokio::select! {
            end = receive(read, output, errors) => end,
            never = feed(write, input) => match never {},
            // Nobody waits for the end any more: hanging up ends the command.
            () = ended.closed() => return,
        };
        let _ = ended.send(end.unwrap_or_else(|e| ExecExit::Failed(format!("the cell host hung up: {e}"))));
    });
    Exec {
        stdin,
        stdout,
        stderr,
        exit,
    }
}

async fn receive(
    mut read: OwnedReadHalf,
    output: mpsc::Sender<Bytes>,
    errors: mpsc::Sender<Bytes>,
) -> io::Result<ExecExit> {
    while let Some(frame) = read_frame(&mut read, ANSWER_MAX).await? {
        let frame = Bytes::from(frame);
        match frame.first() {
            // Who does not read a part of the output does not want it.
            Some(&exec_frame::STDOUT) => drop(output.send(frame.slice(1..)).await),
            Some(&exec_frame::STDERR) => drop(errors.send(frame.slice(1..)).await),
            Some(&exec_frame::EXIT) => return parse(&frame[1..]),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown frame")),
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

async fn feed(mut write: OwnedWriteHalf, mut input: mpsc::Receiver<Bytes>) -> std::convert::Infallible {
    let mut open = true;
    while open {
        let next = input.recv().await;
        open = next.is_some();
        let bytes = next.unwrap_or_default();
        let mut chunks: Vec<&[u8]> = bytes.chunks(CHUNK).collect();
        if !open {
            chunks.push(&[]);
        }
        for chunk in chunks {
            let mut frame = vec![exec_frame::STDIN];
            frame.extend_from_slice(chunk);
            // The other half tells how it ended.
            if write_frame(&mut write, &frame).await.is_err() {
                break;
            }
        }
    }
    // Kept open: closing this half would hang up on the command.
    let held = write;
    let never = std::future::pending().await;
    drop(held);
    never
}
