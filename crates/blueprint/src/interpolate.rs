//! `${NAME}` in the values of a Compose file, by the rules of the Compose Specification, with documented values only: those that
//! Maquette gives, those of the `.env` file, and granted secrets. A name without a value is an empty text, which is noted. What
//! was put in is never looked at again.

use crate::{escape::quoted, suggest};
use model::{SecretRef, Value};
use std::collections::BTreeMap;

/// Nested defaults.
const NESTING_MAX: usize = 16;
/// The longest result.
const RESULT_MAX: usize = 256 * 1024;

/// Values by name.
pub(crate) type Values = BTreeMap<String, String>;

/// A value that may be used, and who gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) text: String,
    pub(crate) from: Giver,
}

/// Who gives a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Giver {
    /// Maquette, as documented.
    Maquette,
    /// A line of a file, as it is named to people: `.env:3`.
    File(String),
    /// The policy grants the secret of that name. The text stands for it: see [`secret_mark`].
    Secret,
}

/// What may be interpolated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope(pub(crate) BTreeMap<String, Known>);

impl Scope {
    /// What Maquette gives.
    pub(crate) fn documented(values: &Values) -> Self {
        let known = |text: &String| Known {
            text: text.clone(),
            from: Giver::Maquette,
        };
        Self(values.iter().map(|(name, text)| (name.clone(), known(text))).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|known| known.text.as_str())
    }

    /// Adds a value unless there is one of that name.
    pub(crate) fn add(&mut self, name: &str, text: &str, from: Giver) {
        self.0.entry(name.to_owned()).or_insert_with(|| Known {
            text: text.to_owned(),
            from,
        });
    }
}

/// Stands for a secret in a text that was put together. No file can hold it: a NUL character is refused everywhere.
pub(crate) fn secret_mark(name: &str) -> String {
    format!("\0{name}\0")
}

/// A text as a setting: secrets that it is made of become references.
pub(crate) fn value(text: &str) -> Value {
    let mut parts: Vec<Value> = Vec::new();
    for (index, part) in text.split('\0').enumerate() {
        if index % 2 == 1 {
            parts.push(Value::Secret(SecretRef(part.to_owned())));
        } else if !part.is_empty() {
            parts.push(Value::Plain(part.to_owned()));
        }
    }
    match parts.len() {
        0 => Value::Plain(String::new()),
        1 => parts.remove(0),
        _ => Value::Joined(parts),
    }
}

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

/// A text whose references were replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) text: String,
    /// The names whose values are in it.
    pub(crate) used: Vec<String>,
    /// References to names that have no value, which are empty now.
    pub(crate) empty: Vec<Fault>,
}

