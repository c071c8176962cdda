//! Text from elsewhere, made harmless for HTML text and for attributes in double quotes.

use std::fmt::{self, Write as _};

/// Displays as escaped text. Control characters, and marks that turn the direction of writing, are shown as `�`.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\t' => f.write_char('\t')?,
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Escaped;

    #[test]
    fn nothing_that_html_obeys_is_left() {
        let text = Escaped("<img src=x onerror='a&b'>\"\u{202e}\u{1b}[0m\0 größe").to_string();
        assert_eq!(
            text,
            "&lt;img src=x onerror=&#39;a&amp;b&#39;&gt;&quot;\u{fffd}\u{fffd}[0m\u{fffd} größe"
        );
    }
}
