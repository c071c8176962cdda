//! Streams of a cell host: changes, log lines, a command's input and output. Bounded queues; dropping an end hangs up.

use super::link::Link;
use crate::protocol::{ANSWER_MAX, Answer, Request, exec_frame, parse, read_frame, write_frame};
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use model::EnvironmentId;
use runtime::{Exec, ExecExit, LogLine, Result};
use std::{collections::BTreeSet, io, time::Duration};
use tokio::{
    net::{UnixStream, unix::OwnedReadHalf, unix::OwnedWriteHalf},
    sync::{broadcast, mpsc, oneshot},
};

const QUEUE: usize = 64;
const CHUNK: usize = 32 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Passes changes on for as long as the client lives; connects again when the host was restarted. What changed until then was told to
/// nobody, so everything may have.
pub(crate) async fn follow_changes(link: Link, changes: broadcast::Sender<EnvironmentId>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(stream) = link.open(&Request::Changes).await
            && everything(&link, &changes).await.is_ok()
        {
            pause = FIRST_PAUSE;
            // It ends when the host does, and all of this begins anew.
            let _ = pass_on(&link, stream, &changes).await;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn pass_on(link: &Link, mut stream: UnixStream, changes: &broadcast::Sender<EnvironmentId>) -> Result<()> {
    let away = |error: io::Error| link.unreachable(&error);
    while let Some(body) = read_frame(&mut stream, ANSWER_MAX).await.map_err(away)? {
        match parse::<Option<EnvironmentId>>(&body).map_err(away)? {
            // Nobody may be listening; one that lags is told so by the channel.
            Some(environment) => drop(changes.send(environment)),
            // We lagged ourselves.
            None => everything(link, changes).await?,
        }
    }
    Ok(())
}

/// Tells of a change in every environment that there is.
async fn everything(link: &Link, changes: &broadcast::Sender<EnvironmentId>) -> Result<()> {
    let Answer::Resources(all) = link.ask(&Request::Inventory { environment: None }).await? else {
        return Err(link.unexpected());
    };
    let environments: BTreeSet<EnvironmentId> = all.into_iter().map(|resource| resource.environment).collect();
    for environment in environments {
        let _ = changes.send(environment);
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{WireError, write_json};
    use model::Resource;
    use tokio::net::UnixListener;

    /// The next request to a host, and where it is answered.
    async fn asked(host: &UnixListener) -> (Request, UnixStream) {
        let (mut stream, _) = host.accept().await.unwrap();
        let request = read_frame(&mut stream, ANSWER_MAX).await.unwrap().unwrap();
        (parse(&request).unwrap(), stream)
    }

    async fn asked_for_changes(host: &UnixListener) -> UnixStream {
        let (request, mut stream) = asked(host).await;
        assert!(matches!(request, Request::Changes));
        write_json(&mut stream, &Ok::<_, WireError>(Answer::Done))
            .await
            .unwrap();
        stream
    }

    /// Says what there is.
    async fn asked_for_all(host: &UnixListener, environments: &[&EnvironmentId]) {
        let (request, mut stream) = asked(host).await;
        assert!(matches!(request, Request::Inventory { environment: None }));
        let of = |environment: &&EnvironmentId| Resource {
            environment: (*environment).clone(),
            kind: "directory".to_owned(),
            name: environment.to_string(),
        };
        let all = environments.iter().map(of).collect();
        write_json(&mut stream, &Ok::<_, WireError>(Answer::Resources(all)))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn what_changed_while_nobody_was_told_may_be_everything() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let host = UnixListener::bind(&socket).unwrap();
        let (sender, mut changed) = broadcast::channel(16);
        let follows = tokio::spawn(follow_changes(Link::new(socket), sender));
        let (a, b): (EnvironmentId, EnvironmentId) = ("eaaaaaaaaa".parse().unwrap(), "ebbbbbbbbb".parse().unwrap());

        let mut told = asked_for_changes(&host).await;
        asked_for_all(&host, &[&a, &a]).await;
        assert_eq!(changed.recv().await.unwrap(), a);
        write_json(&mut told, &Some(&b)).await.unwrap();
        assert_eq!(changed.recv().await.unwrap(), b);
        // There were more changes than the host keeps.
        write_json(&mut told, &None::<EnvironmentId>).await.unwrap();
        asked_for_all(&host, &[&a, &b]).await;
        assert_eq!(changed.recv().await.unwrap(), a);
        assert_eq!(changed.recv().await.unwrap(), b);
        // The host is started again.
        drop(told);
        let _told = asked_for_changes(&host).await;
        asked_for_all(&host, &[&b]).await;
        assert_eq!(changed.recv().await.unwrap(), b);
        follows.abort();
    }
}
