//! Data engines: recognised by the image that a Compose file names, checked against what the runtime has.

use model::{Capabilities, VersionRange};

/// What is known of an engine.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) kind: &'static str,
    /// As people call it.
    pub(crate) title: &'static str,
    pub(crate) port: u16,
}

const KNOWN: [Known; 3] = [
    Known {
        kind: "postgres",
        title: "PostgreSQL",
        port: 5432,
    },
    Known {
        kind: "redis",
        title: "Redis",
        port: 6379,
    },
    Known {
        kind: "rabbitmq",
        title: "RabbitMQ",
        port: 5672,
    },
];

/// Any version: the image has no tag that begins with one.
pub(crate) const ANY: VersionRange = VersionRange { min: 0, max: u32::MAX };

/// The engine that an image stands for, and the versions that its tag allows. Only the official images are recognised: others
/// of the same program are configured in other ways.
pub(crate) fn recognise(image: &str) -> Option<(&'static Known, VersionRange)> {
    let image = image.split('@').next().unwrap_or(image);
    let image = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"]
        .iter()
        .find_map(|registry| image.strip_prefix(registry))
        .unwrap_or(image);
    let image = image.strip_prefix("library/").unwrap_or(image);
    let (name, tag) = image.split_once(':').unwrap_or((image, ""));
    let known = KNOWN.iter().find(|known| known.kind == name)?;
    let digits = tag.find(|c: char| !c.is_ascii_digit()).unwrap_or(tag.len());
    let version = tag[..digits]
        .parse()
        .ok()
        .filter(|_| tag[digits..].is_empty() || tag[digits..].starts_with(['.', '-']));
    Some((
        known,
        version.map_or(ANY, |major| VersionRange { min: major, max: major }),
    ))
}

/// Whether an image is one of those that catch mail, by the last part of its name, whoever has made it.
pub(crate) fn catches_mail(image: &str) -> bool {
    let image = image.trim().split('@').next().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let name = last.split(':').next().unwrap_or_default();
    ["mailpit", "mailhog", "maildev"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// A range as people write it.
pub(crate) fn show(range: VersionRange) -> String {
    match range {
        ANY => "any version".to_owned(),
        VersionRange { min, max } if min == max => min.to_string(),
        VersionRange { min, max } => format!("{min}-{max}"),
    }
}

/// Why the runtime can't run an engine, and what it has instead; `None` if it can.
pub(crate) fn lacking(known: &Known, range: VersionRange, capabilities: &Capabilities) -> Option<(String, String)> {
    let offers = || capabilities.engines.iter().filter(|offer| offer.kind == known.kind);
    if offers().any(|offer| range.contains(offer.major)) || (capabilities.engines.is_empty() && capabilities.images) {
        return None;
    }
    let mut majors: Vec<u32> = offers().map(|offer| offer.major).collect();
    majors.sort_unstable();
    majors.dedup();
    let (title, runtime) = (known.title, &capabilities.runtime);
    if majors.is_empty() {
        let there = crate::suggest::listed(capabilities.engines.iter().map(|offer| offer.kind.as_str()));
        return Some((
            format!("the runtime `{runtime}` has no {title}"),
            format!("install its package on the host (`maquette doctor` names it); there is: {there}"),
        ));
    }
    let there = majors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (first, last) = (majors[0], majors[majors.len() - 1]);
    let wide = show(VersionRange {
        min: range.min.min(first),
        max: range.max.max(last),
    });
    Some((
        format!(
            "{title} {} is not there: the runtime `{runtime}` has {title} {there}",
            show(range)
        ),
        format!(
            "if the stack works with it, say `versions: \"{wide}\"` in `stack.data` of maquette.yaml, else install the package"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_images_are_engines_and_their_tags_are_versions() {
        let range = |image: &str| recognise(image).map(|(known, range)| (known.kind, show(range)));
        let any = || "any version".to_owned();
        assert_eq!(range("postgres:15"), Some(("postgres", "15".into())));
        assert_eq!(
            range("docker.io/library/postgres:16.2-alpine"),
            Some(("postgres", "16".into()))
        );
        assert_eq!(range("redis:7-bookworm"), Some(("redis", "7".into())));
        assert_eq!(range("rabbitmq:3.13-management"), Some(("rabbitmq", "3".into())));
        assert_eq!(range("postgres"), Some(("postgres", any())));
        assert_eq!(range("postgres:latest@sha256:00"), Some(("postgres", any())));
        assert_eq!(range("redis:7up"), Some(("redis", any())));
        for other in [
            "bitnami/postgresql:15",
            "postgis/postgis:15",
            "ghcr.io/acme/postgres:15",
            "node:20",
        ] {
            assert_eq!(range(other), None, "{other}");
        }
    }
}
