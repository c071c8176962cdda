//! What client and cell host say to each other: one request per connection, frames of JSON behind their length.
//!
//! The host treats every request as hostile: frames are capped before they are parsed, and ids and names are types that
//! refuse what could be a path.

use images::BlobDigest;
use model::{
    Capabilities, EnvironmentId, EnvironmentSpec, Generation, ImageDigest, InstanceId, JobName, Observation, Power,
    Resource, SecretRef, ServiceName, SnapshotId, Stage, VolumeName,
};
use runtime::{BuildOutcome, JobOutcome, LogQuery, Room, RuntimeError, Sake, SourceKey, Target};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest},
    net::UnixStream,
};
use zeroize::Zeroizing;

/// The control socket below the run directory.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";
/// The socket that only dials.
pub(crate) const DIAL_SOCKET: &str = "dial.sock";
/// Largest request in bytes.
pub(crate) const REQUEST_MAX: usize = 4 << 20;
/// Largest answer in bytes.
pub(crate) const ANSWER_MAX: usize = 16 << 20;
/// Largest request of a socket that only dials.
pub(crate) const DIAL_REQUEST_MAX: usize = 4096;

/// The most secrets of one request, the most bytes of one, and of all together.
const SECRETS_MAX: usize = 1000;
const SECRET_MAX: usize = 1 << 20;
const SECRETS_BYTES_MAX: usize = 64 << 20;

/// Secret values for one call. They travel behind the request that names them, a frame each: bytes stay bytes.
#[derive(Clone, Default)]
pub(crate) struct SecretValues(pub(crate) BTreeMap<SecretRef, Zeroizing<Vec<u8>>>);

impl SecretValues {
    /// Their names, in the order in which the values travel.
    pub(crate) fn names(&self) -> Vec<SecretRef> {
        self.0.keys().cloned().collect()
    }

    /// Writes the values.
    pub(crate) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        for value in self.0.values() {
            let length = u32::try_from(value.len()).map_err(io::Error::other)?;
            stream.write_all(&length.to_be_bytes()).await?;
            stream.write_all(value).await?;
        }
        Ok(())
    }

    /// Reads the values of these secrets.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin), names: &[SecretRef]) -> io::Result<Self> {
        let over = || io::Error::new(io::ErrorKind::InvalidData, "the secrets are over the limit");
        if names.len() > SECRETS_MAX {
            return Err(over());
        }
        let (mut values, mut total) = (BTreeMap::new(), 0);
        for name in names {
            let value = read_frame(stream, SECRET_MAX).await?;
            let value = Zeroizing::new(value.ok_or(io::ErrorKind::UnexpectedEof)?);
            total += value.len();
            if total > SECRETS_BYTES_MAX {
                return Err(over());
            }
            values.insert(name.clone(), value);
        }
        Ok(Self(values))
    }
}

impl runtime::Secrets for SecretValues {
    fn value(&self, secret: &SecretRef) -> Option<&[u8]> {
        self.0.get(secret).map(|value| value.as_slice())
    }
}

