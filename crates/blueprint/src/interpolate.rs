//! `${NAME}` in the values of a Compose file, by the rules of the Compose Specification, with documented values only. A name
//! without a value and without a default is an error. What was put in is never looked at again.

use crate::{escape::quoted, suggest};
use std::collections::BTreeMap;

/// Nested defaults.
const NESTING_MAX: usize = 16;
/// The longest result.
const RESULT_MAX: usize = 256 * 1024;

/// The values that may be used, by name.
pub(crate) type Values = BTreeMap<String, String>;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The part of the text that it is about.
    pub(crate) fragment: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Fault {
    fn new(fragment: &str, message: String, hint: Option<String>) -> Self {
        Self {
            fragment: fragment.chars().take(200).collect(),
            message,
            hint,
        }
    }
}

/// Replaces every reference in a text.
pub(crate) fn interpolate(text: &str, values: &Values) -> Result<String, Fault> {
    expand(text, values, 0)
}

fn is_name_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_'
}

fn name_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b) if is_name_start(*b) => bytes
            .iter()
            .position(|b| !is_name_start(*b) && !b.is_ascii_digit())
            .unwrap_or(bytes.len()),
        _ => 0,
    }
}

fn expand(text: &str, values: &Values, depth: usize) -> Result<String, Fault> {
    if depth > NESTING_MAX {
        return Err(Fault::new(
            text,
            format!("defaults are nested more than {NESTING_MAX} times"),
            None,
        ));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        let after = &rest[1..];
        if after.starts_with('$') {
            out.push('$');
            rest = &rest[2..];
        } else if after.starts_with('{') {
            let end = closing(after).ok_or_else(|| Fault::new(rest, "`${` is not closed by `}`".to_owned(), None))?;
            out.push_str(&braced(&rest[..end + 2], &after[1..end], values, depth)?);
            rest = &rest[end + 2..];
        } else {
            let length = name_length(after);
            if length == 0 {
                let fragment: String = rest.chars().take(2).collect();
                return Err(Fault::new(
                    &fragment,
                    "`$` is followed by no name".to_owned(),
                    Some("a dollar sign that should stay is written `$$`".to_owned()),
                ));
            }
            out.push_str(&plain(&rest[..=length], &after[..length], values)?);
            rest = &rest[length + 1..];
        }
        if out.len() > RESULT_MAX {
            return Err(Fault::new(
                text,
                format!("the text grows beyond {RESULT_MAX} bytes"),
                None,
            ));
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The place of the `}` that closes the `{` with which the text begins.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = 0usize;
    let mut index = 0;
    while index < bytes.len() {
        match bytes[index] {
            b'$' if bytes.get(index + 1) == Some(&b'$') => index += 1,
            b'$' if bytes.get(index + 1) == Some(&b'{') => {
                open += 1;
                index += 1;
            }
            b'{' if index == 0 => open += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
        index += 1;
    }
    None
}

fn undefined(fragment: &str, name: &str, values: &Values) -> Fault {
    let hint = match suggest::nearest(name, values.keys().map(String::as_str)) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => format!("give it a default, `${{{name}:-…}}`, or a line in the file `.env` beside the Compose file"),
    };
    Fault::new(fragment, format!("{} has no value", quoted(name)), Some(hint))
}

fn plain(fragment: &str, name: &str, values: &Values) -> Result<String, Fault> {
    values
        .get(name)
        .cloned()
        .ok_or_else(|| undefined(fragment, name, values))
}

fn braced(fragment: &str, inside: &str, values: &Values, depth: usize) -> Result<String, Fault> {
    let length = name_length(inside);
    let (name, operation) = inside.split_at(length);
    if length == 0 {
        return Err(Fault::new(fragment, "`${` is followed by no name".to_owned(), None));
    }
    let set = values.get(name);
    let filled = set.filter(|value| !value.is_empty());
    let (present, operator, word) = match operation.as_bytes() {
        [] => return plain(fragment, name, values),
        [b':', operator @ (b'-' | b'?' | b'+'), ..] => (filled, *operator, &operation[2..]),
        [operator @ (b'-' | b'?' | b'+'), ..] => (set, *operator, &operation[1..]),
        _ => {
            return Err(Fault::new(
                fragment,
                format!("{} is no form of interpolation", quoted(fragment)),
                Some(
                    "known are `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `${NAME:+replacement}`".to_owned(),
                ),
            ));
        }
    };
    match (operator, present) {
        (b'-' | b'?', Some(value)) => Ok(value.clone()),
        (b'-', None) | (b'+', Some(_)) => expand(word, values, depth + 1),
        (b'+', None) => Ok(String::new()),
        _ => {
            let word = expand(word, values, depth + 1)?;
            let message = if word.is_empty() {
                "it is required".to_owned()
            } else {
                word
            };
            let fault = undefined(fragment, name, values);
            Err(Fault {
                message: format!("{}: {message}", fault.message),
                ..fault
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> Values {
        [
            ("A", "one"),
            ("EMPTY", ""),
            ("LOOP", "${A}$A"),
            ("MAQUETTE_URL", "http://x"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
    }

    #[test]
    fn every_form_is_known() {
        let table = [
            ("$A ${A}", "one one"),
            ("$$A $${A}", "$A ${A}"),
            ("${B:-x} ${B-y} ${A:-x}", "x y one"),
            ("${EMPTY:-x}|${EMPTY-x}", "x|"),
            ("${A:+r}|${B:+r}|${EMPTY:+r}|${EMPTY+r}", "r|||r"),
            ("${A:?e}${EMPTY?e}", "one"),
            ("${B:-${C:-${A}}}!", "one!"),
            ("${B:-a$$}b}", "a$b}"),
            ("${LOOP}", "${A}$A"),
            ("ä$Aö", "äoneö"),
        ];
        for (text, expected) in table {
            assert_eq!(interpolate(text, &values()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_undefined_or_malformed_is_an_error() {
        let fault = interpolate("x ${MAQUETTE_URI}", &values()).unwrap_err();
        assert_eq!(fault.fragment, "${MAQUETTE_URI}");
        assert_eq!(fault.hint.as_deref(), Some("did you mean `MAQUETTE_URL`?"));
        assert_eq!(
            interpolate("${B:?say so}", &values()).unwrap_err().message,
            "`B` has no value: say so"
        );
        for bad in [
            "$1",
            "$",
            "${",
            "${}",
            "${A",
            "${1}",
            "${A!x}",
            "${A:=x}",
            "$(reboot)",
            "${EMPTY:?}",
        ] {
            assert!(interpolate(bad, &values()).is_err(), "{bad}");
        }
        assert!(interpolate(&"${B:-".repeat(10_000), &values()).is_err());
        let deep = format!("{}{}", "${B:-".repeat(1000), "}".repeat(1000));
        assert!(interpolate(&deep, &values()).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in r"([$}{:?+\-A-C]|\$\{|.){0,40}") {
            let _ = interpolate(&text, &values());
        }

        #[test]
        fn what_is_put_in_is_not_looked_at(value in ".{0,40}") {
            let values: Values = [("A".to_owned(), value.clone())].into();
            prop_assert_eq!(interpolate("${A}", &values), Ok(value));
        }

        #[test]
        fn doubling_dollars_keeps_any_text(text in ".{0,40}") {
            prop_assert_eq!(interpolate(&text.replace('$', "$$"), &values()), Ok(text));
        }
    }
}
