//! What the operator says about registries: mirrors, credentials, and which private ones may be asked.

use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// A user name and a password or token for a registry. It does not print.
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: Zeroizing<String>,
}

impl Credentials {
    /// Takes both over.
    #[must_use]
    pub fn new(user: String, password: String) -> Self {
        Self {
            user,
            password: Zeroizing::new(password),
        }
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What is known of one registry.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Registries that hold copies, host and optional port, asked first, in this order.
    pub mirrors: Vec<String>,
    /// Who we are there.
    pub credentials: Option<Credentials>,
    /// Whether it is spoken to without TLS. Credentials are then sent in clear.
    pub plain_http: bool,
    /// Whether it may have an address that is not public.
    pub private: bool,
}

/// The registries that the operator named, by host and optional port as images name them.
#[derive(Clone, Debug, Default)]
pub struct Registries(pub BTreeMap<String, Registry>);

/// One place to ask.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// As images name it.
    pub(crate) registry: String,
    /// Where its API is, without a final slash.
    pub(crate) base: String,
    pub(crate) credentials: Option<Credentials>,
}

impl Registries {
    /// Where to ask about images of `registry`: its mirrors, then itself.
    pub(crate) fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let mirrors = self
            .0
            .get(registry)
            .map(|known| known.mirrors.as_slice())
            .unwrap_or_default();
        mirrors
            .iter()
            .map(String::as_str)
            .chain([registry])
            .map(|name| self.endpoint(name))
            .collect()
    }

    fn endpoint(&self, name: &str) -> Endpoint {
        let known = self.0.get(name);
        let scheme = if known.is_some_and(|known| known.plain_http) {
            "http"
        } else {
            "https"
        };
        // Docker Hub's API has another name than the registry.
        let host = if name == "docker.io" {
            "registry-1.docker.io"
        } else {
            name
        };
        Endpoint {
            registry: name.to_owned(),
            base: format!("{scheme}://{host}"),
            credentials: known.and_then(|known| known.credentials.clone()),
        }
    }

    /// The hosts, without ports, that may have private addresses.
    pub(crate) fn trusted_hosts(&self) -> BTreeSet<String> {
        self.0
            .iter()
            .filter(|(_, known)| known.private)
            .map(|(name, _)| {
                let host = match name.rsplit_once(':') {
                    Some((host, port)) if !port.contains(']') => host,
                    _ => name,
                };
                host.trim_matches(['[', ']']).to_ascii_lowercase()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_each_has_its_own_settings() {
        let registries = Registries(BTreeMap::from([
            (
                "docker.io".to_owned(),
                Registry {
                    mirrors: vec!["mirror.internal:5000".to_owned()],
                    credentials: Some(Credentials::new("me".to_owned(), "canary".to_owned())),
                    ..Registry::default()
                },
            ),
            (
                "mirror.internal:5000".to_owned(),
                Registry {
                    plain_http: true,
                    private: true,
                    ..Registry::default()
                },
            ),
        ]));
        let endpoints = registries.endpoints("docker.io");
        let bases: Vec<_> = endpoints.iter().map(|endpoint| endpoint.base.as_str()).collect();
        assert_eq!(bases, ["http://mirror.internal:5000", "https://registry-1.docker.io"]);
        assert!(endpoints[0].credentials.is_none() && endpoints[1].credentials.is_some());
        assert_eq!(
            registries.trusted_hosts(),
            BTreeSet::from(["mirror.internal".to_owned()])
        );
        assert!(!format!("{registries:?}{endpoints:?}").contains("canary"));
    }
}
