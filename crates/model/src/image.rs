//! Images as environments pin them.

use crate::HealthCheck;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Text that is not the digest of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no digest of an image: `sha256:` and 64 lower-case hexadecimal digits are expected")]
pub struct InvalidImageDigest(
    /// What was given, shortened, control characters escaped.
    pub String,
);

/// What an image's name stood for when a generation was made: the SHA-256 of its manifest for one platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest(String);

impl ImageDigest {
    /// The 64 hexadecimal digits alone: a name that can be part of a path.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for people and for the ids of steps.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for ImageDigest {
    type Err = InvalidImageDigest;

    fn from_str(text: &str) -> Result<Self, InvalidImageDigest> {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        if digits.len() == 64 && digits.bytes().all(plain) {
            return Ok(Self(digits.to_owned()));
        }
        let given = text.chars().take(100).flat_map(char::escape_debug).collect();
        Err(InvalidImageDigest(given))
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = InvalidImageDigest;

    fn try_from(text: String) -> Result<Self, InvalidImageDigest> {
        text.parse()
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> Self {
        digest.to_string()
    }
}

/// What an image says of its containers; a stack may say otherwise of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Which image its reference stands for.
    pub digest: ImageDigest,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments that follow.
    pub command: Vec<String>,
    /// Environment variables, in order.
    pub environment: Vec<(String, String)>,
    /// Absolute path.
    pub working_dir: Option<String>,
    /// Who it runs as, in the image's own words.
    pub user: Option<String>,
    /// TCP ports that it says it listens on.
    pub ports: Vec<u16>,
    /// Paths that hold data.
    pub volumes: Vec<String>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// What tells that it is ready.
    pub health: Option<HealthCheck>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_part_of_a_path_is_a_digest() {
        let good = format!("sha256:{}", "0f".repeat(32));
        let digest: ImageDigest = good.parse().unwrap();
        assert_eq!((digest.to_string(), digest.short()), (good.clone(), "0f0f0f0f0f0f"));
        for bad in [
            "",
            "sha256:",
            "../../x",
            &good[7..],
            &good.to_uppercase(),
            &good.replace("0f0", "../"),
        ] {
            assert!(bad.parse::<ImageDigest>().is_err(), "{bad}");
        }
    }
}
