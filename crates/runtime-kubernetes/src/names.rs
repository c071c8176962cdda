//! Names of objects: valid for every kind (RFC 1123 labels of at most 63 bytes), readable, and never the same for different things.
//!
//! A name is made of parts. Parts that are labels are joined by `--`, which none of them may contain. Anything else (too long,
//! upper case, `_`, `.`) keeps what can be read and ends in `--x` and 16 digits of the digest of all parts. The last of several
//! parts is a word of ours, and none of those looks like that.

use model::{Digest, EnvironmentId, InstanceId, slug};

/// The longest label, in bytes.
pub const NAME_MAX: usize = 63;

/// How many digits of a digest keep shortened names apart: 64 bits.
const DIGITS: usize = 16;
const SEPARATOR: &str = "--";

/// The namespace of an environment.
#[must_use]
pub fn namespace(instance: &InstanceId, environment: &EnvironmentId) -> String {
    format!("maquette-{instance}-{environment}")
}

/// The name of something that is called by these parts.
#[must_use]
pub fn object(parts: &[&str]) -> String {
    object_within(parts, NAME_MAX)
}

/// The name of what runs a service, and of its pods among labels. A stateful set puts its name and up to eleven more bytes into a
/// label.
#[must_use]
pub fn workload(service: &str) -> String {
    object_within(&[service], NAME_MAX - 11)
}

/// As [`object`], in at most so many bytes; at least 32.
#[must_use]
pub fn object_within(parts: &[&str], max: usize) -> String {
    let joined = parts.join(SEPARATOR);
    if joined.len() <= max && parts.iter().all(|part| is_plain(part)) {
        return joined;
    }
    let digest = Digest::of_parts(parts.iter().map(|part| part.as_bytes()));
    let digits = &digest.as_str()[..DIGITS];
    let head: String = slug(&joined)
        .chars()
        .take(max.saturating_sub(SEPARATOR.len() + 1 + DIGITS))
        .collect();
    match head.trim_end_matches('-') {
        "" => format!("x{digits}"),
        head => format!("{head}{SEPARATOR}x{digits}"),
    }
}

/// The name under which a cluster's name server finds something called so, if it can: names of services are labels that begin
/// with a letter (RFC 1035), and case makes no difference.
#[must_use]
pub fn found_as(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    (is_label(&name) && name.starts_with(|c: char| c.is_ascii_lowercase())).then_some(name)
}

/// Whether this is an RFC 1123 label.
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=NAME_MAX).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a part can stand as it is. What could be taken for nothing but a digest can not.
fn is_plain(part: &str) -> bool {
    let is_digest = part.len() == DIGITS + 1 && part.starts_with('x');
    is_label(part) && !part.contains(SEPARATOR) && !is_digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Names that are close to each other: long ones with the same beginning, the same letters in another case, and what a
    /// shortened name looks like.
    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-cA-C0-1][a-bA-B_.-]{0,4}",
            "[ab]{55}[abAB_.-]{0,8}",
            "[ab]{1,3}--x[0-1]{16}",
            "x[0-1]{16}",
        ]
    }

    fn parts() -> impl Strategy<Value = Vec<String>> {
        let ours = prop::sample::select(vec!["service", "job", "g1", "g12", "i1"]);
        (part(), prop::option::of(ours))
            .prop_map(|(own, ours)| std::iter::once(own).chain(ours.map(str::to_owned)).collect())
    }

    fn named(parts: &[String], max: usize) -> String {
        object_within(&parts.iter().map(String::as_str).collect::<Vec<_>>(), max)
    }

    proptest! {
        #[test]
        fn names_are_labels_and_different_things_have_different_ones(
            all in prop::collection::vec(parts(), 1..60),
            max in 32usize..=NAME_MAX,
        ) {
            let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for parts in all {
                let name = named(&parts, max);
                prop_assert!(is_label(&name) && name.len() <= max, "{name}");
                let other = seen.insert(name.clone(), parts.clone()).unwrap_or_else(|| parts.clone());
                prop_assert_eq!(other, parts, "both are called {}", name);
            }
        }

        #[test]
        fn the_name_of_a_shortened_thing_is_not_free_for_another(parts in parts()) {
            let name = named(&parts, NAME_MAX);
            if parts != [name.clone()] {
                prop_assert_ne!(named(std::slice::from_ref(&name), NAME_MAX), name);
            }
        }

        #[test]
        fn any_text_gets_a_name(text in "\\PC{0,300}") {
            let name = object(&[&text, "service"]);
            prop_assert!(is_label(&name), "{name}");
        }
    }

    #[test]
    fn names_read_as_expected() {
        assert_eq!(object(&["web"]), "web");
        assert_eq!(object(&["web", "service"]), "web--service");
        assert_eq!(object(&["My_api.1"]), "my-api-1--x22c2f08f5d51599e");
        assert_eq!(found_as("API").as_deref(), Some("api"));
        for lost in ["my_api", "1st", "a.b", "a-", ""] {
            assert_eq!(found_as(lost), None, "{lost}");
        }
        let long = "a".repeat(63);
        assert_eq!(object(&[&long]), long);
        assert_eq!(object(&[&long, "job"]).len(), 63);
    }
}
