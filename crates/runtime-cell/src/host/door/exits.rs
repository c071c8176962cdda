//! What an environment may reach, and which address each name has inside: remembered across restarts of the host, since programs
//! remember addresses for longer than they should.

use crate::door::wire::{Entry, Table};
use model::{Digest, Egress, EnvironmentSpec, HostName, ServiceName};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// The first two bytes of all addresses of an environment, and the half of its network in which names have theirs.
const RANGE: [u8; 3] = [10, 77, 128];
/// Addresses of names: all of that half but its first and last.
const NUMBERS: u16 = (1 << 15) - 2;
/// Names that were asked for and fit a pattern. More of them are refused: each keeps an address.
pub(crate) const FOUND_MAX: usize = 256;
/// The name server's, and no way out.
const NAME_PORT: u16 = 53;

/// What an environment may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exits {
    /// The list.
    #[serde(default)]
    pub(crate) egress: Egress,
    /// Names by the number of their address.
    #[serde(default)]
    numbers: BTreeMap<u16, HostName>,
    /// Services that reach nothing, because all their networks are internal.
    #[serde(default)]
    pub(crate) shut: BTreeSet<ServiceName>,
}

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// It has this address already.
    Known(Ipv4Addr),
    /// It has had none until now.
    Found(Ipv4Addr, Entry),
    /// The policy allows it, but there are too many.
    TooMany,
    /// It may not be reached.
    Unknown,
}

fn address(number: u16) -> Ipv4Addr {
    let [a, b, c] = RANGE;
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(a, b, c + high, low)
}

impl Exits {
    /// The list of a generation. Names that are still allowed keep their addresses.
    pub(crate) fn of(spec: &EnvironmentSpec, before: &Self) -> Self {
        let mut exits = Self {
            egress: spec.egress.clone(),
            numbers: before.numbers.clone(),
            shut: shut(spec),
        };
        exits.numbers.retain(|_, name| spec.egress.find(name).is_some());
        let public = spec.egress.hosts.keys().filter_map(|pattern| pattern.exact());
        let named = spec.egress.private.keys().chain(spec.egress.endpoints.keys());
        for name in public.chain(named).filter(|name| spec.egress.find(name).is_some()) {
            exits.number(name);
        }
        exits
    }

    /// The number of a name; a new one if it has none and there is one left.
    fn number(&mut self, name: &HostName) -> Option<u16> {
        if let Some((number, _)) = self.numbers.iter().find(|(_, known)| *known == name) {
            return Some(*number);
        }
        // The same name tends to have the same address in all environments.
        let digest = Digest::of(name.as_str().as_bytes());
        let first = u16::from_str_radix(digest.as_str().get(..4).unwrap_or_default(), 16).unwrap_or_default();
        let mut candidates = (0..NUMBERS).map(|step| first.wrapping_add(step) % NUMBERS + 1);
        let free = candidates.find(|number| !self.numbers.contains_key(number))?;
        self.numbers.insert(free, name.clone());
        Some(free)
    }

    fn entry(&self, name: &HostName) -> Option<Entry> {
        let (name, reachable) = self.egress.behind(name)?;
        Some(Entry {
            name,
            target: reachable.into(),
        })
    }

    /// What a name is; one that fits a pattern gets an address now.
    pub(crate) fn look_up(&mut self, name: &HostName) -> Name {
        if let Some((number, _)) = self.numbers.iter().find(|(_, known)| *known == name) {
            return Name::Known(address(*number));
        }
        let Some(entry) = self.entry(name) else {
            return Name::Unknown;
        };
        let listed = self
            .egress
            .hosts
            .keys()
            .filter(|pattern| pattern.exact().is_some())
            .count()
            + self.egress.private.len()
            + self.egress.endpoints.len();
        if self.numbers.len() >= listed + FOUND_MAX {
            return Name::TooMany;
        }
        match self.number(name) {
            Some(number) => Name::Found(address(number), entry),
            None => Name::TooMany,
        }
    }

    /// The name that an address inside stands for.
    pub(crate) fn named(&self, inside: Ipv4Addr) -> Option<&HostName> {
        let mut numbers = self.numbers.iter();
        numbers
            .find(|(number, _)| address(**number) == inside)
            .map(|(_, name)| name)
    }

