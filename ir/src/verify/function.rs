//! Functions: their type says what their entry takes and their returns give.

use crate::attribute::Attribute;
use crate::dialects::builtin;
use crate::module::{Module, OpId};
use crate::types::Type;

/// Problems of a `func.func`, each with the op to blame.
pub(super) fn problems(module: &Module, function: OpId) -> Vec<(OpId, String)> {
    let operation = module.op(function);
    let mut problems = Vec::new();
    let Some(Attribute::Type(ty)) = operation.attributes.get("function_type") else { return problems };
    let Type::Function(inputs, results) = ty else {
        problems.push((function, format!("attribute 'function_type' must be a function type, found {ty}")));
        return problems;
    };
    let blocks = operation.regions.first().map_or(&[][..], |region| &module.region(*region).blocks);
    if let Some(entry) = blocks.first() {
        let arguments: Vec<&Type> =
            module.block(*entry).arguments.iter().map(|value| module.ty(*value)).collect();
        compare("'function_type' and the entry block's arguments differ", inputs, &arguments, |what| {
            problems.push((function, what));
        });
    }
    for op in blocks.iter().filter_map(|block| module.block(*block).ops.last()) {
        let last = module.op(*op);
        if last.def != &builtin::RETURN && last.successors.is_empty() {
            problems.push((*op, "a function ends with 'func.return'".into()));
        }
        if last.def == &builtin::RETURN {
            let given: Vec<&Type> = module.op(*op).operands.iter().map(|value| module.ty(*value)).collect();
            compare("'function_type' and the returned values differ", results, &given, |what| {
                problems.push((*op, what))
            });
        }
    }
    for (name, count) in [("arg_attrs", inputs.len()), ("res_attrs", results.len())] {
        let Some(Attribute::Array(entries)) = operation.attributes.get(name) else { continue };
        if entries.len() != count {
            problems.push((
                function,
                format!("attribute '{name}' has {} entries: expected {count}", entries.len()),
            ));
        }
        if let Some(other) = entries.iter().find(|entry| !matches!(entry, Attribute::Dict(_))) {
            problems.push((function, format!("attribute '{name}' holds dictionaries, found {other}")));
        }
    }
    problems
}

fn compare(what: &str, expected: &[Type], found: &[&Type], mut report: impl FnMut(String)) {
    if expected.len() != found.len() {
        return report(format!("{what} in number: {} and {}", expected.len(), found.len()));
    }
    for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
        if expected != *found {
            report(format!("{what} at {index}: {expected} and {found}"));
        }
    }
}
