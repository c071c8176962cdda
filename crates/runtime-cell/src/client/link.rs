//! One request, one connection.

use crate::protocol::{ANSWER_MAX, Answer, Request, SecretValues, WireError, parse, read_body, read_frame, write_json};
use model::{EnvironmentId, ServiceName};
use runtime::{Connection, Result, RuntimeError, Target};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::PathBuf,
};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// The way to a cell host's socket.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    socket: PathBuf,
}

impl Link {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub(crate) fn unreachable(&self, error: &io::Error) -> RuntimeError {
        RuntimeError::Unreachable {
            runtime: "cell".into(),
            reason: format!("{}: {error}", self.socket.display()),
        }
    }

    pub(crate) fn unexpected(&self) -> RuntimeError {
        RuntimeError::Unreachable {
            runtime: "cell".into(),
            reason: "the cell host answers in another language".into(),
        }
    }

    async fn send(&self, request: &Request) -> Result<UnixStream> {
        self.send_with(request, &SecretValues::default()).await
    }

    async fn send_with(&self, request: &Request, secrets: &SecretValues) -> Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|e| self.unreachable(&e))?;
        write_json(&mut stream, request)
            .await
            .map_err(|e| self.unreachable(&e))?;
        secrets.write(&mut stream).await.map_err(|e| self.unreachable(&e))?;
        Ok(stream)
    }

    fn read(&self, body: &[u8]) -> Result<Answer> {
        let answer: std::result::Result<Answer, WireError> = parse(body).map_err(|e| self.unreachable(&e))?;
        answer.map_err(RuntimeError::from)
    }

    /// Asks, and returns the answer.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer> {
        self.open_with_answer(request).await.map(|(answer, _)| answer)
    }

    /// Asks, with files that the host is to have, and returns the answer.
    pub(crate) async fn ask_with_files(&self, request: &Request, files: &[std::fs::File]) -> Result<Answer> {
        self.ask_with_both(request, &SecretValues::default(), files).await
    }

    /// Asks for what takes secrets and files, and returns the answer.
    pub(crate) async fn ask_with_both(
        &self,
        request: &Request,
        secrets: &SecretValues,
        files: &[std::fs::File],
    ) -> Result<Answer> {
        let stream = self.send_with(request, secrets).await?;
        crate::protocol::send_files(&stream, files)
            .await
            .map_err(|e| self.unreachable(&e))?;
        self.answer(stream).await.map(|(answer, _)| answer)
    }

    /// Asks for what takes secrets, and returns the answer.
    pub(crate) async fn ask_with(&self, request: &Request, secrets: &SecretValues) -> Result<Answer> {
        let stream = self.send_with(request, secrets).await?;
        self.answer(stream).await.map(|(answer, _)| answer)
    }

    /// Asks for a stream, and returns it when it was accepted.
    pub(crate) async fn open(&self, request: &Request) -> Result<UnixStream> {
        match self.open_with_answer(request).await? {
            (Answer::Done, stream) => Ok(stream),
            _ => Err(self.unexpected()),
        }
    }

    async fn open_with_answer(&self, request: &Request) -> Result<(Answer, UnixStream)> {
        let stream = self.send(request).await?;
        self.answer(stream).await
    }

    async fn answer(&self, mut stream: UnixStream) -> Result<(Answer, UnixStream)> {
        let body = read_frame(&mut stream, ANSWER_MAX)
            .await
            .map_err(|e| self.unreachable(&e))?;
        let body = body.ok_or_else(|| self.unreachable(&io::ErrorKind::UnexpectedEof.into()))?;
        Ok((self.read(&body)?, stream))
    }

    /// Asks for a connection to a service.
    pub(crate) async fn dial(
        &self,
        environment: &EnvironmentId,
        service: &ServiceName,
        target: Target,
    ) -> Result<Connection> {
        let request = Request::Dial {
            environment: environment.clone(),
            service: service.clone(),
            target,
        };
        let mut stream = self.send(&request).await?;
        let (length, socket) = receive_with_socket(&stream).await.map_err(|e| self.unreachable(&e))?;
        let body = read_body(&mut stream, length, ANSWER_MAX)
            .await
            .map_err(|e| self.unreachable(&e))?;
        let Answer::Connected { unix } = self.read(&body)? else {
            return Err(self.unexpected());
        };
        let socket = socket.ok_or_else(|| self.unexpected())?;
        let connection = if unix {
            UnixStream::from_std(socket.into()).map(Connection::Unix)
        } else {
            TcpStream::from_std(socket.into()).map(Connection::Tcp)
        };
        connection.map_err(|e| self.unreachable(&e))
    }
}

/// The length of a frame, and the socket that came with its first byte.
async fn receive_with_socket(stream: &UnixStream) -> io::Result<([u8; 4], Option<OwnedFd>)> {
    let mut length = [0; 4];
    let mut filled = 0;
    let mut socket = None;
    while filled < length.len() {
        let received = stream
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut buffers = [IoSliceMut::new(&mut length[filled..])];
                let received = recvmsg(stream, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                        socket = descriptors.last().or(socket.take());
                    }
                }
                Ok(received.bytes)
            })
            .await?;
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += received;
    }
    Ok((length, socket))
}
