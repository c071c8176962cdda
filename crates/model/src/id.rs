//! Identifiers that Maquette makes itself.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// An identifier was not of the form that Maquette makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {expected}")]
pub struct InvalidId {
    /// What was given, shortened.
    pub given: String,
    /// What would have been valid, in words.
    pub expected: &'static str,
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

fn is_token(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId { given: shorten(text), expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

token!(
    /// One installation of Maquette. It stands in the name of everything that is made outside the store, so that two
    /// installations on one machine never touch each other's things.
    InstanceId,
    "an instance id (6 lower-case letters or digits)",
    |t| t.len() == 6 && is_token(t)
);

token!(
    /// One environment, for ever: an id is never used twice, also not when a closed pull request is opened again.
    ///
    /// The first letter says what the object began as: `e` an environment, `g` the builder of a golden, `i` an image (of
    /// which there are only a ledger and a receipt), `s` a spare. An
    /// environment that has adopted a spare keeps the spare's id, because all that was made bears it.
    EnvironmentId,
    "an environment id (`e`, `g`, `i` or `s` and 9 lower-case letters or digits)",
    |t| t.len() == 10 && is_token(t) && matches!(t.as_bytes()[0], b'e' | b'g' | b'i' | b's')
);

token!(
    /// A read-only snapshot: of a volume as a golden (`g` and a key) or as kept before a migration (`k` and a key), or of a
    /// checkout as a build left it (`b` and a key).
    SnapshotId,
    "a snapshot id (`b`, `g` or `k` and 1 to 40 lower-case letters or digits)",
    |t| (2..=41).contains(&t.len()) && is_token(t) && matches!(t.as_bytes()[0], b'b' | b'g' | b'k')
);

impl SnapshotId {
    /// The golden with this key.
    #[must_use]
    pub fn golden(key: &crate::Digest) -> Self {
        Self(format!("g{}", &key.as_str()[..32]))
    }

    /// What is kept before a change, identified by this digest.
    #[must_use]
    pub fn kept(digest: &crate::Digest) -> Self {
        Self(format!("k{}", &digest.as_str()[..32]))
    }

    /// What a build of this digest makes.
    #[must_use]
    pub fn built(digest: &crate::Digest) -> Self {
        Self(format!("b{}", &digest.as_str()[..40]))
    }

    /// Whether this is a golden.
    #[must_use]
    pub fn is_golden(&self) -> bool {
        self.0.starts_with('g')
    }
}

/// The version of what an environment should be. Every push and every change of policy makes a new one; a runtime refuses
/// a mutation whose generation is older than the newest that it has accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_with_a_path_or_a_shell_character_is_refused() {
        for bad in [
            "",
            "e../../etc",
            "e12345678;",
            "E123456789",
            "x123456789",
            "e1234567890",
            "e12345678\u{202e}",
        ] {
            assert!(bad.parse::<EnvironmentId>().is_err(), "{bad:?}");
        }
        assert!("e123456789".parse::<EnvironmentId>().is_ok());
        assert!(serde_json::from_str::<EnvironmentId>("\"../../x\"").is_err());
    }
}
