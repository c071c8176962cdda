//! New ids.

use model::EnvironmentId;

/// Letters and digits that people do not mistake for each other.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A new id: `kind` is `e` for an environment, `g` for the builder of a golden.
///
/// # Errors
/// If the system has no randomness.
pub fn new_environment_id(kind: char) -> Result<EnvironmentId, getrandom::Error> {
    let mut bytes = [0_u8; 9];
    getrandom::fill(&mut bytes)?;
    let mut text = String::from(kind);
    text.extend(bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])));
    text.parse().map_err(|_| getrandom::Error::UNEXPECTED)
}
