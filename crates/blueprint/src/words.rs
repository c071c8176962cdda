//! Splits a command that was written as one text into words, by the quoting rules of a shell. No shell ever sees it.

/// Why a text is not a list of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordsError {
    #[error("a quote is opened and not closed")]
    OpenQuote,
    #[error("it ends with a backslash")]
    OpenEscape,
    #[error("`{0}` has no meaning here, as no shell runs it")]
    Shell(char),
}

/// The words of a text.
pub(crate) fn split(text: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(WordsError::OpenQuote)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(WordsError::OpenQuote)? {
                        '"' => break,
                        '\\' => match chars.next().ok_or(WordsError::OpenQuote)? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            '\n' => {}
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word
                .get_or_insert_default()
                .push(chars.next().ok_or(WordsError::OpenEscape)?),
            ';' | '&' | '|' | '<' | '>' | '(' | ')' | '`' => return Err(WordsError::Shell(c)),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_split_as_a_shell_would() {
        assert_eq!(
            split(r#"sh -c 'echo "a b"' "c\"d" e\ f ''"#).unwrap(),
            ["sh", "-c", r#"echo "a b""#, "c\"d", "e f", ""]
        );
        assert_eq!(split("  ").unwrap(), Vec::<String>::new());
        assert_eq!(split("a 'b"), Err(WordsError::OpenQuote));
        assert_eq!(split("a && b"), Err(WordsError::Shell('&')));
        assert_eq!(split("a\\"), Err(WordsError::OpenEscape));
    }

    proptest! {
        #[test]
        fn any_words_in_single_quotes_come_back(words in prop::collection::vec("[^'\0]{0,12}", 0..6)) {
            let text = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&text).unwrap(), words);
        }
    }
}
