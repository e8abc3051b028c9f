//! The JSON schema of manifests, for editors: made from the same table of keys that reads them.

use super::{KEYS, Key, Takes};
use crate::precision::Precision;
use serde_json::{Map, Value, json};

/// The schema (JSON Schema draft 2020-12). `schema.json` beside this file holds its text, to be pointed at by editors.
pub fn schema() -> Value {
    let mut schema = object(KEYS);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("tilewright deployment manifest");
    schema
}

fn object(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> = keys.iter().filter(|key| key.is_required).map(|key| key.name).collect();
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
}

fn property(key: &Key) -> Value {
    let mut property = match key.takes {
        Takes::Text | Takes::Hardware => json!({"type": "string", "minLength": 1}),
        Takes::Number(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Takes::Numbers => {
            json!({"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}})
        }
        Takes::Precision => json!({"enum": Precision::words().map(|word| word.0).collect::<Vec<_>>()}),
        Takes::Word(words) => json!({"enum": words().iter().map(|word| word.0).collect::<Vec<_>>()}),
        Takes::List(keys) => json!({"type": "array", "minItems": 1, "items": object(keys)}),
    };
    property["description"] = json!(key.about);
    property
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_is_the_schema() {
        let file: serde_json::Value = serde_json::from_str(include_str!("schema.json")).unwrap();
        assert_eq!(
            file,
            super::schema(),
            "write it anew: tilewright deploy --schema > compiler/src/manifest/schema.json"
        );
    }
}
