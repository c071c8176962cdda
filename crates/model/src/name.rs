//! Names that other people choose: bounded and checked before anything else sees them.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a {what}: {rule}")]
pub struct InvalidName {
    /// What was given, shortened, control characters escaped.
    pub given: String,
    /// The kind of name.
    pub what: &'static str,
    /// What would have been valid.
    pub rule: &'static str,
}

fn printable(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

fn is_label(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= max
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

/// Compose allows more than DNS does (`a_b`, `A.b`), and real files use it.
fn is_compose_name(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= max
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.contains("..")
}

/// Git's own rules for a reference (git-check-ref-format(1)), and no character that a terminal would obey.
fn is_branch(text: &str) -> bool {
    let forbidden = |c: char| {
        c.is_control()
            || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    !text.is_empty()
        && text.len() <= 255
        && !text.chars().any(forbidden)
        && !text.starts_with(['-', '/'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains("@{")
        && text != "@"
        && text
            .split('/')
            .all(|part| !part.starts_with('.') && !part.ends_with(".lock"))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { given: printable(text), what: $what, rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a project; part of host names.
    ProjectName,
    "project name",
    "1 to 30 lower-case letters, digits and inner dashes",
    |t| is_label(t, 30) && !t.contains("--")
);
name!(
    /// The name that the operator gives a cluster.
    ClusterName,
    "cluster name",
    "1 to 30 lower-case letters, digits and inner dashes",
    |t| is_label(t, 30) && !t.contains("--")
);
name!(
    /// The name of a source within a project; the first source is usually called like the project.
    SourceName,
    "source name",
    "1 to 30 lower-case letters, digits and inner dashes",
    |t| is_label(t, 30) && !t.contains("--")
);
name!(
    /// The name of a service, as in a Compose file.
    ServiceName,
    "service name",
    "1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
    |t| is_compose_name(t, 63)
);
name!(
    /// The name of a job.
    JobName,
    "job name",
    "1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
    |t| is_compose_name(t, 63)
);
name!(
    /// The name of a volume.
    VolumeName,
    "volume name",
    "1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
    |t| is_compose_name(t, 63)
);
name!(
    /// The name of a network within an environment.
    NetworkName,
    "network name",
    "1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
    |t| is_compose_name(t, 63)
);
name!(
    /// A branch name, without `refs/heads/`. It is an attacker's input: it never becomes a path or a word of a shell.
    BranchName,
    "branch name",
    "at most 255 bytes, valid for git, without control or direction-changing characters",
    is_branch
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_branch_names_are_refused_and_shown_escaped() {
        let long = "a".repeat(10_000);
        for bad in [
            "-x",
            "a b",
            "a\u{202e}b",
            "a\nb",
            "a..b",
            "a.lock",
            "a/.b",
            "@{1}",
            "a~1",
            "",
            long.as_str(),
        ] {
            let error = bad.parse::<BranchName>().expect_err(bad);
            assert!(error.to_string().len() < 500);
            assert!(!error.to_string().contains(['\n', '\u{202e}']));
        }
        for good in ["main", "feature/$(reboot)", "fix;rm", "größe", "a'b\"c"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_service_name_can_not_be_a_path() {
        for bad in ["..", ".", "a/b", "a..b", "-a", ""] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
        assert!("My_service.1".parse::<ServiceName>().is_ok());
    }
}
