//! JSON schemas as grammars: what is written has the schema's form, and nothing else can be.
//!
//! Understood: `type` (one or several), `properties`, `required`, `additionalProperties`, `items`, `prefixItems`, `minItems`, `maxItems`,
//! `minLength`, `maxLength`, `pattern`, `format`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `enum`, `const`, `anyOf`,
//! `oneOf` of alternatives that exclude each other, `allOf` of one, `$ref` within the schema, `$defs`, and annotations. Any other
//! keyword is an error that names it: a form that is only half kept would be a silent fault.
//!
//! What is written is a subset of what is valid: properties come in the schema's order, those that it does not name are not
//! written, there is at most one space after a colon or comma, and numbers have at most 15 digits on a side.

mod disjoint;
mod json;
mod pattern;
mod range;
mod values;

pub use json::Json;

use disjoint::{are_disjoint, type_of};
use pattern::Pattern;
use range::Bound;
use std::collections::BTreeMap;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;
use tilewright_runtime::generate::grammar::{Grammar, Machine, Node, NodeId};
use values::Values;

/// Keywords that say nothing about form.
const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
];
/// Keywords that are understood.
const KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
];

/// Reads a schema and makes the machine that keeps to it.
///
/// # Errors
/// JSON that cannot be read, with its line; all keywords that are not understood, each with its place; a schema that nothing finite fits.
pub fn machine(text: &str) -> Result<Machine, Diagnostics> {
    let schema: Json = serde_json::from_str(text).map_err(|error| {
        let what = format!("cannot read the JSON schema: {error}");
        vec![
            Diagnostic::error(Location::Unknown, what)
                .with_help("give a file, or JSON text such as '{\"type\": \"object\"}'"),
        ]
    })?;
    let mut grammar = Grammar::default();
    let values = Values::new(&mut grammar);
    let mut writer =
        Writer { root: &schema, grammar, values, references: BTreeMap::new(), problems: Vec::new() };
    let value = writer.schema(&schema, "#");
    if !writer.problems.is_empty() {
        return Err(writer.problems);
    }
    // A tokenizer may begin its texts with a space.
    let mut grammar = writer.grammar;
    let space = grammar.add(Node::class(b" \n"));
    let lead = grammar.add(Node::Repeat { node: space, minimum: 0, maximum: Some(1) });
    let whole = grammar.add(Node::Sequence(vec![lead, value]));
    Machine::new(grammar, whole).map_err(|error| {
        vec![
            Diagnostic::error(Location::Unknown, format!("cannot use the JSON schema: {error}"))
                .with_help("let one alternative, or an optional property, end the recursion"),
        ]
    })
}

/// A grammar under way.
struct Writer<'s> {
    root: &'s Json,
    grammar: Grammar,
    values: Values,
    /// Nodes of `$ref`s by their pointer.
    references: BTreeMap<String, NodeId>,
    problems: Diagnostics,
}

impl<'s> Writer<'s> {
    fn problem(&mut self, what: String) -> NodeId {
        let help = "leave it out, or say it with type, properties, items, enum, const, anyOf, $ref, pattern, bounds and lengths";
        self.problem_with(what, help)
    }

    fn problem_with(&mut self, what: String, help: &str) -> NodeId {
        let what = format!("JSON schema: {what}");
        self.problems.push(Diagnostic::error(Location::Unknown, what).with_help(help));
        self.values.any
    }

