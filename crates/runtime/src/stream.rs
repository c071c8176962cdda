//! Streams between a runtime and its callers: connections, logs, commands.

use bytes::Bytes;
use model::Timestamp;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::{mpsc, oneshot},
};

/// A connection to a service. Where a runtime can hand over a real socket it does.
pub enum Connection {
    /// A TCP socket.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// Anything else, for example a port forwarded through an API server.
    Boxed(Pin<Box<dyn Stream>>),
}

/// A stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Connection::Tcp",
            Self::Unix(_) => "Connection::Unix",
            Self::Boxed(_) => "Connection::Boxed",
        })
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Boxed(stream) => stream.as_mut().poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Boxed(stream) => stream.as_mut().poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Boxed(stream) => stream.as_mut().poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Boxed(stream) => stream.as_mut().poll_shutdown(cx),
        }
    }
}

/// Which of a container's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line that a container printed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub stream: LogStream,
    /// The line without its end, at most 16 KiB, invalid UTF-8 replaced.
    pub text: String,
}

/// Which lines of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogQuery {
    /// At most so many of the newest lines first; `None` is all that was kept.
    pub tail: Option<usize>,
    /// Whether the stream goes on with new lines until the container is removed.
    pub follow: bool,
}

/// A command that runs in a container. Dropping it ends the command.
#[derive(Debug)]
pub struct Exec {
    /// What the command reads; closing it is end of file.
    pub stdin: mpsc::Sender<Bytes>,
    /// What it prints to standard output.
    pub stdout: mpsc::Receiver<Bytes>,
    /// What it prints to standard error.
    pub stderr: mpsc::Receiver<Bytes>,
    /// How it ends.
    pub exit: oneshot::Receiver<ExecExit>,
}

/// How a command in a container ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ExecExit {
    /// With this exit status; 128 + n after signal n.
    Status(i32),
    /// It could not be run, in words.
    Failed(String),
}
