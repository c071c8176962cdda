//! What containers try to reach in vain: addresses that no name stands for, ports of names that nobody listens at, and by datagrams
//! (UDP) either of them.
//!
//! All of these end at the hub, which refuses them as any machine refuses a port that is closed. A filter in the kernel shows the
//! host the first packet of a connection to an address, the refusal of one to a name, and datagrams, and nothing else; who reads too
//! slowly sees fewer.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes of packets that are kept until they are read, as the kernel counts them: some hundred packets.
pub(crate) const KEPT: libc::c_int = 128 * 1024;
/// What is read of a packet: an IP header at its longest and the part of TCP's that has ports and flags.
pub(crate) const READ: usize = 60 + 16;

const TCP: u8 = 6;
const UDP: u8 = 17;
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
/// From here on an address is that of a group, or of everybody: programs look around for each other by them.
const GROUPS: u32 = 0xe000_0000;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD_AT: u16 = 0x40;
const LOAD_BYTE_AT: u16 = 0x50;
const HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

/// The filter: code, steps to go on if so, if not, operand.
pub(crate) const PROGRAM: [(u16, u8, u8, u32); 33] = [
    (LOAD_HALF, 0, 0, ABOUT),
    (IF_EQUAL, 0, 30, IPV4),
    // A later fragment has no ports.
    (LOAD_HALF, 0, 0, 6),
    (IF_BITS, 28, 0, 0x1fff),
    (HEADER_LENGTH, 0, 0, 0),
    (LOAD_BYTE, 0, 0, 9),
    (IF_EQUAL, 0, 15, TCP as u32),
    (LOAD_WORD, 0, 0, ABOUT + 4),
    (IF_EQUAL, 6, 0, OUTGOING),
    // It comes: the first packet of a connection to somewhere else.
    (LOAD_BYTE_AT, 0, 0, 13),
    (AND, 0, 0, (SYN | ACK) as u32),
    (IF_EQUAL, 0, 20, SYN as u32),
    (LOAD_WORD, 0, 0, 16),
    (AND, 0, 0, NETWORK.0),
    (IF_EQUAL, 17, 16, NETWORK.1),
    // It goes: a refusal. Of a connection that was open, it would have a number.
    (LOAD_BYTE_AT, 0, 0, 13),
    (IF_BITS, 0, 15, RST as u32),
    (LOAD_WORD_AT, 0, 0, 4),
    (IF_EQUAL, 0, 13, 0),
    (LOAD_WORD, 0, 0, 12),
    (AND, 0, 0, OUTWARD.0),
    (IF_EQUAL, 9, 10, OUTWARD.1),
    // A datagram that comes, to one machine that is none of this network, or that stands for a name.
    (IF_EQUAL, 0, 9, UDP as u32),
    (LOAD_WORD, 0, 0, ABOUT + 4),
    (IF_EQUAL, 7, 0, OUTGOING),
    (LOAD_WORD, 0, 0, 16),
    (IF_AT_LEAST, 5, 0, GROUPS),
    (AND, 0, 0, OUTWARD.0),
    (IF_EQUAL, 2, 0, OUTWARD.1),
    (AND, 0, 0, NETWORK.0),
    (IF_EQUAL, 1, 0, NETWORK.1),
    (RETURN, 0, 0, READ as u32),
    (RETURN, 0, 0, 0),
];

/// A connection, or a datagram, that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The container.
    pub(crate) from: Ipv4Addr,
    /// What it wanted to reach.
    pub(crate) to: SocketAddrV4,
    /// Whether it was a datagram.
    pub(crate) udp: bool,
}

/// Reads what the filter let through.
pub(crate) fn parse(packet: &[u8]) -> Option<Attempt> {
    let head = packet.get(..20)?;
    let rest = packet.get(usize::from(head[0] & 0xf) * 4..)?;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(head.get(at..at + 4)?).ok()?));
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let (source, target) = ((address(12)?, port(0)?), (address(16)?, port(2)?));
    let udp = head[9] == UDP;
    let ((from, _), to) = if udp || rest.get(13)? & RST == 0 {
        (source, target)
    } else {
        (target, source)
    };
    Some(Attempt {
        from,
        to: SocketAddrV4::new(to.0, to.1),
        udp,
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
            udp: false,
        };
        assert_eq!(parse(&packet(container, outside, SYN)), Some(attempt));
        assert_eq!(parse(&packet(outside, container, RST | ACK)), Some(attempt));
        for length in 0..34 {
            assert_eq!(parse(&packet(container, outside, SYN)[..length]), None);
        }
        let mut datagram = packet(container, outside, 0);
        datagram[9] = UDP;
        datagram.truncate(28);
        assert_eq!(parse(&datagram), Some(Attempt { udp: true, ..attempt }));
    }
}
