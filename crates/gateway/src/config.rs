//! The gateway's settings. Every limit and every time has a default that suits one machine.

use std::{sync::Arc, time::Duration};

/// A setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No base was given, so that no host could be served.
    #[error("no base: the gateway would serve no host")]
    NoBase,
    /// A base is no domain name.
    #[error("`{given}` is not a domain name under which hosts can be served")]
    BadBase {
        /// What was given.
        given: String,
    },
}

/// How a browser speaks to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS: on this machine, or behind a TLS terminator.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// As it stands in addresses and in `X-Forwarded-Proto`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that addresses leave out.
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A domain under which each environment has a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The domain, lower case.
    pub(crate) domain: Arc<str>,
    /// How visitors reach it.
    pub(crate) scheme: Scheme,
}

impl Base {
    /// A base, for example `localhost` or `preview.example.org`.
    ///
    /// # Errors
    /// [`ConfigError::BadBase`] when it is no domain name.
    pub fn new(domain: &str, scheme: Scheme) -> Result<Self, ConfigError> {
        let lower = domain.to_ascii_lowercase();
        let valid = (1..=180).contains(&lower.len())
            && lower.split('.').all(|label| label.parse::<model::HostLabel>().is_ok())
            && lower.parse::<std::net::IpAddr>().is_err();
        if valid {
            Ok(Self {
                domain: lower.into(),
                scheme,
            })
        } else {
            Err(ConfigError::BadBase {
                given: domain.chars().take(80).flat_map(char::escape_debug).collect(),
            })
        }
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether browsers keep `Secure` cookies of its hosts: with TLS, and for `localhost`, which they trust without.
    pub(crate) fn keeps_secure_cookies(&self) -> bool {
        self.scheme == Scheme::Https || &*self.domain == "localhost" || self.domain.ends_with(".localhost")
    }
}

/// How much of each thing there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of visitors at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Requests and tunnels in flight at once.
    pub requests: usize,
    /// The same per environment.
    pub requests_per_environment: usize,
    /// Requests that wait for an environment to be live.
    pub held: usize,
    /// The same per environment.
    pub held_per_environment: usize,
    /// Sign-ins that are checked at once.
    pub sign_ins: usize,
    /// Bytes of a head, of a request and of a response.
    pub head_bytes: usize,
    /// Lines of a head.
    pub head_lines: usize,
    /// Idle connections that are kept per service of an environment.
    pub idle_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            requests: 4096,
            requests_per_environment: 512,
            held: 1024,
            held_per_environment: 64,
            sign_ins: 32,
            head_bytes: 32 * 1024,
            head_lines: 100,
            idle_connections: 16,
        }
    }
}

/// How long each thing may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A visitor's head, from the first byte to the last; also how long a connection may be silent between requests.
    pub head: Duration,
    /// One attempt to connect to a service.
    pub connect: Duration,
    /// The first pause between two attempts. It doubles up to 200 ms and has nothing to do with `connect`.
    pub reconnect_pause: Duration,
    /// All attempts together, while the route is live and the service refuses.
    pub connect_patience: Duration,
    /// All attempts together, while whoever hands out connections does not answer: it is being restarted.
    pub dialler_patience: Duration,
    /// Silence between a request and the head of its response. A body on its way up counts as no silence.
    pub response: Duration,
    /// How long a navigation waits for an environment before it gets the progress page, so that a thaw never flashes.
    pub navigation_hold: Duration,
    /// How long everything else waits.
    pub hold: Duration,
    /// How long an idle connection to a service is kept.
    pub idle_connection: Duration,
    /// How long one may have been idle for a request that can not be repeated. Services close idle connections after 2 s at the
    /// earliest, and such a request must not meet that moment.
    pub surely_open: Duration,
    /// What is in flight when the gateway is told to end may take so long.
    pub drain: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            connect: Duration::from_secs(5),
            reconnect_pause: Duration::from_millis(25),
            connect_patience: Duration::from_secs(3),
            dialler_patience: Duration::from_secs(20),
            response: Duration::from_secs(300),
            navigation_hold: Duration::from_millis(1500),
            hold: Duration::from_secs(60),
            idle_connection: Duration::from_secs(50),
            surely_open: Duration::from_secs(1),
            drain: Duration::from_secs(10),
        }
    }
}

/// The gateway's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The bases under which hosts are served.
    pub(crate) bases: Vec<Base>,
    /// Ports, beside the listening one, that visitors may name in an address: that of a forwarder in front.
    pub public_ports: Vec<u16>,
    /// How much of each thing there may be.
    pub limits: Limits,
    /// How long each thing may take.
    pub timing: Timing,
}

impl Config {
    /// Settings with the defaults.
    ///
    /// # Errors
    /// [`ConfigError::NoBase`] for an empty list.
    pub fn new(mut bases: Vec<Base>) -> Result<Self, ConfigError> {
        if bases.is_empty() {
            return Err(ConfigError::NoBase);
        }
        // `a.example.org` must be tried before `example.org`.
        bases.sort_by_key(|base| std::cmp::Reverse(base.domain.len()));
        Ok(Self {
            bases,
            public_ports: Vec::new(),
            limits: Limits::default(),
            timing: Timing::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_domain_name() {
        for bad in [
            "",
            ".",
            "a..b",
            "127.0.0.1",
            "a b",
            "x/../y",
            "localhost:80",
            "-a",
            "a.b.",
        ] {
            assert!(Base::new(bad, Scheme::Http).is_err(), "{bad:?}");
        }
        assert_eq!(
            Base::new("Preview.Example.ORG", Scheme::Https).unwrap().domain(),
            "preview.example.org"
        );
        assert_eq!(Config::new(vec![]), Err(ConfigError::NoBase));
    }
}
