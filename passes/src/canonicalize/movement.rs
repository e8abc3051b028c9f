//! Data movement that does nothing or merges with its neighbour.

use super::{Rewriter, Simplified, fold};
use smallvec::SmallVec;
use tilewright_ir::attribute::{Attribute, Attributes};
use tilewright_ir::dialects::core;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::{Element, Family};
use tilewright_ir::module::{OpId, ValueId};
use tilewright_ir::op_def::OpDef;
use tilewright_ir::types::TensorType;

fn identity(rewriter: &Rewriter, op: OpId) -> Simplified {
    rewriter.same_type(op, rewriter.operand(op, 0))
}

/// The operand of the op of this definition that makes the first operand of `op`.
fn below(rewriter: &Rewriter, op: OpId, def: &OpDef) -> Option<(OpId, ValueId)> {
    let inner = rewriter.module.producer_of(rewriter.operand(op, 0), def)?;
    Some((inner, rewriter.operand(inner, 0)))
}

fn ints(rewriter: &Rewriter, op: OpId, name: &str) -> Option<Vec<i64>> {
    rewriter.module.op(op).attributes.get(name)?.as_ints().map(<[i64]>::to_vec)
}

fn dims(rewriter: &Rewriter, op: OpId, name: &str) -> Option<Vec<Dim>> {
    rewriter.module.op(op).attributes.get(name)?.as_dims()
}

/// Same type; reshape of a reshape.
pub(super) fn reshape(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    if let Some(found) = identity(rewriter, op) {
        return Some(found);
    }
    let (_, x) = below(rewriter, op, &core::RESHAPE)?;
    let ty = rewriter.result_type(op)?;
    if let Some(found) = rewriter.same_type(op, x) {
        return Some(found);
    }
    Some(vec![rewriter.make(&core::RESHAPE, &[x], Attributes::new(), &ty)?])
}

/// Identity permutation; transpose of a transpose.
pub(super) fn transpose(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let outer = ints(rewriter, op, "permutation")?;
    if outer.iter().enumerate().all(|(at, axis)| at as i64 == *axis) {
        return identity(rewriter, op);
    }
    let (inner, x) = below(rewriter, op, &core::TRANSPOSE)?;
    let inner = ints(rewriter, inner, "permutation")?;
    let composed: Vec<i64> =
        outer.iter().map(|axis| inner.get(*axis as usize).copied()).collect::<Option<_>>()?;
    let ty = rewriter.result_type(op)?;
    let attributes = Attributes::from([("permutation".into(), composed.into())]);
    Some(vec![rewriter.make(&core::TRANSPOSE, &[x], attributes, &ty)?])
}

/// Same type; broadcast of a broadcast.
pub(super) fn broadcast(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    if let Some(found) = identity(rewriter, op) {
        return Some(found);
    }
    let (_, x) = below(rewriter, op, &core::BROADCAST)?;
    let ty = rewriter.result_type(op)?;
    Some(vec![rewriter.make(&core::BROADCAST, &[x], Attributes::new(), &ty)?])
}

/// An element-wise op broadcasts by itself: broadcasts of its operands go when the result stays the same.
pub(super) fn drop_broadcasts(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let operation = rewriter.module.op(op).clone();
    if operation.operands.len() < 2 {
        return None;
    }
    let ty = rewriter.result_type(op)?;
    for at in 0..operation.operands.len() {
        let Some(inner) = rewriter.module.producer_of(operation.operands[at], &core::BROADCAST) else {
            continue;
        };
        let mut operands = operation.operands.clone();
        operands[at] = rewriter.operand(inner, 0);
        if let Some(value) = rewriter.make(operation.def, &operands, operation.attributes.clone(), &ty) {
            return Some(vec![value]);
        }
    }
    None
}

