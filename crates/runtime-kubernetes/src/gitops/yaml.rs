//! Objects as YAML that people read in a diff: one line per value, and whatever a reader might take for something else than text in
//! quotes.

use serde_json::Value;

/// A document of one object.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0);
    text
}

fn block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                pad(text, indent);
                text.push_str(&scalar(key));
                text.push(':');
                below(text, value, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                pad(text, indent);
                text.push('-');
                below(text, item, indent + 2);
            }
        }
        other => {
            pad(text, indent);
            text.push_str(&flow(other));
            text.push('\n');
        }
    }
}

/// What stands after a key or a dash: on the same line if it is short.
fn below(text: &mut String, value: &Value, indent: usize) {
    let nested = matches!(value, Value::Object(fields) if !fields.is_empty())
        || matches!(value, Value::Array(items) if !items.is_empty());
    if nested {
        text.push('\n');
        block(text, value, indent);
    } else {
        text.push(' ');
        text.push_str(&flow(value));
        text.push('\n');
    }
}

fn pad(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

/// A value on one line. What is not text looks in YAML as it does in JSON.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A text: in quotes, which YAML understands as JSON does, unless it can be nothing else.
fn scalar(text: &str) -> String {
    /// Words that some reader takes for a truth, nothing or a number.
    const WORDS: &[&str] = &[
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf",
    ];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        text.to_owned()
    } else {
        let quoted = Value::from(text).to_string();
        quoted.chars().map(escaped).collect()
    }
}

/// What JSON lets through and YAML does not, or does not keep.
fn escaped(c: char) -> String {
    match c {
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
            format!("\\u{:04x}", u32::from(c))
        }
        c => c.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn an_object_reads_as_expected() {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Thing",
            "metadata": {"name": "web", "labels": {}, "annotations": {"maquette/name": "yes", "on": "a: b"}},
            "data": [{"name": "one", "value": "012", "list": ["x", ["y", []], 3]}, {"name": "two", "value": "line\nline"}],
            "none": null,
        });
        insta::assert_snapshot!(document(&object), @r#"
        apiVersion: v1
        kind: Thing
        metadata:
          name: web
          labels: {}
          annotations:
            maquette/name: "yes"
            "on": "a: b"
        data:
          -
            name: one
            value: "012"
            list:
              - x
              -
                - "y"
                - []
              - 3
          -
            name: two
            value: "line\nline"
        none: null
        "#);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            prop::sample::select(vec![
                "y",
                "No",
                "1:30",
                "0o7",
                "1_0",
                "~",
                "- a",
                "#",
                "a #b",
                "2026-01-01",
                "=",
                ".5",
                "\u{85}",
                "\u{feff}"
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(value in values()) {
            let text = document(&value);
            let read: Value = serde_saphyr::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(read, value, "{}", text);
        }
    }
}
