//! Names of images, as Compose files write them: `nginx`, `ghcr.io/acme/web:1.2`, `redis@sha256:…`.

use crate::digest::BlobDigest;
use std::{fmt, str::FromStr};

/// The registry that a name without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag that a name without tag and digest means.
const DEFAULT_TAG: &str = "latest";
/// As the reference grammar has it: a repository's name is at most 255 characters.
const MAX_REPOSITORY: usize = 255;

/// A name that no image can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` names no image: {rule}")]
pub struct InvalidReference {
    /// What was given, shortened, control characters escaped.
    pub given: String,
    /// What is wrong with it.
    pub rule: &'static str,
}

/// The name of an image, with everything that the short form leaves out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<BlobDigest>,
}

impl Reference {
    /// Host and port of the registry, as people write it: `docker.io`, `ghcr.io`, `registry.example:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path of the repository at its registry: `library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. A name with neither tag nor digest has `latest`.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which alone decides where there is one.
    #[must_use]
    pub fn digest(&self) -> Option<BlobDigest> {
        self.digest
    }

    /// The same repository at this digest, without a tag.
    #[must_use]
    pub fn at(&self, digest: BlobDigest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// What a registry is asked for: the digest, else the tag.
    pub(crate) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse(text).map_err(|rule| InvalidReference {
            given: text.chars().take(100).flat_map(char::escape_debug).collect(),
            rule,
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.len() > 512 {
        return Err("it is longer than 512 bytes");
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (
            name,
            Some(
                digest
                    .parse()
                    .map_err(|_| "after `@`, `sha256:` and 64 hexadecimal digits are expected")?,
            ),
        ),
        None => (text, None),
    };
    // A colon after the last slash begins a tag; one before it, a port.
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest.to_owned()),
        _ => (DEFAULT_REGISTRY, name.to_owned()),
    };
    if !is_host(registry) {
        return Err("its registry is no host name with an optional port");
    }
    let registry = if registry == "index.docker.io" {
        DEFAULT_REGISTRY
    } else {
        registry
    };
    let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("library/{path}")
    } else {
        path
    };
    if repository.len() > MAX_REPOSITORY {
        return Err("the name of a repository has at most 255 characters");
    }
    if !repository.split('/').all(is_component) {
        return Err(
            "the parts between slashes are lower-case letters and digits, separated by `.`, `_`, `__` or dashes",
        );
    }
    if !tag.is_none_or(is_tag) {
        return Err("a tag is 1 to 128 letters, digits, `_`, `.` and `-`, and begins with neither `.` nor `-`");
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_TAG.to_owned()),
    };
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// What stands before the first slash is a registry if it looks like a host: the rule that Docker made.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number > 0));
    let name_is_good = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.len() <= 253 && host.split('.').all(is_host_label),
    };
    port_is_good && name_is_good
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// One part of a repository's path: runs of letters and digits with one separator between them.
fn is_component(part: &str) -> bool {
    let mut rest = part;
    loop {
        let run = rest
            .bytes()
            .take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            .count();
        if run == 0 {
            return false;
        }
        rest = &rest[run..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.bytes().take_while(|b| matches!(b, b'.' | b'_' | b'-')).count();
        let (between, after) = rest.split_at(separator);
        let good = matches!(between, "." | "_" | "__") || (!between.is_empty() && between.bytes().all(|b| b == b'-'));
        if !good {
            return false;
        }
        rest = after;
    }
}

fn is_tag(tag: &str) -> bool {
    !tag.is_empty()
        && tag.len() <= 128
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !tag.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn short_names_are_completed() {
        let digest = BlobDigest::of(b"");
        for (given, wanted) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27-alpine", "docker.io/library/nginx:1.27-alpine"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("ghcr.io/acme/web:1.2", "ghcr.io/acme/web:1.2"),
            ("localhost/web", "localhost/web:latest"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
            ("registry.example:5000/a/b/c:x_1", "registry.example:5000/a/b/c:x_1"),
            ("[::1]:5000/web", "[::1]:5000/web:latest"),
            ("a__b/c-d.e", "docker.io/a__b/c-d.e:latest"),
        ] {
            assert_eq!(full(given), wanted, "{given}");
        }
        assert_eq!(
            full(&format!("redis@{digest}")),
            format!("docker.io/library/redis@{digest}")
        );
        assert_eq!(
            full(&format!("redis:7@{digest}")),
            format!("docker.io/library/redis:7@{digest}")
        );
    }

    #[test]
    fn what_is_asked_for_is_the_digest_where_there_is_one() {
        let digest = BlobDigest::of(b"");
        let both: Reference = format!("redis:7@{digest}").parse().unwrap();
        assert_eq!(both.wanted(), digest.to_string());
        let tagged: Reference = "redis:7".parse().unwrap();
        assert_eq!(tagged.wanted(), "7");
        assert_eq!(
            tagged.at(digest).to_string(),
            format!("docker.io/library/redis@{digest}")
        );
    }

    #[test]
    fn what_names_nothing_is_refused() {
        let long = format!("{}/x", "a".repeat(255));
        for text in [
            "",
            ":",
            "/",
            "nginx:",
            "nginx:-x",
            "nginx@",
            "nginx@sha256:12",
            "../etc/passwd",
            "a/../b",
            "a//b",
            "Nginx",
            "acme.io/Web",
            "a b",
            "web:$(id)",
            "web\u{202e}",
            "host:0/web",
            "host:99999/web",
            "-h.example/web",
            "user:pass@registry.example/web",
            "http://registry.example/web",
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
