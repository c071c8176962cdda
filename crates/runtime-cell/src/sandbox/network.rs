//! The private network of an environment: a hub namespace with a bridge and no uplink, and a link per container.
//!
//! The hub namespace lives as a bind mount of its own under the run directory, so that it outlives the host process. Nothing in
//! it has a route to anywhere else.

use super::{
    filter,
    netlink::{Link, Netlink, VethPair},
    process::Process,
    refused,
};
use rustix::{
    mount::{UnmountFlags, mount_bind, unmount},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The hub's own address, where the name server listens. Every environment has the same addresses: they never meet.
pub(crate) const HUB_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Width of the environment's network.
pub(crate) const PREFIX: u8 = 16;
/// The half of the network in which names of the outside have addresses. The hub answers for all of them.
const OUTWARD: Ipv4Addr = Ipv4Addr::new(10, 77, 128, 0);
const OUTWARD_PREFIX: u8 = 17;
/// How many containers an environment's network has room for.
pub(crate) const MAX_CONTAINERS: u16 = 250;
/// The table of a container by which connections go that have no other way.
const NOWHERE: u8 = 77;
/// The messages whose rate is limited, as bits: the kernel's own choice without those that refuse a datagram.
const LIMITED: &str = "6160";
const BRIDGE: &str = "hub0";
const LOOPBACK: u32 = 1;

/// The address of the container with that number.
pub(crate) fn container_address(number: u16) -> Ipv4Addr {
    let [a, b, _, _] = HUB_ADDRESS.octets();
    Ipv4Addr::new(
        a,
        b,
        1,
        u8::try_from(number.min(MAX_CONTAINERS))
            .unwrap_or(u8::MAX)
            .saturating_add(1),
    )
}

/// The hardware address that goes with an address. Neighbours remember hardware addresses for half a minute: a container that
/// takes another one's place must have the same one, or is not heard for that long.
pub(super) fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    // Locally administered, not a group.
    [0x02, 0x4d, a, b, c, d]
}

/// The hub's end of the link of the container with that number.
pub(super) fn link_name(number: u16) -> String {
    format!("v{number}")
}

/// A pinned hub namespace.
#[derive(Debug)]
pub(crate) struct Hub {
    namespace: OwnedFd,
    bridge: u32,
    label: String,
}

/// Where the hub of an environment is pinned.
pub(crate) fn pin(directory: &Path, environment: &str) -> PathBuf {
    directory.join(environment)
}

