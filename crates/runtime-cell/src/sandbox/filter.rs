//! Keeps the networks of an environment apart: which containers hear each other on the bridge of its hub, and that each speaks
//! in its own name only.
//!
//! All of them stay on one bridge, so that each has one address, whatever networks it is in. The rules are made anew as a whole from
//! what is wanted and put in place at once. Nothing in them comes from an author: networks are sets of numbers here.

use super::{
    network::{container_address, hardware_address, inside, link_name},
    oci::find,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The program that puts rules in place, which is the name of its command. Debian's package is `nftables`.
pub(crate) const PROGRAM: &str = "nft";
/// Where all rules are, in the network namespace of a hub.
const TABLE: &str = "bridge maquette";

/// Whom a container hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Everybody: jobs, and services of a stack without networks.
    All,
    /// Those with which it shares one of these networks.
    Networks(BTreeSet<String>),
}

impl Reach {
    /// Whether the two share a network.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Networks(own), Self::Networks(others)) => !own.is_disjoint(others),
            _ => true,
        }
    }

    /// Whether it is in this network.
    pub(crate) fn is_in(&self, network: &str) -> bool {
        match self {
            Self::All => true,
            Self::Networks(own) => own.contains(network),
        }
    }
}

/// The containers of an environment, by the numbers of their addresses.
pub(crate) type Reaches = BTreeMap<u16, Reach>;

/// Whether anybody is to be kept from anybody.
pub(crate) fn is_needed(reaches: &Reaches) -> bool {
    reaches.values().any(|reach| matches!(reach, Reach::Networks(_)))
}

/// Puts the rules in place in the network namespace of a hub; those that were there are replaced.
pub(crate) fn apply(hub: BorrowedFd<'_>, reaches: &Reaches) -> io::Result<()> {
    let rules = if is_needed(reaches) { rules(reaches) } else { none() };
    inside(hub, || run(&rules))
}

/// Nothing is kept apart. A table is there before it is removed: removing one that is not is an error.
fn none() -> String {
    format!("table {TABLE} {{ }}\ndelete table {TABLE}\n")
}

/// The text of the rules, for [`PROGRAM`].
fn rules(reaches: &Reaches) -> String {
    let links: Vec<u16> = reaches.keys().copied().collect();
    let own = |of: &dyn Fn(u16) -> String| -> String {
        let elements = links.iter().map(|n| format!("\"{}\" . {}", link_name(*n), of(*n)));
        elements.collect::<Vec<_>>().join(", ")
    };
    let hardware = own(&|n| {
        let bytes = hardware_address(container_address(n)).map(|byte| format!("{byte:02x}"));
        bytes.join(":")
    });
    let addresses = own(&|n| container_address(n).to_string());
    let mut groups: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
    let mut free = BTreeSet::new();
    for (number, reach) in reaches {
        match reach {
            Reach::All => drop(free.insert(*number)),
            Reach::Networks(networks) => {
                for network in networks {
                    groups.entry(network).or_default().insert(*number);
                }
            }
        }
    }
    let mut forward = String::new();
    let names = |numbers: &BTreeSet<u16>| {
        let names: Vec<String> = numbers.iter().map(|n| format!("\"{}\"", link_name(*n))).collect();
        format!("{{ {} }}", names.join(", "))
    };
    for group in groups.values().filter(|group| group.len() > 1) {
        let names = names(group);
        // Writing to a text never fails.
        let _ = writeln!(forward, "    iifname {names} oifname {names} accept");
    }
    if !free.is_empty() {
        let names = names(&free);
        let _ = writeln!(forward, "    iifname {names} accept\n    oifname {names} accept");
    }
    format!(
        "{none}table {TABLE} {{\n  \
           set hardware {{ type ifname . ether_addr; elements = {{ {hardware} }} }}\n  \
           set addresses {{ type ifname . ipv4_addr; elements = {{ {addresses} }} }}\n  \
           chain speak {{\n    type filter hook prerouting priority -300; policy accept;\n    \
             iifname . ether saddr != @hardware drop\n    \
             ether type ip iifname . ip saddr != @addresses drop\n    \
             ether type arp iifname . arp saddr ip != @addresses drop\n  }}\n  \
           chain hear {{\n    type filter hook forward priority 0; policy drop;\n{forward}  }}\n}}\n",
        none = none(),
    )
}

/// Runs the program on a text, in the network namespace of the calling thread.
fn run(rules: &str) -> io::Result<()> {
    let program = find(PROGRAM).ok_or_else(|| io::Error::other(format!("`{PROGRAM}` is not installed")))?;
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "`{PROGRAM}` refused the rules of a network: {}",
        said.lines().next().unwrap_or("without a word")
    )))
}

/// Whether this machine can keep networks apart. Whoever may not make a network to try it in is told what is installed.
pub(crate) fn available() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        if find(PROGRAM).is_none() {
            return false;
        }
        match namespace() {
            Ok(namespace) => inside(namespace.as_fd(), || run(&rules(&sample())))
                .inspect_err(|error| tracing::warn!(%error, "networks are not kept apart"))
                .is_ok(),
            Err(_) => true,
        }
    })
}

/// One of each kind.
fn sample() -> Reaches {
    let front = Reach::Networks(["front".to_owned()].into());
    [(1, front.clone()), (2, front), (3, Reach::All)].into()
}

/// A network namespace for a moment.
fn namespace() -> io::Result<OwnedFd> {
    let make = || -> io::Result<OwnedFd> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok(OwnedFd::from(fs::File::open("/proc/thread-self/ns/net")?))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn_scoped(scope, make)?;
        thread
            .join()
            .map_err(|_| io::Error::other("a thread in a network namespace panicked"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(names: &[&str]) -> Reach {
        Reach::Networks(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn those_meet_who_share_a_network() {
        let (front, back, both) = (networks(&["f"]), networks(&["b"]), networks(&["f", "b"]));
        assert!(!front.meets(&back) && front.meets(&both) && back.meets(&both));
        assert!(!networks(&[]).meets(&front) && !networks(&[]).meets(&networks(&[])));
        assert!(Reach::All.meets(&front) && front.meets(&Reach::All));
    }

    #[test]
    fn rules_name_links_and_addresses_and_nothing_else() {
        let reaches = Reaches::from([
            (1, networks(&["a\"; drop", "b"])),
            (2, networks(&["b"])),
            (3, networks(&["alone"])),
            (4, Reach::All),
        ]);
        let text = rules(&reaches);
        assert!(!text.contains("drop\"") && !text.contains("alone"), "{text}");
        let hear: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| line.ends_with("accept"))
            .collect();
        assert_eq!(
            hear,
            [
                "iifname { \"v1\", \"v2\" } oifname { \"v1\", \"v2\" } accept",
                "iifname { \"v4\" } accept",
                "oifname { \"v4\" } accept",
            ]
        );
        for element in ["\"v3\" . 02:4d:0a:4d:01:04", "\"v3\" . 10.77.1.4"] {
            assert!(text.contains(element), "{text}");
        }
        assert!(is_needed(&reaches) && !is_needed(&[(1, Reach::All)].into()));
    }
}
