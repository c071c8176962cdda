//! As much of WebSocket (RFC 6455) as a proxy needs: to see a handshake, and to tell talk from pings.

use http::{
    HeaderMap,
    header::{CONNECTION, UPGRADE},
};

/// Whether the head asks for a WebSocket, and for nothing else beside it.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(UPGRADE).iter();
    let websocket = match (upgrades.next(), upgrades.next()) {
        (Some(one), None) => one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"),
        _ => false,
    };
    let mut options = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','));
    websocket && options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Follows the frames of one direction without keeping any of them.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Bytes of the frame's head that have been seen, at most 14.
    head: [u8; 14],
    seen: usize,
    /// Bytes of the frame's payload still to come.
    payload: u64,
}

impl Frames {
    /// Whether the bytes, the next of the stream, contain talk: data frames, in contrast to pings, pongs and farewells.
    pub(crate) fn has_talk(&mut self, mut bytes: &[u8]) -> bool {
        let mut talk = false;
        while !bytes.is_empty() {
            if self.payload > 0 {
                talk |= self.is_data();
                let step = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= step as u64;
                bytes = &bytes[step..];
                if self.payload == 0 {
                    self.seen = 0;
                }
                continue;
            }
            self.head[self.seen] = bytes[0];
            self.seen += 1;
            bytes = &bytes[1..];
            if self.seen == self.head_length() {
                talk |= self.is_data();
                self.payload = self.payload_length();
                if self.payload == 0 {
                    self.seen = 0;
                }
            }
        }
        talk
    }

    fn is_data(&self) -> bool {
        self.head[0] & 0x0f < 0x8
    }

    /// The length of the head, as far as it is known: it may grow with the second byte.
    fn head_length(&self) -> usize {
        if self.seen < 2 {
            return 2;
        }
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        mask + match self.head[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn payload_length(&self) -> u64 {
        match self.head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&self.head[2..10]);
                u64::from_be_bytes(bytes)
            }
            short => u64::from(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut out = vec![0x80 | opcode];
        match payload {
            0..=125 => out.push(mask | payload as u8),
            126..=0xffff => {
                out.push(mask | 126);
                out.extend((payload as u16).to_be_bytes());
            }
            _ => {
                out.push(mask | 127);
                out.extend((payload as u64).to_be_bytes());
            }
        }
        out.extend(vec![0x81; payload + if masked { 4 } else { 0 }]);
        out
    }

    #[test]
    fn pings_are_not_talk_however_the_bytes_are_cut() {
        let quiet = [
            frame(9, 5, true),
            frame(10, 125, false),
            frame(9, 0, true),
            frame(8, 2, false),
        ]
        .concat();
        for cut in 1..quiet.len() {
            let mut frames = Frames::default();
            assert!(
                !quiet
                    .chunks(cut)
                    .fold(false, |talk, bytes| frames.has_talk(bytes) | talk),
                "cut every {cut}"
            );
        }
    }

    #[test]
    fn data_is_talk_and_frames_stay_in_step_after_long_payloads() {
        for length in [0, 1, 125, 126, 70_000] {
            let mut frames = Frames::default();
            assert!(frames.has_talk(&frame(2, length, true)), "{length}");
            assert!(!frames.has_talk(&frame(9, 3, true)), "in step after {length}");
            assert!(frames.has_talk(&frame(0, 1, false)), "a continuation is data");
        }
    }
}