impl fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// One request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Capabilities,
    /// Whose cell host it is.
    Instance,
    SourceExists {
        key: SourceKey,
    },
    SourceBegin {
        sake: Sake,
        key: SourceKey,
    },
    SourceSeal {
        sake: Sake,
        key: SourceKey,
    },
    SourceList,
    SourceRemove {
        key: SourceKey,
    },
    /// Followed by one byte that the files of the layers come with.
    ImagePut {
        sake: Sake,
        image: ImageDigest,
        diffs: Vec<BlobDigest>,
    },
    ImageList,
    ImageRemove {
        image: ImageDigest,
    },
    Apply {
        spec: Box<EnvironmentSpec>,
        stage: Stage,
        /// Their values follow.
        secrets: Vec<SecretRef>,
    },
    Prepare {
        spec: Box<EnvironmentSpec>,
        services: Vec<ServiceName>,
        /// Their values follow.
        secrets: Vec<SecretRef>,
    },
    Observe {
        environment: EnvironmentId,
    },
    Recall {
        environment: EnvironmentId,
    },
    /// Followed by one byte that the files of the bases come with, in the order of their blobs.
    BuildRun {
        spec: Box<EnvironmentSpec>,
        service: ServiceName,
        bases: Vec<WireBase>,
        secrets: Vec<SecretRef>,
    },
    JobRun {
        spec: Box<EnvironmentSpec>,
        job: JobName,
        /// Their values follow.
        secrets: Vec<SecretRef>,
    },
    Power {
        environment: EnvironmentId,
        generation: Generation,
        power: Power,
    },
    ServicesStop {
        environment: EnvironmentId,
        generation: Generation,
        services: Vec<ServiceName>,
    },
    SnapshotCreate {
        environment: EnvironmentId,
        generation: Generation,
        volume: VolumeName,
        snapshot: SnapshotId,
    },
    SnapshotList,
    SnapshotRemove {
        sake: Option<Sake>,
        snapshot: SnapshotId,
    },
    Room,
    RoomOf {
        environment: EnvironmentId,
    },
    Memory {
        environment: EnvironmentId,
    },
    Dial {
        environment: EnvironmentId,
        service: ServiceName,
        target: Target,
    },
    Logs {
        environment: EnvironmentId,
        name: String,
        query: LogQuery,
    },
    Exec {
        environment: EnvironmentId,
        service: ServiceName,
        argv: Vec<String>,
        variables: BTreeMap<String, String>,
    },
    Remove {
        environment: EnvironmentId,
        generation: Generation,
    },
    Inventory {
        environment: Option<EnvironmentId>,
    },
    Changes,
}

impl Request {
    /// The secrets whose values follow it.
    pub(crate) fn secrets(&self) -> &[SecretRef] {
        match self {
            Self::Apply { secrets, .. }
            | Self::Prepare { secrets, .. }
            | Self::JobRun { secrets, .. }
            | Self::BuildRun { secrets, .. } => secrets,
            _ => &[],
        }
    }
}

/// One answer. Requests that stream are answered with `Done` first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    Capabilities(Capabilities),
    Instance(InstanceId),
    Spec(Option<Box<EnvironmentSpec>>),
    Exists(bool),
    Path(std::path::PathBuf),
    Sources(Vec<SourceKey>),
    Images(BTreeSet<ImageDigest>),
    Observation(Option<Box<Observation>>),
    Job(JobOutcome),
    Build(BuildOutcome),
    Snapshots(Vec<SnapshotId>),
    Room(Room),
    RoomOf(Option<Room>),
    Memory(Option<u64>),
    Resources(Vec<Resource>),
    /// The connected socket comes with this frame; `unix` says of which family it is.
    Connected {
        unix: bool,
    },
}

/// The port's errors on the wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireError {
    Superseded {
        environment: EnvironmentId,
        given: Generation,
        newest: Generation,
    },
    Unsupported {
        runtime: String,
        what: String,
        hint: String,
    },
    NotFound {
        what: String,
    },
    Invalid {
        what: String,
        reason: String,
    },
    Full {
        what: String,
        reason: String,
    },
    Unreachable {
        runtime: String,
        reason: String,
    },
    Failed {
        action: String,
        reason: String,
    },
}

macro_rules! convert {
    ($from:ident, $to:ident) => {
        impl From<$from> for $to {
            fn from(error: $from) -> Self {
                match error {
                    $from::Superseded {
                        environment,
                        given,
                        newest,
                    } => Self::Superseded {
                        environment,
                        given,
                        newest,
                    },
                    $from::Unsupported { runtime, what, hint } => Self::Unsupported { runtime, what, hint },
                    $from::NotFound { what } => Self::NotFound { what },
                    $from::Invalid { what, reason } => Self::Invalid { what, reason },
                    $from::Full { what, reason } => Self::Full { what, reason },
                    $from::Unreachable { runtime, reason } => Self::Unreachable { runtime, reason },
                    $from::Failed { action, reason } => Self::Failed { action, reason },
                }
            }
        }
    };
}
convert!(RuntimeError, WireError);
convert!(WireError, RuntimeError);

/// What stands for one chunk of a command's input or output: its first byte.
pub(crate) mod exec_frame {
    /// Bytes for the command; none means end of file.
    pub(crate) const STDIN: u8 = 0;
    /// Bytes from it.
    pub(crate) const STDOUT: u8 = 1;
    /// Bytes from it.
    pub(crate) const STDERR: u8 = 2;
    /// How it ended, as JSON.
    pub(crate) const EXIT: u8 = 3;
}

