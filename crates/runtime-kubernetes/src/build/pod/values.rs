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

/// What a container runs, and the arguments of that; absent where the image says it. An entrypoint without words is none, also
/// where the image has one: then the command is all that runs.
pub(super) fn program(
    entrypoint: Option<&[String]>,
    command: Option<&[String]>,
) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let words = |words: Option<&[String]>| {
        let words: Vec<String> = words?.iter().map(|word| literal(word)).collect();
        (!words.is_empty()).then_some(words)
    };
    match entrypoint {
        Some([]) => (words(command), None),
        _ => (words(entrypoint), words(command)),
    }
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

    #[test]
    fn what_runs_is_what_compose_would_run() {
        let list = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let (run, args) = (list(&["run"]), list(&["a", "$b"]));
        let escaped = list(&["a", "$$b"]);
        let of = |entrypoint: &Option<Vec<String>>, command: &Option<Vec<String>>| {
            program(entrypoint.as_deref(), command.as_deref())
        };
        assert_eq!(of(&None, &None), (None, None));
        assert_eq!(of(&None, &args), (None, escaped.clone()));
        assert_eq!(of(&run, &args), (run.clone(), escaped.clone()));
        assert_eq!(of(&run, &list(&[])), (run.clone(), None));
        assert_eq!(
            of(&list(&[]), &args),
            (escaped, None),
            "the image's entrypoint is taken away"
        );
    }
}