    /// The node of a schema; `place` is its JSON pointer.
    fn schema(&mut self, schema: &'s Json, place: &str) -> NodeId {
        let members = match schema {
            Json::Bool(true) => return self.values.any,
            Json::Object(members) => members,
            _ => return self.problem(format!("{place} is not an object")),
        };
        let known = |name: &str| KEYWORDS.contains(&name) || ANNOTATIONS.contains(&name);
        for (name, _) in members.iter().filter(|(name, _)| !known(name)) {
            self.problem(format!("keyword '{name}' at {place} is not supported"));
        }
        let alternatives = ["$ref", "const", "enum", "anyOf", "oneOf", "allOf"];
        let found: Vec<&str> =
            alternatives.iter().copied().filter(|name| schema.get(name).is_some()).collect();
        let Some(&first) = found.first() else { return self.typed(schema, place) };
        let beside = members.iter().map(|(name, _)| name.as_str()).find(|name| {
            let is_form = KEYWORDS.contains(name) && *name != first;
            // A type beside values leaves those of the type.
            is_form && !(*name == "type" && ["const", "enum"].contains(&first))
        });
        if let Some(beside) = beside {
            return self.problem(format!("'{beside}' beside '{first}' at {place} is not supported"));
        }
        let value = schema.get(first).unwrap_or(&Json::Null);
        match (first, value) {
            ("$ref", Json::String(pointer)) => self.reference(pointer, place),
            ("const", value) => self.one_of_values(schema, std::slice::from_ref(value), place),
            ("enum", Json::Array(values)) => self.one_of_values(schema, values, place),
            ("oneOf", Json::Array(schemas)) if !schemas.is_empty() => self.one_of(schemas, place),
            ("anyOf", Json::Array(schemas)) if !schemas.is_empty() => {
                self.choice(schemas, &format!("{place}/anyOf"))
            }
            ("allOf", Json::Array(schemas)) if schemas.len() == 1 => {
                self.choice(schemas, &format!("{place}/allOf"))
            }
            _ => self.problem(format!("'{first}' at {place} has a value that is not supported")),
        }
    }

    /// Those of some values that have the schema's types.
    fn one_of_values(&mut self, schema: &Json, values: &[Json], place: &str) -> NodeId {
        let has_type = |value: &Json| {
            let is = |name: &Json| {
                let found = type_of(value);
                let name = if let Json::String(name) = name { name.as_str() } else { "" };
                name == found || name == "number" && found == "integer"
            };
            match schema.get("type") {
                None => true,
                Some(Json::Array(names)) => names.iter().any(is),
                Some(name) => is(name),
            }
        };
        let literals: Vec<NodeId> = values
            .iter()
            .filter(|value| has_type(value))
            .map(|value| self.grammar.literal(value.text()))
            .collect();
        if literals.is_empty() {
            return self.problem(format!("no value at {place} has its type"));
        }
        self.grammar.add(Node::Choice(literals))
    }

    /// One of several that exclude each other: a text of two of them would be none of `oneOf`.
    fn one_of(&mut self, schemas: &'s [Json], place: &str) -> NodeId {
        for (index, one) in schemas.iter().enumerate() {
            if let Some(other) =
                schemas[..index].iter().position(|other| !are_disjoint(self.root, one, other))
            {
                let what = format!("alternatives {other} and {index} of 'oneOf' at {place} may both hold");
                return self.problem_with(
                    what,
                    "say anyOf, or give them different types, or a required property with different values",
                );
            }
        }
        self.choice(schemas, &format!("{place}/oneOf"))
    }

    fn choice(&mut self, schemas: &'s [Json], place: &str) -> NodeId {
        let parts: Vec<NodeId> = schemas
            .iter()
            .enumerate()
            .map(|(index, one)| self.schema(one, &format!("{place}/{index}")))
            .collect();
        self.grammar.add(Node::Choice(parts))
    }

    fn reference(&mut self, pointer: &str, place: &str) -> NodeId {
        if let Some(node) = self.references.get(pointer) {
            return *node;
        }
        let Some(target) = self.root.pointer(pointer) else {
            return self
                .problem(format!("'$ref' at {place} points to '{pointer}', which is not in the schema"));
        };
        let node = self.grammar.declare();
        self.references.insert(pointer.to_string(), node);
        let inner = self.schema(target, pointer);
        self.grammar.define(node, Node::Choice(vec![inner]));
        node
    }