/// Whole tensor; slice of a slice; slice of one part of a concat.
pub(super) fn slice(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let (starts, steps) = (dims(rewriter, op, "starts")?, ints(rewriter, op, "steps")?);
    let plain = steps.iter().all(|step| *step == 1);
    if plain
        && starts.iter().all(|start| *start == Dim::Known(0))
        && let Some(found) = identity(rewriter, op)
    {
        return Some(found);
    }
    let ty = rewriter.result_type(op)?;
    if !plain {
        return None;
    }
    if let Some((inner, x)) = below(rewriter, op, &core::SLICE) {
        let inner_steps = ints(rewriter, inner, "steps")?;
        if inner_steps.iter().all(|step| *step == 1) {
            let inner_starts = dims(rewriter, inner, "starts")?;
            let joined = starts.iter().zip(&inner_starts).map(|(a, b)| a + b).collect();
            return Some(vec![make_slice(rewriter, x, joined, &ty)?]);
        }
    }
    let concat = rewriter.module.producer_of(rewriter.operand(op, 0), &core::CONCAT)?;
    slice_of_concat(rewriter, concat, starts, &ty)
}

fn make_slice(rewriter: &mut Rewriter, x: ValueId, starts: Vec<Dim>, ty: &TensorType) -> Option<ValueId> {
    let steps = vec![1i64; starts.len()];
    let attributes =
        Attributes::from([("starts".into(), Attribute::dims(&starts)), ("steps".into(), steps.into())]);
    rewriter.make(&core::SLICE, &[x], attributes, ty)
}

fn slice_of_concat(
    rewriter: &mut Rewriter,
    concat: OpId,
    mut starts: Vec<Dim>,
    ty: &TensorType,
) -> Simplified {
    let axis = rewriter.module.op(concat).attributes.get("axis")?.as_int()? as usize;
    let length = ty.shape.get(axis)?.clone();
    let mut offset = Dim::Known(0);
    for part in rewriter.module.op(concat).operands.clone() {
        let extent = rewriter.tensor(part)?.shape.get(axis)?.clone();
        let start = starts.get(axis)? - &offset;
        let end = &start + &length;
        // Inside this part if the start is at or behind its begin and the rest is not negative; symbols must cancel.
        let inside = start.known().is_some_and(|start| start >= 0)
            && (&extent - &end).known().is_some_and(|rest| rest >= 0);
        if inside {
            starts[axis] = start;
            return Some(vec![make_slice(rewriter, part, starts, ty)?]);
        }
        offset = &offset + &extent;
    }
    None
}

/// One operand; empty operands; concat of a concat; neighbouring slices of one value.
pub(super) fn concat(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let operands = rewriter.module.op(op).operands.clone();
    let axis = rewriter.module.op(op).attributes.get("axis")?.as_int()?;
    let ty = rewriter.result_type(op)?;
    if operands.len() == 1 {
        return identity(rewriter, op);
    }
    let mut flat: SmallVec<[ValueId; 4]> = SmallVec::new();
    for value in &operands {
        let extent = rewriter.tensor(*value)?.shape.get(axis as usize)?.clone();
        if extent == Dim::Known(0) {
            continue;
        }
        let inner = rewriter.module.producer_of(*value, &core::CONCAT).filter(|inner| {
            rewriter.module.op(*inner).attributes.get("axis").and_then(Attribute::as_int) == Some(axis)
        });
        match inner {
            Some(inner) => flat.extend(rewriter.module.op(inner).operands.iter().copied()),
            None => flat.push(*value),
        }
    }
    if flat == operands || flat.is_empty() {
        return neighbours(rewriter, &operands, axis as usize, &ty);
    }
    if flat.len() == 1 {
        return rewriter.same_type(op, flat[0]);
    }
    let attributes = Attributes::from([("axis".into(), axis.into())]);
    Some(vec![rewriter.make(&core::CONCAT, &flat, attributes, &ty)?])
}

