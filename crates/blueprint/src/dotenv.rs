//! Files of `NAME=value` lines: `.env` beside the Compose file, and what `env_file` names.

use crate::{
    escape::quoted,
    interpolate::{self, Values},
    problem::{At, Report},
};

/// The most lines that are read.
const LINES_MAX: usize = 5_000;

/// How much text all values together may be, in bytes.
const VALUES_MAX: usize = 1024 * 1024;

/// Whether a text can be the name of a variable.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 256
        && !text.as_bytes()[0].is_ascii_digit()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Reads all lines. References in unquoted and double-quoted values see `known` and the lines above.
pub(crate) fn read(report: &Report, known: &Values) -> Values {
    let mut values = known.clone();
    let mut found = Values::new();
    let mut left = VALUES_MAX;
    for (index, line) in report.text.lines().enumerate() {
        let at = At {
            line: u32::try_from(index + 1).unwrap_or(u32::MAX),
            column: 1,
        };
        if index >= LINES_MAX {
            report.error(at, format!("the file is too long: at most {LINES_MAX} lines are read"));
            break;
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let (name, raw) = line
            .split_once('=')
            .map_or((line, None), |(name, raw)| (name.trim_end(), Some(raw.trim())));
        let Some(raw) = raw.filter(|_| is_name(name)) else {
            report.error_hint(at, "this line is not `NAME=value`", "a comment begins with `#`");
            continue;
        };
        if let Some(value) = value(report, at, raw, &values) {
            let Some(rest) = left.checked_sub(value.len()) else {
                report.error(at, format!("the values of the file grow beyond {VALUES_MAX} bytes"));
                break;
            };
            left = rest;
            if !known.contains_key(name) {
                values.insert(name.to_owned(), value.clone());
            }
            found.insert(name.to_owned(), value);
        }
    }
    found
}

fn value(report: &Report, at: At, raw: &str, values: &Values) -> Option<String> {
    let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\''));
    let text = match quote {
        Some(quote) => {
            let Some((text, rest)) = closed(&raw[1..], quote) else {
                report.error_hint(
                    at,
                    "a quote is opened and not closed",
                    "values that span lines are not supported",
                );
                return None;
            };
            if !rest.trim_start().is_empty() && !rest.trim_start().starts_with('#') {
                report.error(at, format!("{} follows the closing quote", quoted(rest.trim())));
                return None;
            }
            if quote == '\'' {
                return Some(text.to_owned());
            }
            unescaped(text)
        }
        None if raw.starts_with('#') => String::new(),
        None => raw.split(" #").next().unwrap_or(raw).trim_end().to_owned(),
    };
    match interpolate::interpolate(&text, values) {
        Ok(text) => Some(text),
        Err(fault) => {
            report.error_hint(
                at,
                fault.message,
                fault.hint.unwrap_or_else(|| "`$$` stands for a dollar sign".to_owned()),
            );
            None
        }
    }
}

fn closed(text: &str, quote: char) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return Some((&text[..index], &text[index + 1..])),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('$') => out.push_str("$$"),
                Some(c) => out.push(c),
                None => out.push('\\'),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Whose;
    use proptest::prelude::*;

    fn lines(text: &str) -> (Values, bool) {
        let report = Report::new(Whose::Head, ".env", text.to_owned());
        let values = read(&report, &Values::new());
        (values, report.has_errors())
    }

    #[test]
    fn the_usual_forms_are_read() {
        let text = "# c\n\nA=1 # one\nexport B = two\nC='$A #'\nD=\"x\\n${A} \\$A\" # y\nE=\nF=#\nG=a#b\nH=${A}2\n";
        let (values, bad) = lines(text);
        assert!(!bad);
        let expected = [
            ("A", "1"),
            ("B", "two"),
            ("C", "$A #"),
            ("D", "x\n1 $A"),
            ("E", ""),
            ("F", ""),
            ("G", "a#b"),
            ("H", "12"),
        ];
        assert_eq!(values, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn what_is_no_assignment_is_an_error() {
        for bad in ["A", "1A=x", "A='x", "A=\"x\" y", "A=$NOPE", "=x", "A B=x"] {
            assert!(lines(bad).1, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in r#"([A-B="'\\$ #{}\n]|.){0,60}"#) {
            let _ = lines(&text);
        }
    }
}
