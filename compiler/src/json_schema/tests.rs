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
fn first_items_have_forms_of_their_own() {
    let pair = r#""prefixItems": [{"type": "integer"}, {"type": "boolean"}]"#;
    check(
        &format!("{{{pair}}}"),
        &["[]", "[1]", "[1, true]", r#"[1,true,"x",2]"#],
        &["[true]", "[1,2]", "[,]"],
    );
    check(
        &format!(r#"{{{pair}, "items": false, "minItems": 1}}"#),
        &["[1]", "[1,false]"],
        &["[]", "[1,true,1]"],
    );
    check(
        &format!(r#"{{{pair}, "items": {{"const": 7}}, "minItems": 3, "maxItems": 4}}"#),
        &["[1,true,7]", "[1,true,7,7]"],
        &["[1,true]", "[1,true,8]", "[1,true,7,7,7]"],
    );
    check(&format!(r#"{{{pair}, "maxItems": 1}}"#), &["[]", "[1]"], &["[1,true]", "[true]"]);
}

#[test]
fn numbers_keep_their_bounds() {
    // Every number of up to three digits, against the comparison itself.
    for (low, high) in [(0, 0), (3, 17), (-5, 120), (-120, -9), (100, 100), (-7, 0), (99, 101)] {
        let mut machine = machine(&format!(r#"{{"type": "integer", "minimum": {low}, "maximum": {high}}}"#))
            .expect("a schema");
        for number in -200..=200 {
            let expected = (low..=high).contains(&number);
            assert_eq!(accepts(&mut machine, &number.to_string()), expected, "{low}..={high}: {number}");
        }
    }
    let tenths = |machine: &mut Machine, from: f64, to: f64, holds: &dyn Fn(f64) -> bool| {
        for number in (from * 100.0) as i64..=(to * 100.0) as i64 {
            let value = number as f64 / 100.0;
            let text = value.to_string();
            assert_eq!(accepts(machine, &text), holds(value), "{text}");
        }
    };
    let mut one = machine(r#"{"minimum": -1.25, "exclusiveMaximum": 2.5}"#).expect("a schema");
    tenths(&mut one, -3.0, 4.0, &|value| (-1.25..2.5).contains(&value));
    let mut one = machine(r#"{"type": "number", "exclusiveMinimum": 0, "maximum": 0.75}"#).expect("a schema");
    tenths(&mut one, -1.0, 1.0, &|value| value > 0.0 && value <= 0.75);
    let mut one = machine(r#"{"type": "number", "minimum": 7.05, "maximum": 7.1}"#).expect("a schema");
    tenths(&mut one, 6.0, 8.0, &|value| (7.05..=7.1).contains(&value));
    check(
        r#"{"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10}"#,
        &["1", "9"],
        &["0", "10", "-1", "01"],
    );
    check(r#"{"type": "integer", "minimum": 0.5}"#, &["1", "999999999999999"], &["0", "-3", "1.5"]);
    check(r#"{"type": "number", "maximum": -10}"#, &["-10", "-10.5", "-11"], &["-9.9", "0", "10", "-9"]);
    check(r#"{"minimum": 1e3, "maximum": 1e20}"#, &["1000", "1000.5"], &["999.9"]);
    check(r#"{"type": "integer", "minimum": 3, "exclusiveMinimum": 3}"#, &["4"], &["3"]);
    let first = |schema: &str| machine(schema).unwrap_err()[0].what.clone();
    assert!(first(r#"{"minimum": 3, "maximum": 2}"#).contains("no text"));
    assert!(first(r#"{"type": "integer", "minimum": 3.1, "maximum": 3.9}"#).contains("no text"));
    assert!(first(r#"{"type": "number", "exclusiveMinimum": true}"#).contains("'exclusiveMinimum'"));
}

#[test]
fn patterns_are_kept() {
    let pattern = |text: &str| format!(r#"{{"pattern": {}}}"#, Json::String(text.into()).text());
    check(
        &pattern("^[A-Z]{2}-\\d+$"),
        &[r#""AB-1""#, r#""ZZ-007""#],
        &[r#""AB-""#, r#""xAB-1""#, r#""AB-1x""#, r#""AB-٣""#],
    );
    check(&pattern("b+"), &[r#""b""#, r#""abbc\n""#], &[r#""ac""#, r#""""#]);
    check(&pattern("^a|b$"), &[r#""ax""#, r#""xb""#, r#""a""#], &[r#""xa""#, r#""bx""#]);
    check(&pattern("^(a*|b?)*c$"), &[r#""c""#, r#""aabac""#], &[r#""ca""#, r#""xc""#]);
    check(&pattern("^(|a)(b|)$"), &[r#""""#, r#""a""#, r#""ab""#, r#""b""#], &[r#""ba""#]);
    check(
        &pattern("^[^x]$"),
        &[r#""é""#, r#""\"""#, r#""\\""#, r#""\n""#, r#""猫""#],
        &[r#""x""#, "\"\"\"", r#""ab""#],
    );
    check(&pattern("^.\"$"), &[r#""a\"""#], &[r#""a"""#, r#""\n\"""#]);
    check(&pattern("^\\w\\s\\S$"), &[r#""_ é""#], &[r#""é a""#, r#""a  ""#]);
    let sized = r#"{"pattern": "^[a-z]{2,4}$", "minLength": 2, "maxLength": 4}"#;
    check(sized, &[r#""ab""#, r#""abcd""#], &[r#""a""#, r#""abcde""#]);
    for (text, what) in [
        ("(", "unclosed"),
        ("(?=a)", "look-around"),
        ("a\\b", "ends only"),
        ("(?i)a", "flags"),
        ("[a&&b]", "escape"),
        ("[[a]]", "escape"),
        ("a{,3}", "first number"),
        ("(a^b)", "ends only"),
        ("^\\p{L}{9}\\p{L}$", "too large"),
    ] {
        let problem = machine(&pattern(text)).unwrap_err()[0].what.clone();
        assert!(problem.contains("'pattern' at #") && problem.contains(what), "{text}: {problem}");
    }
    let first = |schema: &str| machine(schema).unwrap_err()[0].what.clone();
    assert!(first(r#"{"pattern": "^a+$", "maxLength": 3}"#).contains("'maxLength'"));
    assert!(first(r#"{"pattern": "a{3}", "maxLength": 3}"#).contains("'maxLength'"));
    assert!(first(r#"{"pattern": "a", "format": "date"}"#).contains("beside"));
}

#[test]
fn formats_are_kept() {
    for (name, good, bad) in [
        ("date", "2026-02-28", "2026-02-30"),
        ("time", "23:59:59.5+02:00", "24:00:00Z"),
        ("date-time", "2026-11-30T00:00:00Z", "2026-11-31T00:00:00Z"),
        ("duration", "P1Y2M3D", "P"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ("ipv4", "192.168.0.255", "256.1.1.1"),
        ("ipv6", "2001:db8:0:0:0:0:0:1", "::g"),
        ("hostname", "www.example.org", "-a.org"),
        ("email", "jane.doe+x@example.org", "jane@"),
        ("uri", "https://example.org/a/b?c=1", "example"),
    ] {
        let quoted = |text: &str| format!("\"{text}\"");
        check(
            &format!(r#"{{"type": "string", "format": "{name}"}}"#),
            &[&quoted(good)],
            &[&quoted(bad), "1"],
        );
    }
}

#[test]
fn one_of_takes_alternatives_that_exclude_each_other() {
    check(r#"{"oneOf": [{"type": "string"}, {"type": "null"}]}"#, &[r#""a""#, "null"], &["1"]);
    let tagged = r##"{"oneOf": [{"$ref": "#/$defs/a"}, {"type": "object", "required": ["kind"],
        "properties": {"kind": {"const": "b"}}}], "$defs": {"a": {"type": "object", "required": ["kind", "x"],
        "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}}}}"##;
    check(tagged, &[r#"{"kind":"a","x":1}"#, r#"{"kind":"b"}"#], &[r#"{"kind":"a"}"#, r#"{"kind":"c"}"#]);
    let needs = r#"{"oneOf": [{"type": "object", "required": ["a"], "properties": {"a": {}}},
        {"type": "object", "required": ["b"], "properties": {"b": {}}}]}"#;
    check(needs, &[r#"{"a":1}"#, r#"{"b":1}"#], &["{}"]);
    for both in [
        r#"{"oneOf": [{"type": "integer"}, {"type": "number"}]}"#,
        r#"{"oneOf": [{"type": "string"}, {"minLength": 3}]}"#,
        r#"{"oneOf": [{"enum": ["a", "b"]}, {"const": "b"}]}"#,
        r#"{"oneOf": [{"type": "object", "required": ["a"]}, {"type": "object", "properties": {"a": {}}}]}"#,
    ] {
        let problem = machine(both).unwrap_err()[0].what.clone();
        assert!(problem.contains("alternatives 0 and 1 of 'oneOf' at #"), "{problem}");
    }
    check(r#"{"enum": [1, "a", 2.5], "type": ["string", "number"]}"#, &["1", r#""a""#, "2.5"], &["3"]);
    check(r#"{"enum": [1, "a"], "type": "string"}"#, &[r#""a""#], &["1"]);
}

#[test]
fn what_is_not_understood_is_named() {
    let problems = machine(
        r#"{"properties": {"a": {"type": "string", "format": "iri"}, "b": {"oneOf": []}}, "not": {}}"#,
    );
    let all: Vec<String> = problems.unwrap_err().iter().map(|one| one.what.clone()).collect();
    assert_eq!(all.len(), 3, "{all:?}");
    for part in ["'format' at #/properties/a", "'oneOf' at #/properties/b", "'not' at #"] {
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
    for keyword in
        ["multipleOf", "uniqueItems", "contains", "patternProperties", "propertyNames", "minProperties", "if"]
    {
        assert!(first(&format!(r#"{{"{keyword}": 1}}"#)).contains(&format!("'{keyword}' at #")), "{keyword}");
    }
}