/// `concat(x[.., a..b], x[.., b..c])` is `x[.., a..c]`.
fn neighbours(rewriter: &mut Rewriter, operands: &[ValueId], axis: usize, ty: &TensorType) -> Simplified {
    let mut expected: Option<(ValueId, Vec<Dim>)> = None;
    let mut first = None;
    for value in operands {
        let slice = rewriter.module.producer_of(*value, &core::SLICE)?;
        let (x, starts) = (rewriter.operand(slice, 0), dims(rewriter, slice, "starts")?);
        if ints(rewriter, slice, "steps")?.iter().any(|step| *step != 1) {
            return None;
        }
        match &expected {
            None => first = Some((x, starts.clone())),
            Some((same, next)) if *same == x && *next == starts => {}
            Some(_) => return None,
        }
        let mut next = starts;
        next[axis] = &next[axis] + &rewriter.tensor(*value)?.shape[axis];
        expected = Some((x, next));
    }
    let (x, starts) = first?;
    Some(vec![make_slice(rewriter, x, starts, ty)?])
}

/// No padding at all.
pub(super) fn pad(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let zero = |dims: Vec<Dim>| dims.iter().all(|dim| *dim == Dim::Known(0));
    (zero(dims(rewriter, op, "low")?) && zero(dims(rewriter, op, "high")?)).then(|| identity(rewriter, op))?
}

/// A gather of a constant index or range is a slice.
pub(super) fn gather(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    let (x, indices) = (rewriter.operand(op, 0), rewriter.operand(op, 1));
    let axis = rewriter.module.op(op).attributes.get("axis")?.as_int()? as usize;
    let ty = rewriter.tensor(x)?;
    let values = fold::small_constant(rewriter.module, indices)?;
    if values.is_empty() {
        return None;
    }
    let first = values.int(0);
    let consecutive = (0..values.len()).all(|at| values.int(at) == first + at as i64);
    if !consecutive || values.rank() > 1 || (first < 0 && first + values.len() as i64 > 0) {
        return None;
    }
    let extent = ty.shape.get(axis)?;
    let start = if first < 0 { extent + &Dim::Known(first) } else { Dim::Known(first) };
    // A range beyond the end is left for the evaluator to refuse.
    if extent.known().is_some_and(|extent| first >= extent) {
        return None;
    }
    let mut starts = vec![Dim::Known(0); ty.rank()];
    starts[axis] = start;
    let mut cut = ty.clone();
    cut.shape[axis] = Dim::Known(values.len() as i64);
    let sliced = make_slice(rewriter, x, starts, &cut)?;
    let result = rewriter.result_type(op)?;
    if cut == result {
        return Some(vec![sliced]);
    }
    Some(vec![rewriter.make(&core::RESHAPE, &[sliced], Attributes::new(), &result)?])
}

/// Same element; a widening that is undone; two widenings.
pub(super) fn cast(rewriter: &mut Rewriter, op: OpId) -> Simplified {
    if let Some(found) = identity(rewriter, op) {
        return Some(found);
    }
    let (inner, x) = below(rewriter, op, &core::CAST)?;
    let (from, middle, to) = (
        rewriter.tensor(x)?.element,
        rewriter.result_type(inner)?.element,
        rewriter.result_type(op)?.element,
    );
    if !is_lossless(from, middle) {
        return None;
    }
    if from == to {
        return Some(vec![x]);
    }
    let ty = rewriter.result_type(op)?;
    let attributes = rewriter.module.op(op).attributes.clone();
    // Between number families the way matters (float to integer saturates); within one it does not.
    (from.family() == to.family() && middle.family() == from.family()).then_some(())?;
    Some(vec![rewriter.make(&core::CAST, &[x], attributes, &ty)?])
}

/// Whether every value of `from` is a value of `to`.
fn is_lossless(from: Element, to: Element) -> bool {
    match (from.family(), to.family()) {
        (Family::Bool, _) => true,
        (Family::Float, Family::Float) => match from {
            Element::F16 | Element::BF16 => matches!(to, Element::F32 | Element::F64),
            Element::F32 => to == Element::F64,
            _ => false,
        },
        (Family::Signed, Family::Signed) | (Family::Unsigned, Family::Unsigned) => from.bits() <= to.bits(),
        (Family::Unsigned, Family::Signed) => from.bits() < to.bits(),
        _ => false,
    }
}