/// Reads one frame; `None` at the end of the stream.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    read_body(stream, length, max).await.map(Some)
}

/// Reads the rest of a frame of which the length is known.
pub(crate) async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    length: [u8; 4],
    max: usize,
) -> io::Result<Vec<u8>> {
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes is over the limit of {max}"),
        ));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Writes one frame.
pub(crate) async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> io::Result<()> {
    stream.write_all(&frame(body)?).await
}

/// A frame as bytes.
pub(crate) fn frame(body: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(body.len() + 4);
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    Ok(bytes)
}

/// Writes a value as one frame.
pub(crate) async fn write_json(stream: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    write_frame(stream, &serde_json::to_vec(value)?).await
}

/// Parses the body of a frame.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// A base image of a build, without its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WireBase {
    /// How the Dockerfile calls it.
    pub(crate) names: BTreeSet<String>,
    /// Text of unknown content.
    pub(crate) manifest: String,
    /// What the files are.
    pub(crate) blobs: Vec<BlobDigest>,
}

/// The most files that travel with one byte: the kernel's own bound, less a little.
const FILES_MAX: usize = 250;

/// Sends one byte that these files come with.
pub(crate) async fn send_files(stream: &UnixStream, files: &[std::fs::File]) -> io::Result<()> {
    let descriptors: Vec<_> = files.iter().map(std::os::fd::AsFd::as_fd).collect();
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(io::Error::other("too many files for one message"));
            }
            sendmsg(stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        })
        .await
}

/// Receives one byte and the files that it comes with.
pub(crate) async fn receive_files(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    stream
        .async_io(Interest::READABLE, || {
            let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let mut buffers = [IoSliceMut::new(&mut byte)];
            let received = recvmsg(stream, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            if received.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let rights = |message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            };
            Ok(control.drain().filter_map(rights).flatten().collect())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let mut claim: &[u8] = &[0xff, 0xff, 0xff, 0xff, b'x'];
        assert_eq!(
            read_frame(&mut claim, 4096).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let mut short: &[u8] = &[0, 0, 0, 9, b'x'];
        assert!(read_frame(&mut short, 4096).await.is_err());
        let mut none: &[u8] = &[];
        assert!(read_frame(&mut none, 4096).await.unwrap().is_none());
    }

    #[test]
    fn a_request_with_a_path_for_a_name_does_not_parse() {
        for bad in [
            r#"{"observe":{"environment":"../../etc"}}"#,
            r#"{"dial":{"environment":"e123456789","service":"../x","target":{"port":80}}}"#,
            r#"{"snapshot_remove":{"snapshot":"g/../../x"}}"#,
            r#"{"unknown":{}}"#,
            "[[[[[[",
        ] {
            assert!(parse::<Request>(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn secret_values_do_not_print() {
        let value = Zeroizing::new(b"hunter2".to_vec());
        let secrets = SecretValues(BTreeMap::from([(SecretRef("key".into()), value)]));
        assert!(!format!("{secrets:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn secret_values_travel_as_they_are_and_within_bounds() {
        let value = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        let names = ["a", "b"].map(|name| SecretRef(name.into()));
        let sent = SecretValues(BTreeMap::from([
            (names[0].clone(), value(b"\0\xff\n")),
            (names[1].clone(), value(&vec![7; SECRET_MAX])),
        ]));
        let mut wire = Vec::new();
        sent.write(&mut wire).await.unwrap();
        let got = SecretValues::read(&mut wire.as_slice(), &sent.names()).await.unwrap();
        assert!(got.0 == sent.0);
        assert!(SecretValues::read(&mut &wire[..9], &names).await.is_err(), "cut");
        let longer = SecretValues(BTreeMap::from([(names[0].clone(), value(&vec![7; SECRET_MAX + 1]))]));
        let mut wire = Vec::new();
        longer.write(&mut wire).await.unwrap();
        assert!(SecretValues::read(&mut wire.as_slice(), &longer.names()).await.is_err());
        let many = vec![names[0].clone(); SECRETS_MAX + 1];
        assert!(SecretValues::read(&mut wire.as_slice(), &many).await.is_err());
    }
}
