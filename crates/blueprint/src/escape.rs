//! Makes foreign text safe to show: one line, bounded, nothing that a terminal or a bidirectional renderer would obey.

/// Whether a character changes what a reader sees without being seen itself.
pub(crate) fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Escapes what is hostile and shortens what is longer than `max` characters.
pub(crate) fn escape(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == max {
            out.push('…');
            break;
        }
        if is_hostile(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
    }
    out
}

/// A foreign word as it is quoted in messages.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", escape(text, 60))
}

/// Text for an environment variable: hostile characters become spaces, and there is a bound.
pub(crate) fn tame(text: &str, max: usize) -> String {
    text.chars()
        .take(max)
        .map(|c| if is_hostile(c) { ' ' } else { c })
        .collect()
}
