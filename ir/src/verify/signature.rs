//! One op by itself: operands, results, attributes, inferred types, its own rule.

use crate::attribute::{Attribute, Elements};
use crate::op_def::{Arity, AttributeDef, AttributeRule, Infer, OpDef, Signature, TypeRule, ValueDef};
use crate::registry::edit_distance;
use crate::types::Type;
use std::ops::Range;

/// The attribute that says how many operands each definition takes, as in MLIR.
const SEGMENTS: &str = "operandSegmentSizes";

/// Checks an op by its signature alone.
///
/// # Errors
/// All problems, each naming the expected and the found value. Inference and the op's own rule are asked only when all else is
/// right, so that they may rely on it.
pub fn verify_signature(signature: &Signature) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    check_operands(signature, &mut problems);
    check_results(signature, &mut problems);
    check_attributes(signature, &mut problems);
    if problems.is_empty() {
        check_inferred(signature, &mut problems);
    }
    if problems.is_empty()
        && let Some(verify) = signature.def.verify
        && let Err(problem) = verify(signature)
    {
        problems.push(problem);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn check_operands(signature: &Signature, problems: &mut Vec<String>) {
    let def = signature.def;
    let before = problems.len();
    if def.needs_segments() {
        check_segments(signature, problems);
    } else if let Some(problem) = count_problem("operands", def.operands, signature.operands.len()) {
        problems.push(problem);
    }
    if problems.len() == before {
        let slots = (0..def.operands.len()).map(|slot| signature.slot(slot));
        check_types("operand", def.operands, slots, signature.operands, problems);
    }
}

fn check_segments(signature: &Signature, problems: &mut Vec<String>) {
    let def = signature.def;
    let Some(Attribute::Segments(sizes)) = signature.attribute(SEGMENTS) else {
        let example = def.operands.iter().map(|_| "1").collect::<Vec<_>>().join(", ");
        problems
            .push(format!("expected attribute '{SEGMENTS}' = array<i32: {example}> or the like, found none"));
        return;
    };
    if sizes.len() != def.operands.len() {
        problems.push(format!("'{SEGMENTS}' has {} sizes: expected {}", sizes.len(), def.operands.len()));
        return;
    }
    let mut sum = 0i64;
    for (operand, size) in def.operands.iter().zip(sizes.iter()) {
        sum += i64::from(*size);
        let expected = match operand.arity {
            Arity::One if *size != 1 => "1",
            Arity::Optional if !(0..=1).contains(size) => "0 or 1",
            Arity::Variadic if *size < 0 => "at least 0",
            _ => continue,
        };
        problems.push(format!(
            "'{SEGMENTS}' gives operand '{}' {size} values: expected {expected}",
            operand.name
        ));
    }
    if sum != signature.operands.len() as i64 {
        problems.push(format!("'{SEGMENTS}' counts {sum} operands, found {}", signature.operands.len()));
    }
}

/// What is wrong with a count of operands or results.
fn count_problem(what: &str, defs: &[ValueDef], found: usize) -> Option<String> {
    let least = defs.iter().filter(|def| def.arity == Arity::One).count();
    let open = defs.iter().any(|def| def.arity == Arity::Variadic);
    let most = defs.len();
    let expected = match (open, least == most) {
        (true, _) if found < least => format!("at least {least}"),
        (true, _) => return None,
        (false, _) if (least..=most).contains(&found) => return None,
        (false, true) => format!("{most}"),
        (false, false) => format!("{least} to {most}"),
    };
    Some(format!("expected {expected} {what}, found {found}"))
}

fn check_types(
    what: &str,
    defs: &[ValueDef],
    slots: impl Iterator<Item = Range<usize>>,
    types: &[Type],
    problems: &mut Vec<String>,
) {
    for (def, slot) in defs.iter().zip(slots) {
        for ty in types.get(slot).unwrap_or_default() {
            if !type_fits(def.rule, ty) {
                problems.push(format!("{what} '{}' must be {}, found {ty}", def.name, rule_text(def.rule)));
            }
        }
    }
}

fn check_results(signature: &Signature, problems: &mut Vec<String>) {
    let defs = signature.def.results;
    let found = signature.results.len();
    if let Some(problem) = count_problem("results", defs, found) {
        problems.push(problem);
        return;
    }
    // At most one definition takes any number of results; it takes what the others leave.
    let single = defs.iter().filter(|def| def.arity != Arity::Variadic).count();
    let mut start = 0;
    let slots = defs.iter().map(|def| {
        let size = if def.arity == Arity::Variadic { found.saturating_sub(single) } else { 1 };
        let slot = start..(start + size).min(found);
        start = slot.end;
        slot
    });
    check_types("result", defs, slots.collect::<Vec<_>>().into_iter(), signature.results, problems);
}

/// True if a type obeys a rule.
pub fn type_fits(rule: TypeRule, ty: &Type) -> bool {
    let element = ty.as_tensor().map(|tensor| tensor.element);
    match rule {
        TypeRule::Any => true,
        TypeRule::Tensor => element.is_some(),
        TypeRule::FloatTensor => element.is_some_and(|element| element.is_float()),
        TypeRule::IntegerTensor => element.is_some_and(|element| element.is_integer()),
        TypeRule::BoolTensor => element == Some(crate::element::Element::Bool),
        TypeRule::NumberTensor => element.is_some_and(|element| element.is_float() || element.is_integer()),
        TypeRule::View => ty.as_view().is_some(),
        TypeRule::Index => *ty == Type::Index,
        TypeRule::Opaque => matches!(ty, Type::Opaque(_)),
    }
}

fn rule_text(rule: TypeRule) -> &'static str {
    match rule {
        TypeRule::Any => "anything",
        TypeRule::Tensor => "a tensor",
        TypeRule::FloatTensor => "a tensor of floats",
        TypeRule::IntegerTensor => "a tensor of integers",
        TypeRule::BoolTensor => "a tensor of i1",
        TypeRule::NumberTensor => "a tensor of numbers",
        TypeRule::View => "a memref",
        TypeRule::Index => "an index",
        TypeRule::Opaque => "a type of a dialect",
    }
}