/// Replaces every reference in a text.
pub(crate) fn interpolate(text: &str, scope: &Scope) -> Result<Done, Fault> {
    let mut done = Done::default();
    let mut at_work = At { scope, done: &mut done };
    let text = at_work.expand(text, 0)?;
    done.text = text;
    Ok(done)
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

/// The place of the `}` that closes the `{` with which the text begins.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = 0usize;
    let mut index = 0;
    while index < bytes.len() {
        match bytes[index] {
            b'$' if bytes.get(index + 1) == Some(&b'$') => index += 1,
            b'{' => open += 1,
            b'}' => {
                open = open.checked_sub(1)?;
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

struct At<'a> {
    scope: &'a Scope,
    done: &'a mut Done,
}

impl At<'_> {
    fn expand(&mut self, text: &str, depth: usize) -> Result<String, Fault> {
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
                let end =
                    closing(after).ok_or_else(|| Fault::new(rest, "`${` is not closed by `}`".to_owned(), None))?;
                let value = self.braced(&rest[..end + 2], &after[1..end], depth)?;
                out.push_str(&value);
                rest = &rest[end + 2..];
            } else {
                let length = name_length(after);
                if length > 0 {
                    out.push_str(&self.plain(&rest[..=length], &after[..length]));
                } else {
                    // A dollar sign that begins no reference stands for itself.
                    out.push('$');
                }
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

    fn undefined(&self, fragment: &str, name: &str) -> Fault {
        let hint = match suggest::nearest(name, self.scope.0.keys().map(String::as_str)) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => {
                format!("give it a default, `${{{name}:-…}}`, or a line in the file `.env` beside the Compose file")
            }
        };
        Fault::new(fragment, format!("{} has no value", quoted(name)), Some(hint))
    }

    fn plain(&mut self, fragment: &str, name: &str) -> String {
        match self.scope.get(name) {
            Some(text) => {
                self.used(name);
                text.to_owned()
            }
            None => {
                let mut fault = self.undefined(fragment, name);
                fault.message.push_str(" and is empty here");
                self.done.empty.push(fault);
                String::new()
            }
        }
    }

    fn used(&mut self, name: &str) {
        if self.done.used.len() < 20 && !self.done.used.iter().any(|used| used == name) {
            self.done.used.push(name.to_owned());
        }
    }

    fn braced(&mut self, fragment: &str, inside: &str, depth: usize) -> Result<String, Fault> {
        let length = name_length(inside);
        let (name, operation) = inside.split_at(length);
        if length == 0 {
            return Err(Fault::new(fragment, "`${` is followed by no name".to_owned(), None));
        }
        let set = self.scope.get(name);
        let filled = set.filter(|value| !value.is_empty());
        let (present, operator, word) = match operation.as_bytes() {
            [] => return Ok(self.plain(fragment, name)),
            [b':', operator @ (b'-' | b'?' | b'+'), ..] => (filled, *operator, &operation[2..]),
            [operator @ (b'-' | b'?' | b'+'), ..] => (set, *operator, &operation[1..]),
            _ => {
                return Err(Fault::new(
                    fragment,
                    format!("{} is no form of interpolation", quoted(fragment)),
                    Some(
                        "known are `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `${NAME:+replacement}`"
                            .to_owned(),
                    ),
                ));
            }
        };
        match (operator, present) {
            (b'-' | b'?', Some(value)) => {
                let value = value.to_owned();
                self.used(name);
                Ok(value)
            }
            (b'-', None) | (b'+', Some(_)) => self.expand(word, depth + 1),
            (b'+', None) => Ok(String::new()),
            _ => {
                let word = self.expand(word, depth + 1)?;
                let message = if word.is_empty() {
                    "it is required".to_owned()
                } else {
                    word
                };
                let fault = self.undefined(fragment, name);
                Err(Fault {
                    message: format!("{}: {message}", fault.message),
                    ..fault
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope(values: Values) -> Scope {
        Scope::documented(&values)
    }

    fn values() -> Scope {
        let values = [
            ("A", "one"),
            ("EMPTY", ""),
            ("LOOP", "${A}$A"),
            ("MAQUETTE_URL", "http://x"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
        scope(values.into())
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
            ("$1 $ $(x) 5$", "$1 $ $(x) 5$"),
            ("[$NOPE|${NOPE}]", "[|]"),
            ("${B:-{\"a\": 1}}.", "{\"a\": 1}."),
            ("${B:-x:-y}", "x:-y"),
        ];
        for (text, expected) in table {
            let done = interpolate(text, &values()).unwrap();
            assert_eq!(done.text, expected, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_an_error_and_what_is_undefined_is_noted() {
        let done = interpolate("x ${MAQUETTE_URI}", &values()).unwrap();
        assert_eq!(done.text, "x ");
        let fault = &done.empty[0];
        assert_eq!(fault.fragment, "${MAQUETTE_URI}");
        assert_eq!(fault.hint.as_deref(), Some("did you mean `MAQUETTE_URL`?"));
        assert_eq!(
            interpolate("${B:?say so}", &values()).unwrap_err().message,
            "`B` has no value: say so"
        );
        for bad in ["${", "${}", "${A", "${1}", "${A!x}", "${A:=x}", "${EMPTY:?}"] {
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
            let values = scope([("A".to_owned(), value.clone())].into());
            prop_assert_eq!(interpolate("${A}", &values).unwrap().text, value);
        }

        #[test]
        fn doubling_dollars_keeps_any_text(text in ".{0,40}") {
            prop_assert_eq!(interpolate(&text.replace('$', "$$"), &values()).unwrap().text, text);
        }
    }
}
