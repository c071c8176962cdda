//! The short form of published ports: `[[address:]published:]target[/protocol]`, where the two numbers may be ranges.

/// The most ports that a range stands for.
const RANGE_MAX: u16 = 100;

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// The host's address.
    pub(crate) address: Option<String>,
    /// The host's port, or a range of which it is one.
    pub(crate) published: Option<String>,
    /// The port in the container.
    pub(crate) target: u16,
    pub(crate) protocol: String,
}

/// The ports that a text stands for; `None` if it stands for none.
pub(crate) fn parse(text: &str) -> Option<Vec<Port>> {
    let (addresses, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (host, target) = match addresses.rsplit_once(':') {
        Some((host, target)) => (host, target),
        None => ("", addresses),
    };
    let (address, published) = match host.rsplit_once(':') {
        Some((address, published)) => (Some(address.trim_start_matches('[').trim_end_matches(']')), published),
        None => (None, host),
    };
    let (first, last) = range(target).filter(|(first, last)| last - first < RANGE_MAX)?;
    let published_range = match published {
        "" => None,
        published => Some(range(published)?),
    };
    let ports = (first..=last).map(|target| {
        let published = published_range.map(|(from, to)| {
            if to - from == last - first {
                (from + (target - first)).to_string()
            } else {
                published.to_owned()
            }
        });
        Port {
            address: address.filter(|address| !address.is_empty()).map(str::to_owned),
            published,
            target,
            protocol: protocol.to_ascii_lowercase(),
        }
    });
    // Of several ports in the container, each has one of its own on the host.
    if first < last && published_range.is_some_and(|(from, to)| to - from != last - first) {
        return None;
    }
    Some(ports.collect())
}

/// A port or a range of ports.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (crate::read::port(first)?, crate::read::port(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Option<String> {
        let one = |port: &Port| {
            format!(
                "{}|{}|{}|{}",
                port.address.as_deref().unwrap_or_default(),
                port.published.as_deref().unwrap_or_default(),
                port.target,
                port.protocol
            )
        };
        parse(text).map(|ports| ports.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn every_form_is_read() {
        let table = [
            ("80", "||80|tcp"),
            ("8080:80", "|8080|80|tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080|80|tcp"),
            ("127.0.0.1::80", "127.0.0.1||80|tcp"),
            ("[::1]:8080:80/udp", "::1|8080|80|udp"),
            ("3000-3001", "||3000|tcp ||3001|tcp"),
            ("9000-9001:80-81", "|9000|80|tcp |9001|81|tcp"),
            ("8000-8010:80", "|8000-8010|80|tcp"),
            ("1-60000:80", "|1-60000|80|tcp"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        for bad in [
            "",
            "x",
            "80:",
            "0",
            "70000",
            "81-80",
            "9000-9005:80-81",
            "1-60000",
            "a:80",
            ":80:",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[0-9:/a-c\\[\\]-]{0,30}|.{0,30}") {
            let _ = parse(&text);
        }
    }
}