/// Whether something is mounted at this path: then its device differs from that of the directory above.
fn is_pinned(path: &Path) -> io::Result<bool> {
    match rustix::fs::statfs(path) {
        Ok(stat) => Ok(stat.f_type == NSFS_MAGIC),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;

impl Hub {
    /// Makes the hub of an environment, or finds it if it is there. `label` marks every interface in it.
    pub(crate) fn ensure(pin: &Path, label: &str) -> io::Result<Self> {
        if !is_pinned(pin)? {
            fs::File::create(pin)?;
            std::thread::scope(|scope| scope.spawn(|| make_pinned(pin, label)).join()).map_err(|_| panicked())??;
        }
        Self::open(pin, label)
    }

    /// Finds a hub that is there.
    pub(crate) fn open(pin: &Path, label: &str) -> io::Result<Self> {
        if !is_pinned(pin)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let namespace = OwnedFd::from(fs::File::open(pin)?);
        // Repeats what a killed host may have left undone.
        let bridge = inside(namespace.as_fd(), || furnish(label))?;
        Ok(Self {
            namespace,
            bridge,
            label: label.to_owned(),
        })
    }

    /// Links a container, by its process, into this network.
    pub(crate) fn attach(&self, number: u16, service: &str, process: &Process) -> io::Result<Ipv4Addr> {
        let address = container_address(number);
        let container = process.namespace("net")?;
        let alias = format!("{}/{service}", self.label);
        inside(self.namespace.as_fd(), || {
            let name = link_name(number);
            let pair = VethPair {
                name: &name,
                alias: &alias,
                bridge: self.bridge,
                peer: "eth0",
                peer_mac: hardware_address(address),
                peer_namespace: container.as_fd(),
            };
            Netlink::open()?.veth_create(pair)
        })?;
        inside(container.as_fd(), || {
            let netlink = Netlink::open()?;
            netlink.link_up(LOOPBACK)?;
            let link = netlink.index("eth0")?;
            netlink.address_add(link, address, PREFIX)?;
            netlink.link_up(link)?;
            // The hub refuses them, and sees to where they were to go. Without this they fail in the container, untold.
            if let Err(error) = netlink.lead_unknown(link, HUB_ADDRESS, NOWHERE) {
                tracing::debug!(%error, "connections to addresses are not told");
            }
            Ok(())
        })?;
        Ok(address)
    }

    /// Gives a container that is in no network nothing but itself.
    pub(crate) fn leave_alone(process: &Process) -> io::Result<()> {
        inside(process.namespace("net")?.as_fd(), || Netlink::open()?.link_up(LOOPBACK))
    }

    /// Keeps apart those containers that share no network.
    pub(crate) fn separate(&self, reaches: &filter::Reaches) -> io::Result<()> {
        filter::apply(self.namespace.as_fd(), reaches)
    }

    /// Deletes the near end of a container's link, if the container's end did not take it along.
    pub(crate) fn detach(&self, number: u16) -> io::Result<()> {
        inside(self.namespace.as_fd(), || {
            Netlink::open()?.link_delete(&link_name(number))
        })
    }

    /// The interfaces of the hub that Maquette made.
    pub(crate) fn links(&self) -> io::Result<Vec<Link>> {
        let links = inside(self.namespace.as_fd(), || Netlink::open()?.links())?;
        Ok(links
            .into_iter()
            .filter(|l| l.alias.as_deref().is_some_and(|a| a.starts_with(&self.label)))
            .collect())
    }

    /// Runs something with the calling thread's sockets inside this network.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        inside(self.namespace.as_fd(), work)
    }

    /// The number of the namespace: no other has it as long as anything is left of this one.
    pub(crate) fn number(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.namespace)?.st_ino)
    }

    /// Listens on a port of all addresses that names of the outside have here.
    pub(crate) fn listen_outward(&self, port: u16) -> io::Result<OwnedFd> {
        inside(self.namespace.as_fd(), || {
            Netlink::open()?.route_here(LOOPBACK, OUTWARD, OUTWARD_PREFIX)?;
            let listener = std::net::TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
            Ok(OwnedFd::from(listener))
        })
    }

    /// A socket that sees what containers try to connect to in vain. See [`super::refused`].
    pub(crate) fn watch_refused(&self) -> io::Result<OwnedFd> {
        inside(self.namespace.as_fd(), || {
            crate::sys::packet_socket(self.bridge, &refused::PROGRAM, refused::KEPT)
        })
    }

    /// Begins a connection from the hub to a container. The socket does not block; it becomes writable when connected.
    pub(crate) fn connect(&self, to: SocketAddrV4) -> io::Result<OwnedFd> {
        inside(self.namespace.as_fd(), || {
            use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            match connect(&socket, &to) {
                Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
                Err(e) => Err(e.into()),
            }
        })
    }
}

/// Removes the pin; the namespace goes when its last process does. Nothing happens if it is gone.
pub(crate) fn unpin(pin: &Path) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_pinned(pin)? {
        match unmount(pin, UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("the network namespace stays mounted"));
        }
    }
    match fs::remove_file(pin) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn make_pinned(pin: &Path, label: &str) -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .map_err(|error| crate::sys::not_the_disk("user.max_net_namespaces")(error.into()))?;
    furnish(label)?;
    mount_bind("/proc/thread-self/ns/net", pin).map_err(|error| crate::sys::not_the_disk("fs.mount-max")(error.into()))
}

/// Everything that a hub needs, each step repeatable; returns the index of the bridge.
fn furnish(label: &str) -> io::Result<u32> {
    let netlink = Netlink::open()?;
    let bridge = match netlink.index(BRIDGE) {
        Ok(index) => index,
        Err(_) => netlink.bridge_create(BRIDGE, label, hardware_address(HUB_ADDRESS))?,
    };
    netlink.link_up(LOOPBACK)?;
    netlink.address_add(bridge, HUB_ADDRESS, PREFIX)?;
    // Whatever address a container connects to, the hub answers for it, and refuses: nothing listens there.
    netlink.default_here(LOOPBACK)?;
    // A new namespace takes the machine's own setting over. A hub that forwards would lead around what keeps networks apart.
    set("net/ipv4/ip_forward", "0")?;
    // Datagrams are refused as often as they come, as connections are. What the kernel allows for this is one number for all
    // namespaces of the machine, which an environment could use up.
    if let Err(error) = set("net/ipv4/icmp_ratemask", LIMITED) {
        tracing::debug!(%error, "refusals of datagrams are limited with those of the machine");
    }
    Ok(bridge)
}

/// Sets a number of the kernel's for the network namespace of this thread, unless it is that.
fn set(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys").join(name);
    if fs::read_to_string(&path)?.trim() == value {
        return Ok(());
    }
    fs::write(path, value)
}

/// Runs something on a thread of its own that has entered a network namespace.
pub(crate) fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn_scoped(scope, || {
                move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
                work()
            })?;
        thread.join().map_err(|_| panicked())?
    })
}

fn panicked() -> io::Error {
    io::Error::other("a thread in a network namespace panicked")
}
