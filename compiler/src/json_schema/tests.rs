//! Schemas accept their texts and nothing else; what is drawn blindly from a schema is JSON of it.

use super::*;

fn accepts(machine: &mut Machine, text: &str) -> bool {
    let start = machine.start().clone();
    machine.read(&start, text.as_bytes()).is_whole()
}

fn check(schema: &str, good: &[&str], bad: &[&str]) {
    let mut machine = machine(schema).unwrap_or_else(|problems| panic!("{schema}: {problems:?}"));
    for text in good {
        assert!(accepts(&mut machine, text), "{schema} refuses {text}");
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
    }
    for text in bad {
        assert!(!accepts(&mut machine, text), "{schema} accepts {text}");
    }
}

#[test]
fn single_types_are_kept() {
    check(
        r#"{"type": "string"}"#,
        &[r#""""#, r#""a é 猫 \n \u00e9 \ud7ff""#, " \"x\"", r#""\\\"""#],
        &["x", "\"a", "\"a\nb\"", r#""\x""#, r#""\ud800""#, "\"\u{0}\"", "1"],
    );
    check(
        r#"{"type": "string", "minLength": 2, "maxLength": 3}"#,
        &[r#""猫é""#, r#""a\nb""#],
        &[r#""a""#, r#""abcd""#],
    );
    check(r#"{"type": "integer"}"#, &["0", "-0", "12", "-999"], &["01", "1.0", "+1", "1e3", "--1"]);
    check(r#"{"type": "number"}"#, &["0", "-1.5", "2e9", "1.25E-03"], &[".5", "1.", "1e", "0x1", "NaN"]);
    check(r#"{"type": ["boolean", "null"]}"#, &["true", "false", "null"], &["True", "nul", "0"]);
    check(
        r#"{"enum": ["a", 1, null, {"b": [2]}]}"#,
        &[r#""a""#, "1", "null", r#"{"b":[2]}"#],
        &["2", "\"b\""],
    );
    check(r#"{"const": "x\"y", "type": "string"}"#, &[r#""x\"y""#], &[r#""x""#]);
    check("true", &["1", "[]", r#"{"a": [1, {"b": null}]}"#], &["{", "[1,]", "{1: 2}", "a"]);
}

#[test]
fn lists_and_objects_are_kept() {
    check(
        r#"{"type": "array", "items": {"type": "integer"}}"#,
        &["[]", "[1]", "[1, 2,3]"],
        &["[a]", "[1,]", "[1,  2]"],
    );
    check(
        r#"{"items": {"const": 1}, "minItems": 2, "maxItems": 3}"#,
        &["[1,1]", "[1,1,1]"],
        &["[1]", "[1,1,1,1]", "[]"],
    );
    check(r#"{"type": "array", "maxItems": 0}"#, &["[]"], &["[1]"]);
    let person = r#"{"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "z": {"type": "null"}},
        "required": ["name", "z"], "additionalProperties": false}"#;
    check(
        person,
        &[r#"{"name": "a", "age": 3, "z": null}"#, r#"{"name":"a","z":null}"#],
        &[
            r#"{"age":3}"#,
            r#"{"name":"a"}"#,
            r#"{"z":null,"name":"a"}"#,
            r#"{"name":"a",,"z":null}"#,
            r#"{"name":"a","z":null,"x":1}"#,
        ],
    );
    let optional = r#"{"properties": {"a": {"const": 1}, "b": {"const": 2}}}"#;
    check(optional, &["{}", r#"{"a":1}"#, r#"{"b":2}"#, r#"{"a":1,"b":2}"#], &[r#"{,"b":2}"#, r#"{"a":1,}"#]);
    check(
        r#"{"type": "object", "additionalProperties": {"type": "boolean"}}"#,
        &["{}", r#"{"x":true, "y":false}"#],
        &[r#"{"x":1}"#],
    );
    check(r#"{"type": "object", "additionalProperties": false}"#, &["{}"], &[r#"{"x":1}"#]);
    check(r#"{"required": ["a"]}"#, &[r#"{"a":[1]}"#], &["{}"]);
}

#[test]
fn alternatives_and_references_are_kept() {
    let tree = r##"{"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "required": ["value", "left"],
        "properties": {"value": {"type": "integer"}, "left": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}}}}}"##;
    check(
        tree,
        &[r#"{"value":1,"left":null}"#, r#"{"value":1,"left":{"value":2,"left":null}}"#],
        &[r#"{"value":1,"left":{}}"#, "null"],
    );
    check(r#"{"allOf": [{"type": "null"}], "title": "x", "description": "y"}"#, &["null"], &["1"]);
}

#[test]
fn what_is_not_understood_is_named() {
    let problems = machine(
        r#"{"properties": {"a": {"type": "string", "format": "date"}, "b": {"oneOf": []}}, "pattern": "x"}"#,
    );
    let all: Vec<String> = problems.unwrap_err().iter().map(|one| one.what.clone()).collect();
    assert_eq!(all.len(), 3, "{all:?}");
    for part in ["'format' at #/properties/a", "'oneOf' at #/properties/b", "'pattern' at #"] {
        assert!(all.iter().any(|what| what.contains(part)), "{part}: {all:?}");
    }
    let first = |schema: &str| machine(schema).unwrap_err()[0].what.clone();
    assert!(first(r##"{"$ref": "#/nowhere"}"##).contains("#/nowhere"));
    assert!(first("{\n\"type\":").contains("line 2"));
    assert!(first(r#"{"type": "text"}"#).contains("'text'"));
    assert!(first(r#"{"anyOf": [{}], "type": "null"}"#).contains("'type' beside 'anyOf'"));
    assert!(first(r#"{"minLength": 3, "maxLength": 2}"#).contains("'maxLength'"));
    assert!(first(r##"{"$ref": "#"}"##).contains("no text"));
    let endless = r##"{"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}"##;
    assert!(first(endless).contains("without an end"));
    assert!(first(r#"{"required": ["a"], "additionalProperties": false}"#).contains("'a'"));
}
