//! `egress:` and `private:` of the policy: what an environment may reach outside of itself.

// From `core`, which has addresses as values and nothing that talks to a network.
use core::net::{IpAddr, SocketAddr};

use super::policy::NAMES_MAX;
use crate::{
    escape::quoted,
    problem::{At, Report},
    read,
    yaml::Node,
};
use model::{EGRESS_PORT, Egress, HostName, HostPattern, InvalidHost};
use std::collections::{BTreeMap, BTreeSet};

/// The most ports of one name.
const PORTS_MAX: usize = 16;
/// Where an environment asks for names; nothing else can be there.
const NAME_PORT: u16 = 53;

/// The names of hosts, and words that stand for some of them.
pub(crate) type Hosts = (BTreeMap<HostPattern, BTreeSet<u16>>, BTreeSet<String>);

/// Whether a text is the word of a preset: which hosts it stands for is the server's to say.
fn is_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=30).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(plain)
}

/// The hosts of one preset, as an operator names them: the same words as in `egress`, and, with a `=` between name and address, as
/// in `private`: `packages.example.com=10.0.0.7:80`.
///
/// # Errors
/// What is wrong with the first that can not be read, and what to do.
pub fn preset(items: &[String]) -> Result<Egress, (String, String)> {
    let mut found = Egress::default();
    for item in items.iter().take(NAMES_MAX) {
        let told = |(message, hint): (String, String)| (format!("{}: {message}", quoted(item)), hint);
        if let Some((name, endpoint)) = item.split_once('=') {
            let name = private_name(name.trim())
                .ok_or_else(|| told(("it names no host before the `=`".to_owned(), PRIVATE_NAME.to_owned())))?;
            let endpoints = addresses(endpoint.trim()).map_err(told)?;
            found.private.entry(name).or_default().extend(endpoints);
            continue;
        }
        let (pattern, ports) = entry(item).map_err(told)?;
        found.hosts.entry(pattern).or_default().extend(ports);
    }
    Ok(found)
}

/// Hosts of the public internet, and presets.
pub(crate) fn hosts(report: &Report, node: &Node, what: &str) -> Hosts {
    let items = read::texts(report, node, what, true).unwrap_or_default();
    if let Some((at, _)) = items.get(NAMES_MAX) {
        report.error(*at, format!("{what} has more than {NAMES_MAX} items"));
    }
    let (mut found, mut presets) = Hosts::default();
    for (at, item) in items.iter().take(NAMES_MAX) {
        if is_word(item) && item != "localhost" {
            presets.insert(item.clone());
            continue;
        }
        match entry(item) {
            Ok((pattern, ports)) => found.entry(pattern).or_default().extend(ports),
            Err((message, hint)) => {
                report.error_hint(*at, format!("{} in {what}: {message}", quoted(item)), hint);
            }
        }
    }
    (found, presets)
}

type Entry = (HostPattern, BTreeSet<u16>);

/// `host` or `host:port,port`.
fn entry(text: &str) -> Result<Entry, (String, String)> {
    if text.contains("://") || text.contains('/') {
        return Err((
            "it is an address of a page, and what is behind a name can not be told apart".to_owned(),
            "name the host alone, such as `api.stripe.com`".to_owned(),
        ));
    }
    if text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        return Err((InvalidHost::Address.to_string(), private_hint(text)));
    }
    let (host, ports) = match text.rsplit_once(':') {
        Some((host, ports)) => (host, ports_of(ports)?),
        None => (text, BTreeSet::from([EGRESS_PORT])),
    };
    let pattern = host.parse::<HostPattern>().map_err(|why| {
        let hint = match why {
            InvalidHost::Short => "a host has a dot; a preset of the server is a word without a port".to_owned(),
            InvalidHost::Address => private_hint(text),
            InvalidHost::Wide => "name what is needed, such as `*.example.com`".to_owned(),
            InvalidHost::Star | InvalidHost::Form => {
                "`api.example.com`, `*.example.com`, `example.com:80,443`, or the word of a preset of the server"
                    .to_owned()
            }
        };
        (why.to_string(), hint)
    })?;
    Ok((pattern, ports))
}

fn private_hint(text: &str) -> String {
    let endpoint = if text.contains(':') { text } else { "10.0.0.5:5432" };
    format!(
        "endpoints by their addresses stand in the policy as `private: {{ name: {} }}`",
        quoted(endpoint).trim_matches('`')
    )
}

fn ports_of(text: &str) -> Result<BTreeSet<u16>, (String, String)> {
    let hint = || "one port or several, such as `example.com:80,443`".to_owned();
    let mut ports = BTreeSet::new();
    for part in text.split(',') {
        let number = part.trim().parse::<u16>().ok().filter(|port| *port != 0);
        match number {
            Some(NAME_PORT) => {
                return Err((
                    "port 53 can not be reached: names are answered by the environment's own name server".to_owned(),
                    "leave it out".to_owned(),
                ));
            }
            Some(port) => ports.insert(port),
            None => return Err((format!("{} is no port", quoted(part)), hint())),
        };
    }
    if ports.len() > PORTS_MAX {
        return Err((format!("more than {PORTS_MAX} ports"), hint()));
    }
    Ok(ports)
}

