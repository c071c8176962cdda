//! The JSON Schema of `maquette.yaml`, for editors.

use super::keys::{Entry, ROOT, Shape};
use serde_json::{Map, Value, json};

/// The schema, draft 2020-12.
#[must_use]
pub fn schema() -> Value {
    let mut schema = object(&ROOT);
    if let Value::Object(map) = &mut schema {
        let head = [
            ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
            ("title", json!("maquette.yaml")),
            (
                "description",
                json!("What a Compose file can't say about the environments of a repository."),
            ),
        ];
        for (index, (key, value)) in head.into_iter().enumerate() {
            map.shift_insert(index, key.to_owned(), value);
        }
    }
    schema
}

fn object(entries: &[Entry]) -> Value {
    let mut properties = Map::new();
    for entry in entries {
        if matches!(entry.shape, Shape::Reserved) {
            continue;
        }
        let mut value = shape(&entry.shape);
        if let Value::Object(map) = &mut value {
            map.shift_insert(0, "description".to_owned(), json!(entry.doc));
        }
        properties.insert(entry.name.to_owned(), value);
    }
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": { "^x-": {} },
        "additionalProperties": false,
    })
}

fn shape(shape: &Shape) -> Value {
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Number => json!({ "type": "integer", "minimum": 1 }),
        Shape::Duration => json!({ "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+$" }),
        Shape::Size => {
            json!({ "type": ["string", "integer"], "pattern": "^[0-9]+(\\.[0-9]+)? ?([bB]|[kKmMgGtT]([iI]?[bB])?)?$" })
        }
        Shape::Cpus => json!({ "type": "number", "exclusiveMinimum": 0 }),
        Shape::Port => json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
        Shape::Versions => json!({ "type": ["string", "integer"], "pattern": "^[0-9]+( ?- ?[0-9]+)?$" }),
        Shape::Texts => texts,
        Shape::TextOrTexts => json!({ "oneOf": [{ "type": "string" }, texts] }),
        Shape::TextMap => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
        }
        Shape::FlagOrPort => json!({ "oneOf": [self::shape(&Shape::Flag), self::shape(&Shape::Port)] }),
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::ChoiceOr(words, entries) => json!({ "oneOf": [{ "enum": words }, object(entries)] }),
        Shape::Named(entries) => json!({ "type": "object", "additionalProperties": object(entries) }),
        Shape::Object(entries) => object(entries),
        Shape::Reserved => json!({}),
    }
}
