//! Commands and variables. Kubernetes replaces `$(NAME)` in both; authors have said what they mean in Compose's own words, and
//! nothing is replaced a second time.

use super::{super::Order, Given, Unit};
use crate::{
    Sensitive,
    finding::{Decision, Findings},
    names,
};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};
use model::Value;
use std::collections::BTreeMap;

/// A text that comes out of Kubernetes' replacement as it is: `$$` stands for `$` there.
pub(super) fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// The words of a command; none for an empty one, which leaves it to the image.
pub(super) fn words(words: Option<&[String]>) -> Option<Vec<String>> {
    let words: Vec<String> = words?.iter().map(|word| literal(word)).collect();
    (!words.is_empty()).then_some(words)
}

/// The variables of a container. One that holds a secret is a key of the secret that the unit is given.
pub(super) fn variables(
    order: &Order<'_>,
    unit: &Unit<'_>,
    wanted: &BTreeMap<String, Value>,
    given: &mut Given,
    findings: &mut Findings,
) -> Option<Vec<EnvVar>> {
    let mut made = Vec::new();
    for (name, value) in wanted {
        let text = match runtime::reveal::variable(name, value, order.secrets) {
            Ok(text) => text,
            Err(reason) => {
                findings.note(&unit.place, Decision::Value, &reason);
                continue;
            }
        };
        let mut variable = EnvVar {
            name: name.clone(),
            ..EnvVar::default()
        };
        if value.secrets().is_empty() {
            variable.value = Some(literal(&text));
        } else {
            let key = format!("variable.{}", names::object(&[name]));
            variable.value_from = Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: unit.given_name(),
                    key: key.clone(),
                    optional: None,
                }),
                ..EnvVarSource::default()
            });
            given.secret.insert(key, Sensitive::new(text));
        }
        made.push(variable);
    }
    (!made.is_empty()).then_some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kubernetes' replacement as its documentation has it: `$$` is `$`, `$(NAME)` a value, everything else itself.
    fn replaced(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = match (after.strip_prefix('$'), after.strip_prefix('(')) {
                (Some(after), _) => {
                    out.push('$');
                    after
                }
                (None, Some(name)) if name.contains(')') => {
                    out.push_str("REPLACED");
                    name.split_once(')').map_or("", |(_, after)| after)
                }
                _ => {
                    out.push('$');
                    after
                }
            };
        }
        out + rest
    }

    #[test]
    fn a_text_arrives_as_it_was_written() {
        assert_eq!(replaced("a$(HOME)b"), "aREPLACEDb");
        for text in ["$(HOME)", "$$", "$$(HOME)", "$", "a$", "$$$(X)$", "${X}", "$x", "$("] {
            assert_eq!(replaced(&literal(text)), text, "{text}");
        }
    }
}
