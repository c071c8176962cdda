//! Keeps names from pull requests away from addresses that only this machine or its network can reach.

use model::is_public;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};
use url::{Host, Url};

/// Redirects beyond this are a loop.
const MAX_REDIRECTS: usize = 5;

/// Which hosts may be asked although they are not public: those that the operator named.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    trusted: BTreeSet<String>,
}

/// A host was refused. Travels through the HTTP library as a source of its error.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{host} is not a public address")]
pub(crate) struct Refused {
    pub(crate) host: String,
}

impl Guard {
    /// `trusted`: host names or addresses in lower case, without ports.
    pub(crate) fn new(trusted: BTreeSet<String>) -> Self {
        Self { trusted }
    }

    fn trusts(&self, host: &str) -> bool {
        self.trusted.contains(&host.to_ascii_lowercase())
    }

    /// Addresses that stand in a URL themselves are never resolved, so they are checked here.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Refused> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            _ => return Ok(()),
        };
        let host = address.to_string();
        if is_public(address) || self.trusts(&host) {
            return Ok(());
        }
        Err(Refused { host })
    }

    /// Follows a few redirects, each checked; never from an encrypted connection to one that is not.
    pub(crate) fn redirects(self: &Arc<Self>) -> reqwest::redirect::Policy {
        let guard = self.clone();
        reqwest::redirect::Policy::custom(move |attempt| {
            let from_encrypted = attempt.previous().iter().any(|url| url.scheme() == "https");
            if attempt.previous().len() > MAX_REDIRECTS || (from_encrypted && attempt.url().scheme() != "https") {
                return attempt.stop();
            }
            match guard.check(attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(refused) => attempt.error(refused),
            }
        })
    }
}

/// Resolves names with the system's resolver and drops every answer that is not public. The connection is made to the very
/// addresses that were checked, so a name that answers differently a moment later gains nothing.
#[derive(Debug)]
pub(crate) struct Resolver(pub(crate) Arc<Guard>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let all: Vec<_> = found.collect();
            let trusted = guard.trusts(&host);
            let usable: Vec<_> = all
                .iter()
                .copied()
                .filter(|address| trusted || is_public(address.ip()))
                .collect();
            if usable.is_empty() && !all.is_empty() {
                return Err(Refused { host }.into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_urls_are_checked() {
        let guard = Guard::new(BTreeSet::from(["127.0.0.1".to_owned()]));
        let allowed = |url: &str| guard.check(&url.parse().unwrap()).is_ok();
        assert!(allowed("https://8.8.8.8/v2/"));
        assert!(allowed("https://registry.example/v2/"));
        assert!(allowed("http://127.0.0.1:5000/v2/"));
        for url in [
            "http://127.0.0.2/",
            "http://169.254.169.254/latest",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            // The URL standard reads all of these as 127.0.0.x or 10.0.0.1.
            "http://0x7f000002/",
            "http://2130706434/",
            "http://012.0.0.1/",
        ] {
            assert!(!allowed(url), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_resolved() {
        let resolve = |guard: Guard| async move {
            let resolver = Resolver(Arc::new(guard));
            resolver
                .resolve("localhost".parse().unwrap())
                .await
                .map(Iterator::count)
        };
        let refused = resolve(Guard::default()).await.unwrap_err();
        assert!(refused.downcast_ref::<Refused>().is_some(), "{refused}");
        assert!(
            resolve(Guard::new(BTreeSet::from(["localhost".to_owned()])))
                .await
                .unwrap()
                > 0
        );
    }
}
