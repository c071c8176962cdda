//! A secret value: any bytes, bounded, not printable, wiped when dropped.

use zeroize::Zeroizing;

/// A value is longer than [`SecretValue::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret holds at most {max} bytes, and this one has {0}", max = SecretValue::MAX)]
pub struct TooLong(
    /// Its length in bytes.
    pub usize,
);

/// Bytes that nobody may see: there is neither `Display` nor `Serialize`, and `Debug` says only that there is a secret.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// The most bytes that a value may have: 1 MiB, as much as a Kubernetes secret holds.
    pub const MAX: usize = 1 << 20;

    /// The most bytes of a value that fits into an environment variable: Linux bounds `NAME=value` and its final zero to
    /// 128 KiB (`MAX_ARG_STRLEN`, execve(2)), and names are at most 255 bytes.
    pub const MAX_VARIABLE: usize = 128 * 1024 - 257;

    /// Takes the value over.
    ///
    /// # Errors
    /// [`TooLong`]; the value is wiped.
    pub fn new(value: Vec<u8>) -> Result<Self, TooLong> {
        let value = Zeroizing::new(value);
        if value.len() > Self::MAX {
            return Err(TooLong(value.len()));
        }
        Ok(Self(value))
    }

    /// The value, for the moment of its use only.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as the text of an environment variable; `None` if it can not be one, because it is no UTF-8, holds a zero byte
    /// or is too long. Such a value can be given as a file.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        if self.0.len() > Self::MAX_VARIABLE || self.0.contains(&0) {
            return None;
        }
        std::str::from_utf8(&self.0).ok()
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_does_not_print() {
        let value = SecretValue::new(b"canary".to_vec()).unwrap();
        assert!(!format!("{value:?} {:?}", Some(&value)).contains("canary"));
        assert_eq!(value.expose(), b"canary");
    }

    #[test]
    fn what_fits_no_variable_says_so() {
        let fits = |bytes: &[u8]| SecretValue::new(bytes.to_vec()).unwrap().variable().is_some();
        assert!(fits(b"two\nlines"));
        assert!(fits(&[b'x'; SecretValue::MAX_VARIABLE]));
        assert!(!fits(&[b'x'; SecretValue::MAX_VARIABLE + 1]));
        assert!(!fits(b"a\0b"));
        assert!(!fits(&[0xff, 0xfe]));
    }

    #[test]
    fn a_value_is_bounded() {
        assert!(SecretValue::new(vec![0; SecretValue::MAX]).is_ok());
        let refused = SecretValue::new(vec![0; SecretValue::MAX + 1]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a secret holds at most 1048576 bytes, and this one has 1048577"
        );
    }
}
