//! What cell host and door say to each other: frames of JSON behind their length, with at most one descriptor each.
//!
//! The cell host treats what it hears as hostile, since that process has spoken with strangers: it hears numbers and names, which
//! it counts, and nothing that it does for it.

use crate::protocol::frame;
use model::{EnvironmentId, HostName, Reachable};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
};
use tokio::{io::Interest, net::UnixStream};

/// The socket below the cell host's run directory at which the door asks for work.
pub(crate) const DOOR_SOCKET: &str = "door.sock";
/// Largest frame in bytes.
pub(crate) const FRAME_MAX: usize = 1 << 20;

/// What stands behind an address inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// The name, looked up outside, on one of these ports.
    Public(BTreeSet<u16>),
    /// These endpoints; the port inside is the port outside.
    Private(BTreeSet<SocketAddr>),
}

impl Target {
    /// Whether connections to that port may be made.
    pub(crate) fn allows(&self, port: u16) -> bool {
        match self {
            Self::Public(ports) => ports.contains(&port),
            Self::Private(endpoints) => endpoints.iter().any(|endpoint| endpoint.port() == port),
        }
    }
}

impl From<Reachable> for Target {
    fn from(reachable: Reachable) -> Self {
        match reachable {
            Reachable::Public(ports) => Self::Public(ports),
            Reachable::Private(endpoints) => Self::Private(endpoints),
        }
    }
}

/// A name with its address inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The name.
    pub(crate) name: HostName,
    /// What stands behind it.
    pub(crate) target: Target,
}

/// Everything that an environment may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    /// Names by their addresses inside.
    pub(crate) names: BTreeMap<Ipv4Addr, Entry>,
    /// Ports on which the door listens; it closes all others.
    pub(crate) ports: BTreeSet<u16>,
    /// Containers that reach nothing.
    pub(crate) shut: BTreeSet<Ipv4Addr>,
}

/// What the cell host wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// From now on this may be reached; connections to what is no longer in it end.
    Allow {
        environment: EnvironmentId,
        /// Tells networks of that environment apart: the number of the namespace.
        network: u64,
        table: Table,
    },
    /// One name more.
    Add {
        environment: EnvironmentId,
        address: Ipv4Addr,
        entry: Entry,
    },
    /// The socket that comes with it listens on this port.
    Listen {
        environment: EnvironmentId,
        network: u64,
        port: u16,
    },
    /// Nothing of this environment is to be kept.
    Close { environment: EnvironmentId },
}

/// An order with its number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Numbered {
    /// Counts up.
    pub(crate) number: u64,
    /// What is wanted.
    pub(crate) order: Order,
}

/// What the door has of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// Of which network.
    pub(crate) network: u64,
    /// The ports on which it listens.
    pub(crate) ports: BTreeSet<u16>,
}

/// What became of connections since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Made.
    pub(crate) connections: u64,
    /// Not made.
    pub(crate) failed: u64,
    /// Why the last one was not.
    pub(crate) failure: Option<String>,
    /// Bytes from the environment.
    pub(crate) sent: u64,
    /// Bytes to the environment.
    pub(crate) received: u64,
    /// Turned away: the port is not allowed, or there are too many.
    pub(crate) refused: u64,
    /// Why, where it is not the list.
    pub(crate) why: Option<String>,
}

/// What happened in an environment since the last report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The environment.
    pub(crate) environment: EnvironmentId,
    /// By name and port.
    pub(crate) tallies: Vec<(HostName, u16, Tally)>,
}

/// What the door says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// The first word: what it has.
    Hello(BTreeMap<EnvironmentId, Held>),
    /// All orders up to this one are carried out.
    Done(u64),
    /// What happened.
    Report(Report),
}

/// Sends a frame, with a descriptor if there is one: it travels with the first byte.
///
/// Whoever sends from several places takes turns.
pub(crate) async fn send(stream: &UnixStream, value: &impl Serialize, socket: Option<OwnedFd>) -> io::Result<()> {
    let bytes = frame(&serde_json::to_vec(value)?)?;
    let mut socket = socket.as_ref();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let descriptors: Vec<_> = socket.iter().map(|socket| socket.as_fd()).collect();
        let sent = stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !descriptors.is_empty() {
                    control.push(SendAncillaryMessage::ScmRights(&descriptors));
                }
                Ok(sendmsg(
                    stream,
                    &[IoSlice::new(rest)],
                    &mut control,
                    SendFlags::NOSIGNAL,
                )?)
            })
            .await?;
        socket = None;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Receives a frame and the descriptor that came with it; `None` at the end of the stream.
pub(crate) async fn receive<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let (mut length, mut socket) = ([0; 4], None);
    if !fill(stream, &mut length, &mut socket).await? {
        return Ok(None);
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > FRAME_MAX {
        let message = format!("a frame of {length} bytes is over the limit of {FRAME_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut body = vec![0; length];
    if !fill(stream, &mut body, &mut socket).await? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((crate::protocol::parse(&body)?, socket)))
}

/// Fills a buffer; false at the end of the stream.
async fn fill(stream: &UnixStream, buffer: &mut [u8], socket: &mut Option<OwnedFd>) -> io::Result<bool> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let read = stream
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let message = recvmsg(
                    stream,
                    &mut [IoSliceMut::new(&mut *rest)],
                    &mut control,
                    RecvFlags::CMSG_CLOEXEC,
                )?;
                for part in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                        *socket = descriptors.last();
                    }
                }
                Ok(message.bytes)
            })
            .await?;
        if read == 0 {
            return Ok(false);
        }
        filled += read;
    }
    Ok(true)
}
