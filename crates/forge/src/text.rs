//! Texts that strangers wrote (titles, labels, names), made safe to show.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A text without control characters, direction marks or invisible characters, on one line, of bounded length.
///
/// It is safe in terminals and logs. It is still not HTML or Markdown: who renders those escapes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct DisplayText(String);

/// The most bytes that a title, label or account name may have.
const MAX_BYTES: usize = 300;

impl DisplayText {
    /// Cleans and shortens a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        display(text, MAX_BYTES)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for DisplayText {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<DisplayText> for String {
    fn from(text: DisplayText) -> Self {
        text.0
    }
}

impl fmt::Display for DisplayText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Characters that change what a reader sees of the characters around them, or that can not be seen.
fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Cleans a text and shortens it to at most `max_bytes` bytes, with `…` where it was cut.
///
/// White space of any kind and length becomes one space, so that a text stays on one line.
#[must_use]
pub fn display(text: &str, max_bytes: usize) -> DisplayText {
    let mut out = String::new();
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = !out.is_empty();
            continue;
        }
        if is_deceptive(c) {
            continue;
        }
        let needed = usize::from(gap) + c.len_utf8();
        if out.len() + needed > max_bytes {
            while out.len() + '…'.len_utf8() > max_bytes {
                if out.pop().is_none() {
                    return DisplayText(out);
                }
            }
            out.push('…');
            return DisplayText(out);
        }
        if gap {
            out.push(' ');
            gap = false;
        }
        out.push(c);
    }
    DisplayText(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_title_can_not_move_the_cursor_or_turn_the_reading_direction() {
        let text = DisplayText::new("fix\u{1b}[2J \u{202e}drawer\u{202c}\r\n\tnow\u{200b}");
        assert_eq!(text.as_str(), "fix [2J drawer now");
    }

    #[test]
    fn shell_syntax_stays_as_written() {
        assert_eq!(
            DisplayText::new("$(reboot); `id` && rm -rf /").as_str(),
            "$(reboot); `id` && rm -rf /"
        );
    }

    #[test]
    fn ten_kilobytes_are_cut_and_the_cut_is_seen() {
        let text = DisplayText::new(&"ü".repeat(10_000));
        assert!(text.as_str().len() <= MAX_BYTES);
        assert!(text.as_str().ends_with('…'));
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_bounded_printable_line(text in ".{0,200}", max in 0usize..100) {
            let out = display(&text, max);
            prop_assert!(out.as_str().len() <= max);
            prop_assert!(!out.as_str().chars().any(|c| c.is_control() || is_deceptive(c)));
            prop_assert_eq!(display(out.as_str(), max), out.clone(), "cleaning twice changes nothing");
        }
    }
}
