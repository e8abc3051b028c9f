//! What the regions of control flow take and give. Sizes may differ where a symbol is involved, since a branch or an iteration
//! may make another size; element types and ranks must be right.
//!
//! ```text
//! 'core.if': region 1 yields 1 values: expected 2      'core.loop': argument 2 differs in type: expected .., found ..
//! ```

use super::YIELD;
use crate::element::Element;
use crate::module::{Module, OpId, ValueId};
use crate::types::{TensorType, Type};

/// True if a value of one type may stand where the other is expected.
fn compatible(expected: &Type, found: &Type) -> bool {
    let (Some(expected), Some(found)) = (expected.as_tensor(), found.as_tensor()) else {
        return expected == found;
    };
    expected.element == found.element && expected.rank() == found.rank() && {
        let dims = expected.shape.iter().zip(&found.shape);
        dims.into_iter().all(|(a, b)| a == b || a.known().is_none() || b.known().is_none())
    }
}

fn types(module: &Module, values: &[ValueId]) -> Vec<Type> {
    values.iter().map(|value| module.ty(*value).clone()).collect()
}

fn compare(what: &str, expected: &[Type], found: &[Type]) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("expected {} {what}s, found {}", expected.len(), found.len()));
    }
    let wrong = expected.iter().zip(found).position(|(expected, found)| !compatible(expected, found));
    match wrong {
        Some(at) => {
            Err(format!("{what} {at} differs in type: expected {}, found {}", expected[at], found[at]))
        }
        None => Ok(()),
    }
}

/// Types of the entry's arguments and of the yielded values of a region of one block.
fn region_types(module: &Module, op: OpId, region: usize) -> Result<(Vec<Type>, Vec<Type>), String> {
    let blocks = &module.region(module.op(op).regions[region]).blocks;
    let [block] = blocks.as_slice() else {
        return Err(format!("region {region} has {} blocks: expected 1", blocks.len()));
    };
    match module.terminator(*block).filter(|last| module.op(*last).def == &YIELD) {
        Some(last) => {
            Ok((types(module, &module.block(*block).arguments), types(module, &module.op(last).operands)))
        }
        None => Err(format!("region {region} must end with 'core.yield'")),
    }
}

/// Both branches take nothing and yield the results.
pub(super) fn verify_if(module: &Module, op: OpId) -> Result<(), String> {
    let results = types(module, &module.op(op).results);
    for region in 0..2 {
        let (arguments, yielded) = region_types(module, op, region)?;
        let within = |problem| format!("region {region}: {problem}");
        compare("argument", &[], &arguments).map_err(within)?;
        compare("yielded value", &results, &yielded).map_err(within)?;
    }
    Ok(())
}

/// The region of a kernel takes the operands and yields the results.
pub(super) fn verify_kernel(module: &Module, op: OpId) -> Result<(), String> {
    let (arguments, yielded) = region_types(module, op, 0)?;
    compare("argument", &types(module, &module.op(op).operands), &arguments)?;
    compare("yielded value", &types(module, &module.op(op).results), &yielded)
}

/// (iteration, condition, carried..) to (condition, carried.., scanned..); results are carried, then stacked scanned.
pub(super) fn verify_loop(module: &Module, op: OpId) -> Result<(), String> {
    let (arguments, yielded) = region_types(module, op, 0)?;
    let carried = types(module, module.operands_at(op, 2));
    let scalar = |element| Type::Tensor(TensorType::of(element, &[]));
    let mut expected = vec![scalar(Element::I64), scalar(Element::Bool)];
    expected.extend(carried.iter().cloned());
    compare("argument", &expected, &arguments)?;
    let (condition, values) = yielded.split_at(1.min(yielded.len()));
    compare("yielded condition", &expected[1..2], condition)?;
    verify_results(module, op, &carried, values)
}

/// (carried.., slices..) to (carried.., scanned..); results are carried, then stacked scanned.
pub(super) fn verify_scan(module: &Module, op: OpId) -> Result<(), String> {
    let (arguments, yielded) = region_types(module, op, 0)?;
    let operands = types(module, &module.op(op).operands);
    let count = module.with_signature(op, |signature| signature.int("carried_count", 0));
    let count = usize::try_from(count).unwrap_or(0).min(operands.len());
    let mut expected = operands[..count].to_vec();
    for (at, ty) in operands[count..].iter().enumerate() {
        let Some(tensor) = ty.as_tensor() else {
            return Err(format!("operand {} must be a tensor", count + at));
        };
        let axis =
            module.with_signature(op, |signature| signature.ints("axes").get(at).copied().unwrap_or(0));
        let axis = crate::op_def::normalize_axis(axis, tensor.rank()).ok_or("an axis is out of range")?;
        let mut slice = tensor.clone();
        slice.shape.remove(axis);
        expected.push(slice.into());
    }
    compare("argument", &expected, &arguments)?;
    verify_results(module, op, &operands[..count], &yielded)
}

fn verify_results(module: &Module, op: OpId, carried: &[Type], yielded: &[Type]) -> Result<(), String> {
    let results = types(module, &module.op(op).results);
    if yielded.len() < carried.len() {
        return Err(format!(
            "expected at least {} carried values yielded, found {}",
            carried.len(),
            yielded.len()
        ));
    }
    let (values, scanned) = yielded.split_at(carried.len());
    // A carried value may change its size but not its rank from one iteration to the next, so each is compared with the first.
    compare("yielded value", carried, values)?;
    let mut expected = carried.to_vec();
    for ty in scanned {
        let Some(tensor) = ty.as_tensor() else {
            return Err(format!("a scanned value must be a tensor, found {ty}"));
        };
        let mut stacked = tensor.clone();
        // The number of iterations is not known here.
        stacked.shape.insert(0, crate::dim::Dim::symbol("iterations"));
        expected.push(stacked.into());
    }
    compare("result", &expected, &results)
}
