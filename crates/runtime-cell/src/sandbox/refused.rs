//! What containers try to connect to in vain: addresses that no name stands for, and ports of names that nobody listens at.
//!
//! All of these end at the hub, which refuses them as any machine refuses a port that is closed. A filter in the kernel shows the
//! host the first packet of the one and the refusal of the other, and nothing else; who reads too slowly sees fewer.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes of packets that are kept until they are read, as the kernel counts them: some hundred packets.
pub(crate) const KEPT: libc::c_int = 128 * 1024;
/// What is read of a packet: an IP header at its longest and the part of TCP's that has ports and flags.
pub(crate) const READ: usize = 60 + 16;

const TCP: u8 = 6;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const IPV4: u32 = 0x0800;
const OUTGOING: u32 = 4;
/// The kernel's word for what is not in the packet: here its protocol, and whether it comes or goes.
const ABOUT: u32 = 0xffff_f000;
/// The network of an environment, and the half of it that stands for names.
const NETWORK: (u32, u32) = (0xffff_0000, 0x0a4d_0000);
const OUTWARD: (u32, u32) = (0xffff_8000, 0x0a4d_8000);

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD_AT: u16 = 0x40;
const LOAD_BYTE_AT: u16 = 0x50;
const HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const IF_EQUAL: u16 = 0x15;
const IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// The filter: code, steps to go on if so, if not, operand.
pub(crate) const PROGRAM: [(u16, u8, u8, u32); 24] = [
    (LOAD_HALF, 0, 0, ABOUT),
    (IF_EQUAL, 0, 21, IPV4),
    (LOAD_BYTE, 0, 0, 9),
    (IF_EQUAL, 0, 19, TCP as u32),
    // A later fragment has no ports.
    (LOAD_HALF, 0, 0, 6),
    (IF_BITS, 17, 0, 0x1fff),
    (HEADER_LENGTH, 0, 0, 0),
    (LOAD_WORD, 0, 0, ABOUT + 4),
    (IF_EQUAL, 6, 0, OUTGOING),
    // It comes: the first packet of a connection to somewhere else.
    (LOAD_BYTE_AT, 0, 0, 13),
    (AND, 0, 0, (SYN | ACK) as u32),
    (IF_EQUAL, 0, 11, SYN as u32),
    (LOAD_WORD, 0, 0, 16),
    (AND, 0, 0, NETWORK.0),
    (IF_EQUAL, 8, 7, NETWORK.1),
    // It goes: a refusal. Of a connection that was open, it would have a number.
    (LOAD_BYTE_AT, 0, 0, 13),
    (IF_BITS, 0, 6, RST as u32),
    (LOAD_WORD_AT, 0, 0, 4),
    (IF_EQUAL, 0, 4, 0),
    (LOAD_WORD, 0, 0, 12),
    (AND, 0, 0, OUTWARD.0),
    (IF_EQUAL, 0, 1, OUTWARD.1),
    (RETURN, 0, 0, READ as u32),
    (RETURN, 0, 0, 0),
];

/// A connection that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The container.
    pub(crate) from: Ipv4Addr,
    /// What it wanted to reach.
    pub(crate) to: SocketAddrV4,
}

/// Reads what the filter let through.
pub(crate) fn parse(packet: &[u8]) -> Option<Attempt> {
    let head = packet.get(..20)?;
    let tcp = packet.get(usize::from(head[0] & 0xf) * 4..)?;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(head.get(at..at + 4)?).ok()?));
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let (source, target) = ((address(12)?, port(0)?), (address(16)?, port(2)?));
    let ((from, _), to) = if tcp.get(13)? & RST == 0 {
        (source, target)
    } else {
        (target, source)
    };
    Some(Attempt {
        from,
        to: SocketAddrV4::new(to.0, to.1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(source: [u8; 6], target: [u8; 6], flags: u8) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        (bytes[0], bytes[9], bytes[33]) = (0x45, TCP, flags);
        bytes[12..16].copy_from_slice(&source[..4]);
        bytes[16..20].copy_from_slice(&target[..4]);
        bytes[20..22].copy_from_slice(&source[4..]);
        bytes[22..24].copy_from_slice(&target[4..]);
        bytes
    }

    #[test]
    fn a_first_packet_and_a_refusal_tell_the_same() {
        let (container, outside) = ([10, 77, 1, 2, 0x80, 1], [203, 0, 113, 9, 1, 187]);
        let attempt = Attempt {
            from: Ipv4Addr::new(10, 77, 1, 2),
            to: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 443),
        };
        assert_eq!(parse(&packet(container, outside, SYN)), Some(attempt));
        assert_eq!(parse(&packet(outside, container, RST | ACK)), Some(attempt));
        for length in 0..34 {
            assert_eq!(parse(&packet(container, outside, SYN)[..length]), None);
        }
    }
}
