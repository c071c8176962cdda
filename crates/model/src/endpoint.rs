//! Where a service is found that an environment does without: at a name or an address outside.

// From `core`, which has addresses as values and nothing that talks to a network.
use core::net::{IpAddr, SocketAddr};

use crate::{Egress, HostName, Reachable};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// One port outside. The port inside is the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Endpoint {
    /// Of a name, which is looked up outside.
    Name(HostName, u16),
    /// Of an address.
    Address(SocketAddr),
}

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no host with a port")]
pub struct InvalidEndpoint;

impl Endpoint {
    /// The port, inside and outside.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Name(_, port) => *port,
            Self::Address(address) => address.port(),
        }
    }

    /// The line of policy that would allow it to a service of that name.
    #[must_use]
    pub fn line(&self, service: &str) -> String {
        match self {
            Self::Name(host, crate::EGRESS_PORT) => format!("egress: [{host}]"),
            Self::Name(..) => format!("egress: [\"{self}\"]"),
            Self::Address(_) => format!("private: {{ {service}: \"{self}\" }}"),
        }
    }

    /// Whether a list of what may be reached has it.
    #[must_use]
    pub fn is_allowed(&self, egress: &Egress) -> bool {
        match self {
            Self::Address(address) => egress.private.values().flatten().any(|known| known == address),
            Self::Name(host, port) => match egress.listed(host) {
                Some(Reachable::Public(ports)) => ports.contains(port),
                Some(Reachable::Private(known)) => known.iter().any(|known| known.port() == *port),
                None => false,
            },
        }
    }

    /// What stands behind it, by which name: nothing unless the list has it.
    pub(crate) fn behind(&self, egress: &Egress, own: &HostName) -> Option<(HostName, Reachable)> {
        let only = |found: &SocketAddr| Reachable::Private(BTreeSet::from([*found]));
        match self {
            Self::Address(address) => {
                let mut all = egress.private.values().flatten();
                all.find(|known| *known == address)
                    .map(|found| (own.clone(), only(found)))
            }
            Self::Name(host, port) => match egress.listed(host)? {
                Reachable::Public(ports) if ports.contains(port) => {
                    Some((host.clone(), Reachable::Public(BTreeSet::from([*port]))))
                }
                Reachable::Private(known) => {
                    let found = known.iter().find(|known| known.port() == *port)?;
                    Some((host.clone(), only(found)))
                }
                Reachable::Public(_) => None,
            },
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() != 0)
                .then_some(Self::Address(address))
                .ok_or(InvalidEndpoint);
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidEndpoint)?;
        let port = port
            .parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(InvalidEndpoint)?;
        if host.parse::<IpAddr>().is_ok() {
            return Err(InvalidEndpoint);
        }
        let host = host.parse::<HostName>().map_err(|_| InvalidEndpoint)?;
        Ok(Self::Name(host, port))
    }
}

impl TryFrom<String> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Self, InvalidEndpoint> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host, port) => write!(f, "{host}:{port}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_or_an_address_with_a_port() {
        for (text, shown) in [
            ("search.example.com:9200", "search.example.com:9200"),
            ("Search.Example.com.:443", "search.example.com:443"),
            ("10.0.0.5:9200", "10.0.0.5:9200"),
            ("[fd00::5]:9200", "[fd00::5]:9200"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for text in [
            "search",
            "search.example.com",
            "a b:1",
            "x:0",
            "x:70000",
            "10.0.0.5",
            "http://x.y:80",
            ":80",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(InvalidEndpoint), "{text}");
        }
    }

    #[test]
    fn an_endpoint_opens_nothing_that_the_list_does_not_have() {
        let mut egress = Egress::default();
        egress
            .hosts
            .insert("*.example.com".parse().unwrap(), BTreeSet::from([443, 9200]));
        egress.private.insert(
            "db".parse().unwrap(),
            BTreeSet::from(["10.0.0.5:5432".parse().unwrap()]),
        );
        let search: HostName = "search".parse().unwrap();
        let mut behind = |text: &str| {
            egress.endpoints.insert(search.clone(), text.parse().unwrap());
            egress.behind(&search).map(|(name, _)| name.to_string())
        };
        assert_eq!(behind("a.example.com:9200").as_deref(), Some("a.example.com"));
        assert_eq!(behind("a.example.com:9300"), None, "another port");
        assert_eq!(behind("a.example.org:9200"), None, "another name");
        assert_eq!(behind("10.0.0.5:5432").as_deref(), Some("search"));
        assert_eq!(behind("db:5432").as_deref(), Some("db"));
        assert_eq!(behind("10.0.0.6:5432"), None);
        assert_eq!(behind("search:5432"), None, "it can not stand for itself");
        assert_eq!(egress.ports(), BTreeSet::from([443, 5432, 9200]));
    }
}
