//! Whether no text of one schema is valid by another, as far as that shows: what `oneOf` asks of its alternatives.

use super::json::Json;

/// How far references and properties are followed.
const DEPTH_MAX: usize = 8;

/// Whether what is written by either schema is invalid by the other.
pub(super) fn are_disjoint(root: &Json, a: &Json, b: &Json) -> bool {
    refuses(root, a, b, DEPTH_MAX) && refuses(root, b, a, DEPTH_MAX)
}

/// Whether all that is written by `a` is invalid by `b`.
fn refuses(root: &Json, a: &Json, b: &Json, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let follow = |schema: &'_ Json| match schema.get("$ref") {
        Some(Json::String(pointer)) => root.pointer(pointer).cloned(),
        _ => None,
    };
    if let Some(target) = follow(a) {
        return refuses(root, &target, b, depth);
    }
    if let Some(target) = follow(b) {
        return refuses(root, a, &target, depth);
    }
    for (schema, is_a) in [(a, true), (b, false)] {
        if let Some(Json::Array(parts)) = schema.get("anyOf").or(schema.get("oneOf")) {
            let refuses =
                |part| if is_a { refuses(root, part, b, depth) } else { refuses(root, a, part, depth) };
            return parts.iter().all(refuses);
        }
    }
    if let (Some(a), Some(b)) = (values(a), values(b)) {
        return a.iter().all(|value| !b.contains(value));
    }
    let (Some(a_types), Some(b_types)) = (types(a), types(b)) else { return false };
    let overlap = |a: &str| b_types.iter().any(|b| a == b || is_numeric(a) && is_numeric(b));
    if !a_types.iter().any(|name| overlap(name)) {
        return true;
    }
    // Objects: `b` misses a property, or refuses the value of one that is always there.
    if a_types != ["object"] || b_types != ["object"] {
        return false;
    }
    let named = |schema: &Json, keyword: &str, name: &str| match schema.get(keyword) {
        Some(Json::Array(names)) => names.contains(&Json::String(name.into())),
        Some(members @ Json::Object(_)) => members.get(name).is_some(),
        _ => false,
    };
    let writes_names_only = a.get("properties").is_some() || a.get("required").is_some();
    let is_missed = |name: &Json| match name {
        Json::String(name) => {
            writes_names_only && !named(a, "properties", name) && !named(a, "required", name)
        }
        _ => false,
    };
    if let Some(Json::Array(names)) = b.get("required")
        && names.iter().any(is_missed)
    {
        return true;
    }
    let (Some(Json::Object(properties)), Some(others)) = (a.get("properties"), b.get("properties")) else {
        return false;
    };
    properties
        .iter()
        .filter(|(name, _)| named(a, "required", name))
        .any(|(name, property)| others.get(name).is_some_and(|other| refuses(root, property, other, depth)))
}

fn is_numeric(name: &str) -> bool {
    ["integer", "number"].contains(&name)
}

/// All values of a schema, when it lists them.
fn values(schema: &Json) -> Option<Vec<Json>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value.clone()]),
        (None, Some(Json::Array(values))) => Some(values.clone()),
        _ => None,
    }
}

/// Types of a schema's values, when it says them.
fn types(schema: &Json) -> Option<Vec<String>> {
    if let Some(values) = values(schema) {
        return Some(values.iter().map(|value| type_of(value).to_string()).collect());
    }
    match schema.get("type")? {
        Json::String(name) => Some(vec![name.clone()]),
        Json::Array(names) => names
            .iter()
            .map(|name| if let Json::String(name) = name { Some(name.clone()) } else { None })
            .collect(),
        _ => None,
    }
}

/// The type of a value.
pub(super) fn type_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        // 1.0 is an integer to JSON Schema.
        Json::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => "integer",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}