    /// A schema by its types; by its keywords where it names none.
    fn typed(&mut self, schema: &'s Json, place: &str) -> NodeId {
        let has = |names: &[&str]| names.iter().any(|name| schema.get(name).is_some());
        let names: Vec<&str> = match schema.get("type") {
            Some(Json::String(name)) => vec![name],
            Some(Json::Array(several)) if !several.is_empty() => {
                several.iter().map(|one| if let Json::String(name) = one { name } else { "" }).collect()
            }
            Some(_) => {
                return self.problem(format!("'type' at {place} is neither a name nor a list of names"));
            }
            None if has(&["properties", "required", "additionalProperties"]) => vec!["object"],
            None if has(&["items", "prefixItems", "minItems", "maxItems"]) => vec!["array"],
            None if has(&["minLength", "maxLength", "pattern", "format"]) => vec!["string"],
            None if has(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]) => vec!["number"],
            None => return self.values.any,
        };
        let parts: Vec<NodeId> = names.iter().map(|name| self.of_type(name, schema, place)).collect();
        if let [only] = parts[..] { only } else { self.grammar.add(Node::Choice(parts)) }
    }

    fn of_type(&mut self, name: &str, schema: &'s Json, place: &str) -> NodeId {
        match name {
            "object" => self.object(schema, place),
            "array" => self.array(schema, place),
            "string" => self.string(schema, place),
            "number" | "integer" => self.number(schema, place, name == "integer"),
            "boolean" => self.values.boolean,
            "null" => self.values.null,
            _ => self.problem(format!("type '{name}' at {place} is not one of JSON")),
        }
    }

    fn range(&mut self, schema: &Json, [least, most]: [&str; 2], place: &str) -> (u32, Option<u32>) {
        let mut read = |name: &str| match schema.get(name) {
            None => None,
            Some(Json::Number(number))
                if number.as_u64().is_some_and(|count| count <= u64::from(u32::MAX)) =>
            {
                number.as_u64().map(|count| count as u32)
            }
            Some(_) => {
                self.problem(format!("'{name}' at {place} is not a count"));
                None
            }
        };
        let (minimum, maximum) = (read(least).unwrap_or(0), read(most));
        if maximum.is_some_and(|maximum| maximum < minimum) {
            self.problem(format!("'{most}' at {place} is below '{least}'"));
        }
        (minimum, maximum)
    }

    /// A string of a length, or of a pattern or format that has it.
    fn string(&mut self, schema: &Json, place: &str) -> NodeId {
        let (minimum, maximum) = self.range(schema, ["minLength", "maxLength"], place);
        let (keyword, text) = match (schema.get("pattern"), schema.get("format")) {
            (None, None) => return self.values.string(&mut self.grammar, minimum, maximum),
            (Some(_), Some(_)) => {
                return self.problem(format!("'format' beside 'pattern' at {place} is not supported"));
            }
            (Some(Json::String(text)), _) => ("pattern", text.clone()),
            (_, Some(Json::String(name))) => match pattern::of_format(name) {
                Some(text) => ("format", text),
                None => return self.problem(format!("'format' at {place}: '{name}' is not supported")),
            },
            _ => return self.problem(format!("'pattern' or 'format' at {place} is not a text")),
        };
        let mut read = || {
            let pattern = Pattern::new(&text)?;
            let (least, most) = pattern.lengths();
            let is_short = maximum.is_none_or(|maximum| most.is_some_and(|most| most <= u64::from(maximum)));
            if least < u64::from(minimum) || !is_short {
                return Err("it does not say the length that 'minLength' or 'maxLength' asks for".to_string());
            }
            self.values.text(&mut self.grammar, |grammar, character| pattern.node(grammar, character))
        };
        match read() {
            Ok(node) => node,
            Err(what) => self.problem(format!("'{keyword}' at {place}: {what}")),
        }
    }

    fn number(&mut self, schema: &Json, place: &str, is_integer: bool) -> NodeId {
        let mut read = |name: &str, is_exclusive: bool| match schema.get(name) {
            None => None,
            Some(Json::Number(number)) => Some(Bound::new(number, is_exclusive)),
            Some(_) => {
                self.problem(format!("'{name}' at {place} is not a number"));
                None
            }
        };
        let minimum = range::narrower(read("minimum", false), read("exclusiveMinimum", true), true);
        let maximum = range::narrower(read("maximum", false), read("exclusiveMaximum", true), false);
        match (minimum, maximum) {
            (None, None) if is_integer => self.values.integer,
            (None, None) => self.values.number,
            (minimum, maximum) => range::numbers(&mut self.grammar, minimum, maximum, is_integer),
        }
    }

    fn array(&mut self, schema: &'s Json, place: &str) -> NodeId {
        let (minimum, mut maximum) = self.range(schema, ["minItems", "maxItems"], place);
        let first: &[Json] = match schema.get("prefixItems") {
            None => &[],
            Some(Json::Array(items)) => items,
            Some(_) => {
                self.problem(format!("'prefixItems' at {place} is not a list"));
                &[]
            }
        };
        let item = match schema.get("items") {
            // No more than the first ones.
            Some(Json::Bool(false)) => {
                maximum = Some(maximum.unwrap_or(u32::MAX).min(first.len() as u32));
                if maximum < Some(minimum) {
                    return self.problem(format!("'minItems' at {place} is more than there may be"));
                }
                self.values.any
            }
            Some(items) => self.schema(items, &format!("{place}/items")),
            None => self.values.any,
        };
        let first: Vec<NodeId> = first
            .iter()
            .enumerate()
            .map(|(index, one)| self.schema(one, &format!("{place}/prefixItems/{index}")))
            .collect();
        self.values.list(&mut self.grammar, &first, item, minimum, maximum)
    }

    fn object(&mut self, schema: &'s Json, place: &str) -> NodeId {
        let required: Vec<&str> = match schema.get("required") {
            None => Vec::new(),
            Some(Json::Array(names)) if names.iter().all(|name| matches!(name, Json::String(_))) => names
                .iter()
                .filter_map(|name| if let Json::String(name) = name { Some(&name[..]) } else { None })
                .collect(),
            Some(_) => {
                self.problem(format!("'required' at {place} is not a list of names"));
                Vec::new()
            }
        };
        let properties: &[(String, Json)] = match schema.get("properties") {
            None => &[],
            Some(Json::Object(properties)) => properties,
            Some(_) => {
                self.problem(format!("'properties' at {place} is not an object"));
                &[]
            }
        };
        let mut members = Vec::new();
        for (name, property) in properties {
            let value = self.schema(property, &format!("{place}/properties/{name}"));
            members.push((self.member(name, value), required.contains(&name.as_str())));
        }
        for name in required.iter().filter(|name| !properties.iter().any(|one| one.0 == **name)) {
            let value = match schema.get("additionalProperties") {
                Some(Json::Bool(false)) => self
                    .problem(format!("'{name}' at {place} is required, and no property may have this name")),
                Some(other) => self.schema(other, &format!("{place}/additionalProperties")),
                None => self.values.any,
            };
            members.push((self.member(name, value), true));
        }
        if members.is_empty() {
            let value = match schema.get("additionalProperties") {
                None => self.values.any,
                Some(Json::Bool(false)) => return self.grammar.literal("{}"),
                Some(other) => self.schema(other, &format!("{place}/additionalProperties")),
            };
            return self.values.map(&mut self.grammar, value);
        }
        let (open, close) = (self.grammar.literal("{"), self.grammar.literal("}"));
        let inside = self.members(&members);
        self.grammar.add(Node::Sequence(vec![open, inside, close]))
    }

    fn member(&mut self, name: &str, value: NodeId) -> NodeId {
        let key = self.grammar.literal(Json::String(name.to_string()).text());
        self.grammar.add(Node::Sequence(vec![key, self.values.colon, value]))
    }

    /// Members in order, those that are not required left out at will; commas between those that are there.
    fn members(&mut self, members: &[(NodeId, bool)]) -> NodeId {
        // From the last on: what follows when nothing was written before, and when something was.
        let nothing = self.grammar.literal("");
        let (mut first, mut later) = (nothing, nothing);
        for &(member, is_required) in members.iter().rev() {
            let as_first = self.grammar.add(Node::Sequence(vec![member, later]));
            let as_later = self.grammar.add(Node::Sequence(vec![self.values.comma, member, later]));
            if is_required {
                (first, later) = (as_first, as_later);
            } else {
                first = self.grammar.add(Node::Choice(vec![as_first, first]));
                later = self.grammar.add(Node::Choice(vec![as_later, later]));
            }
        }
        first
    }
}

#[cfg(test)]
mod tests;
