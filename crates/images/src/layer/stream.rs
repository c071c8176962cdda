//! The bytes of a layer: decompressed, counted and hashed on a thread of their own.

use super::LayerError;
use crate::digest::BlobDigest;
use sha2::{Digest as _, Sha256};
use std::{
    io::{self, BufRead, BufReader, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

/// One piece on its way from one thread to the other.
const PIECE: usize = 256 * 1024;
/// Pieces that may wait: enough that neither thread waits for a single slow file.
const WAITING: usize = 8;

/// What was read.
pub(super) struct Consumed {
    pub(super) digest: BlobDigest,
    pub(super) bytes: u64,
}

/// Runs `write` on the uncompressed layer. Returns what it returned, and what the layer was, to its last byte.
pub(super) fn unpacked<T>(
    layer: impl Read + Send,
    most: u64,
    write: impl FnOnce(&mut Pieces) -> Result<T, LayerError>,
) -> (Result<T, LayerError>, Result<Consumed, LayerError>) {
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || read(layer, most, &sender));
        let mut pieces = Pieces {
            receiver,
            piece: Vec::new(),
            at: 0,
        };
        let written = write(&mut pieces);
        if written.is_ok() {
            // What follows the archive's end belongs to the digest.
            while pieces.receiver.recv().is_ok() {}
        }
        drop(pieces);
        let consumed = reading
            .join()
            .unwrap_or_else(|_| Err(LayerError::Damaged("its reader stopped".to_owned())));
        match (written, consumed) {
            // The archive ended early because reading failed: that is the reason to tell.
            (Err(LayerError::Damaged(_)), Err(reason)) => (Err(reason), Ok(nothing())),
            pair => pair,
        }
    })
}

fn nothing() -> Consumed {
    Consumed {
        digest: BlobDigest::of(&[]),
        bytes: 0,
    }
}

fn read(layer: impl Read, most: u64, sender: &SyncSender<Vec<u8>>) -> Result<Consumed, LayerError> {
    let mut plain = decompressed(BufReader::with_capacity(PIECE, layer)).map_err(damaged)?;
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let got = plain
            .by_ref()
            .take(PIECE as u64)
            .read_to_end(&mut piece)
            .map_err(damaged)?;
        if got == 0 {
            break;
        }
        bytes += got as u64;
        if bytes > most {
            return Err(LayerError::TooLarge {
                what: "bytes",
                limit: most,
            });
        }
        hasher.update(&piece);
        if sender.send(piece).is_err() {
            // The writer failed and says why itself.
            break;
        }
    }
    Ok(Consumed {
        digest: BlobDigest::finish(hasher),
        bytes,
    })
}

fn decompressed<'a, R: Read + 'a>(mut layer: BufReader<R>) -> io::Result<Box<dyn Read + 'a>> {
    let begin = layer.fill_buf()?;
    Ok(match begin {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(layer)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(layer)?),
        [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            return Err(io::Error::other("bzip2 and xz are not used by images"));
        }
        _ => Box::new(layer),
    })
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn damaged(error: io::Error) -> LayerError {
    LayerError::Damaged(error.to_string())
}

/// The uncompressed bytes, as a reader.
pub(super) struct Pieces {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => {
                    self.piece = piece;
                    self.at = 0;
                }
                Err(_) => return Ok(0),
            }
        }
        let count = into.len().min(self.piece.len() - self.at);
        into[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
