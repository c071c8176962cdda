//! "Did you mean …": the nearest of the words that would have been right.

use crate::escape::quoted;

/// The nearest candidate, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > 100 {
        return None;
    }
    let given = given.to_lowercase();
    // A third of the letters may be wrong, but not two of a word of five.
    let bound = (given.chars().count() / 3).min(3);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&given, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A hint that names the nearest candidate, or else all of them.
pub(crate) fn hint(given: &str, candidates: &[&str]) -> String {
    match nearest(given, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean {}?", quoted(candidate)),
        None => format!("known here: {}", listed(candidates.iter().copied())),
    }
}

/// Words as an enumeration, at most twelve of them.
pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    let mut text = words
        .iter()
        .take(12)
        .map(|word| quoted(word))
        .collect::<Vec<_>>()
        .join(", ");
    if words.len() > 12 {
        text.push_str(", …");
    }
    if words.is_empty() { "nothing".to_owned() } else { text }
}
