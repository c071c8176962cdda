//! From the image that a Compose file names to an engine and its versions.

use std::ops::RangeInclusive;

use super::EngineKind;

/// What an image reference says about an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// The engine.
    pub kind: EngineKind,
    /// The major versions that fit the tag; all of them for `latest`, `alpine` or a bare digest.
    pub majors: RangeInclusive<u32>,
    /// Whether the tag asks for RabbitMQ's management pages.
    pub management: bool,
}

/// Recognises the official image of an engine, with or without registry, `library/`, tag and digest. Images of others
/// (`bitnami/postgresql`, `acme/redis`) have other contents and are none.
#[must_use]
pub fn recognise(image: &str) -> Option<Recognised> {
    let name = image.split_once('@').map_or(image, |(name, _digest)| name);
    let (path, last) = name.rsplit_once('/').map_or(("", name), |(path, last)| (path, last));
    let (repository, tag) = last
        .split_once(':')
        .map_or((last, ""), |(repository, tag)| (repository, tag));
    let kind = EngineKind::from_name(repository)?;
    let official = path.is_empty() || path == "docker.io" || path.rsplit('/').next() == Some("library");
    let majors = majors_of_tag(tag);
    let management = kind == EngineKind::Rabbitmq && tag.split('-').any(|part| part == "management");
    official.then_some(Recognised {
        kind,
        majors,
        management,
    })
}

fn majors_of_tag(tag: &str) -> RangeInclusive<u32> {
    let digits: String = tag.chars().take_while(char::is_ascii_digit).collect();
    let ends = tag[digits.len()..]
        .chars()
        .next()
        .is_none_or(|next| matches!(next, '.' | '-'));
    match digits.parse() {
        // A tag like `20240101…` or `7alpine` is no version.
        Ok(major) if ends && major < 1000 => major..=major,
        _ => 0..=u32::MAX,
    }
}

/// Reads `15` or `15-17`.
#[must_use]
pub fn majors_parse(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_images_are_recognised_however_they_are_written() {
        let all = 0..=u32::MAX;
        for (image, kind, majors) in [
            ("postgres", EngineKind::Postgres, all.clone()),
            ("postgres:15", EngineKind::Postgres, 15..=15),
            ("postgres:15.3", EngineKind::Postgres, 15..=15),
            ("postgres:16-alpine3.19", EngineKind::Postgres, 16..=16),
            ("postgres:latest", EngineKind::Postgres, all.clone()),
            ("postgres:alpine", EngineKind::Postgres, all.clone()),
            ("docker.io/library/postgres:15-alpine", EngineKind::Postgres, 15..=15),
            ("docker.io/postgres:15", EngineKind::Postgres, 15..=15),
            (
                "registry.example:5000/mirror/library/redis:7.2",
                EngineKind::Redis,
                7..=7,
            ),
            ("redis@sha256:0123", EngineKind::Redis, all),
            ("redis:7.2-alpine@sha256:0123", EngineKind::Redis, 7..=7),
            ("rabbitmq:3-management-alpine", EngineKind::Rabbitmq, 3..=3),
        ] {
            let found = recognise(image).unwrap_or_else(|| panic!("{image}"));
            assert_eq!((found.kind, found.majors), (kind, majors), "{image}");
            assert_eq!(found.management, image.contains("management"), "{image}");
        }
    }

    #[test]
    fn images_of_others_are_not_taken_for_engines() {
        for image in [
            "bitnami/postgres:15",
            "ghcr.io/acme/redis",
            "mypostgres",
            "postgresql:15",
            "",
            ":15",
            "a/library/",
        ] {
            assert_eq!(recognise(image), None, "{image}");
        }
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(majors_parse("15-17"), Some(15..=17));
        assert_eq!(majors_parse("15"), Some(15..=15));
        for text in ["", "17-15", "a", "15-", "-1"] {
            assert_eq!(majors_parse(text), None, "{text}");
        }
    }
}
