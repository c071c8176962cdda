//! The few routing-netlink requests that a private network needs, encoded by hand and bounded.
//!
//! All calls act on the network namespace of the calling thread.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const IFF_UP: u32 = 1;
const VETH_INFO_PEER: u16 = 1;
const NESTED: u16 = 0x8000;
const FR_ACT_TO_TBL: u8 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_IP_PROTO: u16 = 22;
/// After the tables that every namespace has.
const AFTER_ALL: u32 = 40_000;

/// One interface as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its index.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// The label that its maker gave it.
    pub(crate) alias: Option<String>,
}

/// A pair of interfaces, one end of which lies in another network namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VethPair<'a> {
    /// Name of the near end.
    pub(crate) name: &'a str,
    /// Label of the near end.
    pub(crate) alias: &'a str,
    /// The bridge that the near end belongs to, by index.
    pub(crate) bridge: u32,
    /// Name of the far end.
    pub(crate) peer: &'a str,
    /// Hardware address of the far end.
    pub(crate) peer_mac: [u8; 6],
    /// The network namespace in which the far end appears.
    pub(crate) peer_namespace: BorrowedFd<'a>,
}

/// A request under construction.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        bytes[8..12].copy_from_slice(&1u32.to_ne_bytes());
        Self { bytes }
    }

    /// `struct ifinfomsg`; an interface that is made or named here comes up.
    fn link(mut self, index: u32, up: bool) -> Self {
        self.bytes.extend([libc::AF_UNSPEC as u8, 0, 0, 0]);
        self.bytes.extend(index.to_ne_bytes());
        let flags = if up { IFF_UP } else { 0 };
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad()
    }

    fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self = fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self
    }

    fn pad(mut self) -> Self {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        self
    }
}

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Opens a socket.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        let limit = nix::sys::time::TimeVal::new(5, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
        Ok(Self { socket })
    }

    /// Makes a bridge that is up and returns its index; one of that name is kept. Without a hardware address of its own a bridge
    /// takes the lowest one of its ports, and changes it as ports come and go.
    pub(crate) fn bridge_create(&self, name: &str, alias: &str, mac: [u8; 6]) -> io::Result<u32> {
        let request = Request::new(libc::RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
            .link(0, true)
            .text(libc::IFLA_IFNAME, name)
            .text(libc::IFLA_IFALIAS, alias)
            .attribute(libc::IFLA_ADDRESS, &mac)
            .nested(libc::IFLA_LINKINFO, |r| r.text(libc::IFLA_INFO_KIND, "bridge"));
        unless_there(self.acknowledged(request))?;
        self.index(name)
    }

    /// Makes a pair of interfaces, the near end up; a near end of that name that is left from before is replaced.
    pub(crate) fn veth_create(&self, pair: VethPair<'_>) -> io::Result<()> {
        self.link_delete(pair.name)?;
        let request = Request::new(libc::RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
            .link(0, true)
            .text(libc::IFLA_IFNAME, pair.name)
            .text(libc::IFLA_IFALIAS, pair.alias)
            .attribute(libc::IFLA_MASTER, &pair.bridge.to_ne_bytes())
            .nested(libc::IFLA_LINKINFO, |r| {
                r.text(libc::IFLA_INFO_KIND, "veth").nested(libc::IFLA_INFO_DATA, |r| {
                    r.nested(VETH_INFO_PEER, |r| {
                        // The kernel configures this end before it is connected: it can't be brought up yet.
                        r.link(0, false)
                            .text(libc::IFLA_IFNAME, pair.peer)
                            .attribute(libc::IFLA_ADDRESS, &pair.peer_mac)
                            .attribute(libc::IFLA_NET_NS_FD, &pair.peer_namespace.as_raw_fd().to_ne_bytes())
                    })
                })
            });
        self.acknowledged(request)
    }

    /// Brings an interface up.
    pub(crate) fn link_up(&self, index: u32) -> io::Result<()> {
        self.acknowledged(Request::new(libc::RTM_NEWLINK, NLM_F_ACK).link(index, true))
    }

    /// Deletes an interface; nothing happens if there is none of that name.
    pub(crate) fn link_delete(&self, name: &str) -> io::Result<()> {
        let request = Request::new(libc::RTM_DELLINK, NLM_F_ACK)
            .link(0, false)
            .text(libc::IFLA_IFNAME, name);
        match self.acknowledged(request) {
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
    }

    /// Gives an interface an address; one that it has already is kept.
    pub(crate) fn address_add(&self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        request.bytes.extend([libc::AF_INET as u8, prefix, 0, 0]);
        request.bytes.extend(index.to_ne_bytes());
        let request = request
            .attribute(libc::IFA_LOCAL, &address.octets())
            .attribute(libc::IFA_ADDRESS, &address.octets());
        unless_there(self.acknowledged(request))
    }

    /// Makes this namespace answer for all addresses of a range, through an interface.
    pub(crate) fn route_here(&self, index: u32, to: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        // `struct rtmsg`.
        request.bytes.extend([
            libc::AF_INET as u8,
            prefix,
            0,
            0,
            libc::RT_TABLE_LOCAL,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_HOST,
            libc::RTN_LOCAL,
        ]);
        request.bytes.extend([0; 4]);
        let request = request
            .attribute(libc::RTA_DST, &to.octets())
            .attribute(libc::RTA_OIF, &index.to_ne_bytes());
        unless_there(self.acknowledged(request))
    }

    /// Makes this namespace answer for every address that it knows no better way to, through an interface.
    pub(crate) fn default_here(&self, index: u32) -> io::Result<()> {
        let request = Self::default_route(libc::RT_TABLE_MAIN, libc::RT_SCOPE_HOST, libc::RTN_LOCAL);
        unless_there(self.acknowledged(request.attribute(libc::RTA_OIF, &index.to_ne_bytes())))
    }

    /// Leads connections (TCP) and datagrams (UDP) that have no other way to a neighbour, by a table of its own. Whatever else there is
    /// still has none: an answer to `ping` would tell of machines that are not there.
    pub(crate) fn lead_unknown(&self, index: u32, gateway: Ipv4Addr, table: u8) -> io::Result<()> {
        let request = Self::default_route(table, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST)
            .attribute(libc::RTA_GATEWAY, &gateway.octets())
            .attribute(libc::RTA_OIF, &index.to_ne_bytes());
        unless_there(self.acknowledged(request))?;
        for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
            let mut request = Request::new(libc::RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
            // `struct fib_rule_hdr`.
            request
                .bytes
                .extend([libc::AF_INET as u8, 0, 0, 0, table, 0, 0, FR_ACT_TO_TBL]);
            request.bytes.extend([0; 4]);
            let request = request
                .attribute(FRA_PRIORITY, &AFTER_ALL.to_ne_bytes())
                .attribute(FRA_IP_PROTO, &[protocol as u8]);
            unless_there(self.acknowledged(request))?;
        }
        Ok(())
    }

    fn default_route(table: u8, scope: u8, kind: u8) -> Request {
        let mut request = Request::new(libc::RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        // `struct rtmsg`.
        request
            .bytes
            .extend([libc::AF_INET as u8, 0, 0, 0, table, libc::RTPROT_STATIC, scope, kind]);
        request.bytes.extend([0; 4]);
        request
    }

    /// The index of an interface.
    pub(crate) fn index(&self, name: &str) -> io::Result<u32> {
        let found = self.links()?.into_iter().find(|l| l.name == name);
        found
            .map(|l| l.index)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// All interfaces of this namespace.
    pub(crate) fn links(&self) -> io::Result<Vec<Link>> {
        self.send(Request::new(libc::RTM_GETLINK, NLM_F_DUMP).link(0, false))?;
        let mut links = Vec::new();
        loop {
            let bytes = self.receive()?;
            for (kind, body) in Messages(&bytes) {
                match kind {
                    NLMSG_DONE => return Ok(links),
                    NLMSG_ERROR => error_of(body)?,
                    libc::RTM_NEWLINK => links.extend(parse_link(body)),
                    _ => {}
                }
            }
        }
    }

    fn acknowledged(&self, request: Request) -> io::Result<()> {
        self.send(request)?;
        let bytes = self.receive()?;
        for (kind, body) in Messages(&bytes) {
            if kind == NLMSG_ERROR {
                return error_of(body);
            }
        }
        Err(io::Error::other("the kernel did not acknowledge a netlink request"))
    }

    fn send(&self, mut request: Request) -> io::Result<()> {
        let length = u32::try_from(request.bytes.len()).unwrap_or(u32::MAX);
        request.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        send(self.socket.as_raw_fd(), &request.bytes, MsgFlags::empty())?;
        Ok(())
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 64 * 1024];
        let length = recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn unless_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

fn error_of(body: &[u8]) -> io::Result<()> {
    match word(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("a netlink answer is too short")),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The messages of one datagram: kind and body.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::try_from(word(self.0, 0)?).ok()?;
        let kind = half(self.0, 4)?;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    }
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let index = word(body, 4)?;
    let mut link = Link {
        index,
        name: String::new(),
        alias: None,
    };
    let mut rest = body.get(16..)?;
    while let (Some(length), Some(kind)) = (half(rest, 0), half(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else { break };
        let text = || String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
        match kind {
            libc::IFLA_IFNAME => link.name = text(),
            libc::IFLA_IFALIAS => link.alias = Some(text()),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(link)
}
