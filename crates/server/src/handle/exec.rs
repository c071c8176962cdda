//! A command in a service's container, over a connection that is upgraded to frames.

use crate::{
    app::App,
    intent,
    problem::{Answer, Problem},
    resolve,
};
use api::{ExecEnd, ExecRequest, FRAME_MAX, Frame, PROTOCOL, ProblemCode};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use model::EnvironmentId;
use runtime::{Exec, ExecExit};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
    time::timeout,
};

/// How long the client may take to say what it wants.
const REQUEST: Duration = Duration::from_secs(10);
/// The most arguments and variables.
const WORDS_MAX: usize = 1000;

type Connection = TokioIo<Upgraded>;

pub(crate) async fn upgrade(
    State(app): State<App>,
    Path(name): Path<String>,
    mut request: Request,
) -> Answer<Response> {
    let row = resolve::environment(&app, &name).await?;
    intent::must_be_for_people(&row)?;
    let wanted = asks(request.headers())
        .then(|| request.extensions_mut().remove::<OnUpgrade>())
        .flatten();
    let Some(on_upgrade) = wanted else {
        return Err(
            Problem::new(ProblemCode::Invalid, "this needs a connection that can be upgraded").hint(format!(
                "send `Connection: upgrade` and `Upgrade: {PROTOCOL}` with HTTP/1.1"
            )),
        );
    };
    let place =
        app.execs.clone().try_acquire_owned().map_err(|_| {
            Problem::new(ProblemCode::Unavailable, "too many commands run at once").hint("end one of them")
        })?;
    tokio::spawn(async move {
        let _place = place;
        match on_upgrade.await {
            Ok(upgraded) => {
                if let Err(error) = serve(&app, &row.id, TokioIo::new(upgraded)).await {
                    tracing::debug!(environment = %row.id, %error, "a connection to a command broke");
                }
            }
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
        .headers_mut()
        .insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

fn asks(headers: &HeaderMap) -> bool {
    let upgrade = headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes()));
    let connection = headers
        .get(header::CONNECTION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    upgrade
        && connection
            .split(',')
            .any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

async fn serve(app: &App, environment: &EnvironmentId, connection: Connection) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(connection);
    let mut buffer = BytesMut::with_capacity(8 * 1024);
    let first = timeout(REQUEST, next(&mut from, &mut buffer)).await;
    let end = match first {
        Ok(Ok(Some(Frame::Request(request)))) => match begin(app, environment, request).await {
            Ok(exec) => carry(exec, from, buffer, &mut to).await?,
            Err(reason) => ExecEnd::Failed(reason),
        },
        Ok(Ok(_)) => ExecEnd::Failed("the first frame must say what to run".to_owned()),
        Ok(Err(error)) => return Err(error),
        Err(_) => ExecEnd::Failed("nothing to run was named in time".to_owned()),
    };
    send(&mut to, &Frame::End(end)).await?;
    to.shutdown().await
}

async fn begin(app: &App, environment: &EnvironmentId, request: ExecRequest) -> Result<Exec, String> {
    if request.argv.is_empty() || request.argv.len() > WORDS_MAX || request.variables.len() > WORDS_MAX {
        return Err(format!("a command has 1 to {WORDS_MAX} words"));
    }
    let zero = |text: &String| text.contains('\0');
    if request.argv.iter().any(zero) || request.variables.iter().any(|(name, value)| zero(name) || zero(value)) {
        return Err("a command has no zero bytes".to_owned());
    }
    let service = request
        .service
        .parse()
        .map_err(|error: model::InvalidName| error.to_string())?;
    let started = app
        .runtime
        .exec(environment, &service, &request.argv, &request.variables)
        .await;
    started.map_err(|error| error.to_string())
}

/// Carries input and output until the command ends. When the client goes away the command is dropped, which ends it.
async fn carry(
    exec: Exec,
    from: ReadHalf<Connection>,
    buffer: BytesMut,
    to: &mut WriteHalf<Connection>,
) -> io::Result<ExecEnd> {
    let Exec {
        stdin,
        mut stdout,
        mut stderr,
        mut exit,
    } = exec;
    let input = feed(from, buffer, stdin);
    tokio::pin!(input);
    let (mut reading, mut out_open, mut err_open, mut ended) = (true, true, true, None);
    loop {
        tokio::select! {
            piece = stdout.recv(), if out_open => match piece {
                Some(bytes) => output(to, bytes, Frame::Stdout).await?,
                None => out_open = false,
            },
            piece = stderr.recv(), if err_open => match piece {
                Some(bytes) => output(to, bytes, Frame::Stderr).await?,
                None => err_open = false,
            },
            how = &mut exit, if ended.is_none() => ended = Some(how),
            left = &mut input, if reading => match left {
                Ok(()) => reading = false,
                Err(error) => return Err(error),
            },
            else => {}
        }
        // What the command printed before it ended is sent before its end.
        if !out_open
            && !err_open
            && let Some(how) = ended.take()
        {
            return Ok(match how {
                Ok(ExecExit::Status(status)) => ExecEnd::Status(status),
                Ok(ExecExit::Failed(reason)) => ExecEnd::Failed(reason),
                Err(_) => ExecEnd::Failed("the runtime lost sight of the command".to_owned()),
            });
        }
    }
}

/// Passes input on. Ends with `Ok` at the end of input, with an error when the client has gone.
async fn feed(mut from: ReadHalf<Connection>, mut buffer: BytesMut, stdin: mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut stdin = Some(stdin);
    loop {
        match next(&mut from, &mut buffer).await? {
            Some(Frame::Stdin(bytes)) => {
                // A command that reads no more goes on; its input is dropped.
                if let Some(open) = &stdin
                    && open.send(bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Some(Frame::StdinEnd) => stdin = None,
            Some(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a frame that only the server sends",
                ));
            }
            None => return Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

async fn output(to: &mut WriteHalf<Connection>, mut bytes: Bytes, frame: fn(Bytes) -> Frame) -> io::Result<()> {
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(FRAME_MAX));
        send(to, &frame(piece)).await?;
    }
    Ok(())
}

async fn send(to: &mut WriteHalf<Connection>, frame: &Frame) -> io::Result<()> {
    let mut wire = BytesMut::new();
    frame.encode(&mut wire).map_err(io::Error::other)?;
    to.write_all(&wire).await?;
    to.flush().await
}

async fn next(from: &mut ReadHalf<Connection>, buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    loop {
        let frame = Frame::decode(buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if frame.is_some() {
            return Ok(frame);
        }
        if from.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
