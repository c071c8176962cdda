//! What an environment may reach outside of itself: names with ports, and endpoints in private networks that the policy names.

// From `core`, which has addresses as values and nothing that talks to a network.
use crate::Endpoint;
use core::net::{IpAddr, SocketAddr};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

/// The port of a name that is allowed without any: that of HTTPS.
pub const EGRESS_PORT: u16 = 443;

/// What an environment may reach. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// Names of the public internet, with the ports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<HostPattern, BTreeSet<u16>>,
    /// Endpoints at addresses of their own, also in private networks, by the names under which the environment finds them. The
    /// port inside is the port outside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub private: BTreeMap<HostName, BTreeSet<SocketAddr>>,
    /// Services that the environment does without, and where each is found instead. One that the rest of the list does not
    /// have leads nowhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<HostName, Endpoint>,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reachable {
    /// A name of the public internet, on these ports.
    Public(BTreeSet<u16>),
    /// Endpoints that the policy names.
    Private(BTreeSet<SocketAddr>),
}

impl Egress {
    /// Whether nothing may be reached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.private.is_empty()
    }

    /// What a name stands for, if it may be reached. An endpoint of the policy goes before a pattern.
    #[must_use]
    pub fn find(&self, name: &HostName) -> Option<Reachable> {
        self.behind(name).map(|(_, reachable)| reachable)
    }

    /// As [`Self::find`], with the name that is looked up outside.
    #[must_use]
    pub fn behind(&self, name: &HostName) -> Option<(HostName, Reachable)> {
        if let Some(endpoint) = self.endpoints.get(name) {
            return endpoint.behind(self, name);
        }
        Some((name.clone(), self.listed(name)?))
    }

    /// What a name stands for that is on the list itself.
    pub(crate) fn listed(&self, name: &HostName) -> Option<Reachable> {
        if let Some(endpoints) = self.private.get(name) {
            return Some(Reachable::Private(endpoints.clone()));
        }
        let fitting = self.hosts.iter().filter(|(pattern, _)| pattern.matches(name));
        let ports: BTreeSet<u16> = fitting.flat_map(|(_, ports)| ports.iter().copied()).collect();
        (!ports.is_empty()).then_some(Reachable::Public(ports))
    }

    /// Every port on which anything may be reached.
    #[must_use]
    pub fn ports(&self) -> BTreeSet<u16> {
        let public = self.hosts.values().flatten().copied();
        let private = self.private.values().flatten().map(SocketAddr::port);
        public.chain(private).collect()
    }
}

/// Why a text is no name or pattern of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// Characters or lengths that no name has.
    #[error("it is not the name of a host")]
    Form,
    /// An address.
    #[error("it is an address, not a name")]
    Address,
    /// A `*` that is not the first label.
    #[error("`*` can only be the first label, as in `*.example.com`")]
    Star,
    /// A pattern for everything, or for a whole top-level domain.
    #[error("the pattern leaves too much open: at least two labels must follow `*.`")]
    Wide,
    /// One label only.
    #[error("a name of the internet has a dot")]
    Short,
}

/// The name of a host in lower-case letters, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.parse::<IpAddr>().is_ok() {
            return Err(InvalidHost::Address);
        }
        let plain = |label: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len())
                && label.bytes().all(fits)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() > 253 || !text.split('.').all(plain) {
            return Err(InvalidHost::Form);
        }
        // `10.1` and `0x7f.1` are addresses for programs that convert them.
        let last = text.rsplit('.').next().unwrap_or_default();
        if last.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(InvalidHost::Address);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for HostName {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, InvalidHost> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name of the public internet, or with `*.` in front all names below one, however many labels they have more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    below: bool,
    name: HostName,
}

impl HostPattern {
    /// Whether it stands for a name.
    #[must_use]
    pub fn matches(&self, name: &HostName) -> bool {
        if !self.below {
            return self.name == *name;
        }
        let rest = name.as_str().strip_suffix(self.name.as_str());
        rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }

    /// The one name that it stands for; `None` if it stands for many.
    #[must_use]
    pub fn exact(&self) -> Option<&HostName> {
        (!self.below).then_some(&self.name)
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains('*') {
            return Err(if text == "*" {
                InvalidHost::Wide
            } else {
                InvalidHost::Star
            });
        }
        let name: HostName = rest.parse()?;
        match (below, name.as_str().contains('.')) {
            (true, false) => Err(InvalidHost::Wide),
            (false, false) => Err(InvalidHost::Short),
            _ => Ok(Self { below, name }),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, InvalidHost> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_names_below_and_for_nothing_else() {
        let pattern: HostPattern = "*.Example.com".parse().unwrap();
        for (name, fits) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("A.EXAMPLE.COM.", true),
            ("example.com", false),
            ("evilexample.com", false),
            ("a.example.com.evil.org", false),
        ] {
            assert_eq!(pattern.matches(&name.parse().unwrap()), fits, "{name}");
        }
        let exact: HostPattern = "example.com".parse().unwrap();
        assert!(exact.matches(&"EXAMPLE.com".parse().unwrap()));
        assert!(!exact.matches(&"a.example.com".parse().unwrap()));
    }

    #[test]
    fn what_is_no_name_or_too_much_is_refused() {
        for (text, why) in [
            ("*", InvalidHost::Wide),
            ("*.com", InvalidHost::Wide),
            ("a.*.com", InvalidHost::Star),
            ("*.*.com", InvalidHost::Star),
            ("localhost", InvalidHost::Short),
            ("10.0.0.1", InvalidHost::Address),
            ("10.1", InvalidHost::Address),
            ("a.0x7f", InvalidHost::Address),
            ("a..b", InvalidHost::Form),
            ("", InvalidHost::Form),
            ("-a.b", InvalidHost::Form),
            ("a b.c", InvalidHost::Form),
            ("http://a.b", InvalidHost::Form),
        ] {
            assert_eq!(text.parse::<HostPattern>(), Err(why), "{text}");
        }
    }

    #[test]
    fn an_endpoint_of_the_policy_goes_before_a_pattern() {
        let mut egress = Egress::default();
        egress
            .hosts
            .insert("*.example.com".parse().unwrap(), BTreeSet::from([443]));
        egress
            .hosts
            .insert("a.example.com".parse().unwrap(), BTreeSet::from([80]));
        let endpoint = "10.0.0.5:9200".parse().unwrap();
        egress
            .private
            .insert("b.example.com".parse().unwrap(), BTreeSet::from([endpoint]));
        let find = |name: &str| egress.find(&name.parse().unwrap());
        assert_eq!(
            find("a.example.com"),
            Some(Reachable::Public(BTreeSet::from([80, 443])))
        );
        assert_eq!(
            find("b.example.com"),
            Some(Reachable::Private(BTreeSet::from([endpoint])))
        );
        assert_eq!(find("example.com"), None);
        assert_eq!(egress.ports(), BTreeSet::from([80, 443, 9200]));
        let text = serde_json::to_string(&egress).unwrap();
        assert_eq!(serde_json::from_str::<Egress>(&text).unwrap(), egress);
    }
}
