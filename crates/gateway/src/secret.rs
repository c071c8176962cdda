//! Secrets that cannot print themselves, and the hashes under which they are kept.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

/// The shortest and longest secret that is looked at, in bytes.
const LENGTH: std::ops::RangeInclusive<usize> = 20..=128;

/// A token in clear: it exists between the wire and its hash.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Makes one of 256 random bits.
    ///
    /// # Errors
    /// When the kernel has no randomness to give.
    pub fn generate() -> std::io::Result<Self> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self(BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Reads one from the wire: 20 to 128 characters of the URL-safe alphabet. Anything else is no secret of ours.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let valid = LENGTH.contains(&bytes.len())
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !valid {
            return None;
        }
        std::str::from_utf8(bytes).ok().map(|text| Self(text.to_owned()))
    }

    /// The hash to compare and to keep.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }

    /// The secret in clear, for the one place that hands it to its owner.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 of a secret, compared in constant time.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// A hash from where it was kept.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash, to be kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::hash::Hash for TokenHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print_and_differ() {
        let (a, b) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(a.expose(), b.expose());
        assert!(!format!("{a:?} {:?}", a.hash()).contains(&a.expose()[..6]));
        assert_eq!(Secret::parse(a.expose().as_bytes()).unwrap().hash(), a.hash());
        assert_ne!(a.hash(), b.hash());
    }

    #[test]
    fn what_is_no_secret_is_not_hashed() {
        let long = "x".repeat(129);
        for bad in [
            "",
            "short",
            "has space in it, really",
            "nul\0nul\0nul\0nul\0nul\0nul\0",
            long.as_str(),
        ] {
            assert!(Secret::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