    /// What the door has to know; `address_of` are the addresses of containers.
    pub(crate) fn table(&self, address_of: impl Fn(&ServiceName) -> Option<Ipv4Addr>) -> Table {
        let names = self.numbers.iter();
        Table {
            names: names
                .filter_map(|(number, name)| Some((address(*number), self.entry(name)?)))
                .collect(),
            ports: self.ports(),
            shut: self.shut.iter().filter_map(address_of).collect(),
        }
    }

    /// The ports on which the door listens.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        let mut ports = self.egress.ports();
        ports.remove(&NAME_PORT);
        ports
    }
}

/// Services all of whose networks are internal.
fn shut(spec: &EnvironmentSpec) -> BTreeSet<ServiceName> {
    let Some(stack) = spec.services() else {
        return BTreeSet::new();
    };
    let internal = |name: &model::NetworkName| stack.networks.get(name).is_some_and(|network| network.internal);
    let services = stack.services.iter();
    services
        .filter(|(_, service)| !service.networks.is_empty() && service.networks.keys().all(internal))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(hosts: &[&str]) -> EnvironmentSpec {
        let hosts = hosts
            .iter()
            .map(|host| (host.parse().unwrap(), BTreeSet::from([443])))
            .collect();
        EnvironmentSpec {
            environment: "e000000001".parse().unwrap(),
            generation: model::Generation(1),
            project: "shop".parse().unwrap(),
            origin: model::Origin::PullRequest { number: 1 },
            sources: BTreeMap::new(),
            stack: model::Stack::Services(model::ServiceStack::default()),
            secrets: std::collections::BTreeMap::new(),
            limits: model::Limits::default(),
            egress: Egress {
                hosts,
                ..Egress::default()
            },
        }
    }

    #[test]
    fn names_keep_their_addresses_as_long_as_they_are_allowed() {
        let mut exits = Exits::of(&spec(&["a.example.com", "*.example.org"]), &Exits::default());
        let Name::Known(first) = exits.look_up(&"a.example.com".parse().unwrap()) else {
            panic!("listed names have addresses at once");
        };
        let found: HostName = "x.example.org".parse().unwrap();
        let Name::Found(second, _) = exits.look_up(&found) else {
            panic!("names that fit get one when they are asked for");
        };
        assert_ne!(first, second);
        assert_eq!(exits.look_up(&found), Name::Known(second));
        assert_eq!(exits.look_up(&"example.org".parse().unwrap()), Name::Unknown);
        let mut later = Exits::of(&spec(&["b.example.com", "*.example.org"]), &exits);
        assert_eq!(later.look_up(&found), Name::Known(second));
        assert_eq!(later.look_up(&"a.example.com".parse().unwrap()), Name::Unknown);
    }

    #[test]
    fn a_service_that_is_left_out_stands_for_a_name_of_the_list() {
        let mut spec = spec(&["a.example.com"]);
        let name: HostName = "search".parse().unwrap();
        spec.egress
            .endpoints
            .insert(name.clone(), "a.example.com:443".parse().unwrap());
        let mut exits = Exits::of(&spec, &Exits::default());
        let Name::Known(inside) = exits.look_up(&name) else {
            panic!("it has an address at once");
        };
        assert_eq!(exits.table(|_| None).names[&inside].name.as_str(), "a.example.com");
        spec.egress
            .endpoints
            .insert(name.clone(), "b.example.com:443".parse().unwrap());
        let mut exits = Exits::of(&spec, &exits);
        assert_eq!(exits.look_up(&name), Name::Unknown, "the list does not have it");
    }

    #[test]
    fn patterns_stand_for_a_bounded_number_of_names() {
        let mut exits = Exits::of(&spec(&["a.example.com", "*.example.org"]), &Exits::default());
        let mut addresses = BTreeSet::new();
        for n in 0..FOUND_MAX {
            let Name::Found(address, _) = exits.look_up(&format!("n{n}.example.org").parse().unwrap()) else {
                panic!("{n}");
            };
            assert!(address.octets()[2] >= 128);
            assert!(addresses.insert(address), "{address} is given once");
        }
        let more: HostName = "one-more.example.org".parse().unwrap();
        assert_eq!(exits.look_up(&more), Name::TooMany);
        assert_eq!(exits.table(|_| None).names.len(), FOUND_MAX + 1);
    }
}
