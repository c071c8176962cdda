//! Frames in which a command's input and output travel over a connection that was upgraded to [`PROTOCOL`].
//!
//! A frame is one byte that says what it is, the length of its payload in four bytes (big endian), and the payload. The client
//! sends one [`Frame::Request`] first, then input; the server sends output and one [`Frame::End`] last.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The name of the protocol in `Upgrade`.
pub const PROTOCOL: &str = "maquette-exec/1";
/// The longest payload, in bytes. Longer input and output is cut into several frames.
pub const FRAME_MAX: usize = 64 * 1024;
const HEAD: usize = 5;

/// The command to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The service in whose container it runs.
    pub service: String,
    /// The program and its arguments; no shell reads them.
    pub argv: Vec<String>,
    /// Variables besides those of the service.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
}

/// How the command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecEnd {
    /// With this exit status; 128 + n after signal n.
    Status(i32),
    /// It could not be run, in words.
    Failed(String),
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// What to run.
    Request(ExecRequest),
    /// What the command reads.
    Stdin(Bytes),
    /// End of what it reads.
    StdinEnd,
    /// What it prints to standard output.
    Stdout(Bytes),
    /// What it prints to standard error.
    Stderr(Bytes),
    /// How it ended.
    End(ExecEnd),
}

/// Bytes that are no frame. The connection can not be used any more.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The payload is longer than [`FRAME_MAX`].
    #[error("a frame of {length} bytes is too long")]
    TooLong {
        /// The length that was announced.
        length: usize,
    },
    /// There is no such kind of frame.
    #[error("there is no frame of kind {kind}")]
    UnknownKind {
        /// The byte.
        kind: u8,
    },
    /// The payload is not what the kind asks for.
    #[error("the payload of a frame can not be read")]
    Payload {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Frame {
    /// Writes the frame behind what is in the buffer.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]; then nothing was written.
    pub fn encode(&self, into: &mut BytesMut) -> Result<(), FrameError> {
        let json;
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Request(request) => {
                json = serde_json::to_vec(request).map_err(|source| FrameError::Payload { source })?;
                (0, &json)
            }
            Self::Stdin(bytes) => (1, bytes),
            Self::StdinEnd => (2, &[]),
            Self::Stdout(bytes) => (3, bytes),
            Self::Stderr(bytes) => (4, bytes),
            Self::End(end) => {
                json = serde_json::to_vec(end).map_err(|source| FrameError::Payload { source })?;
                (5, &json)
            }
        };
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if payload.len() > FRAME_MAX {
            return Err(FrameError::TooLong { length: payload.len() });
        }
        into.reserve(HEAD + payload.len());
        into.put_u8(kind);
        into.put_u32(length);
        into.put_slice(payload);
        Ok(())
    }

    /// Takes the first frame out of the buffer; `None` while it is not complete.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(from: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(head) = from.get(..HEAD) else { return Ok(None) };
        let (kind, length) = (
            head[0],
            u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize,
        );
        if kind > 5 {
            return Err(FrameError::UnknownKind { kind });
        }
        if length > FRAME_MAX {
            return Err(FrameError::TooLong { length });
        }
        if from.len() < HEAD + length {
            return Ok(None);
        }
        from.advance(HEAD);
        let payload = from.split_to(length).freeze();
        let bad = |source| FrameError::Payload { source };
        Ok(Some(match kind {
            0 => Self::Request(serde_json::from_slice(&payload).map_err(bad)?),
            1 => Self::Stdin(payload),
            2 => Self::StdinEnd,
            3 => Self::Stdout(payload),
            4 => Self::Stderr(payload),
            _ => Self::End(serde_json::from_slice(&payload).map_err(bad)?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let request = ExecRequest {
            service: "web".to_owned(),
            argv: vec!["sh".to_owned(), "-c".to_owned(), "echo \u{202e}".to_owned()],
            variables: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        };
        let frames = [
            Frame::Request(request),
            Frame::Stdin(Bytes::from_static(b"in\0put")),
            Frame::StdinEnd,
            Frame::Stdout(Bytes::from(vec![7; FRAME_MAX])),
            Frame::Stderr(Bytes::new()),
            Frame::End(ExecEnd::Status(137)),
            Frame::End(ExecEnd::Failed("no such command".to_owned())),
        ];
        let mut wire = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut wire).unwrap();
        }
        for step in [1, 3, 1000, wire.len()] {
            let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_awaited() {
        let long = [&[1_u8][..], &u32::MAX.to_be_bytes()].concat();
        assert!(matches!(
            Frame::decode(&mut BytesMut::from(&long[..])),
            Err(FrameError::TooLong { .. })
        ));
        assert!(matches!(
            Frame::decode(&mut BytesMut::from(&b"GET /"[..])),
            Err(FrameError::UnknownKind { kind: b'G' })
        ));
        let bad = [&[0_u8][..], &2_u32.to_be_bytes(), b"{]"].concat();
        assert!(matches!(
            Frame::decode(&mut BytesMut::from(&bad[..])),
            Err(FrameError::Payload { .. })
        ));
        let mut out = BytesMut::new();
        let big = Frame::Stdin(Bytes::from(vec![0; FRAME_MAX + 1]));
        assert!(matches!(big.encode(&mut out), Err(FrameError::TooLong { .. })));
        assert!(out.is_empty());
    }
}
