//! Names of secrets: what a variable may be called, and safe as the name of a file.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The name of a secret, for example `STRIPE_KEY`: 1 to 128 letters, digits, `_`, `-` and `.`, beginning with a letter or `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

impl SecretName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = model::InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = text.bytes();
        let begins = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if begins && rest && text.len() <= 128 {
            return Ok(Self(text.to_owned()));
        }
        Err(model::InvalidName {
            given: text.chars().take(60).flat_map(char::escape_debug).collect(),
            what: "name of a secret",
            rule: "1 to 128 letters, digits, `_`, `-` and `.`, beginning with a letter or `_`",
        })
    }
}

impl TryFrom<String> for SecretName {
    type Error = model::InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_variables_and_files() {
        for good in ["STRIPE_KEY", "_x", "a", "tls.pem", "with-dash"] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../key",
            "a/b",
            "1x",
            "a b",
            "ä",
            "a\u{202e}b",
            &"x".repeat(129),
        ] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_can_be_printed() {
        let refused = "\u{1b}[31m".parse::<SecretName>().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`\\u{1b}[31m` is not a name of a secret: 1 to 128 letters, digits, `_`, `-` and `.`, beginning with a letter or `_`"
        );
    }
}
