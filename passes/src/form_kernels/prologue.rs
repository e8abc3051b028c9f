//! What a product of quantised rows takes in before it: the quantisation of its left side by a scale per row, and all that makes the scale
//! from the same rows.
//!
//! ```text
//! %m = "core.reduce_max"(abs %x)   %s = "core.mul"(%m, 1/127)   %q = "core.quantize"(%x, %s)   %y = "core.linear"(%q, %w ..)
//! ```

use super::{ROW_OPS, is_one_of};
use std::collections::BTreeSet;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::module::{Module, OpId, ValueId};
use tilewright_ir::op_def::{OpDef, Traits, normalize_axis};

/// Reductions that a scale may be made by.
const REDUCTIONS: &[&OpDef] = &[&core::REDUCE_MAX, &core::REDUCE_MIN, &core::REDUCE_SUM, &core::REDUCE_MEAN];

/// The quantisation of the rows of `x` with the ops of its scale, and the float rows it begins from; `None` when `x` is not quantised by a
/// scale per row.
pub(super) fn of(module: &Module, x: ValueId) -> Option<(BTreeSet<OpId>, ValueId)> {
    let quantize = module.producer_of(x, &core::QUANTIZE)?;
    let rows = *module.op(quantize).operands.first()?;
    let ty = module.tensor(rows)?;
    let (width, leading) = ty.shape.split_last()?;
    let operation = module.op(quantize);
    let int = |name: &str| operation.attributes.get(name).and_then(Attribute::as_int);
    let is_per_row = normalize_axis(int("axis")?, ty.rank()) == Some(ty.rank() - 1)
        && Some(&Dim::Known(int("block")?)) == Some(width)
        && module.operand_at(quantize, 2).is_none();
    if !is_per_row {
        return None;
    }
    let mut members = BTreeSet::from([quantize]);
    let mut open = vec![*operation.operands.get(1)?];
    while let Some(value) = open.pop() {
        let Some(op) = module.producer(value) else { continue };
        if value == rows || module.op(op).def.is(Traits::CONSTANT) || members.contains(&op) {
            continue;
        }
        // Everything between the rows and their scale: else the scale comes from elsewhere and is an operand like any other.
        if !stays_in_rows(module, op, leading) {
            return None;
        }
        members.insert(op);
        open.extend(&module.op(op).operands);
    }
    Some((members, rows))
}

/// Whether an op computes each row from the same row.
fn stays_in_rows(module: &Module, op: OpId, leading: &[Dim]) -> bool {
    let operation = module.op(op);
    let Some(ty) = operation.results.first().and_then(|result| module.tensor(*result)) else { return false };
    if ty.shape.split_last().map(|(_, own)| own) != Some(leading) {
        return false;
    }
    if is_one_of(REDUCTIONS, operation.def) {
        let axes = operation.attributes.get("axes").and_then(Attribute::as_ints);
        let kept = operation.attributes.get("keep_dims").and_then(Attribute::as_bool);
        return axes.is_some_and(
            |axes| matches!(axes, [axis] if normalize_axis(*axis, ty.rank()) == Some(ty.rank() - 1)),
        ) && kept == Some(true);
    }
    is_one_of(ROW_OPS, operation.def) || operation.def.is(Traits::ELEMENTWISE.with(Traits::PURE))
}
