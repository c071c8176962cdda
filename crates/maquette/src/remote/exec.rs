//! A command in a service's container: its output is ours, its exit code, too.

use super::{Session, path};
use crate::{cli::ExecArgs, exit::Failure, screen};
use api::{ExecEnd, ExecRequest, FRAME_MAX, Frame, PROTOCOL};
use bytes::{Bytes, BytesMut};
use std::{io, process::ExitCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The exit code when the command could not be run.
const NOT_RUN: u8 = 125;

pub(super) async fn run(session: &Session, args: ExecArgs) -> Result<ExitCode, Failure> {
    let mut variables = std::collections::BTreeMap::new();
    for variable in &args.variables {
        let pair = variable.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or_else(|| Failure::new(2, format!("`{variable}` is not NAME=VALUE")))?;
        variables.insert(name.to_owned(), value.to_owned());
    }
    let request = ExecRequest {
        service: args.service,
        argv: args.command,
        variables,
    };
    let path = format!("{}/exec", path(&args.environment));
    let connection = screen::while_doing("connecting", session.api.upgrade(&path, PROTOCOL)).await?;
    let (from, mut to) = tokio::io::split(connection);
    send(&mut to, &Frame::Request(request)).await.map_err(broken)?;
    let stdin = args.stdin;
    let input = async move {
        if stdin {
            feed(&mut to).await?;
        }
        send(&mut to, &Frame::StdinEnd).await?;
        // The connection must stay open while the command runs.
        std::future::pending::<io::Result<()>>().await
    };
    let end = tokio::select! {
        end = receive(from) => end?,
        Err(error) = input => return Err(broken(error)),
    };
    match end {
        ExecEnd::Status(status) => Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))),
        ExecEnd::Failed(reason) => Err(Failure::new(NOT_RUN, reason)),
    }
}

fn broken(error: io::Error) -> Failure {
    Failure::unreachable(format!("the connection to the command broke: {error}"))
}

async fn feed(to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut stdin = tokio::io::stdin();
    let mut piece = vec![0; FRAME_MAX / 4];
    loop {
        let read = stdin.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        send(to, &Frame::Stdin(Bytes::copy_from_slice(&piece[..read]))).await?;
    }
}

async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let mut wire = BytesMut::new();
    frame.encode(&mut wire).map_err(io::Error::other)?;
    to.write_all(&wire).await?;
    to.flush().await
}

async fn receive(mut from: impl AsyncRead + Unpin) -> Result<ExecEnd, Failure> {
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = Frame::decode(&mut buffer).map_err(|error| Failure::of(&error))? {
            match frame {
                Frame::Stdout(bytes) => {
                    out.write_all(&bytes).await?;
                    out.flush().await?;
                }
                Frame::Stderr(bytes) => {
                    err.write_all(&bytes).await?;
                    err.flush().await?;
                }
                Frame::End(end) => return Ok(end),
                _ => return Err(Failure::unreachable("the server sent what only a client sends")),
            }
        }
        if from.read_buf(&mut buffer).await.map_err(broken)? == 0 {
            return Err(Failure::unreachable("the server went away while the command ran"));
        }
    }
}