/// Endpoints by the names under which the environment finds them.
pub(crate) fn private(report: &Report, node: &Node, what: &str) -> BTreeMap<HostName, BTreeSet<SocketAddr>> {
    let entries = read::map(report, node, what).unwrap_or_default();
    if let Some((key, _)) = entries.get(NAMES_MAX) {
        report.error(key.at, format!("{what} has more than {NAMES_MAX} items"));
    }
    let mut found = BTreeMap::new();
    for (key, value) in entries.iter().take(NAMES_MAX) {
        let Some(name) = private_name(&key.text) else {
            let message = format!("{} in {what} can not be the name of a host", quoted(&key.text));
            report.error_hint(key.at, message, PRIVATE_NAME);
            continue;
        };
        let Some(text) = read::text(report, value, &format!("`{}` in {what}", key.text)) else {
            continue;
        };
        if let Some(endpoints) = endpoints(report, value.at, text, what) {
            found.insert(name, endpoints);
        }
    }
    found
}

const PRIVATE_NAME: &str = "the name that the services use, such as `search` or `db.example.com`";

fn private_name(text: &str) -> Option<HostName> {
    let name = text.parse::<HostName>().ok()?;
    (name.as_str() != "localhost" && !name.as_str().ends_with(".localhost")).then_some(name)
}

fn endpoints(report: &Report, at: At, text: &str, what: &str) -> Option<BTreeSet<SocketAddr>> {
    let found = match addresses(text) {
        Ok(found) => found,
        Err((message, hint)) => {
            report.error_hint(at, format!("{} in {what}: {message}", quoted(text)), hint);
            return None;
        }
    };
    if found.iter().any(|endpoint| endpoint.ip().to_canonical().is_loopback()) {
        report.warn_hint(
            at,
            format!("{} in {what} is the machine that environments run on", quoted(text)),
            "whatever listens there believes that Maquette itself asks: prefer an address of the network; the server's operator has to allow this one with `door: { loopback: true }`",
        );
    }
    Some(found)
}

/// `address:port` or `address:port,port`.
fn addresses(text: &str) -> Result<BTreeSet<SocketAddr>, (String, String)> {
    let form = "an address with its port, such as `10.0.0.5:5432` or `[fd00::5]:5432`";
    let split = text.rsplit_once(':').and_then(|(host, ports)| {
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|rest| rest.contains(':'))?,
            None => host,
        };
        Some((
            bare.parse::<IpAddr>()
                .ok()
                .filter(|address| address.is_ipv4() || bare != host)?,
            ports,
        ))
    });
    let Some((address, ports)) = split else {
        return Err(("it is not an address with a port".to_owned(), form.to_owned()));
    };
    let ports = ports_of(ports).map_err(|(message, _)| (message, form.to_owned()))?;
    if let Some(why) = never(address.to_canonical()) {
        let hint = "name the endpoint that the application needs";
        return Err((why.to_owned(), hint.to_owned()));
    }
    Ok(ports.into_iter().map(|port| SocketAddr::new(address, port)).collect())
}

/// Why an address is no endpoint, whoever names it.
fn never(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if link_local {
        Some("at addresses of this kind clouds hand out the keys of the machine")
    } else if address.is_unspecified() || address.is_multicast() || broadcast {
        Some("it is not the address of one machine")
    } else {
        None
    }
}

/// Presets and hosts as people read them.
pub(crate) fn show(presets: &BTreeSet<String>, hosts: &BTreeMap<HostPattern, BTreeSet<u16>>) -> String {
    let presets = presets.iter().map(|word| format!("{word} (a preset of the server)"));
    listed(presets.chain(shown_hosts(hosts)).collect())
}

/// Hosts as people read them.
#[cfg(test)]
fn show_hosts(hosts: &BTreeMap<HostPattern, BTreeSet<u16>>) -> String {
    listed(shown_hosts(hosts).collect())
}

fn shown_hosts(hosts: &BTreeMap<HostPattern, BTreeSet<u16>>) -> impl Iterator<Item = String> {
    hosts.iter().map(|(pattern, ports)| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        format!("{pattern}:{}", ports.join(","))
    })
}

/// Endpoints as people read them.
pub(crate) fn show_private(private: &BTreeMap<HostName, BTreeSet<SocketAddr>>) -> String {
    let show = |(name, endpoints): (&HostName, &BTreeSet<SocketAddr>)| {
        let endpoints: Vec<String> = endpoints.iter().map(SocketAddr::to_string).collect();
        format!("{name}: {}", endpoints.join(" "))
    };
    listed(private.iter().map(show).collect())
}

fn listed(items: Vec<String>) -> String {
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_read_as_the_policy_is() {
        let of = |items: &[&str]| preset(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>());
        let found = of(&[
            "packages.example.com",
            "*.mirror.example.com:80,443",
            "packages.internal = 10.0.0.7:80,443",
        ])
        .unwrap();
        assert_eq!(
            show_hosts(&found.hosts),
            "packages.example.com:443, *.mirror.example.com:80,443"
        );
        assert_eq!(
            show_private(&found.private),
            "packages.internal: 10.0.0.7:80 10.0.0.7:443"
        );
        for bad in [
            "npm",
            "http://packages.example.com",
            "10.0.0.5",
            "localhost=10.0.0.5:80",
            "a.internal=b.internal:80",
            "a.internal=169.254.169.254:80",
        ] {
            assert!(of(&[bad]).unwrap_err().0.contains(bad));
        }
    }
}
