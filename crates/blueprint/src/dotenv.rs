//! Files of `NAME=value` lines: `.env` beside the Compose file, and what `env_file` and `label_file` name.

use crate::{
    escape::quoted,
    interpolate::{self, Giver, Scope},
    problem::{At, Report},
};

/// The most lines that are read.
const LINES_MAX: usize = 5_000;

/// How much text all values together may be, in bytes.
const VALUES_MAX: usize = 1024 * 1024;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// By the rules of Compose: quotes, escapes, comments, interpolation.
    Compose,
    /// `NAME=value`, and everything after the sign is the value.
    Raw,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: At,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Whether a text can be the name of a variable.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 256
        && !text.as_bytes()[0].is_ascii_digit()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'[' | b']'))
}

/// Reads one of the files of a report. References in unquoted and double-quoted values see `known` and the lines above; a name
/// without a sign takes the known value of that name, or is left out.
pub(crate) fn read(report: &Report, file: u16, known: &Scope, style: Style) -> Vec<Line> {
    let text = report.text(file);
    if text.contains('\0') {
        let at = At {
            file,
            line: 1,
            column: 1,
        };
        report.error(at, "there is a NUL character in the file");
        return Vec::new();
    }
    let mut reader = Reader {
        report,
        outer: known,
        known: known.clone(),
        lines: Vec::new(),
        left: VALUES_MAX,
    };
    let mut rest: &str = &text;
    let mut number: u32 = 1;
    while !rest.is_empty() {
        let at = At {
            file,
            line: number,
            column: 1,
        };
        if number as usize > LINES_MAX {
            report.error(at, format!("the file is too long: at most {LINES_MAX} lines are read"));
            break;
        }
        let Some(length) = reader.statement(at, rest, style) else {
            break;
        };
        let length = length.min(rest.len());
        number += u32::try_from(rest[..length].matches('\n').count()).unwrap_or(0);
        rest = &rest[length..];
    }
    reader.lines
}

struct Reader<'a> {
    report: &'a Report,
    outer: &'a Scope,
    /// That, and the lines above.
    known: Scope,
    lines: Vec<Line>,
    left: usize,
}

impl Reader<'_> {
    /// Reads what stands at the beginning of the text and tells how long it is, its line end included; `None` to stop.
    fn statement(&mut self, at: At, text: &str, style: Style) -> Option<usize> {
        let end = text.find('\n').map_or(text.len(), |end| end + 1);
        let line = text[..end].trim_end_matches(['\n', '\r']);
        let start = line.trim_start();
        if start.is_empty() || start.starts_with('#') {
            return Some(end);
        }
        let start = match start
            .strip_prefix("export")
            .filter(|rest| rest.starts_with([' ', '\t']))
        {
            Some(rest) if style == Style::Compose => rest.trim_start(),
            _ => start,
        };
        let sign = match style {
            Style::Compose => start.find(['=', ':']),
            Style::Raw => start.find('='),
        };
        let name = sign.map_or(start, |sign| &start[..sign]).trim_end();
        if !is_name(name) {
            self.report
                .error_hint(at, "this line is not `NAME=value`", "a comment begins with `#`");
            return Some(end);
        }
        let Some(sign) = sign else {
            match self.known.get(name).map(str::to_owned) {
                Some(value) => self.push(at, name, value)?,
                None => self.report.warn_hint(
                    at,
                    format!("{} has no value and is left out", quoted(name)),
                    "written `NAME=value`; a comment begins with `#`",
                ),
            }
            return Some(end);
        };
        if style == Style::Raw {
            self.push(at, name, start[sign + 1..].to_owned())?;
            return Some(end);
        }
        let raw = start[sign + 1..].trim_start();
        // Where the value begins within the whole text: a quoted one may go on in the next lines.
        let offset = line.len() - raw.len();
        let (value, length) = match raw.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            Some(quote) => self.quoted(at, &text[offset..], quote, end - offset),
            None => (self.unquoted(at, raw), end - offset),
        };
        if let Some(value) = value {
            self.push(at, name, value)?;
        }
        Some(offset + length)
    }

    fn push(&mut self, at: At, name: &str, value: String) -> Option<()> {
        let Some(left) = self.left.checked_sub(value.len()) else {
            self.report
                .error(at, format!("the values of the file grow beyond {VALUES_MAX} bytes"));
            return None;
        };
        self.left = left;
        if !self.outer.0.contains_key(name) {
            self.known.0.remove(name);
            self.known.add(name, &value, Giver::File(self.report.name(at)));
        }
        self.lines.push(Line {
            at,
            name: name.to_owned(),
            value,
        });
        Some(())
    }

    fn unquoted(&self, at: At, raw: &str) -> Option<String> {
        let text = if raw.starts_with('#') {
            ""
        } else {
            raw.split(" #").next().unwrap_or(raw).trim_end()
        };
        self.interpolated(at, text)
    }

    /// A value in quotes, which may span lines, and the length of all that it takes, its line end included.
    fn quoted(&self, at: At, text: &str, quote: char, line: usize) -> (Option<String>, usize) {
        let Some((inside, rest)) = closed(&text[1..], quote) else {
            self.report.error(at, "a quote is opened and not closed");
            return (None, line);
        };
        let after = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let length = text.len() - rest.len() + after;
        let behind = rest[..after].trim();
        if !behind.is_empty() && !behind.starts_with('#') {
            self.report
                .error(at, format!("{} follows the closing quote", quoted(behind)));
            return (None, length);
        }
        if quote == '\'' {
            return (Some(inside.replace("\\'", "'")), length);
        }
        (self.interpolated(at, &unescaped(inside)), length)
    }

    fn interpolated(&self, at: At, text: &str) -> Option<String> {
        match interpolate::interpolate(text, &self.known) {
            Ok(done) => {
                for fault in done.empty {
                    self.report.warn_hint(at, fault.message, fault.hint.unwrap_or_default());
                }
                Some(done.text)
            }
            Err(fault) => {
                let hint = fault.hint.unwrap_or_else(|| "`$$` stands for a dollar sign".to_owned());
                self.report.error_hint(at, fault.message, hint);
                None
            }
        }
    }
}

