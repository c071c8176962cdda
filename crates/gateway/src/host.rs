//! Which host a request is for, read from its own head and from nothing else.

use crate::{
    config::{Base, Scheme},
    ports::RouteKey,
};
use http::{Uri, header::HOST, request::Parts};
use model::HostLabel;
use std::sync::Arc;

/// A host under one of the bases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// Base and label.
    pub(crate) key: Arc<RouteKey>,
    /// The name, lower case, without port.
    pub(crate) name: String,
    /// Name and port as addresses have them: the scheme's own port is left out.
    pub(crate) authority: String,
    /// How the visitor came.
    pub(crate) scheme: Scheme,
    /// Whether `Secure` cookies are kept there.
    pub(crate) secure_cookies: bool,
}

impl Site {
    /// The origin that a browser names for a page of this host.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), self.authority)
    }
}

/// Why there is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSite {
    /// None, several, contradicting or malformed: 400.
    Malformed,
    /// Not one of ours: 421.
    Misdirected,
}

/// Finds the host of a request.
pub(crate) fn site(parts: &Parts, bases: &[Base], ports: &[u16]) -> Result<Site, NoSite> {
    let mut lines = parts.headers.get_all(HOST).iter();
    let line = match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line.to_str().map_err(|_| NoSite::Malformed)?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(NoSite::Malformed),
    };
    let given = match (line, authority(&parts.uri)?) {
        // Two different hosts in one request are how a cache or a filter in front is fooled.
        (Some(line), Some(authority)) if !line.eq_ignore_ascii_case(authority) => return Err(NoSite::Malformed),
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => return Err(NoSite::Malformed),
    };
    place(given, bases, ports)
}

/// The authority of an absolute-form target.
fn authority(uri: &Uri) -> Result<Option<&str>, NoSite> {
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => Ok(None),
        (Some("http" | "https"), Some(authority)) => Ok(Some(authority.as_str())),
        _ => Err(NoSite::Malformed),
    }
}

/// Finds the base and the label of an authority.
pub(crate) fn place(authority: &str, bases: &[Base], ports: &[u16]) -> Result<Site, NoSite> {
    let lower = authority.to_ascii_lowercase();
    let (name, port) = match lower.rsplit_once(':') {
        None => (lower.as_str(), None),
        Some((name, digits)) => {
            let plain = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            let port = if plain { digits.parse::<u16>().ok() } else { None };
            (name, Some(port.ok_or(NoSite::Malformed)?))
        }
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'[' | b']' | b':');
    if name.is_empty() || name.len() > 253 || !name.bytes().all(allowed) {
        return Err(NoSite::Malformed);
    }
    let found = bases.iter().find_map(|base| {
        let label = name.strip_suffix(&*base.domain)?.strip_suffix('.')?;
        Some((base, label.parse::<HostLabel>().ok()?))
    });
    let (base, label) = found.ok_or(NoSite::Misdirected)?;
    let port = port.filter(|port| *port != base.scheme.default_port());
    if port.is_some_and(|port| !ports.contains(&port)) {
        return Err(NoSite::Misdirected);
    }
    Ok(Site {
        key: Arc::new(RouteKey {
            base: base.domain.clone(),
            label,
        }),
        authority: port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}")),
        name: name.to_owned(),
        scheme: base.scheme,
        secure_cookies: base.keeps_secure_cookies(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_place(authority: &str) -> Result<Site, NoSite> {
        let bases = [
            Base::new("localhost", Scheme::Http).unwrap(),
            Base::new("p.example.org", Scheme::Https).unwrap(),
        ];
        place(authority, &bases, &[8080])
    }

    #[test]
    fn a_label_under_a_base_is_found_whatever_its_case() {
        let site = try_place("PR-7.LocalHost:8080").unwrap();
        assert_eq!(site.key.label.as_str(), "pr-7");
        assert_eq!(site.authority, "pr-7.localhost:8080");
        assert_eq!(site.origin(), "http://pr-7.localhost:8080");
        assert_eq!(
            try_place("api--pr-7.p.example.org:443").unwrap().origin(),
            "https://api--pr-7.p.example.org"
        );
    }

    #[test]
    fn everything_outside_the_bases_is_misdirected() {
        for host in [
            "localhost",
            "example.org",
            "p.example.org",
            "127.0.0.1:8080",
            "pr-7.localhost:9999",
            "a.b.localhost",
            "pr-7.localhost.",
            "pr-7.localhost.evil.org",
            "evillocalhost",
            "-x.localhost",
            "a_b.localhost",
            "[::1]:8080",
        ] {
            assert_eq!(try_place(host), Err(NoSite::Misdirected), "{host}");
        }
    }

    #[test]
    fn what_is_no_authority_is_malformed() {
        for host in [
            "",
            ":80",
            "pr-7.localhost:",
            "pr-7.localhost:80a",
            "pr-7.localhost:+80",
            "u@pr-7.localhost",
            "pr-7.localhost/",
            "pr-7.localhost:99999",
            "pr-7.localhost, pr-8.localhost",
        ] {
            assert_eq!(try_place(host), Err(NoSite::Malformed), "{host}");
        }
    }
}
