//! Settings at the moment of their use: secrets become bytes, and what no process could be given is refused in words.

use crate::Secrets;
use model::{SecretRef, Value};

/// The longest `NAME=value` with its final zero that Linux passes to a process (`MAX_ARG_STRLEN`, execve(2)).
const VARIABLE_MAX: usize = 128 * 1024;

fn reveal(what: &str, value: &Value, secrets: &dyn Secrets) -> Result<Vec<u8>, String> {
    value
        .reveal(&|secret: &SecretRef| secrets.value(secret))
        .map_err(|secret| format!("the secret `{}` for {what} has no value", secret.0))
}

/// The text of an environment variable.
///
/// # Errors
/// Why it can not be one, for the author of the stack. No part of a value is in there.
pub fn variable(name: &str, value: &Value, secrets: &dyn Secrets) -> Result<String, String> {
    let shown = name.escape_debug().to_string();
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("the variable `{shown}` can not be passed to a process"));
    }
    let bytes = reveal(&shown, value, secrets)?;
    let length = name.len() + bytes.len() + 2;
    let reason = if length > VARIABLE_MAX {
        format!("it has {length} bytes with its name, and Linux passes {VARIABLE_MAX} at most")
    } else {
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => return Ok(text),
            Ok(_) => "it holds a zero byte".to_owned(),
            Err(_) => "it is no text".to_owned(),
        }
    };
    let given = match value.secrets().first() {
        Some(secret) => format!("the secret `{}` can not be given as the variable `{shown}`", secret.0),
        None => format!("the variable `{shown}` can not be passed to a process"),
    };
    Err(format!(
        "{given}: {reason}\nhint: give it as a file, under `secrets` or `configs` of the service"
    ))
}

/// The bytes of a file, by its path in the container.
///
/// # Errors
/// A secret that has no value.
pub fn content(target: &str, value: &Value, secrets: &dyn Secrets) -> Result<Vec<u8>, String> {
    reveal(&format!("the file `{}`", target.escape_debug()), value, secrets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "this is a test")]
    use super::*;

    struct These(Vec<u8>);

    impl Secrets for These {
        fn value(&self, secret: &SecretRef) -> Option<&[u8]> {
            (secret.0 == "known").then_some(self.0.as_slice())
        }
    }

    fn secret(name: &str) -> Value {
        Value::Secret(SecretRef(name.to_owned()))
    }

    #[test]
    fn what_fits_no_variable_fits_a_file() {
        let of = |bytes: &[u8]| variable("KEY", &secret("known"), &These(bytes.to_vec()));
        assert_eq!(of(b"two\nlines").unwrap(), "two\nlines");
        for (bytes, why) in [
            (&b"canary\0x"[..], "a zero byte"),
            (b"canary\xff", "no text"),
            (&[b'x'; 200_000], "200005 bytes with its name"),
        ] {
            let refused = of(bytes).unwrap_err();
            assert!(
                refused.contains(why) && refused.contains("hint: give it as a file"),
                "{refused}"
            );
            assert!(!refused.contains("canary"), "{refused}");
            let file = content("/run/secrets/key", &secret("known"), &These(bytes.to_vec()));
            assert_eq!(file.unwrap(), bytes);
        }
        let joined = Value::Joined(vec!["a:".into(), secret("known"), "@b".into()]);
        assert_eq!(variable("KEY", &joined, &These(b"pw".to_vec())).unwrap(), "a:pw@b");
        let unknown = variable("KEY", &secret("other"), &These(Vec::new())).unwrap_err();
        assert_eq!(unknown, "the secret `other` for KEY has no value");
    }
}