fn closed(text: &str, quote: char) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some((&text[..index], &text[index + 1..])),
            _ => {}
        }
    }
    None
}

/// The escapes of double quotes; what is none stays as it is.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(found) = rest.find('\\') {
        out.push_str(&rest[..found]);
        rest = &rest[found + 1..];
        let Some(c) = rest.chars().next() else {
            out.push('\\');
            break;
        };
        rest = &rest[c.len_utf8()..];
        match c {
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            '"' | '\\' => out.push(c),
            // Two of them are one once the text is interpolated.
            '$' => out.push_str("$$"),
            '0' => {
                let digits = rest.bytes().take(3).take_while(|b| (b'0'..b'8').contains(b)).count();
                match u8::from_str_radix(&rest[..digits], 8) {
                    Ok(byte) if byte.is_ascii() && byte > 0 => {
                        out.push(char::from(byte));
                        rest = &rest[digits..];
                    }
                    _ => out.push_str("\\0"),
                }
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Whose;
    use proptest::prelude::*;

    use std::collections::BTreeMap;

    fn lines(text: &str) -> (BTreeMap<String, String>, bool) {
        let report = Report::new(Whose::Head, ".env", text.to_owned());
        let lines = read(&report, 0, &Scope::default(), Style::Compose);
        let values = lines.into_iter().map(|line| (line.name, line.value)).collect();
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
        for bad in ["1A=x", "A='x", "A=\"x\" y", "A=${NOPE", "=x", "A B=x", "A=\0"] {
            assert!(lines(bad).1, "{bad}");
        }
    }

    #[test]
    fn values_may_span_lines_and_escape() {
        let (values, bad) = lines("A=\"one\ntwo\" # c\nB='it\\'s'\nC: yaml\nD\nE=\"{\\\"a\\\": 1}\\q\"\nF=x#y\n");
        assert!(!bad);
        let expected = [
            ("A", "one\ntwo"),
            ("B", "it's"),
            ("C", "yaml"),
            ("E", "{\"a\": 1}\\q"),
            ("F", "x#y"),
        ];
        assert_eq!(values, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn raw_values_stay_as_they_are() {
        let report = Report::new(Whose::Head, ".env", "A=\"$X\" # y\r\n#B=1\nC=a:b\n".to_owned());
        let lines = read(&report, 0, &Scope::default(), Style::Raw);
        let values: Vec<(&str, &str)> = lines
            .iter()
            .map(|line| (line.name.as_str(), line.value.as_str()))
            .collect();
        assert_eq!(values, [("A", "\"$X\" # y"), ("C", "a:b")]);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in r#"([A-B="'\\$ #{}\n]|.){0,60}"#) {
            let _ = lines(&text);
        }
    }
}