fn check_attributes(signature: &Signature, problems: &mut Vec<String>) {
    let def = signature.def;
    for wanted in def.attributes {
        match signature.attribute(wanted.name) {
            None if wanted.required => {
                problems.push(format!(
                    "expected attribute '{}' ({}), found none",
                    wanted.name,
                    attribute_text(wanted.rule)
                ));
            }
            Some(value) if !attribute_fits(wanted.rule, value) => {
                let expected = attribute_text(wanted.rule);
                problems.push(format!(
                    "attribute '{}' must be {expected}, found {}",
                    wanted.name,
                    brief(value)
                ));
            }
            _ => {}
        }
    }
    for (name, value) in signature.attributes {
        let declared = def.attributes.iter().any(|wanted| wanted.name == name);
        let known = declared || (name == SEGMENTS && def.needs_segments());
        if !known && !name.contains('.') {
            problems.push(unknown_attribute(def, name));
        }
        if let Some(problem) = value.as_elements().and_then(elements_problem) {
            problems.push(format!("attribute '{name}': {problem}"));
        }
    }
}

fn unknown_attribute(def: &OpDef, name: &str) -> String {
    let distance = |known: &&AttributeDef| edit_distance(known.name, name);
    let nearest =
        def.attributes.iter().min_by_key(distance).filter(|known| distance(known) <= name.len().div_ceil(3));
    let hint = match nearest {
        Some(known) => format!("did you mean '{}'?", known.name),
        None => "attributes that mean nothing to the op have a dot in their name".to_string(),
    };
    format!("attribute '{name}' is not known to the op: {hint}")
}

fn elements_problem(elements: &Elements) -> Option<String> {
    let ty = elements.ty();
    let Some(shape) = ty.known_shape() else {
        return Some(format!("a constant has known dimensions, found {ty}"));
    };
    let count =
        shape.iter().try_fold(1usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?));
    let Some(count) = count.filter(|count| count.checked_mul(64).is_some()) else {
        return Some(format!("{ty} is too large"));
    };
    let (expected, found) = (ty.element.bytes_of(count), elements.bytes().len());
    (expected != found).then(|| format!("{ty} takes {expected} bytes, found {found}"))
}

/// True if an attribute obeys a rule.
pub fn attribute_fits(rule: AttributeRule, value: &Attribute) -> bool {
    match rule {
        AttributeRule::Any => true,
        AttributeRule::Int => matches!(value, Attribute::Int(_)),
        AttributeRule::Float => matches!(value, Attribute::Float(_)),
        AttributeRule::Bool => matches!(value, Attribute::Bool(_)),
        AttributeRule::Str => matches!(value, Attribute::Str(_)),
        AttributeRule::OneOf(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        AttributeRule::Ints => matches!(value, Attribute::Ints(_)),
        AttributeRule::Dims => value.as_dims().is_some(),
        AttributeRule::Dim => value.as_dim().is_some(),
        AttributeRule::Type => matches!(value, Attribute::Type(_)),
        AttributeRule::Elements => matches!(value, Attribute::Elements(_)),
        AttributeRule::Symbol => matches!(value, Attribute::Symbol(_)),
        AttributeRule::Array => matches!(value, Attribute::Array(_)),
    }
}

fn attribute_text(rule: AttributeRule) -> String {
    let text = match rule {
        AttributeRule::Any => "anything",
        AttributeRule::Int => "an integer, 1 : i64",
        AttributeRule::Float => "a float, 1.0 : f64",
        AttributeRule::Bool => "true or false",
        AttributeRule::Str => "text in quotes",
        AttributeRule::OneOf(words) => return format!("one of \"{}\"", words.join("\", \"")),
        AttributeRule::Ints => "integers, array<i64: 1, 2>",
        AttributeRule::Dims => "dimensions, [1, \"seq\"]",
        AttributeRule::Dim => "a dimension, 1 : i64 or \"seq\"",
        AttributeRule::Type => "a type",
        AttributeRule::Elements => "constant elements, dense<..> or dense_resource<..>",
        AttributeRule::Symbol => "a symbol, @name",
        AttributeRule::Array => "an array, [..]",
    };
    text.into()
}

/// An attribute's text, cut where it gets long; a weight is not hashed for a message.
fn brief(value: &Attribute) -> String {
    if let Attribute::Elements(elements) = value {
        return format!("constant elements of type {}", elements.ty());
    }
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn check_inferred(signature: &Signature, problems: &mut Vec<String>) {
    if matches!(signature.def.infer, Infer::Explicit) {
        return;
    }
    match crate::builder::infer(signature) {
        Err(problem) => problems.push(problem),
        Ok(inferred) if inferred.len() != signature.results.len() => {
            problems.push(format!("expected {} results, found {}", inferred.len(), signature.results.len()));
        }
        Ok(inferred) => {
            for (index, (expected, found)) in inferred.iter().zip(signature.results).enumerate() {
                if expected != found {
                    problems
                        .push(format!("result {index} differs in type: expected {expected}, found {found}"));
                }
            }
        }
    }
}
