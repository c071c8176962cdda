//! Names that may become part of a path in the pool.

use super::PoolError;

const LENGTH_MAX: usize = 96;

/// Refuses a name that is not a plain lowercase one. No path can be built from what passes.
pub(super) fn check(kind: &'static str, name: &str) -> Result<(), PoolError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let allowed = |byte: u8| plain(byte) || matches!(byte, b'-' | b'_' | b'.');
    let first = name.bytes().next().is_some_and(plain);
    if first && name.len() <= LENGTH_MAX && name.bytes().all(allowed) {
        return Ok(());
    }
    // The refused name goes into an error and from there into logs: no more of it than helps.
    let name = name.chars().take(LENGTH_MAX).flat_map(char::escape_default).collect();
    Err(PoolError::Name { kind, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for name in ["pr-12", "a", "0f3e", "web_data.v2", &"x".repeat(96)] {
            assert!(check("volume", name).is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "A",
            ".tmp-x",
            "-x",
            "a b",
            "a\0",
            "ä",
            "a\n",
            &"x".repeat(97),
        ] {
            assert!(check("volume", name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_refused_name_is_shown_without_control_characters() {
        let error = check("volume", "a\u{1b}[2J").unwrap_err().to_string();
        assert!(error.contains("\\u{1b}"), "{error}");
    }
}
